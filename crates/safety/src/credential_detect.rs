//! Requests that carry a credential before the host has put one in.
//!
//! A tool that brings its own key takes it around grants and leases, so policy wants to know. Names are
//! looked at, never values: the answer quotes nothing.

use std::sync::LazyLock;

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, PROXY_AUTHORIZATION};
use types::folded;

use crate::validator::json;

/// Where a request carries a credential.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Carried {
    /// In this header.
    Header(HeaderName),
    /// In the query parameter of this well-known name.
    Query(&'static str),
    /// In the field of this well-known name of a form or a JSON body.
    Body(&'static str),
}

impl std::fmt::Display for Carried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Header(name) => write!(f, "the header {name}"),
            Self::Query(name) => write!(f, "the query parameter {name}"),
            Self::Body(name) => write!(f, "the body's field {name}"),
        }
    }
}

/// Words of header names that carry credentials, beside the three standard headers.
const HEADER_WORDS: [&str; 9] = [
    "api-key",
    "apikey",
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

/// The credentials that a request brings along, each once. `query` is without its question mark.
pub fn carried(headers: &HeaderMap, query: Option<&str>) -> Vec<Carried> {
    let secret_header = |name: &&HeaderName| {
        let folded = folded::header(name);
        [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE].contains(name)
            || HEADER_WORDS.iter().any(|word| folded.contains(word))
    };
    let mut found: Vec<_> = headers.keys().filter(secret_header).cloned().map(Carried::Header).collect();
    found.extend(once(parameters(query.unwrap_or_default().as_bytes())).into_iter().map(Carried::Query));
    found
}

/// The credentials that a body brings along, each once: the fields of a form and the members of a JSON document that
/// hold a text or a number, at any depth. What is neither is left to the leak detector.
pub fn carried_in_body(content_type: Option<&str>, body: &[u8]) -> Vec<Carried> {
    let media =
        content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let names = if media == "application/x-www-form-urlencoded" {
        once(parameters(body))
    } else if media == "application/json" || media.ends_with("+json") {
        let filled = json::members(body).filter(|member| member.is_filled);
        once(filled.filter_map(|member| known(&member.name)))
    } else {
        Vec::new()
    };
    names.into_iter().map(Carried::Body).collect()
}

/// How often a name comes is for the sender to choose.
fn once(names: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut found = Vec::new();
    for name in names {
        if !found.contains(&name) {
            found.push(name);
        }
    }
    found
}

/// True when two headers are one to some server.
pub fn same_header(one: &HeaderName, other: &HeaderName) -> bool {
    one == other || folded::header(one) == folded::header(other)
}

/// True when a query or a form holds a parameter that is of this name to some server.
pub fn has_parameter(form: &[u8], name: &str) -> bool {
    let name = folded::parameter(name.as_bytes());
    folded::parameters(form).any(|(own, _)| own == name)
}

/// The well-known names among the parameters that have a value.
fn parameters(form: &[u8]) -> impl Iterator<Item = &'static str> {
    folded::parameters(form).filter_map(|(name, value)| known_folded(&name).filter(|_| !value.is_empty()))
}

fn known(name: &str) -> Option<&'static str> {
    known_folded(&folded::parameter(name.as_bytes()))
}

fn known_folded(name: &str) -> Option<&'static str> {
    static FOLDED: LazyLock<[String; QUERY_NAMES.len()]> =
        LazyLock::new(|| QUERY_NAMES.map(|known| folded::parameter(known.as_bytes())));
    FOLDED.iter().position(|known| known == name).map(|at| QUERY_NAMES[at])
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

    #[test]
    fn names_are_folded_as_servers_fold_them() {
        let header = HeaderName::from_static;
        assert!(same_header(&header("x_app_cred"), &header("x-app-cred")));
        assert!(same_header(&header("x.app.cred"), &header("x-app-cred")));
        assert!(!same_header(&header("x-app"), &header("x-app-cred")));
        for query in ["k%65y=v", "a=b;KEY=v", "key", "a&key=v", "+key=v", "key%00x=v", "key[]=v"] {
            assert!(has_parameter(query.as_bytes(), "key"), "{query}");
        }
        for query in ["api.key=v", "api%20key=v", "api+key=v", "api[key=v", "api-key=v"] {
            assert!(has_parameter(query.as_bytes(), "api_key"), "{query}");
            assert_eq!(carried(&HeaderMap::new(), Some(query)), [Carried::Query("api_key")], "{query}");
        }
        assert!(!has_parameter(b"keys=v&a=key", "key"));
    }

    #[test]
    fn credentials_in_a_body_are_seen_at_any_depth() {
        let names = |media, body: &str| {
            carried_in_body(Some(media), body.as_bytes()).iter().map(Carried::to_string).collect::<Vec<_>>()
        };
        let form = "application/x-www-form-urlencoded; charset=utf-8";
        assert_eq!(names(form, "grant=x&client%5Fsecret=v&token="), ["the body's field client_secret"]);
        let json = r#"{"auth": {"api_key": "v"}, "items": [{"password": 7}], "token": null, "secret": ""}"#;
        assert_eq!(
            names("application/json", json),
            ["the body's field api_key", "the body's field password"]
        );
        assert_eq!(names("application/vnd.example+json", json).len(), 2);
        assert!(names("text/plain", "token=v").is_empty() && names("application/json", "{").is_empty());
    }

    #[test]
    fn a_body_is_looked_at_without_being_built_anew() {
        // Sixteen MiB that a parser makes a gigabyte of, and each name a finding.
        let units = (16 << 20) / r#"{"key":0},"#.len();
        let body = format!("[{}{{\"token\":1}}]", r#"{"key":0},"#.repeat(units));
        let before = peak();
        let found = carried_in_body(Some("application/json"), body.as_bytes());
        assert_eq!(found, [Carried::Body("key"), Carried::Body("token")]);
        let form = "key=0&".repeat(units);
        let found = carried_in_body(Some("application/x-www-form-urlencoded"), form.as_bytes());
        assert_eq!(found, [Carried::Body("key")]);
        let grown = peak() - before;
        assert!(grown < 64 << 10, "{grown} KiB more");
    }

    /// The most memory that this process has held, in KiB.
    fn peak() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}
