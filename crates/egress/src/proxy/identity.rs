//! The one host of a tunnel: what `CONNECT` asks for, and what the TLS in it has to name.

use http::header::{HOST, HeaderMap};
use http::{Uri, uri};
use types::{Endpoint, Host, HostName, Refusal};

use crate::rules;

/// The host and port of `CONNECT HOST:PORT` (RFC 9110, 9.3.6), with which a `Host` header has to agree.
pub fn of_connect(target: &Uri, headers: &HeaderMap) -> Result<Endpoint, Refusal> {
    let malformed = |why: String| Refusal::new(&rules::MALFORMED, why);
    let authority = target.authority().map(uri::Authority::as_str);
    let authority = authority.ok_or_else(|| malformed("CONNECT without host and port".to_owned()))?;
    if authority.contains('@') {
        return Err(malformed("CONNECT with a user before the host".to_owned()));
    }
    let endpoint = Endpoint::parse(authority, None).map_err(|error| malformed(error.to_string()))?;
    for header in headers.get_all(HOST) {
        let named = header.to_str().ok().and_then(|text| {
            // Some clients leave the port out here.
            Endpoint::parse(text, Some(endpoint.port.get())).ok()
        });
        if named.as_ref() != Some(&endpoint) {
            return Err(Refusal::new(&rules::NAMES_DISAGREE, format!("the Host of a CONNECT to {endpoint}")));
        }
    }
    Ok(endpoint)
}

/// Whether the server name of a TLS handshake (RFC 6066, 3) is that of the host. For an address there is none.
pub fn is_of(server_name: Option<&str>, host: &Host) -> bool {
    match (server_name.map(HostName::parse), host) {
        (Some(Ok(named)), Host::Name(own)) => named == *own,
        (None, Host::Addr(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::HeaderValue;
    use proptest::prelude::*;
    use rustls::pki_types::ServerName;
    use rustls::server::Acceptor;

    use super::*;

    fn connect(target: &str, hosts: &[&str]) -> Result<Endpoint, &'static str> {
        let uri = Uri::builder().authority(target).build().map_err(|_| "no address")?;
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, HeaderValue::from_str(host).map_err(|_| "no header")?);
        }
        of_connect(&uri, &headers).map_err(|refusal| refusal.rule.id)
    }

    #[test]
    fn t02_connect_asks_for_one_host_in_its_canonical_form() {
        for asked in ["a.example:443", "A.EXAMPLE:443", "a.example.:443"] {
            assert_eq!(connect(asked, &["a.example"]).unwrap().to_string(), "a.example:443", "{asked}");
        }
        assert_eq!(connect("[::1]:443", &["[::1]:443"]).unwrap().to_string(), "[::1]:443");
        for (asked, host, rule) in [
            ("a.example:443", "b.example", "egress.names-disagree"),
            ("a.example:443", "a.example:80", "egress.names-disagree"),
            ("a.example", "a.example", "egress.malformed"),
            ("user@a.example:443", "a.example", "egress.malformed"),
            ("a.example:0", "a.example", "egress.malformed"),
        ] {
            assert_eq!(connect(asked, &[host]), Err(rule), "{asked}");
        }
        assert_eq!(connect("a.example:443", &["a.example", "b.example"]), Err("egress.names-disagree"));
    }

    /// What a client sends first, for that server name.
    fn hello(name: &'static str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let mut client =
            rustls::ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// Whether the bytes are a whole handshake for that host, as the proxy reads them.
    fn is_hello_for(mut bytes: &[u8], host: &str) -> bool {
        let mut acceptor = Acceptor::default();
        while !bytes.is_empty() {
            match acceptor.read_tls(&mut bytes).map(|_| acceptor.accept()) {
                Ok(Ok(Some(accepted))) => {
                    return is_of(accepted.client_hello().server_name(), &Host::parse(host).unwrap());
                }
                Ok(Ok(None)) => {}
                _ => return false,
            }
        }
        false
    }

    #[test]
    fn t02_a_handshake_is_for_the_host_that_it_names() {
        for (named, host, is_for) in [
            ("a.example", "a.example", true),
            ("a.example", "A.Example.", true),
            ("a.example", "b.example", false),
            ("a.example", "192.0.2.1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "a.example", false),
        ] {
            assert_eq!(is_hello_for(&hello(named), host), is_for, "{named} {host}");
        }
    }

    proptest! {
        /// Whatever is asked for, what comes out has one reading, and it is that of its own text.
        #[test]
        fn what_connect_asks_for_is_a_fixed_point(target in "\\PC{0,40}", host in prop::option::of("\\PC{0,20}")) {
            let hosts: Vec<&str> = host.as_deref().into_iter().collect();
            if let Ok(endpoint) = connect(&target, &hosts) {
                let text = endpoint.to_string();
                prop_assert_eq!(Endpoint::parse(&text, None), Ok(endpoint.clone()));
                prop_assert_eq!(connect(&text, &[&text]), Ok(endpoint));
            }
        }

        /// A handshake that was changed anywhere is for another host, for this one or for none, and ends nothing.
        #[test]
        fn no_handshake_panics(at in 0usize..400, to in any::<u8>(), cut in 0usize..400) {
            let mut bytes = hello("a.example");
            let length = bytes.len();
            bytes[at % length] = to;
            let _ = is_hello_for(&bytes, "a.example");
            prop_assert!(!is_hello_for(&bytes[..cut % length], "a.example"));
        }
    }
}
