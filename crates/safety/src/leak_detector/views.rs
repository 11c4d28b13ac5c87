//! Encoded text inside a text: base64, base64url, hexadecimal and percent escapes, decoded where what comes
//! of them is printable. Binary data stays as it is: no rule and no value of a vault is looked for in it
//! but as it stands.
//!
//! Where decoding begins is not known (`prefix/` before base64 is base64 too), so all four alignments are
//! tried at once, character by character, and only a stretch of printable text is decoded.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memchr_iter;

/// How many encodings may lie around each other.
pub(super) const DEPTH: usize = 3;
/// The fewest groups of four base64 characters that make a stretch: fifteen bytes of text.
const LEAST_GROUPS: u32 = 5;
/// The fewest pairs of hexadecimal digits that make a stretch.
const LEAST_PAIRS: u32 = 15;
/// Bytes around a percent escape that are decoded with it.
const AROUND: usize = 8 * 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A text that stood encoded in another one.
pub(super) struct View {
    pub(super) text: Vec<u8>,
    /// Under which reading: `base64`, `hex`, `percent`.
    pub(super) name: &'static str,
    places: Places,
}

/// Where a byte of a view came from.
enum Places {
    /// Groups of so many characters stand for so many bytes, from here on.
    Groups { start: usize, characters: usize, bytes: usize },
    /// The place of every byte, and the end.
    Each(Vec<usize>),
}

impl View {
    /// What a span of the view stood for in the encoded text.
    pub(super) fn original(&self, span: &Range<usize>) -> Range<usize> {
        match &self.places {
            Places::Groups { start, characters, bytes } => {
                let first = span.start * characters / bytes;
                start + first..start + (span.end * characters).div_ceil(*bytes)
            }
            Places::Each(places) => {
                let last = places.last().copied().unwrap_or(0);
                let place = |at: usize| places.get(at).copied().unwrap_or(last);
                place(span.start)..place(span.end)
            }
        }
    }
}

/// The views of a text. `runs` are where runs of token characters begin, in order.
pub(super) fn of(text: &[u8], runs: &[usize]) -> Vec<View> {
    let mut views = Vec::new();
    let mut done = 0;
    for run in runs.iter().copied() {
        if run < done {
            continue;
        }
        // A run may begin behind a `+` or a `/` of the same base64.
        let back =
            text[done..run].iter().rev().take_while(|byte| CLASS[usize::from(**byte)] & DIGIT != 0).count();
        let start = run - back;
        let length = text[start..].iter().take_while(|byte| CLASS[usize::from(**byte)] & DIGIT != 0).count();
        done = start + length;
        base64(text, start..done, &mut views);
        hex(text, start..done, &mut views);
    }
    percent(text, &mut views);
    views
}

/// A base64 digit.
const DIGIT: u8 = 1;
/// One that may begin, go on in the second, or in the third place of a group that stands for ASCII.
const FIRST: u8 = 2;
const SECOND: u8 = 4;
const THIRD: u8 = 8;
/// A hexadecimal digit, and one that begins a pair for a printable character.
const HEX: u8 = 16;
const HEX_FIRST: u8 = 32;

/// What every byte may be.
const CLASS: [u8; 256] = {
    let mut class = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let character = byte as u8;
        let value = match character {
            b'A'..=b'Z' => character - b'A',
            b'a'..=b'z' => character - b'a' + 26,
            b'0'..=b'9' => character - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => 255,
        };
        if value < 64 {
            class[byte] = DIGIT;
            // Three bytes under 128, the first from the tabulator on.
            class[byte] |= if value >= 2 && value < 32 { FIRST } else { 0 };
            class[byte] |= if value & 8 == 0 { SECOND } else { 0 };
            class[byte] |= if value & 2 == 0 { THIRD } else { 0 };
        }
        class[byte] |= if character.is_ascii_hexdigit() { HEX } else { 0 };
        class[byte] |= if matches!(character, b'2'..=b'7') { HEX_FIRST } else { 0 };
        byte += 1;
    }
    class
};

fn base64(text: &[u8], run: Range<usize>, views: &mut Vec<View>) {
    let is = |at: usize, class: u8| CLASS[usize::from(text[at])] & class != 0;
    let mut group = |at: usize| is(at, FIRST) && is(at + 1, SECOND) && is(at + 2, THIRD);
    stretches::<4>(run, LEAST_GROUPS, &mut group, |start, end| {
        let standard = |byte: &u8| match byte {
            b'-' => b'+',
            b'_' => b'/',
            byte => *byte,
        };
        // One character alone in a group stands for nothing.
        let end = if (end - start) % 4 == 1 { end - 1 } else { end };
        let digits: Vec<u8> = text[start..end].iter().map(standard).collect();
        if let Ok(text) = BASE64.decode(digits) {
            views.push(View {
                text,
                name: "base64",
                places: Places::Groups { start, characters: 4, bytes: 3 },
            });
        }
    });
}

