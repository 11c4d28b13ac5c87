//! What clients look for in their environment: a proxy, and the certificates that they trust.

/// The variables by which clients find a proxy. Node looks at them when [`environment`] tells it to.
const PROXY: [&str; 4] = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"];

/// The variables by which clients find the certificates that they trust: OpenSSL and Go, Node, Python, curl, git, pip,
/// cargo and Deno.
const TRUST: [&str; 8] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
];

/// The environment of a client that should speak to the proxy at `url`, where it has an address, and trust the
/// certificate in the file `ca` alone. Java looks into the file that [`crate::java::beside`] names, and says at each start
/// that it was told to.
pub fn environment(url: Option<&str>, ca: Option<&str>) -> Vec<(&'static str, String)> {
    let mut variables = Vec::new();
    if let Some(url) = url {
        variables.extend(PROXY.map(|name| (name, url.to_owned())));
        variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    }
    if let Some(ca) = ca {
        variables.extend(TRUST.map(|name| (name, ca.to_owned())));
        variables
            .push(("JAVA_TOOL_OPTIONS", format!("-Djavax.net.ssl.trustStore={}", crate::java::beside(ca))));
    }
    variables
}
