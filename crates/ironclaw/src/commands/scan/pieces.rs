//! An input of any length, in pieces that overlap so that nothing falls between two of them.
//!
//! A finding counts in the piece in which its neighbourhood is whole: one that begins in the part that
//! the next piece repeats is left to that piece. Pieces end their settled part at a line break where
//! there is one, so that a rule about a line sees the line.

use std::io::{self, Read};

use safety::Finding;

use super::encoding::{Encoding, Text};

/// Bytes of one piece.
pub(super) const PIECE: usize = 1 << 20;

/// Bytes at the end of a piece that the next one repeats: more than the longest secret (a key of 16,384
/// bits in PEM takes 13 KiB).
const OVERLAP: usize = 64 << 10;

/// A part of the input.
pub(super) struct Piece {
    /// The text; a byte that is no character stands as `?`, so that no offset moves.
    pub(super) text: String,
    /// Bytes of it that the next piece does not repeat.
    pub(super) settled: usize,
    /// True for the first one.
    pub(super) is_first: bool,
    /// True for the last one.
    pub(super) is_last: bool,
}

/// Where a finding begins, counted from 1; columns are characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) line: u64,
    pub(super) column: u64,
}

/// Cuts a text into pieces.
pub(super) struct Pieces<R> {
    from: Text<R>,
    encoding: Encoding,
    /// Bytes that were read and not settled.
    kept: Vec<u8>,
    is_first: bool,
    ended: bool,
    /// How far places were counted.
    counted: Counted,
    /// The offset in the input at which the last finding ends that was accepted.
    covered: usize,
}

/// One point of the text.
#[derive(Clone, Copy)]
struct Counted {
    /// Bytes of the piece before it.
    within: usize,
    /// Bytes of the input before it.
    offset: usize,
    place: Place,
}

impl<R: Read> Pieces<R> {
    pub(super) fn new(from: Text<R>) -> Self {
        let counted = Counted { within: 0, offset: from.mark(), place: Place { line: 1, column: 1 } };
        let encoding = from.encoding();
        Self { from, encoding, kept: Vec::new(), is_first: true, ended: false, counted, covered: 0 }
    }

    /// True for an input without any text.
    pub(super) fn was_empty(&self) -> bool {
        self.is_first && self.ended
    }

    /// The next piece; an empty input has none.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece>> {
        if self.ended {
            return Ok(None);
        }
        let missing = PIECE - self.kept.len();
        self.from.by_ref().take(missing as u64).read_to_end(&mut self.kept)?;
        self.ended = self.kept.len() < PIECE;
        if self.kept.is_empty() {
            return Ok(None);
        }
        let settled = if self.ended { self.kept.len() } else { line_end(&self.kept, PIECE - OVERLAP) };
        let is_first = std::mem::replace(&mut self.is_first, false);
        let piece = Piece { text: readable(&self.kept), settled, is_first, is_last: self.ended };
        self.kept.drain(..settled);
        Ok(Some(piece))
    }

    /// The findings of a piece that count in it, with spans in the whole input and their places. They
    /// come in the order of their spans.
    pub(super) fn accept(
        &mut self,
        piece: &Piece,
        findings: impl Iterator<Item = Finding>,
    ) -> Vec<(Finding, Place)> {
        let mut accepted = Vec::new();
        let before = self.covered;
        for mut finding in findings {
            if finding.span.start >= piece.settled {
                continue;
            }
            self.count(piece, finding.span.start);
            let Counted { offset: start, place, .. } = self.counted;
            // The rest of one that began in the piece before is not another one.
            if start < before {
                continue;
            }
            let text = piece.text.as_bytes();
            let end = finding.span.end.min(text.len());
            let end = start + self.width(&text[finding.span.start..end]);
            self.covered = self.covered.max(end);
            finding.span = start..end;
            accepted.push((finding, place));
        }
        self.count(piece, piece.settled);
        self.counted.within = 0;
        accepted
    }

    /// Counts on up to an offset in the piece that is not before the last one.
    fn count(&mut self, piece: &Piece, until: usize) {
        let stretch = &piece.text.as_bytes()[self.counted.within..until];
        self.counted.offset += self.width(stretch);
        self.counted.within = until;
        let place = &mut self.counted.place;
        for byte in stretch {
            match byte {
                b'\n' => *place = Place { line: place.line + 1, column: 1 },
                // The further bytes of a character.
                0x80..=0xbf => {}
                _ => place.column += 1,
            }
        }
    }

    /// Bytes of the input for which these bytes of the text stand.
    fn width(&self, text: &[u8]) -> usize {
        match self.encoding {
            Encoding::Utf8 => text.len(),
            encoding => text.iter().map(|byte| encoding.width(*byte)).sum(),
        }
    }
}

