//! Rules as they are written, on a command line or in a file, and what they mean.

use std::collections::BTreeSet;

use http::Method;
use serde::Deserialize;
use types::{PathPrefix, Port, Scheme, SecretName, TokensInto};

use super::{HostPattern, METHODS, ReachRule};

/// Which part of a rule is wrong, and why.
pub(super) type Part = (&'static str, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRules {
    pub(super) allow: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(default = "https")]
    scheme: String,
    host: String,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    methods: Option<Vec<String>>,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    require: Option<String>,
    #[serde(default)]
    ask: bool,
    #[serde(default)]
    single: bool,
    #[serde(default)]
    capture: Option<WrittenCapture>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCapture {
    access_token: String,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    id_token: Option<String>,
}

impl WrittenCapture {
    fn mean(self) -> Result<TokensInto, String> {
        let name = |text: String| SecretName::parse(&text).map_err(|error| error.to_string());
        let into = TokensInto {
            access: name(self.access_token)?,
            refresh: self.refresh_token.map(name).transpose()?,
            id: self.id_token.map(name).transpose()?,
        };
        let names: BTreeSet<&SecretName> = into.names().collect();
        if names.len() < into.names().count() {
            return Err("two tokens cannot become one secret".to_owned());
        }
        Ok(into)
    }
}

fn https() -> String {
    "https".to_owned()
}

impl Written {
    /// Takes a word of the command line apart.
    pub(super) fn of_word(word: &str) -> Result<Self, Part> {
        let is_method = |text: &str| METHODS.iter().any(|method| method.as_str() == text);
        let (methods, rest) = match word.split_once(':') {
            Some((first, rest)) if first.split(',').all(is_method) => {
                (Some(first.split(',').map(str::to_owned).collect()), rest)
            }
            // What follows a host is a port, and what follows a scheme are slashes: these were meant for methods.
            Some((first, rest)) if is_meant_for_methods(first, rest) => return Err(no_method()),
            _ => (None, word),
        };
        let (scheme, rest) = match rest.split_once("://") {
            Some((scheme, rest)) => (scheme, rest),
            None => ("https", rest),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], Some(rest[at..].to_owned())),
            None => (rest, None),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                let port = Port::parse(port).map_err(|error| ("the port", error.to_string()))?;
                (host, Some(port.get()))
            }
            _ => (authority, None),
        };
        let (scheme, host) = (scheme.to_owned(), host.to_owned());
        Ok(Self {
            scheme,
            host,
            port,
            methods,
            path,
            require: None,
            ask: false,
            single: false,
            capture: None,
        })
    }

    pub(super) fn mean(self) -> Result<ReachRule, Part> {
        let scheme = match self.scheme.as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            _ => return Err(("the scheme", "it is neither https nor http".to_owned())),
        };
        let port = self.port.unwrap_or(scheme.default_port());
        let port = Port::new(port).map_err(|error| ("the port", error.to_string()))?;
        let method = |text: &String| {
            let known = Method::from_bytes(text.as_bytes()).ok().filter(|method| METHODS.contains(method));
            known.ok_or_else(no_method)
        };
        let methods = match &self.methods {
            None => METHODS.to_vec(),
            Some(written) if written.is_empty() => {
                return Err(("the methods", "an empty list allows nothing".to_owned()));
            }
            Some(written) => written.iter().map(method).collect::<Result<_, _>>()?,
        };
        let path = match &self.path {
            None => PathPrefix::all(),
            Some(text) if text.contains(['?', '#']) => {
                return Err(("the path", "it ends before '?' and '#': a rule is for every query".to_owned()));
            }
            Some(text) => PathPrefix::parse(text).map_err(|error| ("the path", error.to_string()))?,
        };
        let require = self.require.as_deref().map(SecretName::parse).transpose();
        let require = require.map_err(|error| ("require", error.to_string()))?;
        if require.is_some() && scheme == Scheme::Http {
            return Err(("require", "a secret never travels without TLS".to_owned()));
        }
        let host = HostPattern::parse(&self.host).map_err(|why| ("the host", why))?;
        let capture = self.capture.map(WrittenCapture::mean).transpose().map_err(|why| ("capture", why))?;
        if capture.is_some() && scheme == Scheme::Http {
            return Err(("capture", "a token never travels without TLS".to_owned()));
        }
        Ok(ReachRule {
            scheme,
            host,
            port,
            methods,
            path,
            require,
            ask: self.ask,
            single: self.single,
            capture,
        })
    }
}

/// True for a word before a colon that is no host with its port: letters and commas, and behind them no number.
fn is_meant_for_methods(first: &str, rest: &str) -> bool {
    let port = rest.split('/').next().unwrap_or_default();
    let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
    first.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b',') && !is_number
}

fn no_method() -> Part {
    ("the methods", format!("each is one of {}, in capitals", names_of(&METHODS)))
}

fn names_of(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ")
}
