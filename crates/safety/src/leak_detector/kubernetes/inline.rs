//! A Secret as JSON on one line: the object that has a kind or a type of one, and the members of its maps.
//!
//! It may be escaped in a string, as `kubectl apply` keeps what it applied in an annotation of the Secret itself, and
//! it may be what Python prints. A long line is read in pieces. A list of Secrets is cut between two of them ([`cut`]),
//! so that each is read whole.

use std::ops::Range;

use memchr::{memchr_iter, memchr2_iter, memmem};

use super::{Map, is_kind, is_secret};

/// Where a piece of a long line is cut, at `most` or before: in front of the outermost object that is open there, if it
/// may be a Secret and begins behind the first quarter of the piece, so that what is read again stays within bounds.
pub(in super::super) fn cut(piece: &[u8], most: usize) -> usize {
    const MEMBERS: [&[u8]; 3] = [b"kind", b"data", b"stringData"];
    let least = piece.len() / 4;
    let (mut open, mut start) = (0usize, None);
    for at in memchr2_iter(b'{', b'}', &piece[least..most]).map(|at| least + at) {
        match piece[at] {
            b'{' => {
                start = start.filter(|_| open > 0).or(Some(at));
                open += 1;
            }
            _ => open = open.saturating_sub(1),
        }
    }
    let may_be_secret =
        |start: &usize| MEMBERS.iter().any(|member| memmem::find(&piece[*start..], member).is_some());
    start.filter(|_| open > 0).filter(may_be_secret).unwrap_or(most)
}

/// An object that has not closed yet.
#[derive(Default)]
struct Object {
    is_secret: bool,
    /// Where the members of its maps begin.
    maps: Vec<(usize, Map)>,
}

/// Appends the secret values of every Secret on the line at `span`. Braces in strings are taken for braces; in what
/// Kubernetes writes they stand in pairs.
pub(super) fn values(text: &[u8], span: Range<usize>, found: &mut Vec<Range<usize>>) {
    let line = &text[span.clone()];
    let mut open = vec![Object::default()];
    let mut read = 0;
    let mut close = |object: Object| {
        for (first, map) in object.maps.into_iter().filter(|_| object.is_secret) {
            members(line, first, map, |value| found.push(span.start + value.start..span.start + value.end));
        }
    };
    for at in memchr2_iter(b'{', b'}', line) {
        if let Some(object) = open.last_mut() {
            object.is_secret |= tells(&line[read..at]);
        }
        read = at + 1;
        if line[at] == b'}' {
            open.pop().into_iter().for_each(&mut close);
        } else {
            if let Some((object, map)) = open.last_mut().zip(map_before(&line[..at])) {
                object.maps.push((read, map));
            }
            open.push(Object::default());
        }
    }
    if let Some(object) = open.last_mut() {
        object.is_secret |= tells(&line[read..]);
    }
    open.into_iter().for_each(close);
}

/// True when the members in a piece of an object say that it is a Secret.
fn tells(piece: &[u8]) -> bool {
    const WORDS: [&[u8]; 4] = [b"kind", b"Opaque", b"kubernetes.io/", b"helm.sh/"];
    let is_whole = |at: usize| {
        let kind = memmem::find(&piece[at..], b"Secret").map(|value| at + value + b"Secret".len());
        kind.and_then(|end| piece.get(end)).is_none_or(|next| !next.is_ascii_alphanumeric())
    };
    let mut places = WORDS.iter().flat_map(|word| memmem::find_iter(piece, word).map(move |at| (at, word)));
    places.any(|(at, word)| is_kind(piece, at) && (word != &WORDS[0] || is_whole(at)))
}

/// The map of a Secret whose name stands in front of the brace that opens it.
fn map_before(text: &[u8]) -> Option<Map> {
    let text = trim_end(text).strip_suffix(b":").map(trim_end)?;
    let text = text.strip_suffix(b"\"").or(text.strip_suffix(b"'"))?;
    let escapes = text.iter().rev().take_while(|byte| **byte == b'\\').count();
    let text = &text[..text.len() - escapes];
    let quoted = |text: &[u8]| matches!(text.last(), Some(b'"' | b'\''));
    match (text.strip_suffix(b"stringData"), text.strip_suffix(b"data")) {
        (Some(before), _) if quoted(before) => Some(Map::Plain),
        (_, Some(before)) if quoted(before) => Some(Map::Encoded),
        _ => None,
    }
}

/// Calls `found` with each secret value of the map whose members begin at `from`.
fn members(line: &[u8], from: usize, map: Map, mut found: impl FnMut(Range<usize>)) {
    let mut at = from;
    while let Some((name, value, next)) = member(line, at) {
        if is_secret(&line[name], &line[value.clone()], map) {
            found(value);
        }
        at = next;
    }
}

/// The next member of a map of strings, and what comes behind it.
fn member(line: &[u8], from: usize) -> Option<(Range<usize>, Range<usize>, usize)> {
    let (name, next) = string(line, from, b",")?;
    let (value, next) = string(line, next, b":")?;
    Some((name, value, next))
}

/// The string behind a sign or without it, and where it has ended. In a string of another, its quotes have backslashes
/// in front, and quotes in it have more of them.
fn string(line: &[u8], from: usize, sign: &[u8]) -> Option<(Range<usize>, usize)> {
    let rest = trim_start(line.get(from..)?);
    let rest = trim_start(rest.strip_prefix(sign).unwrap_or(rest));
    let escapes = rest.iter().take_while(|byte| **byte == b'\\').count();
    let quote = *rest.get(escapes).filter(|byte| matches!(byte, b'"' | b'\''))?;
    let start = line.len() - rest.len() + escapes + 1;
    let text = &line[start..];
    let mut last = 0;
    let closing = memchr_iter(quote, text).find(|at| {
        let before = text[last..*at].iter().rev().take_while(|byte| **byte == b'\\').count();
        last = at + 1;
        before == escapes || escapes == 0 && before % 2 == 0
    })?;
    Some((start..start + closing - escapes, start + closing + 1))
}

/// Without spaces, and without line ends that are written as `\n`.
fn trim_start(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        let escapes = text.iter().take_while(|byte| **byte == b'\\').count();
        match text.get(escapes) {
            Some(b'n' | b'r' | b't') if escapes > 0 => text = &text[escapes + 1..],
            _ => return text,
        }
    }
}

fn trim_end(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_end();
        match text {
            [rest @ .., b'\\', b'n' | b'r' | b't'] => text = rest,
            _ => return text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn a_piece_is_cut_in_front_of_an_object_that_may_be_a_secret() {
        let piece = |inner: &str| format!("{}{inner}{}", "x".repeat(40), "y".repeat(20));
        for (inner, at) in [
            ("{}, {\"kind\": {\"a\": ", 44),
            ("}, {\"kind\": {}}", 48),
            ("{\"name\": {\"a\": ", 48),
            ("{\"a\": {\"data\": {} ", 40),
        ] {
            assert_eq!(cut(piece(inner).as_bytes(), 60), if at == 48 { 60 } else { at }, "{inner}");
        }
        // What begins in the first quarter stays.
        assert_eq!(cut(b"{\"data\": {\"a\": \"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", 40), 40);
    }
}
