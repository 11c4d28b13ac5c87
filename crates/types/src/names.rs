//! Names of tools, secrets and tenants. Each has one spelling: no case variants, no look-alikes.

use std::fmt;

/// Why a name was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// Nothing was given.
    #[error("the name is empty")]
    Empty,
    /// More characters than the kind of name allows.
    #[error("the name is longer than {0} characters")]
    TooLong(usize),
    /// A character outside the alphabet of the kind of name.
    #[error("the name may hold only {0}")]
    Alphabet(&'static str),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $max:literal, $alphabet:literal, $first:expr, $rest:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(Box<str>);

        impl $name {
            /// The longest name in bytes.
            pub const MAX: usize = $max;

            /// Reads a name, refusing every spelling but the canonical one.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                if text.is_empty() {
                    return Err(NameError::Empty);
                }
                if text.len() > $max {
                    return Err(NameError::TooLong($max));
                }
                let first: fn(u8) -> bool = $first;
                let rest: fn(u8) -> bool = $rest;
                let bytes = text.as_bytes();
                if !first(bytes[0]) || !bytes[1..].iter().all(|byte| rest(*byte)) {
                    return Err(NameError::Alphabet($alphabet));
                }
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name of a tool, as a model calls it and a manifest declares it.
    ToolName, 64, "lower-case letters, digits, '_' and '-', a letter first",
    |b| b.is_ascii_lowercase(),
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-'
}
name! {
    /// The name of a secret. The name is no secret; it stands in grants and in the audit log.
    SecretName, 128, "letters, digits and '_', a letter first",
    |b| b.is_ascii_alphabetic(),
    |b| b.is_ascii_alphanumeric() || b == b'_'
}
name! {
    /// Whose data it is. One person's installation has the one tenant `local`.
    Tenant, 64, "lower-case letters, digits and '-', a letter or digit first",
    |b| b.is_ascii_lowercase() || b.is_ascii_digit(),
    |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'
}

impl ToolName {
    /// The reserved name of the agent itself.
    pub fn agent() -> Self {
        Self(crate::Caller::AGENT.into())
    }

    /// The reserved name of whoever speaks to the proxy.
    pub fn proxy() -> Self {
        Self(crate::Caller::PROXY.into())
    }

    /// What a command of the owner's in a container is called where its output has a source.
    pub fn exec() -> Self {
        Self("exec".into())
    }

    /// The reserved name of the vault itself.
    pub fn vault() -> Self {
        Self(crate::Caller::VAULT.into())
    }

    /// The reserved name of the audit log.
    pub fn log() -> Self {
        Self(crate::Caller::LOG.into())
    }
}

impl Tenant {
    /// The tenant of a personal installation.
    pub fn local() -> Self {
        Self("local".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w28_names_have_one_spelling() {
        assert!(ToolName::parse("read_file").is_ok());
        for bad in ["Read", "9lives", "a b", "a/b", "../x", "wéather", "a\0", "a\n", "weаther"] {
            assert!(ToolName::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(ToolName::parse(""), Err(NameError::Empty));
        assert_eq!(ToolName::parse(&"a".repeat(65)), Err(NameError::TooLong(64)));
        assert!(SecretName::parse("WEATHER_API_KEY").is_ok());
        assert!(SecretName::parse("a b").is_err());
        assert!(SecretName::parse("\u{ff21}").is_err());
    }
}
