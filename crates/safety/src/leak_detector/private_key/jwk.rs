//! A JSON Web Key (RFC 7517) on one line or on many: a JSON object with `kty` and a private member, escaped in a string
//! of another or not.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2, memrchr};

use crate::leak_detector::lane::JWK_TYPE;

/// A key object is not longer: an RSA key of 4,096 bits takes 3.2 KB.
pub(super) const FAR: usize = 8 * 1024;
/// The fewest base64url characters of a private member: a symmetric key of 128 bits has 22.
const LEAST: usize = 22;

/// The members of a key, one of which comes first.
pub(super) const MEMBERS: [&str; 22] = [
    "kty", "use", "key_ops", "alg", "kid", "x5u", "x5c", "x5t", "x5t#S256", "ext", "crv", "x", "y", "d", "n",
    "e", "p", "q", "dp", "dq", "qi", "k",
];

/// The private keys of a text, each the whole object, by where it has what opening lines hold.
pub(super) fn find(text: &[u8], openings: &[usize]) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for at in openings.iter().copied().filter(|at| text[*at..].starts_with(JWK_TYPE.as_bytes())) {
        if found.last().is_some_and(|last| at < last.end) {
            continue;
        }
        let first = at.saturating_sub(FAR);
        let Some(open) = memrchr(b'{', &text[first..at]).map(|open| first + open) else { continue };
        let Some(close) = memchr(b'}', &text[open..text.len().min(open + FAR)]) else { continue };
        let object = open..open + close + 1;
        if object.contains(&at) && begins(&text[object.clone()]) && is_private(&text[object.clone()]) {
            found.push(object);
        }
    }
    found
}

/// Where an object begins that may be a key and has neither closed nor gone on too long.
pub(super) fn undecided(settled: &[u8]) -> Option<usize> {
    let first = settled.len().saturating_sub(FAR);
    let open = first + memrchr(b'{', &settled[first..])?;
    let rest = &settled[open..];
    (memchr(b'}', rest).is_none() && (begins(rest) || rest[1..].trim_ascii().is_empty())).then_some(open)
}

/// True when the first member of an object is one of a key's.
fn begins(object: &[u8]) -> bool {
    let rest = spaces(&object[1..]);
    let rest = opened(rest).unwrap_or_default();
    let name = memchr2(b'"', b'\\', rest).map_or(rest, |end| &rest[..end]);
    MEMBERS.iter().any(|member| member.as_bytes() == name)
}

/// Without spaces and line ends, which may be escaped.
fn spaces(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        match text {
            [b'\\', b'n' | b'r' | b't', rest @ ..] => text = rest,
            _ => return text,
        }
    }
}

/// Behind a quote, which may be escaped.
fn opened(text: &[u8]) -> Option<&[u8]> {
    let escapes = text.iter().take_while(|byte| **byte == b'\\').count();
    text[escapes..].strip_prefix(b"\"")
}

/// True when an object has a private exponent, scalar or seed (`d`), or is a symmetric key (`k`).
fn is_private(object: &[u8]) -> bool {
    let symmetric = value(object, b"kty").is_some_and(|kind| kind == b"oct");
    let long = |name: &[u8]| value(object, name).is_some_and(is_key);
    long(b"d") || symmetric && long(b"k")
}

/// True when the value of a private member may be a key.
pub(super) fn is_key(value: &[u8]) -> bool {
    let digit = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'-';
    let mut seen = [false; 256];
    value.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    value.len() >= LEAST && value.iter().all(digit) && seen.iter().filter(|seen| **seen).count() >= 10
}

/// The text of a member.
fn value<'a>(object: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    memchr_iter(b'"', object).find_map(|at| {
        let rest = opened(object[at + 1..].strip_prefix(name)?)?;
        let rest = opened(spaces(spaces(rest).strip_prefix(b":")?))?;
        memchr2(b'"', b'\\', rest).map(|end| &rest[..end])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &[u8]) -> Vec<Range<usize>> {
        let openings: Vec<usize> = memchr::memmem::find_iter(text, JWK_TYPE).collect();
        super::find(text, &openings)
    }

    const SCALAR: &str = "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE";

    #[test]
    fn a_private_key_is_found_on_one_line_and_on_many() {
        for (open, between, close) in [("{", ",", "}"), ("{\n  ", ",\n  ", "\n}"), ("{ ", " , ", " }")] {
            for members in [
                vec![format!("\"d\": \"{SCALAR}\""), "\"crv\": \"P-256\"".into(), "\"kty\": \"EC\"".into()],
                vec!["\"kty\":\"oct\"".to_owned(), format!("\"k\":\"{SCALAR}\"")],
            ] {
                let key = format!("{open}{}{close}", members.join(between));
                let text = format!("keys: [{key}]");
                assert_eq!(find(text.as_bytes()), vec![7..7 + key.len()], "{text}");
                let key = key.replace('"', "\\\"").replace('\n', "\\n");
                let text = format!("{{\"jwk\":\"{key}\"}}");
                assert_eq!(find(text.as_bytes()), vec![8..8 + key.len()], "{text}");
            }
        }
    }

    #[test]
    fn public_keys_and_other_objects_are_left_alone() {
        for text in [
            "{\"kty\":\"EC\",\"x\":\"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE\"}",
            "{\"kty\":\"EC\",\"k\":\"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE\"}",
            "{\"kty\":\"oct\",\"k\":\"...\"}",
            "{\"name\":\"a\"} \"kty\"",
        ] {
            assert!(find(text.as_bytes()).is_empty(), "{text}");
        }
    }

    #[test]
    fn an_open_object_is_undecided() {
        assert_eq!(undecided(b"a {\n \"d\": \"x\",\n"), Some(2));
        assert_eq!(
            (undecided(b"a {\n"), undecided(b"a {\n \"name\": 1,\n"), undecided(b"{\"d\":1}\n")),
            (Some(2), None, None)
        );
    }
}
