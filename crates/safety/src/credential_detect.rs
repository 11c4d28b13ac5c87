//! Requests that carry a credential before the host has put one in.
//!
//! A tool that brings its own key takes it around grants and leases, so policy wants to know. Names are
//! looked at, never values: the answer quotes nothing.

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, PROXY_AUTHORIZATION};

/// Where a request carries a credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Carried {
    /// In this header.
    Header(HeaderName),
    /// In the query parameter of this well-known name.
    Query(&'static str),
}

impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "the header {name}"),
            Self::Query(name) => write!(f, "the query parameter {name}"),
        }
    }
}

/// Words of header names that carry credentials, beside the three standard headers.
const HEADER_WORDS: [&str; 10] = [
    "api-key",
    "apikey",
    "api_key",
    "auth-token",
    "access-token",
    "secret",
    "password",
    "private-token",
    "session-token",
    "x-auth",
];

/// Query parameters that carry credentials or signatures made with them.
const QUERY_NAMES: [&str; 22] = [
    "access_token",
    "api_key",
    "api-key",
    "apikey",
    "appid",
    "auth",
    "auth_token",
    "client_secret",
    "key",
    "password",
    "passwd",
    "private_token",
    "refresh_token",
    "secret",
    "sig",
    "signature",
    "subscription-key",
    "token",
    "x-amz-credential",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-signature",
];

/// The credentials that a request brings along. `query` is without its question mark.
pub fn carried(headers: &HeaderMap, query: Option<&str>) -> Vec<Carried> {
    let secret_header = |name: &&HeaderName| {
        [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name)
            || HEADER_WORDS.iter().any(|word| name.as_str().contains(word))
    };
    let mut found: Vec<_> = headers.keys().filter(secret_header).cloned().map(Carried::Header).collect();
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decoded(name);
        let known = QUERY_NAMES.iter().find(|known| name.eq_ignore_ascii_case(known));
        if let Some(known) = known.filter(|_| !value.is_empty()) {
            found.push(Carried::Query(known));
        }
    }
    found
}

/// A parameter's name with its percent escapes read: `%6bey` is `key` to every server.
fn decoded(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let pair = bytes.get(at + 1..at + 3).filter(|_| bytes[at] == b'%');
        let digits = pair.and_then(|pair| std::str::from_utf8(pair).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn credentials_are_seen_by_their_place_and_not_quoted() {
        let mut headers = HeaderMap::new();
        headers.insert("accept", HeaderValue::from_static("*/*"));
        assert_eq!(carried(&headers, Some("q=Beijing&units=metric&token=")), []);
        headers.insert("x-api-key", HeaderValue::from_static("v"));
        headers.insert("authorization", HeaderValue::from_static("Bearer v"));
        let found = carried(&headers, Some("q=x&%6bey=v&API_KEY=w"));
        let names: Vec<_> = found.iter().map(Carried::to_string).collect();
        assert_eq!(
            names,
            [
                "the header x-api-key",
                "the header authorization",
                "the query parameter key",
                "the query parameter api_key"
            ]
        );
    }
}
