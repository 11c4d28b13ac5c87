//! What stands around a candidate on its line: the name it is assigned to, quotes, code, settings.

use std::ops::Range;

use memchr::memmem;

pub(super) fn is_quoted(line: &[u8], span: &Range<usize>) -> bool {
    span.start > 0 && matches!(line[span.start - 1], b'"' | b'\'' | b'`')
}

/// True when a line sets one name and nothing else, as files of settings do: `NAME=value`, `- name: value`,
/// `# name: value`, `export NAME=value \\`.
pub(super) fn is_setting(line: &[u8], span: &Range<usize>) -> bool {
    let rest = line[span.end..].trim_ascii();
    let ends = match rest.first() {
        None | Some(b'#') => true,
        Some(b'\\' | b'"' | b'\'' | b'`') => rest.len() <= 3,
        _ => false,
    };
    let mut before = line[..span.start].trim_ascii();
    for word in ["#", "//", "-", "export ", "set ", "ENV "] {
        before = before.strip_prefix(word.as_bytes()).unwrap_or(before).trim_ascii();
    }
    let name =
        before.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    let operator = before[name.count()..].trim_ascii();
    ends && matches!(operator, b"=" | b":")
}

/// A variable of the environment, in capital letters.
pub(super) fn is_variable(line: &[u8], span: &Range<usize>) -> bool {
    let name = line[..span.start].trim_ascii_end().strip_suffix(b"=").unwrap_or_default();
    let name = name.rsplit(|byte| matches!(byte, b' ' | b'\t')).next().unwrap_or_default();
    name.len() > 6
        && name.iter().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || *byte == b'_')
}

/// An expression of a program rather than a literal: a call, an index, a member, a type.
pub(super) fn is_code(line: &[u8], span: &Range<usize>) -> bool {
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

/// Behind the name of a type, a number is a digest or an identifier: `"AWS::IAM::AccessKey": "..."`.
pub(super) fn is_type(line: &[u8], span: &Range<usize>) -> bool {
    let name = &line[span.start.saturating_sub(48)..span.start];
    name.windows(4).any(|w| w[0].is_ascii_alphanumeric() && w[1..3] == *b"::" && w[3].is_ascii_alphabetic())
}

/// `credentialId`, `ACCESS_KEY_ID`: what is said aloud.
pub(super) fn names_id(line: &[u8], span: &Range<usize>) -> bool {
    let before = &line[span.start.saturating_sub(64)..span.start];
    let end = before.iter().rposition(|byte| byte.is_ascii_alphanumeric()).map_or(0, |last| last + 1);
    let name = &before[..end];
    ["_id", "-id", "_ID", "-ID", "Id"].iter().any(|suffix| name.ends_with(suffix.as_bytes()))
}

/// `MOCK_ACCESS_TOKEN`, `fakePassword`; the token of a form on a page, which proves where the form came from and opens
/// nothing by itself.
pub(super) fn names_made_up(line: &[u8], span: &Range<usize>) -> bool {
    const WORDS: [&str; 6] =
        ["mock", "dummy", "fake", "authenticity", "__requestverification", "csrfmiddleware"];
    let before = line[span.start.saturating_sub(64)..span.start].to_ascii_lowercase();
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    let end = before.iter().rposition(|byte| byte.is_ascii_alphanumeric()).map_or(0, |last| last + 1);
    // `name="authenticity_token" value="..."`: the attribute that is called value says nothing.
    let name = before[..end].strip_suffix(b"value").map_or(&before[..end], |rest| {
        let end = rest.iter().rposition(|byte| byte.is_ascii_alphanumeric()).map_or(0, |last| last + 1);
        &rest[..end]
    });
    let start = name.iter().rposition(|byte| !word(byte)).map_or(0, |before| before + 1);
    WORDS.iter().any(|word| memmem::find(&name[start..], word.as_bytes()).is_some())
}

/// `PublicKeyToken=...` of a .NET assembly.
pub(super) fn names_public_key(line: &[u8], span: &Range<usize>) -> bool {
    let name = line[span.start.saturating_sub(24)..span.start].to_ascii_lowercase();
    memmem::find(&name, b"public").is_some()
}

/// A name that says more than `token`: a UUID behind it is no mere identifier.
pub(super) fn names_credential(line: &[u8], span: &Range<usize>) -> bool {
    let name = line[span.start.saturating_sub(32)..span.start].to_ascii_lowercase();
    let says = |word: &&str| memmem::find(&name, word.as_bytes()).is_some();
    [
        "client_secret",
        "secret_key",
        "_secret",
        "authorization",
        "api_key",
        "apikey",
        "api-key",
        "api_token",
        "access_token",
        "auth_token",
    ]
    .iter()
    .any(says)
}

/// `name=...`.
pub(super) fn is_parameter(rest: &[u8]) -> bool {
    let name =
        rest.iter().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'));
    let length = name.count();
    length > 0 && rest.get(length) == Some(&b'=')
}
