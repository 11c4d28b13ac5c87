//! Host names and addresses in one canonical form each.
//!
//! A name is kept as lower-case A-labels (IDNA, UTS 46) without the trailing dot. Everything a
//! resolver would read as a number (`0x7f.1`, `2130706433`, `0177.0.0.1`, `127.1`) is an address,
//! never a name, as the WHATWG URL standard has it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU16;

/// Why a host was refused. No variant quotes the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HostError {
    /// Nothing was given, or nothing but a dot.
    #[error("the host is empty")]
    Empty,
    /// A character that no host holds: a space, a control, `%`, `@`, `/`, `\`, a bracket.
    #[error("the host holds a character that no host name has")]
    Character,
    /// Brackets around anything but an IPv6 address, or an IPv6 address with a zone.
    #[error("brackets may only hold an IPv6 address without a zone")]
    Bracket,
    /// An empty label, one over 63 bytes, one that begins or ends with a hyphen, more than 127.
    #[error("a label of the host name is empty, too long or misplaced")]
    Label,
    /// More than 253 bytes (RFC 1035).
    #[error("the host name is longer than 253 bytes")]
    TooLong,
    /// Not a valid internationalised name, or a number that is no address.
    #[error("the host is neither a valid name nor an address")]
    Invalid,
    /// A port that is missing where one is needed, zero, over 65535 or not a decimal number.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

/// A DNS name in canonical form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct HostName(Box<str>);

impl HostName {
    /// Reads a name in any spelling; refuses addresses.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        match Host::parse(text)? {
            Host::Name(name) => Ok(name),
            Host::Addr(_) => Err(HostError::Invalid),
        }
    }

    /// The canonical text: lower-case A-labels, no trailing dot.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A host: a name to resolve or an address.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Host {
    /// A name in canonical form.
    Name(HostName),
    /// An address, however it was spelt.
    Addr(IpAddr),
}

impl Host {
    /// Reads the host part of a URL or of an authority: `Example.COM.`, `[::1]`, `0x7f.1`.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if let Some(inner) = text.strip_prefix('[') {
            let inner = inner.strip_suffix(']').ok_or(HostError::Bracket)?;
            let addr: Ipv6Addr = inner.parse().map_err(|_| HostError::Bracket)?;
            return Ok(Self::Addr(IpAddr::V6(addr)));
        }
        let forbidden = |c: char| {
            c.is_whitespace()
                || c.is_control()
                || matches!(c, '%' | '@' | '/' | '\\' | '#' | '?' | ':' | '[' | ']')
        };
        if text.chars().any(forbidden) {
            return Err(HostError::Character);
        }
        match url::Host::parse(text).map_err(|_| HostError::Invalid)? {
            url::Host::Ipv4(addr) => Ok(Self::Addr(IpAddr::V4(addr))),
            url::Host::Ipv6(addr) => Ok(Self::Addr(IpAddr::V6(addr))),
            url::Host::Domain(name) => canonical_name(&name).map(Self::Name),
        }
    }

    /// The form that stands in an authority: an IPv6 address gets its brackets.
    pub fn to_authority(&self) -> String {
        match self {
            Self::Addr(IpAddr::V6(addr)) => format!("[{addr}]"),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Addr(addr) => addr.fmt(f),
        }
    }
}

/// Checks what IDNA processing leaves to its caller: the shape that RFC 1035 and RFC 1123 ask for.
fn canonical_name(mapped: &str) -> Result<HostName, HostError> {
    let name = mapped.strip_suffix('.').unwrap_or(mapped);
    if name.is_empty() {
        return Err(HostError::Empty);
    }
    if name.len() > 253 {
        return Err(HostError::TooLong);
    }
    for label in name.split('.') {
        if label.is_empty() || label.len() > 63 || label.starts_with('-') || label.ends_with('-') {
            return Err(HostError::Label);
        }
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if !label.bytes().all(plain) {
            return Err(HostError::Character);
        }
    }
    Ok(HostName(name.into()))
}

/// A TCP port from 1 to 65535.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Port(NonZeroU16);

impl Port {
    /// The port of that number; zero is none.
    pub fn new(number: u16) -> Result<Self, HostError> {
        NonZeroU16::new(number).map(Self).ok_or(HostError::Port)
    }

