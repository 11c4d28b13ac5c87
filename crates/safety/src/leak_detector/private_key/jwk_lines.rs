//! A JSON Web Key (RFC 7517) as YAML: lines that follow each other, each a member, one of them `kty` and one private.

use std::ops::Range;

use memchr::{memchr, memrchr};

use super::jwk::{FAR, MEMBERS, is_key};
use crate::leak_detector::lane::JWK_TYPE;

/// A key has no more members. Of more lines, so many are read together.
const MOST_LINES: usize = 2 * MEMBERS.len();

/// The private keys of a text, each all of its lines, by where it has what opening lines hold.
pub(super) fn find(text: &[u8], openings: &[usize]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut done = 0;
    for at in openings.iter().copied().filter(|at| text[*at..].starts_with(JWK_TYPE.as_bytes())) {
        if at < done {
            continue;
        }
        let start = memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
        if Member::read(text, start).is_none() {
            // Each line is read once, however many openings it has.
            done = memchr(b'\n', &text[at..]).map_or(text.len(), |newline| at + newline + 1);
            continue;
        }
        let mut group = run_start(text, start, done);
        while let Some((members, end, _)) = next_group(text, group) {
            let first = members.first().map_or(group, |member| member.name.start);
            let last = members.last().map_or(end, |member| member.value.end);
            found.extend(is_private(text, &members).then_some(first..last));
            (group, done) = (end, end);
        }
    }
    found
}

/// Where the members begin with which a text ends and that may go on.
pub(super) fn undecided(settled: &[u8]) -> Option<usize> {
    let mut group = run_start(settled, settled.len(), 0);
    while let Some((_, end, whole)) = next_group(settled, group) {
        if !whole && end == settled.len() {
            return Some(group);
        }
        group = end;
    }
    None
}

/// The first line of the members that stand in front of the line at `start`, no farther than `least`.
fn run_start(text: &[u8], mut start: usize, least: usize) -> usize {
    while start > least {
        let before = memrchr(b'\n', &text[..start - 1]).map_or(0, |newline| newline + 1);
        if before < least || Member::read(text, before).is_none() {
            break;
        }
        start = before;
    }
    start
}

/// The members from the line at `start` on in one column, where they end, and whether there are as many as are read
/// together.
fn next_group(text: &[u8], start: usize) -> Option<(Vec<Member>, usize, bool)> {
    let mut members: Vec<Member> = Vec::new();
    let mut at = start;
    let mut whole = false;
    while let Some(member) = Member::read(text, at).filter(|_| !whole) {
        if members.first().is_some_and(|first| first.column != member.column || member.is_item) {
            return Some((members, at, true));
        }
        at = member.next;
        members.push(member);
        whole = members.len() == MOST_LINES || at - start >= FAR;
    }
    (!members.is_empty()).then_some((members, at, whole))
}

fn is_private(text: &[u8], members: &[Member]) -> bool {
    let value = |name: &[u8]| {
        members
            .iter()
            .find(|member| &text[member.name.clone()] == name)
            .map(|member| &text[member.value.clone()])
    };
    let symmetric = value(b"kty").is_some_and(|kind| kind == b"oct");
    let long = |name: &[u8]| value(name).is_some_and(is_key);
    value(b"kty").is_some() && (long(b"d") || symmetric && long(b"k"))
}

/// One line: `name: value`, `- name: "value"`.
struct Member {
    name: Range<usize>,
    /// Without quotes.
    value: Range<usize>,
    /// How many spaces and signs of a list stand before it.
    column: usize,
    is_item: bool,
    next: usize,
}

impl Member {
    /// The line that begins at `start`, if it is a member of a key.
    fn read(text: &[u8], start: usize) -> Option<Self> {
        let line = &text[start..];
        let column = line.iter().take_while(|byte| matches!(byte, b' ' | b'-')).count();
        let name =
            line[column..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let known = MEMBERS.iter().any(|member| member.as_bytes() == &line[column..column + name]);
        let rest = line[column + name..].strip_prefix(b":").filter(|_| known)?;
        let end = memchr(b'\n', rest).unwrap_or(rest.len());
        let quote = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b'"' | b'\'');
        let before = rest[..end].iter().take_while(|byte| quote(byte)).count();
        let behind = rest[before..end].iter().rev().take_while(|byte| quote(byte)).count();
        let first = start + line.len() - rest.len();
        Some(Self {
            name: start + column..start + column + name,
            value: first + before..first + end - behind,
            column,
            is_item: line[..column].contains(&b'-'),
            next: text.len().min(first + end + 1),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALAR: &str = "870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE";

    fn find(text: &str) -> Vec<&str> {
        let openings: Vec<usize> = memchr::memmem::find_iter(text.as_bytes(), JWK_TYPE).collect();
        super::find(text.as_bytes(), &openings).into_iter().map(|span| &text[span]).collect()
    }

    #[test]
    fn a_private_key_is_found_as_yaml() {
        for (text, key) in [
            (
                format!("a: b\nkty: EC\ncrv: P-256\nd: {SCALAR}\nb: c\n"),
                format!("kty: EC\ncrv: P-256\nd: {SCALAR}"),
            ),
            (
                format!("keys:\n  - crv: P-256\n    d: \"{SCALAR}\"\n    kty: EC"),
                format!("crv: P-256\n    d: \"{SCALAR}\"\n    kty: EC"),
            ),
            (format!("k: {SCALAR}\r\nkty: oct\r\n"), format!("k: {SCALAR}\r\nkty: oct")),
        ] {
            assert_eq!(find(&text), [key], "{text}");
        }
        let two = format!("- kty: EC\n  d: {SCALAR}\n- kty: EC\n  d: {SCALAR}\n");
        assert_eq!(find(&two).len(), 2);
    }

    #[test]
    fn public_keys_and_other_lines_are_left_alone() {
        for text in [
            format!("kty: EC\nx: {SCALAR}\n"),
            format!("kty: EC\n\nd: {SCALAR}\n"),
            format!("- kty: EC\n- d: {SCALAR}\n"),
            "kty: EC\nd: {{ key }}\n".to_owned(),
        ] {
            assert!(find(&text).is_empty(), "{text}");
        }
    }

    #[test]
    fn members_at_the_end_are_undecided() {
        assert_eq!((undecided(b"a: b\nd: x\ncrv: y\n"), undecided(b"d: x\na: b\n")), (Some(5), None));
        let many = "d: x\n".repeat(MOST_LINES + 1);
        assert_eq!(undecided(many.as_bytes()), Some(5 * MOST_LINES));
        assert_eq!(undecided(&many.as_bytes()[..5 * MOST_LINES]), None);
    }
}
