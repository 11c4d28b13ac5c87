//! What tells a secret from its look-alikes: where it stands, how it is made, placeholders.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;

/// Base64 with its padding or without.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Which look-alikes a rule leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Filter {
    /// Tokens with a fixed form: runs of one character and documentation's own examples.
    #[default]
    Token,
    /// Passwords in a place that holds nothing else: placeholders and references.
    UrlPassword,
    /// Values of a name such as `password`: also words, types and pieces of code.
    Password,
    /// The base64 of `user:password`.
    Basic,
    /// Values of a name such as `token`, which names many honest things: also identifiers.
    Secret,
}

impl Filter {
    /// True when the secret at `span` of `line` is none of the look-alikes.
    pub(super) fn passes(self, line: &[u8], span: &Range<usize>) -> bool {
        let value = &line[span.clone()];
        if is_masked(value) || has_example_word(value) {
            return false;
        }
        match self {
            Self::Token => true,
            Self::UrlPassword => !is_placeholder(value),
            Self::Basic => is_basic(value),
            Self::Password => !is_placeholder(value) && is_password(line, span),
            Self::Secret => !is_placeholder(value) && is_secret(line, span) && !names_public_key(line, span),
        }
    }

    /// The span without the punctuation that closes what it stands in.
    pub(super) fn trimmed(self, line: &[u8], span: Range<usize>) -> Range<usize> {
        if !matches!(self, Self::Password | Self::Secret) {
            return span;
        }
        let mut value = &line[span.clone()];
        // In a query the next parameter is no part of it.
        if let Some(next) = memmem::find_iter(value, b"&").find(|at| is_parameter(&value[at + 1..])) {
            value = &value[..next.max(1)];
        }
        let tail = value
            .iter()
            .rev()
            .take_while(|byte| matches!(byte, b',' | b';' | b')' | b']' | b'}' | b'\\' | b'.'));
        let cut = tail.count().min(value.len() - 1);
        span.start..span.start + value.len() - cut
    }
}

/// True when a candidate is not the middle of a longer word.
pub(super) fn stands_alone(line: &[u8], span: &Range<usize>) -> bool {
    let joined = |inside: u8, outside: u8| inside.is_ascii_alphanumeric() && outside.is_ascii_alphanumeric();
    let left = span.start > 0 && joined(line[span.start], line[span.start - 1]);
    let right = span.end < line.len() && span.end > 0 && joined(line[span.end - 1], line[span.end]);
    // `\n` and `\t` of JSON and source are no letters of a word.
    let escaped = span.start > 1 && line[span.start - 2] == b'\\';
    (!left || escaped) && !right
}

/// Shannon entropy in bits per byte.
pub(super) fn entropy(value: &[u8]) -> f32 {
    let mut counts = [0u16; 256];
    for byte in value {
        counts[usize::from(*byte)] = counts[usize::from(*byte)].saturating_add(1);
    }
    let length = value.len() as f32;
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f32::from(*count) / length);
    shares.map(|share| -share * share.log2()).sum()
}

/// `xxxx`, `****`, `....`, `0000`: one character over and over.
fn is_masked(value: &[u8]) -> bool {
    let mut longest = 0;
    let mut run = 0;
    let mut last = 0u8;
    for byte in value {
        run = if byte.eq_ignore_ascii_case(&last) { run + 1 } else { 1 };
        last = *byte;
        longest = longest.max(run);
    }
    longest >= 4 && longest * 3 >= value.len() || longest >= 8
}

/// Words and rows of letters that documentation puts where a secret would stand.
fn has_example_word(value: &[u8]) -> bool {
    const WORDS: [&str; 14] = [
        "example",
        "placeholder",
        "your_",
        "your-",
        "your ",
        "yourapi",
        "redacted",
        "abcdefghij",
        "1234567890",
        "0123456789",
        "_here",
        "-here",
        "dummy",
        "fake",
    ];
    let lower = value.to_ascii_lowercase();
    WORDS.iter().any(|word| memmem::find(&lower, word.as_bytes()).is_some())
}

/// Values that nobody takes for a secret.
const NO_SECRET: [&str; 46] = [
    "null",
    "none",
    "nil",
    "true",
    "false",
    "undefined",
    "string",
    "password",
    "passwd",
    "pass",
    "secret",
    "token",
    "changeme",
    "change_me",
    "change-me",
    "changeit",
    "default",
    "required",
    "optional",
    "test",
    "testing",
    "empty",
    "hidden",
    "masked",
    "todo",
    "foobar",
    "unknown",
    "admin",
    "root",
    "user",
    "username",
    "postgres",
    "mysql",
    "guest",
    "pwd",
    "passwd123",
    "mypassword",
    "mysecretpassword",
    "my-secret-pw",
    "yourpassword",
    "somepassword",
    "thepassword",
    "passwordhere",
    "password123",
    "pass123",
    "secret123",
];

/// Parts of values that say where the secret belongs.
const STAND_IN: [&str; 12] = [
    "changeme",
    "change_me",
    "change-me",
    "your",
    "insert",
    "replace",
    "sample",
    "xxxx",
    "....",
    "****",
    "<",
    ">",
];

/// A value that says where the secret belongs, or what nobody takes for one.
fn is_placeholder(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    NO_SECRET.iter().any(|word| word.as_bytes() == lower)
        || STAND_IN.iter().any(|part| memmem::find(&lower, part.as_bytes()).is_some())
        || is_reference(value)
}

