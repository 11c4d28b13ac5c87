//! The first line on a connection from inside: what was dialled, in the words of whoever dialled.

use std::fmt;

/// The longest preface in bytes: a name of 253 and what stands around it.
pub const MAX_PREFACE: usize = 320;

const PROTOCOL: &str = "IRONCLAW/1";

/// What a connection says it is for. A claim, not a proof: the host judges what is asked for on the connection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Preface {
    /// The first connection of a run. It tells what was mounted, a line for each ([`crate::Mounted`]), carries nothing
    /// after that, and ends with the run, whichever side ends it.
    Lifeline,
    /// A program speaks to the HTTP proxy.
    Proxy,
    /// A program dialled a name as if it were there.
    Name {
        /// The name that was looked up: letters, digits, `-`, `_` and dots.
        name: String,
        /// 80 or 443.
        port: u16,
    },
}

/// A line that is no preface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PrefaceError;

impl Preface {
    /// Reads a line without its line feed. Only what [`Preface`] displays is accepted.
    pub fn parse(line: &[u8]) -> Result<Self, PrefaceError> {
        let line = std::str::from_utf8(line).map_err(|_| PrefaceError)?;
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or(PrefaceError);
        if line.len() >= MAX_PREFACE || word()? != PROTOCOL {
            return Err(PrefaceError);
        }
        let parsed = match word()? {
            "lifeline" => Self::Lifeline,
            "proxy" => Self::Proxy,
            "name" => Self::Name { name: name(word()?)?, port: number(word()?)? },
            _ => return Err(PrefaceError),
        };
        if parsed.to_string() == line { Ok(parsed) } else { Err(PrefaceError) }
    }
}

impl fmt::Display for Preface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lifeline => write!(f, "{PROTOCOL} lifeline"),
            Self::Proxy => write!(f, "{PROTOCOL} proxy"),
            Self::Name { name, port } => write!(f, "{PROTOCOL} name {name} {port}"),
        }
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, PrefaceError> {
    word.parse().map_err(|_| PrefaceError)
}

fn name(word: &str) -> Result<String, PrefaceError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let fits = (1..=253).contains(&word.len()) && word.bytes().all(plain);
    if fits { Ok(word.to_owned()) } else { Err(PrefaceError) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(name in "[a-zA-Z0-9._-]{1,253}", port in any::<u16>()) {
            for preface in [Preface::Lifeline, Preface::Proxy, Preface::Name { name: name.clone(), port }] {
                prop_assert_eq!(Preface::parse(preface.to_string().as_bytes()), Ok(preface));
            }
        }

        #[test]
        fn no_bytes_panic_and_what_is_accepted_is_canonical(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(preface) = Preface::parse(&bytes) {
                prop_assert_eq!(preface.to_string().into_bytes(), bytes);
            }
        }
    }

    #[test]
    fn what_is_not_exactly_a_preface_is_refused() {
        for line in [
            "",
            "IRONCLAW/1",
            "IRONCLAW/2 proxy",
            "IRONCLAW/1 proxy x",
            "IRONCLAW/1  proxy",
            "IRONCLAW/1 name a",
            "IRONCLAW/1 name a 0443",
            "IRONCLAW/1 name a +443",
            "IRONCLAW/1 name a 65536",
            "IRONCLAW/1 name a\r 443",
            "GET / HTTP/1.1",
        ] {
            assert_eq!(Preface::parse(line.as_bytes()), Err(PrefaceError), "{line}");
        }
        assert!(Preface::parse(format!("IRONCLAW/1 name {} 443", "a".repeat(254)).as_bytes()).is_err());
    }
}
