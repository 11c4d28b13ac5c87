//! Values that stand where a secret would: masks, words of documentation, references to another place.

use memchr::memmem;

/// `xxxx`, `****`, `....`, `0000`: one character over and over. `AAAA` is what zeros are in base64 and stands in
/// the middle of many tokens.
pub(super) fn is_masked(value: &[u8]) -> bool {
    if let Some(rest) = memmem::find(value, b"AAAAAAAA").map(|at| &value[at..]) {
        let zeros = rest.iter().take_while(|byte| **byte == b'A').count();
        return zeros * 2 >= value.len();
    }
    let mut longest = 0;
    let mut run = 0;
    let mut last = 0u8;
    for byte in value {
        run = if byte.eq_ignore_ascii_case(&last) { run + 1 } else { 1 };
        last = *byte;
        longest = longest.max(run);
    }
    longest >= 4 && longest * 3 >= value.len() || longest >= 8 && longest * 4 >= value.len()
}

/// Words that documentation puts where a secret would stand.
pub(super) fn has_example_word(value: &[u8]) -> bool {
    const WORDS: [&str; 11] = [
        "example",
        "placeholder",
        "your_",
        "your-",
        "your ",
        "yourapi",
        "redacted",
        "_here",
        "-here",
        "dummy",
        "fake",
    ];
    let lower = value.to_ascii_lowercase();
    WORDS.iter().any(|word| memmem::find(&lower, word.as_bytes()).is_some())
}

/// Rows of neighbouring characters: made up for an example.
pub(super) fn is_row(value: &[u8]) -> bool {
    let mut run = 1;
    let mut longest = 1;
    for pair in value.windows(2) {
        run = if pair[1] == pair[0].wrapping_add(1) { run + 1 } else { 1 };
        longest = longest.max(run);
    }
    longest >= 5 && longest * 3 >= value.len()
}

/// A value that says where the secret belongs, or what nobody takes for one, with a number behind it or not.
pub(super) fn is_placeholder(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    let digits = lower.iter().rev().take_while(|byte| byte.is_ascii_digit()).count().min(3);
    let word = &lower[..lower.len() - digits];
    let colons = word.iter().take_while(|byte| **byte == b':').count();
    let word = word[colons..].strip_suffix(b"]").unwrap_or(&word[colons..]);
    NO_SECRET.iter().any(|no| no.as_bytes() == lower || no.as_bytes() == word)
        || STAND_IN.iter().any(|part| memmem::find(&lower, part.as_bytes()).is_some())
        || is_reference(value)
}

/// A reference to a value that stands elsewhere: a variable, a template, a path, a lookup.
fn is_reference(value: &[u8]) -> bool {
    const WITHIN: [&str; 15] = [
        "%0A",
        "%20",
        "%7B",
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
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let variable = |rest: &[u8]| rest.iter().all(part);
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

/// Values that nobody takes for a secret.
const NO_SECRET: [&str; 64] = [
    "base",
    "utf",
    "utf-",
    "sha",
    "latin",
    "ascii",
    "bcrypt",
    "abc",
    "hunter",
    "mypass",
    "proxypass",
    "repopwd",
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
    "password1",
    "letmein",
    "letmein123",
    "secretpassword",
    "testpassword",
    "qwerty",
];

/// Parts of values that say where the secret belongs.
const STAND_IN: [&str; 13] = [
    "...",
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
