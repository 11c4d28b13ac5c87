//! What a request is addressed to, in the one form that is judged, recorded and sent.

use std::fmt;

use http::{Method, Uri};

use crate::host::HostError;
use crate::{Endpoint, FoldedPath, Host};

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
        "the path is ambiguous: it holds dot segments, empty segments, a backslash, an encoded separator, an escape \
         of an escape or what is not UTF-8"
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

/// An absolute path without a second reading: no dot segments, no empty segments but a last one, no
/// encoded separators, no escapes of escapes, nothing but UTF-8; escapes in upper case and only where
/// they are needed (RFC 3986, 6.2.2).
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

    /// The path as servers read it that are less exact: what is forbidden at a place is forbidden at this one too.
    pub fn folded(&self) -> FoldedPath {
        FoldedPath::of(self)
    }
}

impl fmt::Display for CanonicalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Appends one segment in canonical form.
fn canonical_segment(segment: &str, out: &mut String) -> Result<(), TargetError> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let (value, was_escaped) = match byte {
            b'%' => (escape(&mut bytes).ok_or(TargetError::Path)?, true),
            other => (other, false),
        };
        decoded.push(value);
        match value {
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
    if has_second_reading(&decoded) { Err(TargetError::Path) } else { Ok(()) }
}

/// True for a decoded segment of a path that some server would read as something else: as several segments, as a step up, or as
/// escapes to decode once more. Judged after decoding, so that it does not matter which of its bytes were escaped.
pub fn has_second_reading(decoded: &[u8]) -> bool {
    let separates = |byte: &u8| matches!(byte, b'/' | b'\\') || byte.is_ascii_control();
    let escape =
        |three: &[u8]| three[0] == b'%' && three[1].is_ascii_hexdigit() && three[2].is_ascii_hexdigit();
    // Some servers cut a segment at ';', or trim it, before they resolve dots.
    let name = decoded.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    decoded.iter().any(separates)
        || decoded.windows(3).any(escape)
        || matches!(name, b"." | b"..")
        // An overlong encoding of a dot or a slash is no UTF-8, and some decoders accept it.
        || std::str::from_utf8(decoded).is_err()
}

/// Reads the two digits after a percent sign.
fn escape(bytes: &mut std::str::Bytes<'_>) -> Option<u8> {
    let high = (bytes.next()? as char).to_digit(16)?;
    let low = (bytes.next()? as char).to_digit(16)?;
    Some((high * 16 + low) as u8)
}

/// A prefix of paths on whole segments: `/v1` covers `/v1` and `/v1/x` but not `/v10`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct PathPrefix {
    path: CanonicalPath,
    folded: FoldedPath,
}

