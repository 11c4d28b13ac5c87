//! A Secret as JSON on one line: the object around `"kind":"Secret"`, and the members of its maps.
//!
//! A long line is read in pieces. A list of Secrets is cut between two of them ([`cut`]), so that each is read whole.

use std::ops::Range;

use memchr::{memchr, memchr2_iter, memmem};

use super::is_secret;

/// Where a piece of a long line is cut, at `most` or before: in front of the outermost object that is open there, if it
/// may be a Secret and begins behind the first quarter of the piece, so that what is read again stays within bounds.
pub(in super::super) fn cut(piece: &[u8], most: usize) -> usize {
    const MEMBERS: [&[u8]; 3] = [b"\"kind\"", b"\"data\"", b"\"stringData\""];
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

/// Appends the secret values of every Secret on the line at `span`.
pub(super) fn values(text: &[u8], span: Range<usize>, found: &mut Vec<Range<usize>>) {
    let line = &text[span.clone()];
    let mut done = 0;
    for at in memmem::find_iter(line, b"\"kind\"") {
        let value = line[at + b"\"kind\"".len()..]
            .trim_ascii_start()
            .strip_prefix(b":")
            .map(<[u8]>::trim_ascii_start);
        if at < done || !value.is_some_and(|value| value.starts_with(b"\"Secret\"")) {
            continue;
        }
        // Without one, no object that begins before it goes on behind it.
        let Some(object) = object_around(line, at, done) else {
            done = at;
            continue;
        };
        done = object.end;
        for (map, encoded) in [("\"data\"", true), ("\"stringData\"", false)] {
            let (mut open, mut from) = (0, object.start);
            for at in memmem::find_iter(&line[object.clone()], map).map(|at| object.start + at) {
                open += line[from..at].iter().map(|byte| step(*byte)).sum::<i32>();
                from = at;
                if let Some(first) = opened(line, at + map.len()).filter(|_| open == 1) {
                    let place = |value: Range<usize>| span.start + value.start..span.start + value.end;
                    members(line, first, encoded, |value| found.push(place(value)));
                }
            }
        }
    }
}

/// The object of a line whose member stands at `at` and that begins at `from` or later. Braces in strings are taken for
/// braces; in what Kubernetes writes they stand in pairs.
fn object_around(line: &[u8], at: usize, from: usize) -> Option<Range<usize>> {
    let mut open = 0;
    let start = line[from..at].iter().rposition(|byte| {
        open += step(*byte);
        open > 0
    })?;
    let mut open = 1;
    let end = line[at..].iter().position(|byte| {
        open += step(*byte);
        open == 0
    });
    Some(from + start..end.map_or(line.len(), |end| at + end + 1))
}

fn step(byte: u8) -> i32 {
    match byte {
        b'{' => 1,
        b'}' => -1,
        _ => 0,
    }
}

/// Behind the brace that opens the value of the member whose name ends at `at`.
fn opened(line: &[u8], at: usize) -> Option<usize> {
    let rest = line[at..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"{")?;
    Some(line.len() - rest.len())
}

/// Calls `found` with each secret value of the map whose members begin at `from`.
fn members(line: &[u8], from: usize, encoded: bool, mut found: impl FnMut(Range<usize>)) {
    let mut at = from;
    while let Some((name, value)) = member(line, at) {
        if is_secret(&line[name], &line[value.clone()], encoded) {
            found(value.clone());
        }
        at = value.end + 1;
    }
}

/// The next member of a map of strings, which are without escapes.
fn member(line: &[u8], from: usize) -> Option<(Range<usize>, Range<usize>)> {
    let string = |from: usize, sign: &[u8]| {
        let rest = line.get(from..)?.trim_ascii_start();
        let rest = rest.strip_prefix(sign).unwrap_or(rest).trim_ascii_start().strip_prefix(b"\"")?;
        let start = line.len() - rest.len();
        Some(start..start + memchr(b'"', rest)?)
    };
    let name = string(from, b",")?;
    let value = string(name.end + 1, b":")?;
    Some((name, value))
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
