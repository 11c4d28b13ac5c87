//! How a rule is found without running its expression.
//!
//! From the syntax tree of a rule's expression follow *keys*, three to eight bytes of which one stands at the
//! same distance in every match ([`super::compiler`]). The engine looks for keys where the lane says they have to
//! stand, and runs an expression only there.

use std::borrow::Cow;

/// The most bytes of a key.
pub(super) const KEY: usize = 8;
/// A run of this many token characters (letters, digits, `_` and `-`) holds a candidate.
pub(super) const RUN: usize = 16;
/// A run of this many seldom stands in honest text, and neither does one of so many digits of base64, which paths
/// are made of too.
pub(super) const LONG_RUN: usize = 24;
pub(super) const LONG_DIGITS: usize = 32;
/// A value is a run of this many characters of base64, its padding included, at most so far behind a word's beginning
/// that it begins in the same block of the engine or in the next.
pub(super) const VALUE: usize = 20;
pub(super) const VALUE_WITHIN: usize = 64;
/// The longest match of a rule: pieces of long lines overlap by this.
pub(super) const LONGEST: usize = 8 * 1024;
/// The words one of which stands between the name of a vendor and the value that is assigned to it: the name alone
/// says too little, a commit of its repository looks like its key.
pub(super) const CREDENTIALS: [&str; 13] = [
    "key", "token", "secret", "pass", "auth", "pat", "pwd", "cred", "login", "appid", "app_id", "sid", "hec",
];

/// What the kind of a Secret of Kubernetes begins with, in YAML and in JSON, and its type.
pub(super) const SECRET_KINDS: [&str; 7] =
    ["kind:", "kind\"", "kind'", "kind\\", "Opaque", "kubernetes.io/", "helm.sh/"];

/// What every opening line of a private key holds one of; a space may be as in a form or escaped.
pub(super) const OPENINGS: [&str; 5] =
    ["PRIVATE KEY", "PRIVATE+KEY", "PRIVATE%20KEY", "PuTTY-User-Key-File-", JWK_TYPE];
/// The member that every JSON Web Key has.
pub(super) const JWK_TYPE: &str = "kty";

/// Three to [`KEY`] folded bytes: a letter stands for both of its cases.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Key {
    /// Zeros behind its end.
    pub(super) bytes: [u8; KEY],
    pub(super) length: u8,
}

/// In order, each once.
pub(super) type Keys = Cow<'static, [Key]>;

/// Where the engine looks for a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Lane {
    /// At the beginning of a word, with a run of at least [`RUN`] token characters behind it.
    Run(Keys),
    /// At the beginning of a word, the match beginning at most `before` bytes earlier, with a value of at least
    /// [`VALUE`] characters at most [`VALUE_WITHIN`] bytes later.
    Word { keys: Keys, before: usize },
    /// Before one of the [`CREDENTIALS`], or where one is, at most `within` bytes in front with nothing but words
    /// between; `assigned` says that an operator has to follow.
    Named { keys: Keys, within: usize, assigned: bool },
    /// Anywhere, the match beginning at most `before` bytes earlier, with a run of at least [`LONG_RUN`] token
    /// characters or [`LONG_DIGITS`] digits of base64 at most `within` bytes behind its beginning.
    Near { keys: Keys, before: usize, within: usize },
    /// Anywhere, the match beginning at most `before` bytes earlier.
    Anywhere { keys: Keys, before: usize },
    /// The expression has no key of its own; one of the rule's literals stands on the line.
    Line(Keys),
}

impl Lane {
    /// The most bytes between the beginning of a match and the key.
    pub(super) fn before(&self) -> usize {
        match self {
            Self::Word { before, .. } | Self::Near { before, .. } | Self::Anywhere { before, .. } => *before,
            Self::Run(_) | Self::Named { .. } | Self::Line(_) => 0,
        }
    }
}

/// What every match of a rule has behind its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Behind {
    /// At least [`VALUE`] characters of a value.
    pub(super) value: bool,
    /// A decimal digit.
    pub(super) digit: bool,
    /// One of these signs; zeros are none.
    pub(super) signs: [u8; 3],
}

impl Key {
    /// The first bytes of a text, folded.
    pub(super) fn of(text: impl IntoIterator<Item = u8>) -> Self {
        let mut key = Self { bytes: [0; KEY], length: 0 };
        for byte in text.into_iter().take(KEY) {
            key.bytes[usize::from(key.length)] = fold(byte);
            key.length += 1;
        }
        key
    }
}

/// What may follow a name to which something is assigned, behind quotes and spaces.
pub(super) const fn is_operator(byte: u8) -> bool {
    matches!(byte, b':' | b'?' | b'.' | b'+' | b'|' | b'=' | b'>' | b',' | b'(')
}

/// A letter in its lower case; other bytes in a form of their own that is the same for a key and a text.
pub(super) const fn fold(byte: u8) -> u8 {
    byte | 0x20
}

/// What may stand between a name and its credential, and in a name.
pub(super) const fn is_wordy(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b' ')
}