impl PathPrefix {
    /// Reads a prefix with the rules of a path.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        CanonicalPath::parse(text).map(Self::at)
    }

    /// The prefix of every path.
    pub fn all() -> Self {
        Self::at(CanonicalPath("/".into()))
    }

    fn at(path: CanonicalPath) -> Self {
        let folded = path.folded();
        Self { path, folded }
    }

    /// True when the path lies at or under the prefix.
    pub fn covers(&self, path: &CanonicalPath) -> bool {
        let prefix = self.as_str().trim_end_matches('/');
        match path.as_str().strip_prefix(prefix) {
            Some(rest) => rest.is_empty() && !self.as_str().ends_with('/') || rest.starts_with('/'),
            None => false,
        }
    }

    /// True when every path under `other` lies under `self`.
    pub fn covers_prefix(&self, other: &Self) -> bool {
        self.covers(&other.path)
    }

    /// The prefix as some servers read it.
    pub fn folded(&self) -> &FoldedPath {
        &self.folded
    }

    /// The prefix as text.
    pub fn as_str(&self) -> &str {
        self.path.as_str()
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
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
        Self::of(method, scheme, endpoint, (uri.path(), uri.query()))
    }

    /// Reads the path and query of a request whose host is known already.
    pub fn at(method: Method, scheme: Scheme, to: Endpoint, address: &str) -> Result<Self, TargetError> {
        if address.len() > Self::MAX {
            return Err(TargetError::TooLong);
        }
        let (path, query) = match address.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (address, None),
        };
        Self::of(method, scheme, to, (path, query))
    }

    fn of(
        method: Method,
        scheme: Scheme,
        endpoint: Endpoint,
        (path, query): (&str, Option<&str>),
    ) -> Result<Self, TargetError> {
        const USUAL: [Method; 7] = [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ];
        if !USUAL.contains(&method) {
            return Err(TargetError::Method);
        }
        let path = CanonicalPath::parse(if path.is_empty() { "/" } else { path })?;
        let query = query.map(parse_query).transpose()?;
        let target = Self { method, scheme, endpoint, path, query };
        // In its canonical form, in which it is sent and recorded: escapes make it longer.
        if target.length() > Self::MAX { Err(TargetError::TooLong) } else { Ok(target) }
    }

    /// Bytes of authority, path and query.
    fn length(&self) -> usize {
        let query = self.query().map_or(0, |query| 1 + query.len());
        self.host_header().len() + self.path.as_str().len() + query
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
            // An escape of an escape whose digits are escaped too.
            "/%25%32%65%25%32%65/x",
            "/v1/%25%32e%25%32e/secret",
            "/%25%32F",
            "/%25252e",
            // A cut or a trim, escaped or not.
            "/..%3B/x",
            "/%2e%2e%3bp=1/x",
            "/..%20/x",
            "/%09../x",
            // Overlong forms of '.' and '/'.
            "/%c0%ae%c0%ae/x",
            "/a%c0%afb",
            "/%ff",
        ] {
            assert_eq!(CanonicalPath::parse(bad), Err(TargetError::Path), "{bad}");
        }
        assert_eq!(CanonicalPath::parse("/%7euser/a%20b/").unwrap().as_str(), "/~user/a%20b/");
        assert_eq!(CanonicalPath::parse("/bot{TOKEN}/x").unwrap().as_str(), "/bot%7BTOKEN%7D/x");
        assert_eq!(CanonicalPath::parse("/a%3Bb").unwrap().as_str(), "/a%3Bb");
        assert_eq!(CanonicalPath::parse("/100%25/%E6%97%A5;v=1").unwrap().as_str(), "/100%25/%E6%97%A5;v=1");
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

    #[test]
    fn an_address_is_short_in_the_form_that_is_sent() {
        let target = |url: &str| Target::from_parts(Method::GET, &url.parse::<Uri>().unwrap()).map(drop);
        let long = |path: usize| format!("https://a.com/{}", "x".repeat(path));
        assert_eq!(target(&long(Target::MAX - "a.com/".len())), Ok(()));
        assert_eq!(target(&long(Target::MAX - "a.com/".len() + 1)), Err(TargetError::TooLong));
        assert_eq!(target(&format!("https://a.com/?{}", "x".repeat(60_000))), Err(TargetError::TooLong));
        // Each of these becomes three bytes.
        assert_eq!(target(&format!("https://a.com/{}", "{".repeat(4_000))), Err(TargetError::TooLong));
    }

    proptest! {
        #[test]
        fn no_input_panics(method in "\\PC{0,10}", url in "\\PC{0,120}") {
            let _ = Target::parse(&method, &url);
        }

        #[test]
        fn canonical_paths_are_fixed_points(path in "/(%25|%2[0-9a-f]|%3[0-9a-f]|%6[0-9a-f]|[ -~]){0,40}") {
            if let Ok(canonical) = CanonicalPath::parse(&path) {
                prop_assert_eq!(CanonicalPath::parse(canonical.as_str()), Ok(canonical));
            }
        }

        /// Whoever decodes once more finds the same segments.
        #[test]
        fn decoding_twice_changes_nothing(path in "/(%25|%2[0-9a-f]|%3[0-9a-f]|%6[0-9a-f]|[./;a-f0-9]){0,20}") {
            let decode = |text: &[u8]| -> Vec<u8> {
                let (mut out, mut at) = (Vec::new(), 0);
                while let Some(byte) = text.get(at) {
                    let digit = |at: usize| text.get(at).and_then(|byte| (*byte as char).to_digit(16));
                    match (byte, digit(at + 1), digit(at + 2)) {
                        (b'%', Some(high), Some(low)) => (out.push((high * 16 + low) as u8), at += 3).0,
                        _ => (out.push(*byte), at += 1).0,
                    }
                }
                out
            };
            if let Ok(canonical) = CanonicalPath::parse(&path) {
                let once = decode(canonical.as_str().as_bytes());
                prop_assert_eq!(decode(&once), once);
            }
        }
    }
}