/// A reference to a value that stands elsewhere: a variable, a template, a path, a lookup.
fn is_reference(value: &[u8]) -> bool {
    const WITHIN: [&str; 12] = [
        "${",
        "$(",
        "{{",
        "#{",
        "process.env",
        "os.environ",
        "getenv",
        "secrets.",
        "://",
        "vault:",
        "()",
        "%s",
    ];
    let variable = |rest: &[u8]| rest.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    match value {
        [b'$', rest @ ..] if variable(rest) => return true,
        [b'%', rest @ .., b'%'] if variable(rest) => return true,
        // A hash of a password in the form of crypt(3).
        [b'$', rest @ ..] if rest.contains(&b'$') => return true,
        [b'{' | b'<' | b'[' | b'/' | b'(' | b'&' | b'*', ..] => return true,
        [b'.', b'/' | b'.', ..] => return true,
        _ => {}
    }
    WITHIN.iter().any(|part| memmem::find(value, part.as_bytes()).is_some())
}

/// A value of a name such as `password` that a person would keep secret.
fn is_password(line: &[u8], span: &Range<usize>) -> bool {
    let value = &line[span.clone()];
    let kinds = kinds(value);
    match is_quoted(line, span) {
        true => {
            value.len() >= 6
                && (kinds >= 2 && !is_wordy(value) || kinds >= 2 && value.len() >= 8 && has_digit(value))
        }
        false => {
            value.len() >= 7 && kinds >= 2 && has_digit(value) && !is_wordy(value) && !is_code(line, span)
        }
    }
}

/// A value of a name such as `token` that is no identifier.
fn is_secret(line: &[u8], span: &Range<usize>) -> bool {
    let value = &line[span.clone()];
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    if letters < 2 || digits < 2 || is_wordy(value) || is_uuid(value) || is_version(value) {
        return false;
    }
    match is_quoted(line, span) {
        true => value.len() >= 10,
        false => value.len() >= 16 && !is_code(line, span),
    }
}

/// `name=...`.
fn is_parameter(rest: &[u8]) -> bool {
    let name =
        rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    let length = name.count();
    length > 0 && rest.get(length) == Some(&b'=')
}

/// The base64 of printable `user:password` with something that is a password.
fn is_basic(value: &[u8]) -> bool {
    let Ok(decoded) = BASE64.decode(value) else { return false };
    let printable = decoded.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' ');
    let Some(colon) = decoded.iter().position(|byte| *byte == b':') else { return false };
    let password = &decoded[colon + 1..];
    printable
        && password.len() >= 3
        && !is_masked(password)
        && !is_placeholder(password)
        && !has_example_word(password)
}

/// `PublicKeyToken=...` of a .NET assembly.
fn names_public_key(line: &[u8], span: &Range<usize>) -> bool {
    let name = line[span.start.saturating_sub(24)..span.start].to_ascii_lowercase();
    memmem::find(&name, b"public").is_some()
}

fn kinds(value: &[u8]) -> usize {
    let classes = [
        value.iter().any(u8::is_ascii_lowercase),
        value.iter().any(u8::is_ascii_uppercase),
        value.iter().any(u8::is_ascii_digit),
        value.iter().any(u8::is_ascii_punctuation),
    ];
    classes.iter().filter(|present| **present).count()
}

fn has_digit(value: &[u8]) -> bool {
    value.iter().any(u8::is_ascii_digit)
}

fn is_quoted(line: &[u8], span: &Range<usize>) -> bool {
    span.start > 0 && matches!(line[span.start - 1], b'"' | b'\'' | b'`')
}

/// Words joined by signs, each of letters with at most a few digits behind: `next_page`, `oauth2-v1`.
fn is_wordy(value: &[u8]) -> bool {
    let separator = |byte: &u8| matches!(byte, b'_' | b'-' | b'.' | b'/' | b' ' | b':' | b'@' | b',');
    value.split(separator).all(|part| {
        let letters = part.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let rest = &part[letters..];
        rest.len() <= 4
            && rest.iter().all(u8::is_ascii_digit)
            && (rest.len() <= 1 || value.len() > part.len())
    })
}

fn is_uuid(value: &[u8]) -> bool {
    value.len() == 36 && [8, 13, 18, 23].iter().all(|at| value[*at] == b'-')
}

fn is_version(value: &[u8]) -> bool {
    value.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b':' | b'T' | b'Z' | b'v'))
}

/// An expression of a program rather than a literal: a call, an index, a member, a type.
fn is_code(line: &[u8], span: &Range<usize>) -> bool {
    let value = &line[span.clone()];
    let next = line.get(span.end).copied().unwrap_or(b' ');
    let name = |part: &[u8]| {
        part.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
            && part.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    let member = value.contains(&b'.') && value.split(|byte| *byte == b'.').all(name);
    let bracket = |byte: &u8| matches!(byte, b'(' | b'[' | b'{' | b';' | b'|');
    matches!(next, b'(' | b'[' | b'.')
        || value.iter().any(bracket)
        || member
        || ["self", "this", "await", "new"].iter().any(|word| value.starts_with(word.as_bytes()))
        || memmem::find(value, b"::").is_some()
        || memmem::find(value, b"->").is_some()
}
