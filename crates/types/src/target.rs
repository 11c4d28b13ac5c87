//! What a request is addressed to, in the one form that is judged, recorded and sent.

use std::fmt;

use http::{Method, Uri};

use crate::host::HostError;
use crate::{Endpoint, Host};

/// Why a target was refused. No variant quotes the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TargetError {
    /// Not an absolute URL.
    #[error("the address is not an absolute URL")]
    Malformed,
    /// A scheme other than `https` and `http`.
    #[error("the scheme is neither https nor http")]
    Scheme,
    /// `user@` or `user:password@` before the host.
    #[error("the address names a user before the host")]
    UserInfo,
    /// A host or port that does not parse.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A path that two programs could read differently.
    #[error(
        "the path is ambiguous: it holds dot segments, empty segments, a backslash or an encoded separator"
    )]
    Path,
    /// A query with a character that does not belong in one, or a fragment.
    #[error("the query holds a character that does not belong in one")]
    Query,
    /// Longer than 8 KiB (the least that RFC 9110 asks a recipient to support).
    #[error("the address is longer than 8 KiB")]
    TooLong,
    /// TRACE, CONNECT or a method that is no registered one.
    #[error("the method is not one of GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS")]
    Method,
}

/// How the connection is made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Scheme {
    /// TLS.
    Https,
    /// Clear text.
    Http,
}

impl Scheme {
    /// `https` or `http`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Https => "https",
            Self::Http => "http",
        }
    }

    /// 443 or 80.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Https => 443,
            Self::Http => 80,
        }
    }
}

/// An absolute path without a second reading: no dot segments, no empty segments but a last one,
/// no encoded separators; escapes in upper case and only where they are needed (RFC 3986, 6.2.2).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CanonicalPath(Box<str>);

impl CanonicalPath {
    /// Reads a path, decoding what need not be encoded and encoding what must be.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(TargetError::Path);
        };
        let mut canonical = String::with_capacity(text.len());
        let mut segments = rest.split('/').peekable();
        while let Some(segment) = segments.next() {
            canonical.push('/');
            if segment.is_empty() && segments.peek().is_some() {
                return Err(TargetError::Path);
            }
            canonical_segment(segment, &mut canonical)?;
        }
        Ok(Self(canonical.into()))
    }

    /// The path as it is judged and sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Appends one segment in canonical form.
fn canonical_segment(segment: &str, out: &mut String) -> Result<(), TargetError> {
    let start = out.len();
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let (value, was_escaped) = match byte {
            b'%' => (escape(&mut bytes).ok_or(TargetError::Path)?, true),
            other => (other, false),
        };
        match value {
            // A separator or terminator in disguise, or an escape inside an escape.
            b'/' | b'\\' | 0..=0x1f | 0x7f => return Err(TargetError::Path),
            b'%' if hex_follows(&bytes) => return Err(TargetError::Path),
            b'?' | b'#' if !was_escaped => return Err(TargetError::Path),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(value as char),
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' | b':' | b'@'
                if !was_escaped =>
            {
                out.push(value as char);
            }
            other => {
                use fmt::Write as _;
                write!(out, "%{other:02X}").map_err(|_| TargetError::Path)?;
            }
        }
    }
    // Some servers cut a segment at ';' before they resolve dots.
    let name = out[start..].split(';').next().unwrap_or_default();
    if name == "." || name == ".." {
        return Err(TargetError::Path);
    }
    Ok(())
}

/// Reads the two digits after a percent sign.
fn escape(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let high = (bytes.next()? as char).to_digit(16)?;
    let low = (bytes.next()? as char).to_digit(16)?;
    Some((high * 16 + low) as u8)
}

/// True when two hexadecimal digits come next: a decoded `%` before them would be a new escape.
fn hex_follows(bytes: &std::str::Bytes<'_>) -> bool {
    let mut ahead = bytes.clone();
    let mut digit = || ahead.next().is_some_and(|byte| byte.is_ascii_hexdigit());
    digit() && digit()
}

/// A prefix of paths on whole segments: `/v1` covers `/v1` and `/v1/x` but not `/v10`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PathPrefix(CanonicalPath);

impl PathPrefix {
    /// Reads a prefix with the rules of a path.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        CanonicalPath::parse(text).map(Self)
    }

    /// The prefix of every path.
    pub fn all() -> Self {
        Self(CanonicalPath("/".into()))
    }

    /// True when the path lies at or under the prefix.
    pub fn covers(&self, path: &CanonicalPath) -> bool {
        let prefix = self.0.as_str().trim_end_matches('/');
        match path.as_str().strip_prefix(prefix) {
            Some(rest) => rest.is_empty() && !self.0.as_str().ends_with('/') || rest.starts_with('/'),
            None => false,
        }
    }

    /// True when every path under `other` lies under `self`.
    pub fn covers_prefix(&self, other: &Self) -> bool {
        self.covers(&other.0)
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One request's method and address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The exact method token.
    pub method: Method,
    /// With or without TLS.
    pub scheme: Scheme,
    /// Host and port.
    pub endpoint: Endpoint,
    /// The canonical path.
    pub path: CanonicalPath,
    /// The query without its question mark; never recorded.
    query: Option<Box<str>>,
}

impl Target {
    /// The longest address.
    pub const MAX: usize = 8 * 1024;

