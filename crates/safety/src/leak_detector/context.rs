//! What tells a secret from its look-alikes: where it stands, how it is made, placeholders.

use std::ops::Range;

/// Which look-alikes a rule leaves out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Filter {
    /// Tokens with a fixed form: runs of one character and documentation's own examples.
    #[default]
    Token,
    /// Passwords: every placeholder, reference and piece of code.
    Password,
}

impl Filter {
    /// True when the secret at `span` of `line` is none of the look-alikes.
    pub(super) fn passes(self, line: &[u8], span: &Range<usize>) -> bool {
        let value = &line[span.clone()];
        match self {
            Self::Token => !is_masked(value) && !is_example(value),
            Self::Password => is_password(line, span),
        }
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
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f32::from(*count) / length)
        .map(|p| -p * p.log2())
        .sum()
}

/// `xxxx`, `****`, `....`, `0000`: one character over and over, or so few that nothing is secret.
pub(super) fn is_masked(value: &[u8]) -> bool {
    let mut longest = 0;
    let mut run = 0;
    let mut last = 0u8;
    for byte in value {
        run = if byte.eq_ignore_ascii_case(&last) { run + 1 } else { 1 };
        last = *byte;
        longest = longest.max(run);
    }
    longest >= 5 && longest * 4 >= value.len() || longest >= 10
}

/// Words of documentation inside a value.
fn is_example(value: &[u8]) -> bool {
    const WORDS: [&str; 8] =
        ["example", "placeholder", "your_", "your-", "redacted", "abcdefghij", "1234567890", "0123456789"];
    let text = value.to_ascii_lowercase();
    let counted = |word: &&str| memchr::memmem::find(&text, word.as_bytes()).is_some();
    WORDS.iter().any(|word| counted(word))
}

/// True when a value that is assigned to a password's name is a password.
fn is_password(line: &[u8], span: &Range<usize>) -> bool {
    let value = &line[span.clone()];
    let lower = value.to_ascii_lowercase();
    if value.len() < 4 || is_masked(value) || is_example(value) || is_reference(value) {
        return false;
    }
    const WHOLE: [&str; 26] = [
        "null",
        "none",
        "nil",
        "true",
        "false",
        "undefined",
        "string",
        "password",
        "passwd",
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
    ];
    if WHOLE.iter().any(|word| word.as_bytes() == lower) {
        return false;
    }
    const PARTS: [&str; 12] =
        ["changeme", "my_", "your", "<", "{{", "${", "enter", "insert", "replace", "dummy", "fake", "sample"];
    if PARTS.iter().any(|part| memchr::memmem::find(&lower, part.as_bytes()).is_some()) {
        return false;
    }
    let quoted = span.start > 0 && matches!(line[span.start - 1], b'"' | b'\'' | b'`');
    let classes = [
        value.iter().any(u8::is_ascii_lowercase),
        value.iter().any(u8::is_ascii_uppercase),
        value.iter().any(u8::is_ascii_digit),
        value.iter().any(|byte| byte.is_ascii_punctuation()),
    ];
    let kinds = classes.iter().filter(|present| **present).count();
    let wordy =
        value.iter().all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-' | b'.' | b' '));
    match quoted {
        true => value.len() >= 6 && !wordy && kinds >= 2 && !value.contains(&b' '),
        false => value.len() >= 8 && !wordy && kinds >= 3 && !is_code(line, span),
    }
}

/// A reference to a value that stands elsewhere.
fn is_reference(value: &[u8]) -> bool {
    let starts = |prefix: &str| value.starts_with(prefix.as_bytes());
    let holds = |part: &str| memchr::memmem::find(value, part.as_bytes()).is_some();
    starts("$")
        || starts("%")
        || starts("{")
        || starts("@")
        || starts("<")
        || starts("[")
        || starts("/")
        || holds("${")
        || holds("$(")
        || holds("{{")
        || holds("process.env")
        || holds("os.environ")
        || holds("getenv")
        || holds("secrets.")
        || holds("://")
        || holds("vault:")
        || holds("()")
}

/// An expression of a program rather than a literal: a call, an index, a member, a type.
fn is_code(line: &[u8], span: &Range<usize>) -> bool {
    let value = &line[span.clone()];
    let next = line.get(span.end).copied().unwrap_or(b' ');
    let member = value.iter().filter(|byte| **byte == b'.').count() > 0
        && value
            .split(|byte| *byte == b'.')
            .all(|part| part.first().is_some_and(|b| b.is_ascii_alphabetic() || *b == b'_'));
    matches!(next, b'(' | b'[' | b'.')
        || value.iter().any(|byte| matches!(byte, b'(' | b'[' | b'{' | b';'))
        || member
        || value.starts_with(b"self")
        || value.starts_with(b"this")
        || memchr::memmem::find(value, b"::").is_some()
        || memchr::memmem::find(value, b"->").is_some()
}
