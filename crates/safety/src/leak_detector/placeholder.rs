//! Values that stand where a secret would: masks, words of documentation, references to another place.

use memchr::memmem;

/// `xxxx`, `****`, `....`, `0000`: one character over and over, or in each part another (`ssss-8888-hhhh`). `AAAA` is
/// what zeros are in base64 and stands in the middle of many tokens.
pub(super) fn is_masked(value: &[u8]) -> bool {
    if let Some(rest) = memmem::find(value, b"AAAAAAAA").map(|at| &value[at..]) {
        let zeros = rest.iter().take_while(|byte| **byte == b'A').count();
        return zeros * 2 >= value.len() || is_masked(&value[..value.len() - rest.len()]);
    }
    let alike = |last: &u8, next: &u8| next.eq_ignore_ascii_case(last);
    let run = longest(value, 1, |last, next| alike(&last, &next));
    let in_runs: usize = value.chunk_by(alike).map(<[u8]>::len).filter(|run| *run >= 4).sum();
    let mostly = in_runs > 0 && in_runs * 4 >= value.len() * 3;
    run >= 4 && run * 3 >= value.len() || run >= 8 && run * 4 >= value.len() || mostly
}

/// True when what follows a value says that it was shortened or that its end is hidden: `eyJ...`, `xoxb-1234-####`.
pub(super) fn is_cut(after: &[u8]) -> bool {
    const MASKS: [&str; 4] = ["...", "…", "####", "****"];
    let after = after.strip_prefix(b"-").or(after.strip_prefix(b"_")).unwrap_or(after);
    MASKS.iter().any(|mask| after.starts_with(mask.as_bytes()))
}

/// The alphabet, or two to four characters again and again: `sk_abcdefghijklmnopqrst`, `glpat-123123123123123`.
pub(super) fn is_made_up(value: &[u8]) -> bool {
    let alphabet = longest(value, 1, |last, next| next == last.wrapping_add(1));
    let again = (2..=4).map(|period| longest(value, period, |last, next| next == last)).max();
    alphabet >= 16 && alphabet * 4 >= value.len() * 3
        || again.is_some_and(|run| run >= 14 && run * 3 >= value.len() * 2)
}

/// A value that counts: each of its letters follows the one before in the alphabet or on a keyboard, each digit the digit
/// before, whatever stands between them (`a1b2c3d4e5f6`, `abcd1234efgh5678`, `0123456789abcdef`, `qwertyuiop12`); or a
/// block of five characters and more that is there three times. Of random letters one in twenty does.
pub(super) fn counts_off(value: &[u8]) -> bool {
    const FEWEST: usize = 10;
    let (mut steps, mut counted) = (0, 0);
    let (mut letter, mut digit) = (None, None);
    for byte in value.iter().map(u8::to_ascii_lowercase) {
        let last = match byte {
            b'a'..=b'z' => letter.replace(byte),
            b'0'..=b'9' => digit.replace(byte),
            _ => None,
        };
        let Some(last) = last else { continue };
        steps += 1;
        counted += usize::from(follows(last, byte));
    }
    counted >= FEWEST && counted * 4 >= steps * 3 || has_thrice(value)
}

/// The next letter of the alphabet, of hexadecimal or on a keyboard; the next digit.
fn follows(last: u8, next: u8) -> bool {
    const KEYBOARD: &[u8] = b"qwertyuiop asdfghjkl zxcvbnm";
    next == last + 1
        || matches!((last, next), (b'9', b'0') | (b'z' | b'f', b'a'))
        || KEYBOARD.windows(2).any(|pair| pair == [last, next])
}

/// One block again and again, as most of the value.
fn has_thrice(value: &[u8]) -> bool {
    const LONGEST_BLOCK: usize = 16;
    (5..=LONGEST_BLOCK.min(value.len() / 3)).any(|period| {
        let run = longest(value, period, |last, next| next == last);
        run >= 3 * period && run * 3 >= value.len() * 2
    })
}

