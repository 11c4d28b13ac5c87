//! Encoded text that was wrapped: lines that hold nothing but digits of base64 or of hexadecimal, as `base64`, `openssl`,
//! `xxd -p`, PEM (RFC 7468, section 2) and mail (RFC 2045, section 6.8) write them, and pieces of one line with written
//! line ends between them, as JSON holds the same. What a break cuts in two is read in the digits without it ([`Run`]).
//!
//! In front of a line's digits may stand its indentation, its number or marks of quotation, behind them what closes a
//! string of a program. Every line but the last holds at least [`LEAST`] digits.

#[cfg(test)]
mod tests;

use std::ops::Range;

use memchr::{memchr, memrchr};

use super::blocks;
use super::stretches::{LEAST_DIGITS, Stretch, Stretches};

/// The fewest digits of a line that goes on in the next one, and the most of any.
pub(super) const LEAST: usize = LEAST_DIGITS;
const MOST: usize = 1024;
/// The most bytes in front of the digits of a line, none of them a letter, and behind them.
const HEAD: usize = 32;
pub(super) const TAIL: usize = 7;
/// No line of wrapped digits is longer, without its line feed.
const LONGEST: usize = HEAD + MOST + TAIL;

/// True for what may close a line of digits.
pub(super) fn closes(byte: u8) -> bool {
    matches!(
        byte,
        b'\n' | b'\r' | b' ' | b'\t' | b'\\' | b'"' | b'\'' | b'`' | b',' | b';' | b')' | b']' | b'}'
    )
}

/// The digits of a line, when it holds nothing else.
struct Line {
    digits: Range<usize>,
    /// Whether the next line may go on with them.
    goes_on: bool,
}

impl Line {
    /// Of a line without its line feed.
    fn read(line: &[u8]) -> Option<Self> {
        if line.len() > LONGEST {
            return None;
        }
        let closed = closing(line);
        let end = closed - line[..closed].iter().rev().take(2).take_while(|byte| **byte == b'=').count();
        let count = line[..end].iter().rev().take_while(|byte| blocks::is_digit(**byte)).count();
        let (start, padded) = (end - count, end < closed);
        if !(1..=MOST).contains(&count) || start > HEAD || line.len() - closed > TAIL {
            return None;
        }
        if line[..start].iter().any(u8::is_ascii_alphabetic) {
            return None;
        }
        // A rule across a page is none.
        let goes_on = !padded && count >= LEAST && line[start..end].iter().any(u8::is_ascii_alphanumeric);
        Some(Self { digits: start..end, goes_on })
    }
}

/// Where a line's digits and their padding end: in front of what closes a string of a program and goes on with the next.
fn closing(line: &[u8]) -> usize {
    let mut rest = line.trim_ascii_end();
    rest = rest.strip_suffix(b" +").or(rest.strip_suffix(b" .")).unwrap_or(rest);
    loop {
        rest = match rest {
            [before @ .., b'\\', b'n' | b'r'] => before,
            [before @ .., last] if closes(*last) => before,
            _ => return rest.len(),
        }
    }
}

/// True when the next line may go on with the digits of this one, which is without its line feed.
fn goes_on(line: &[u8]) -> bool {
    line.len() >= LEAST && Line::read(line).is_some_and(|line| line.goes_on)
}

/// The lines up to `end` that go on in each other and in what follows. Those at `known` are such lines already.
pub(super) fn open(text: &[u8], end: usize, known: &Range<usize>) -> Range<usize> {
    let mut start = end;
    while start > 0 {
        if start == known.end && !known.is_empty() {
            start = known.start;
            break;
        }
        let first = (start - 1).saturating_sub(LONGEST + 1);
        let line = match memrchr(b'\n', &text[first..start - 1]) {
            Some(newline) => first + newline + 1,
            None if first == 0 => 0,
            None => break,
        };
        if !goes_on(&text[line..start - 1]) {
            break;
        }
        start = line;
    }
    start..end
}

/// Where the first lines begin that go on in each other for more than `most` bytes. `text` ends with a line feed; the
/// lines at `known` are such lines already.
pub(super) fn longer(text: &[u8], most: usize, known: &Range<usize>) -> Option<usize> {
    let mut from = 0;
    // Lines that begin here or later and go on for so long hold the byte that stands so much later.
    while let Some(end) = text.get(from + most..).and_then(|rest| memchr(b'\n', rest)) {
        let end = from + most + end + 1;
        let lines = open(text, end, known);
        if lines.len() > most {
            return Some(lines.start);
        }
        from = if lines.is_empty() { end } else { lines.start };
    }
    None
}

/// Where digits stood between which there were breaks.
pub(super) struct Run {
    /// Where each piece begins, among the digits and in the text.
    pieces: Vec<(usize, usize)>,
}