/// The end of the last line that ends at or before `at`; `at` itself where no line does for long.
fn line_end(bytes: &[u8], at: usize) -> usize {
    let near = at.saturating_sub(OVERLAP);
    bytes[near..at].iter().rposition(|byte| *byte == b'\n').map_or(at, |newline| near + newline + 1)
}

/// The bytes as text of the same length.
fn readable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| '?'));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use safety::finding::Kind;
    use safety::{Action, Severity};

    use super::super::encoding::tests::{ALL, encoded};
    use super::*;

    fn finding(span: std::ops::Range<usize>) -> Finding {
        Finding {
            rule: Arc::from("needle"),
            kind: Kind::Password,
            severity: Severity::High,
            action: Action::Redact,
            span,
            view: "plain",
            reason: Arc::from("a needle"),
            fingerprint: "0".repeat(16),
            secret: None,
        }
    }

    /// Looks for every `NEEDLE` and gives offsets and places.
    fn search(input: &[u8]) -> Vec<(usize, Place)> {
        let mut pieces = Pieces::new(Text::open(input).unwrap());
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().unwrap() {
            assert!(piece.text.len() <= PIECE);
            let found: Vec<Finding> = piece
                .text
                .match_indices("NEEDLE")
                .map(|(at, needle)| finding(at..at + needle.len()))
                .collect();
            all.extend(
                pieces
                    .accept(&piece, found.into_iter())
                    .into_iter()
                    .map(|(one, place)| (one.span.start, place)),
            );
        }
        all
    }

    #[test]
    fn nothing_falls_between_two_pieces_and_nothing_counts_twice() {
        for filler in ["x", "xxxx\n", "é\n"] {
            let filler = filler.repeat(PIECE / filler.len());
            for shift in (0..OVERLAP + 16).step_by(1021).chain(0..8) {
                let at = filler.floor_char_boundary(PIECE - OVERLAP - 8 + shift);
                let text = format!("{}NEEDLE{}", &filler[..at], filler);
                let found = search(text.as_bytes());
                assert_eq!(found.len(), 1, "{at}");
                assert_eq!(found[0].0, at);
            }
        }
    }

    #[test]
    fn lines_and_columns_are_counted_in_characters() {
        let found = search("a\n\u{e9}\u{e9} NEEDLE NEEDLE\nNEEDLE".as_bytes());
        let places: Vec<(u64, u64)> = found.iter().map(|(_, place)| (place.line, place.column)).collect();
        assert_eq!(places, [(2, 4), (2, 11), (3, 1)]);
    }

    #[test]
    fn bytes_that_are_no_text_keep_the_offsets() {
        let found = search(b"\xff\xfd\x80\xe9 NEEDLE \xc3");
        assert_eq!(found, [(5, Place { line: 1, column: 6 })]);
    }

    #[test]
    fn offsets_are_those_of_the_input_in_every_encoding() {
        for (filler, times) in [("a\u{1f600}\n", 3), ("\u{e9}\u{4e00}x\n", 300_000)] {
            let text = format!("{}\u{1f600} NEEDLE NEEDLE", filler.repeat(times));
            for encoding in ALL {
                let bytes = encoded(&text, encoding);
                let needle = &encoded("NEEDLE", encoding)[Text::open(bytes.as_slice()).unwrap().mark()..];
                let found = search(&bytes);
                let line = times as u64 + 1;
                let places: Vec<_> = found.iter().map(|(_, place)| (place.line, place.column)).collect();
                assert_eq!(places, [(line, 3), (line, 10)], "{encoding:?}");
                assert!(found.iter().all(|(at, _)| bytes[*at..].starts_with(needle)), "{encoding:?}");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn any_bytes_keep_their_length(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(readable(&bytes).len(), bytes.len());
        }
    }
}
