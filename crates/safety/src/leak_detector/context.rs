//! What tells a secret from its look-alikes: where it stands, how it is made, placeholders.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memmem;

use super::letters;
use super::placeholder::{
    counts_off, has_example_word, is_cut, is_documented, is_made_up, is_masked, is_placeholder, is_row,
};
use super::surroundings::{
    is_code, is_parameter, is_quoted, is_setting, is_type, is_variable, names_credential, names_id,
    names_made_up, names_public_key,
};

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
    /// Values of a name that ends in `key`: also digests and names of things.
    Key,
    /// Values of the name of a vendor: also UUIDs.
    Vendor,
    /// Arguments of an option such as `--password`: also words of documentation.
    Argument,
}

impl Filter {
    /// True when the secret at `span` of `line` is none of the look-alikes.
    pub(super) fn passes(self, line: &[u8], span: &Range<usize>) -> bool {
        let value = &line[span.clone()];
        let shown = is_documented(value) || has_example_word(value);
        if is_cut(&line[span.end..]) || shown || is_masked(value) || is_made_up(value) {
            return false;
        }
        // What has the form of a vendor's token is taken for one; a name such as `token` alone is not enough.
        let by_name = matches!(self, Self::Password | Self::Secret | Self::Key | Self::Argument);
        if by_name && (counts_off(value) || names_made_up(line, span)) {
            return false;
        }
        match self {
            Self::Token => true,
            Self::UrlPassword => !is_placeholder(value),
            Self::Basic => is_basic(value),
            Self::Password => !is_placeholder(value) && is_password(line, span),
            Self::Secret => !is_placeholder(value) && is_secret(line, span),
            Self::Key => !is_placeholder(value) && is_key(line, span),
            Self::Vendor if is_uuid(value) => !is_placeholder(value) && !names_id(line, span),
            Self::Vendor => !is_placeholder(value) && is_secret(line, span),
            Self::Argument => !is_placeholder(value) && is_argument(value) && !is_code(line, span),
        }
    }

    /// The span without the punctuation that closes what it stands in.
    pub(super) fn trimmed(self, line: &[u8], span: Range<usize>) -> Range<usize> {
        if matches!(self, Self::Token | Self::UrlPassword | Self::Basic) {
            return span;
        }
        let mut value = &line[span.clone()];
        // In a query the next parameter is no part of it.
        if let Some(next) = memmem::find_iter(value, b"&").find(|at| is_parameter(&value[at + 1..])) {
            value = &value[..next.max(1)];
        }
        for end in ["\\n", "\\r", "\\t"] {
            value = value.strip_suffix(end.as_bytes()).filter(|rest| !rest.is_empty()).unwrap_or(value);
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
    // `\n` and `\t` of JSON and source are no letters of a word, nor is the option of `mysql -pVALUE`.
    let apart = match &line[..span.start.saturating_sub(1)] {
        [.., b'\\'] | [b'-'] => true,
        [.., space, b'-'] => space.is_ascii_whitespace(),
        _ => false,
    };
    (!left || apart) && !right
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

/// A value of a name such as `password` that a person would keep secret.
fn is_password(line: &[u8], span: &Range<usize>) -> bool {
    let value = &line[span.clone()];
    let kinds = kinds(value);
    let random = value.len() >= 5 && letters::are_random(value) && !speaks_of_passwords(value);
    let head = value.split(|byte| *byte == b':').next().unwrap_or_default();
    let escape = value.starts_with(b"\\");
    if escape || is_row(value) || is_version(head) || is_type(line, span) {
        return false;
    }
    if is_quoted(line, span) {
        // `password="", next="..."`: what follows an empty string is no value. Nor is `#add-password`.
        let empty = line[..span.start].ends_with(b"\"\"") || line[..span.start].ends_with(b"''");
        if empty && matches!(value[0], b',' | b';' | b')') || speaks_of_passwords(value) && !has_digit(value)
        {
            return false;
        }
        // The argument of a function whose name speaks of passwords is seldom one.
        let called = span.start > 1 && line[span.start - 2] == b'(';
        return random
            || !called
                && value.len() >= 6
                && (kinds >= 2 && !is_wordy(value) || kinds >= 2 && value.len() >= 8 && has_digit(value));
    }
    if is_code(line, span) {
        return false;
    }
    let mixed =
        value.len() >= 7 && kinds >= 2 && has_digit(value) && !is_wordy(value) && !is_identifier(value);
    mixed || (random || is_variable(line, span) && is_word(value)) && is_setting(line, span)
}

/// One word that does not speak of passwords itself.
fn is_word(value: &[u8]) -> bool {
    value.len() >= 6 && value.iter().all(u8::is_ascii_lowercase) && !speaks_of_passwords(value)
}

/// `mynewpassword` is no password.
fn speaks_of_passwords(value: &[u8]) -> bool {
    let lower = value.to_ascii_lowercase();
    ["passw", "secret"].iter().any(|word| memmem::find(&lower, word.as_bytes()).is_some())
}

/// A name in a program: words and digits, such as `X509RequestInheritOptions`.
fn is_identifier(value: &[u8]) -> bool {
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/');
    value.iter().all(name) && letters * 5 >= value.len() * 3 && letters::are_words(value)
}

/// The argument of an option such as `--password`, which code seldom follows.
fn is_argument(value: &[u8]) -> bool {
    let kinds = kinds(value);
    // `MyNewPass`.
    let named = value.len() >= 4 && value[value.len() - 4..].eq_ignore_ascii_case(b"pass");
    kinds >= 3 || letters::are_random(value) && !named || kinds >= 2 && has_digit(value) && !is_wordy(value)
}

/// A value of a name such as `token` that is no identifier.
fn is_secret(line: &[u8], span: &Range<usize>) -> bool {
    let value = &line[span.clone()];
    if is_uuid(value) {
        return names_credential(line, span);
    }
    let number = value.starts_with(b"0x") && value.len() < 34;
    if number || is_version(value) || is_row(value) || is_identifier(value) || is_type(line, span) {
        return false;
    }
    if names_public_key(line, span) || names_id(line, span) {
        return false;
    }
    let letters = value.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
    let digits = value.iter().filter(|byte| byte.is_ascii_digit()).count();
    let quoted = is_quoted(line, span);
    if letters < 2 || digits < 2 || is_wordy(value) {
        let least = if quoted { 12 } else { 16 };
        let plain = value.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        // `AWS_XRAY_SDK_ENABLED` is the name of a constant.
        let constant = value.split(|byte| *byte == b'_').count() > 3;
        return plain
            && !constant
            && value.len() >= least
            && letters::are_random(value)
            && (quoted || is_setting(line, span));
    }
    match quoted {
        true => value.len() >= 10 && (digits >= 3 || letters::are_random(value)),
        false => {
            let least = if is_setting(line, span) { 12 } else { 16 };
            value.len() >= least && !is_code(line, span)
        }
    }
}

/// A value of a name that only ends in `key`, which names many honest things: nothing but a long random
/// string.
fn is_key(line: &[u8], span: &Range<usize>) -> bool {
    const HONEST: [&str; 14] = [
        "public",
        "pub_key",
        "pubkey",
        "cache",
        "primary",
        "foreign",
        "sort",
        "hash",
        "partition",
        "object",
        "host",
        "index",
        "known",
        "verif",
    ];
    let name = line[span.start.saturating_sub(40)..span.start].to_ascii_lowercase();
    let honest = HONEST.iter().any(|word| memmem::find(&name, word.as_bytes()).is_some());
    !honest && !is_uuid(&line[span.clone()]) && is_secret(line, span)
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