fn hex(text: &[u8], run: Range<usize>, views: &mut Vec<View>) {
    let is = |at: usize, class: u8| CLASS[usize::from(text[at])] & class != 0;
    let space = |at: usize| text[at] == b'0' && matches!(text[at + 1], b'9' | b'a' | b'A' | b'd' | b'D');
    let mut pair = |at: usize| is(at, HEX_FIRST) && is(at + 1, HEX) || space(at);
    stretches::<2>(run, LEAST_PAIRS, &mut pair, |start, end| {
        let pairs = text[start..end].as_chunks::<2>().0;
        let text = pairs.iter().filter_map(byte).collect();
        views.push(View { text, name: "hex", places: Places::Groups { start, characters: 2, bytes: 1 } });
    });
}

/// Calls `found` with the stretches of at least `least` good groups of `N` characters in a run, whatever
/// their alignment, each with what is left of a last group.
fn stretches<const N: usize>(
    run: Range<usize>,
    least: u32,
    good: &mut impl FnMut(usize) -> bool,
    mut found: impl FnMut(usize, usize),
) {
    let mut groups = [0u32; N];
    let mut at = run.start;
    while at + N <= run.end {
        let count = &mut groups[at % N];
        *count = if good(at) { *count + 1 } else { 0 };
        at += 1;
        if *count == least {
            let start = at - 1 - N * (least as usize - 1);
            let mut end = start + N * least as usize;
            while end + N <= run.end && good(end) {
                end += N;
            }
            at = end;
            found(start, if end + N > run.end { run.end } else { end });
            groups = [0; N];
        }
    }
}

/// Pieces without spaces and quotes that hold a percent escape, whole.
fn percent(text: &[u8], views: &mut Vec<View>) {
    let escape = |at: usize| text.get(at..at + 3).and_then(|three| byte(&[three[1], three[2]]));
    let mut done = 0;
    for at in memchr_iter(b'%', text) {
        if at < done || escape(at).is_none() {
            continue;
        }
        let inside =
            |byte: &&u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'<' | b'>' | b'`');
        let first = done.max(at.saturating_sub(AROUND));
        let start = at - text[first..at].iter().rev().take_while(inside).count();
        let end = text.len().min(at + AROUND);
        let end = at + text[at..end].iter().take_while(inside).count();
        let (mut plain, mut places, mut from) = (Vec::new(), Vec::new(), start);
        while from < end {
            let escaped = if text[from] == b'%' { escape(from) } else { None };
            plain.push(escaped.unwrap_or(text[from]));
            places.push(from);
            from += if escaped.is_some() { 3 } else { 1 };
        }
        places.push(from);
        done = from;
        views.push(View { text: plain, name: "percent", places: Places::Each(places) });
    }
}

/// The byte of a pair of hexadecimal digits.
fn byte(pair: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(pair[0])? << 4 | digit(pair[1])?)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    const PLAIN: &str = "token = \"x?>~ and more of it\"";

    fn texts(text: &str) -> Vec<(&'static str, String, Range<usize>)> {
        // As the engine does: where a run of sixteen begins.
        let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        let bytes = text.as_bytes();
        let begins = |at: &usize| {
            (*at == 0 || !token(bytes[at - 1]))
                && bytes.get(*at..at + 16).is_some_and(|run| run.iter().all(|byte| token(*byte)))
        };
        let runs: Vec<usize> = (0..bytes.len()).filter(begins).collect();
        let show = |view: View| {
            let whole = view.original(&(0..view.text.len()));
            (view.name, String::from_utf8(view.text).unwrap(), whole)
        };
        of(bytes, &runs).into_iter().map(show).collect()
    }

    #[test]
    fn encoded_text_is_found_at_every_alignment() {
        for before in ["", "a", "ab", "abc"] {
            let encoded = URL_SAFE_NO_PAD.encode(PLAIN);
            let found = texts(&format!("({before}{encoded})"));
            assert!(
                found.iter().any(|(name, text, _)| *name == "base64" && text.ends_with(&PLAIN[3..])),
                "{found:?}"
            );
            let encoded: String = PLAIN.bytes().map(|byte| format!("{byte:02X}")).collect();
            let found = texts(&format!("({before}{encoded})"));
            assert!(
                found.iter().any(|(name, text, _)| *name == "hex" && text.ends_with(&PLAIN[3..])),
                "{found:?}"
            );
        }
        let found = texts("GET /?a=b%20c%3Dd&e=f%zz next");
        assert_eq!(found, [("percent", "/?a=b c=d&e=f%zz".to_owned(), 4..24)]);
    }

    #[test]
    fn spans_lead_back_to_the_encoded_bytes() {
        let encoded = format!("x: {}", URL_SAFE_NO_PAD.encode(PLAIN));
        let [(_, _, whole)] = &texts(&encoded)[..] else { panic!("one view") };
        assert_eq!(*whole, 3..encoded.len());
    }

    #[test]
    fn digests_and_identifiers_are_no_text() {
        for text in [
            "0d1a9a2d0b2f4a2b5a3c7f6f1e0d9c8b7a6f5e4d3c2b1a0f9e8d7c6b5a4f3e2d",
            "a_rather_long_identifier_of_a_program",
            "sha512-Qd0HqjVKL3bvFy4lLQ3B8pUwWv5a7jz0h9L0K1x2c3v4b5n6m7A8s9d0f1g2h3j4k5l6q7w8e9r0t1y2u3i4==",
        ] {
            assert_eq!(texts(text), [], "{text}");
        }
    }
}