    /// Reads a method and an absolute URL.
    pub fn parse(method: &str, url: &str) -> Result<Self, TargetError> {
        if url.len() > Self::MAX {
            return Err(TargetError::TooLong);
        }
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| TargetError::Method)?;
        let uri: Uri = url.parse().map_err(|_| TargetError::Malformed)?;
        if url.contains('#') {
            return Err(TargetError::Query);
        }
        Self::from_parts(method, &uri)
    }

    /// Reads the method and address of a request that HTTP code has parsed already.
    pub fn from_parts(method: Method, uri: &Uri) -> Result<Self, TargetError> {
        let usual = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ];
        if !usual.contains(&method) {
            return Err(TargetError::Method);
        }
        let scheme = match uri.scheme_str() {
            Some("https") => Scheme::Https,
            Some("http") => Scheme::Http,
            Some(_) => return Err(TargetError::Scheme),
            None => return Err(TargetError::Malformed),
        };
        let authority = uri.authority().ok_or(TargetError::Malformed)?.as_str();
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let endpoint = Endpoint::parse(authority, Some(scheme.default_port()))?;
        let path = CanonicalPath::parse(if uri.path().is_empty() { "/" } else { uri.path() })?;
        let query = uri.query().map(parse_query).transpose()?;
        Ok(Self { method, scheme, endpoint, path, query })
    }

    /// The query without its question mark. It may hold what must not be recorded.
    pub fn query(&self) -> Option<&str> {
        self.query.as_deref()
    }

    /// The `Host` header: the port only where it is not the scheme's own.
    pub fn host_header(&self) -> String {
        if self.endpoint.port.get() == self.scheme.default_port() {
            self.endpoint.host.to_authority()
        } else {
            self.endpoint.to_string()
        }
    }

    /// The host alone.
    pub fn host(&self) -> &Host {
        &self.endpoint.host
    }
}

/// Without the query, which is never shown or recorded.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}://{}{}", self.method, self.scheme.as_str(), self.host_header(), self.path)
    }
}

/// Visible ASCII without quotes, angle brackets, backslash and fragment sign.
fn parse_query(text: &str) -> Result<Box<str>, TargetError> {
    let good = |b: u8| b.is_ascii_graphic() && !matches!(b, b'"' | b'<' | b'>' | b'\\' | b'#');
    if !text.bytes().all(good) {
        return Err(TargetError::Query);
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn get(url: &str) -> Result<Target, TargetError> {
        Target::parse("GET", url)
    }

    #[test]
    fn p01_ambiguous_paths_are_refused() {
        for bad in [
            "/public/../secret",
            "/%2e%2e/x",
            "/a/./b",
            "/a//b",
            "//a",
            "/a%2Fb",
            "/a%2fb",
            "/a\\b",
            "/a%5Cb",
            "/%252e%252e/x",
            "/%252f",
            "/a%00",
            "/a%0d",
            "/..;/x",
            "/%2e;p=1/x",
            "a",
            "",
            "/a%",
            "/a%4",
            "/a%zz",
        ] {
            assert_eq!(CanonicalPath::parse(bad), Err(TargetError::Path), "{bad}");
        }
        assert_eq!(CanonicalPath::parse("/%7euser/a%20b/").unwrap().as_str(), "/~user/a%20b/");
        assert_eq!(CanonicalPath::parse("/bot{TOKEN}/x").unwrap().as_str(), "/bot%7BTOKEN%7D/x");
        assert_eq!(CanonicalPath::parse("/a%3Bb").unwrap().as_str(), "/a%3Bb");
    }

    #[test]
    fn prefixes_end_at_segments() {
        let covers = |prefix: &str, path: &str| {
            PathPrefix::parse(prefix).unwrap().covers(&CanonicalPath::parse(path).unwrap())
        };
        assert!(covers("/v1", "/v1") && covers("/v1", "/v1/x") && covers("/", "/x") && covers("/", "/"));
        assert!(covers("/v1/", "/v1/x") && covers("/v1/", "/v1/"));
        assert!(!covers("/v1", "/v10") && !covers("/v1/", "/v1") && !covers("/v1/x", "/v1"));
    }

    #[test]
    fn n05_n13_p02_targets_have_one_reading() {
        assert_eq!(get("http://allowed.com@evil.com/"), Err(TargetError::UserInfo));
        assert_eq!(get("https://a.com/#x"), Err(TargetError::Query));
        assert!(get("https://a.com\\@evil.com/").is_err());
        for scheme in ["ftp", "gopher", "ws", "file"] {
            assert_eq!(get(&format!("{scheme}://a.com/")), Err(TargetError::Scheme));
        }
        for method in ["TRACE", "CONNECT", "get", "PROPFIND", "GE T", ""] {
            assert_eq!(Target::parse(method, "https://a.com/"), Err(TargetError::Method), "{method}");
        }
        let target = get("https://API.Weather.com:443/v1?q=x").unwrap();
        assert_eq!(target.to_string(), "GET https://api.weather.com/v1");
        assert_eq!(target.query(), Some("q=x"));
        assert_eq!(get("https://a.com").unwrap().path.as_str(), "/");
    }

    proptest! {
        #[test]
        fn no_input_panics(method in "\\PC{0,10}", url in "\\PC{0,120}") {
            let _ = Target::parse(&method, &url);
        }

        #[test]
        fn canonical_paths_are_fixed_points(path in "/[ -~]{0,60}") {
            if let Ok(canonical) = CanonicalPath::parse(&path) {
                prop_assert_eq!(CanonicalPath::parse(canonical.as_str()), Ok(canonical));
            }
        }
    }
}