    /// Reads decimal digits without sign or leading zero.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let digits = !text.is_empty() && text.len() <= 5 && text.bytes().all(|b| b.is_ascii_digit());
        if !digits || text.starts_with('0') {
            return Err(HostError::Port);
        }
        Self::new(text.parse().map_err(|_| HostError::Port)?)
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A host and a port: one place to connect to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Endpoint {
    /// Where.
    pub host: Host,
    /// Which service there.
    pub port: Port,
}

impl Endpoint {
    /// Reads `host`, `host:port`, `[v6]` or `[v6]:port`; `default` serves where no port is given.
    pub fn parse(authority: &str, default: Option<u16>) -> Result<Self, HostError> {
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match (port, default) {
            (Some(text), _) => Port::parse(text)?,
            (None, Some(number)) => Port::new(number)?,
            (None, None) => return Err(HostError::Port),
        };
        Ok(Self { host: Host::parse(host)?, port })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host.to_authority(), self.port)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> String {
        HostName::parse(text).expect(text).to_string()
    }

    #[test]
    fn n01_n02_n07_one_canonical_form() {
        assert_eq!(name("EVIL.com"), "evil.com");
        assert_eq!(name("github.com."), "github.com");
        assert_eq!(name("github\u{3002}com"), "github.com");
        assert_eq!(name("B\u{fc}cher.example"), "xn--bcher-kva.example");
        assert_eq!(name("\u{ff47}ithub.com"), "github.com");
        assert_ne!(name("g\u{456}thub.com"), "github.com");
    }

    #[test]
    fn n02_n03_n04_n10_malformed_hosts_are_refused() {
        let long_label = format!("{}.com", "a".repeat(64));
        let long_name = "a.".repeat(127) + "com";
        for bad in [
            "",
            ".",
            "..",
            "a..b",
            "github.com..",
            "[example.com]",
            "[[::1]]",
            "[::1",
            "[fe80::1%25eth0]",
            "fe80::1%eth0",
            "a b",
            "a\tb",
            "a\rb",
            "a\nb",
            "a\0b",
            "a%00b",
            "a%2eb",
            "user@host",
            "a/b",
            "a\\b",
            "a:1",
            "-a.com",
            "a-.com",
            &long_label,
            &long_name,
            "a#@b",
            "a;b",
            "999.1.1.1",
            "1.2.3.4.5",
        ] {
            assert!(Host::parse(bad).is_err(), "{bad:?} was taken for {:?}", Host::parse(bad));
        }
    }

    #[test]
    fn n08_numeric_forms_are_addresses() {
        let loopback: IpAddr = [127, 0, 0, 1].into();
        for text in ["0x7f.1", "2130706433", "0177.0.0.1", "127.1", "127.0.0.1", "0x7f000001", "127.0.0.1."] {
            assert_eq!(Host::parse(text), Ok(Host::Addr(loopback)), "{text}");
        }
        assert_eq!(Host::parse("0"), Ok(Host::Addr([0, 0, 0, 0].into())));
        assert_eq!(Host::parse("[::1]"), Ok(Host::Addr(Ipv6Addr::LOCALHOST.into())));
    }

    #[test]
    fn n12_ports() {
        for bad in ["a.com:0", "a.com:65536", "a.com:", "a.com:+80", "a.com:080", "a.com:8o", "a.com"] {
            assert!(Endpoint::parse(bad, None).is_err(), "{bad}");
        }
        assert_eq!(Endpoint::parse("A.com", Some(443)).unwrap().to_string(), "a.com:443");
        assert_eq!(Endpoint::parse("[::1]:8443", None).unwrap().to_string(), "[::1]:8443");
    }

    proptest! {
        #[test]
        fn no_input_panics_and_the_canonical_form_is_a_fixed_point(text in "\\PC{0,80}") {
            if let Ok(host) = Host::parse(&text) {
                prop_assert_eq!(Host::parse(&host.to_authority()), Ok(host));
            }
        }

        #[test]
        fn names_like_ours_survive(text in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]{2,8}){1,4}") {
            if let Ok(Host::Name(name)) = Host::parse(&text) {
                prop_assert_eq!(name.as_str(), text.as_str());
            }
        }
    }
}