/// How many bytes the longest stretch has in which each is `alike` the one that stands `period` before it.
fn longest(value: &[u8], period: usize, alike: impl Fn(u8, u8) -> bool) -> usize {
    let mut longest = period;
    let mut run = period;
    for pair in value.windows(period + 1) {
        run = if alike(pair[0], pair[period]) { run + 1 } else { period };
        longest = longest.max(run);
    }
    longest
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

/// Tokens that RFC 6749, 6750, 7009 and 7617 show, and everybody who explains them; the password of MongoDB's manual.
pub(super) fn is_documented(value: &[u8]) -> bool {
    const SHOWN: [&str; 7] = [
        "D1fficultP%40ssw0rd",
        "2YotnFZFEjr1zCsicMWpAA",
        "tGzv3JOkF0XG5Qx2TlKWIA",
        "czZCaGRSa3F0MzpnWDFmQmF0M2JW",
        "QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
        "45ghiukldjahdnhzdauz",
        "mF_9.B5f-4.1JqM",
    ];
    SHOWN.iter().any(|shown| shown.as_bytes() == value)
}

/// Rows of neighbouring characters: made up for an example.
pub(super) fn is_row(value: &[u8]) -> bool {
    let longest = longest(value, 1, |last, next| next == last.wrapping_add(1));
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
        || value.iter().position(|byte| *byte == b'<').is_some_and(|at| value[at..].contains(&b'>'))
        || is_reference(value)
}

/// A reference to a value that stands elsewhere: a variable, a template, a path, a lookup.
fn is_reference(value: &[u8]) -> bool {
    const WITHIN: [&str; 16] = [
        "[:",
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
        // What a string is joined with: `"... '" . md5($x) . "'"`.
        [b'.' | b'+', rest @ ..] if rest.contains(&b'(') => return true,
        _ => {}
    }
    WITHIN.iter().any(|part| memmem::find(value, part.as_bytes()).is_some())
}

/// Values that nobody takes for a secret.
const NO_SECRET: [&str; 67] = [
    "opensesame",
    "open-sesame",
    "open sesame",
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
const STAND_IN: [&str; 11] = [
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
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masked_value_and_one_that_is_cut_are_no_secrets() {
        for value in ["xxxxxxxx", "sssssssssss-88888888888-hhhhhhhhhhh", "abXXXXXX", "0000-0000-0000"] {
            assert!(is_masked(value.as_bytes()), "{value}");
        }
        for value in [
            "AAAAAAAAAAkT9wqXz01ab2Lm34Vc",
            "kT9wqXz01ab2Lm34Vc",
            "aaaab8Kq2mZp97Rw",
            "550e8400-e29b-41d4-a716-446655440000",
        ] {
            assert!(!is_masked(value.as_bytes()), "{value}");
        }
        for (after, cut) in [("...", true), ("-####", true), ("_****-x", true), ("-x", false), ("", false)] {
            assert_eq!(is_cut(after.as_bytes()), cut, "{after}");
        }
    }

    #[test]
    fn a_value_that_counts_is_told_from_a_random_one() {
        for value in [
            "a1b2c3d4e5f6",
            "0123456789abcdef",
            "abcd1234efgh5678ijkl",
            "AbCdEfGhIjKlMnOpQrStUvWxYz123456",
            "ess_abc123def456ghi789jkl012mno345",
            "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6",
            "qwertyuiop12345",
            "secret7secret7secret7",
        ] {
            assert!(counts_off(value.as_bytes()), "{value}");
        }
        for value in [
            "7b3e5d8c1a9f4e2b6c8d3a5e9f1b7c4d",
            "Kp4Qx7Rm2Sn5Tb8Vw3Yz",
            "deadbeefcafe",
            "12345",
            "hunter2",
            "abcabcab",
            "kT9wqXz01ab2Lm34Vc",
        ] {
            assert!(!counts_off(value.as_bytes()), "{value}");
        }
    }
}