impl Run {
    /// With the digits alone.
    fn of(text: &[u8], pieces: &[Range<usize>]) -> Option<(Vec<u8>, Self)> {
        let (first, last) = (pieces.first()?, pieces.last()?);
        if pieces.len() < 2 {
            return None;
        }
        // The lines of a patch.
        let sign = text[first.start];
        let is_patch = matches!(sign, b'+' | b'-') && pieces.iter().all(|piece| text[piece.start] == sign);
        let mut digits = Vec::with_capacity(last.end - first.start);
        let mut places = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let piece = piece.start + usize::from(is_patch)..piece.end;
            places.push((digits.len(), piece.start));
            digits.extend_from_slice(&text[piece]);
        }
        Some((digits, Self { pieces: places }))
    }

    /// Where a span of the digits stands in the text.
    pub(super) fn original(&self, span: &Range<usize>) -> Range<usize> {
        let place = |at: usize| {
            let piece = self.pieces.partition_point(|(digits, _)| *digits <= at).saturating_sub(1);
            self.pieces.get(piece).map_or(0, |(digits, text)| text + at - digits)
        };
        match span.end.checked_sub(1) {
            Some(last) if last >= span.start => place(span.start)..place(last) + 1,
            _ => place(span.start)..place(span.start),
        }
    }

    /// The stretches of encoded text in its digits that a break cuts.
    pub(super) fn stretches(&self, digits: &[u8]) -> Vec<Stretch> {
        let mut stretches = Stretches::of_digits(digits);
        let piece = |at: usize| self.pieces.partition_point(|(digits, _)| *digits <= at);
        stretches.retain(|stretch| piece(stretch.start) < piece(stretch.end - 1));
        stretches
    }
}

/// What was wrapped in a text, by where its runs of digits end in front of what [`closes`] a line.
pub(super) fn runs(text: &[u8], ends: &[usize]) -> impl Iterator<Item = (Vec<u8>, Run)> {
    let (mut pieces, mut done) = (Vec::new(), 0);
    ends.iter().filter_map(move |end| {
        if *end <= done {
            return None;
        }
        pieces.clear();
        lines(text, *end, &mut pieces);
        if pieces.len() < 2 {
            pieces.clear();
            written(text, *end, &mut pieces);
        }
        let run = Run::of(text, &pieces)?;
        done = pieces.last()?.end;
        Some(run)
    })
}

/// The digits of the lines from that on in which some end at `end`.
fn lines(text: &[u8], end: usize, pieces: &mut Vec<Range<usize>>) {
    let near = |at: usize, most: usize| &text[at..text.len().min(at + most)];
    if memchr(b'\n', near(end, TAIL + 1)).is_none() {
        return;
    }
    let first = end.saturating_sub(HEAD + MOST + 1);
    let mut at = match memrchr(b'\n', &text[first..end]) {
        Some(newline) => first + newline + 1,
        None if first == 0 => 0,
        None => return,
    };
    loop {
        let rest = near(at, LONGEST + 1);
        let length = memchr(b'\n', rest).unwrap_or(rest.len());
        let Some(line) = Line::read(&rest[..length]) else { return };
        if pieces.is_empty() && !line.goes_on {
            return;
        }
        pieces.push(at + line.digits.start..at + line.digits.end);
        if !line.goes_on {
            return;
        }
        at = text.len().min(at + length + 1);
    }
}

/// The digits of one line between which line ends are written, from those on that end at `end`.
fn written(text: &[u8], end: usize, pieces: &mut Vec<Range<usize>>) {
    let Some(mut next) = written_end(text, end) else { return };
    let count = text[..end].iter().rev().take(MOST).take_while(|byte| blocks::is_digit(**byte)).count();
    let start = end - count;
    // The letter of the escape in front of it belongs to that.
    let escape = start > 0 && text[start - 1] == b'\\' && matches!(text[start], b'n' | b'r' | b't');
    let mut piece = start + usize::from(escape)..end;
    while piece.len() >= LEAST {
        let count = text[next..].iter().take(MOST).take_while(|byte| blocks::is_digit(**byte)).count();
        pieces.push(std::mem::replace(&mut piece, next..next + count));
        match written_end(text, piece.end) {
            Some(line) if !piece.is_empty() => next = line,
            _ => break,
        }
    }
    if !pieces.is_empty() && !piece.is_empty() {
        pieces.push(piece);
    }
}

/// Where the text goes on behind the line end that is written at `at`, and behind an indentation and a number.
fn written_end(text: &[u8], at: usize) -> Option<usize> {
    if !matches!(text.get(at), Some(b'\\' | b' ')) {
        return None;
    }
    let count =
        |at: usize, is: fn(&u8) -> bool| text[at..].iter().take(HEAD).take_while(|byte| is(byte)).count();
    let escaped = |at: usize, letter: u8| {
        let slashes = count(at, |byte| *byte == b'\\');
        (slashes > 0 && text.get(at + slashes) == Some(&letter)).then_some(at + slashes + 1)
    };
    let blank = |byte: &u8| matches!(byte, b' ' | b'>' | b'#' | b'*' | b'|');
    let at = at + count(at, |byte| *byte == b' ');
    let line = escaped(escaped(at, b'r').unwrap_or(at), b'n')?;
    let line = line + count(line, blank);
    let number = line + count(line, u8::is_ascii_digit);
    let mark = || {
        let rest = &text[number..];
        let marks: [&[u8]; 4] = ["\u{2192}".as_bytes(), b": ", b"| ", b"\t"];
        let mark = marks.iter().find(|mark| rest.starts_with(mark));
        mark.map(|mark| number + mark.len()).or_else(|| escaped(number, b't'))
    };
    let behind = if number > line { mark() } else { None };
    Some(behind.map_or(line, |at| at + count(at, blank)))
}
