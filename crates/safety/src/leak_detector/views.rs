//! Encoded text inside a text: base64, base64url, hexadecimal, percent and Unicode escapes, decoded where what comes
//! of them is printable, and lines without what a terminal obeys. Binary data stays as it is: no rule and no value of
//! a vault is looked for in it but as it stands. Digits that were wrapped are a text of their own, and what a break cuts
//! is decoded from that.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use memchr::{memchr, memchr2, memmem, memrchr};

use super::engine::Found;
use super::joined;
use super::stretches::Encoding;
use super::wrapped::{self, Run};

/// How many encodings may lie around each other.
pub(super) const DEPTH: usize = 3;
const ESCAPE: u8 = 0x1b;
/// Bytes around a percent escape or a control sequence that are decoded with it.
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
    /// Under which reading: `base64`, `hex`, `percent`, `escapes`, `joined`, `wrapped`.
    pub(super) name: &'static str,
    places: Places,
}

/// Where a byte of a view came from.
enum Places {
    /// Groups of so many characters stand for so many bytes, from here on.
    Groups { start: usize, characters: usize, bytes: usize },
    /// The place of every byte, and the end.
    Each(Vec<usize>),
    /// That of every piece.
    Pieces(Run),
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
            Places::Pieces(run) => run.original(span),
        }
    }

    /// What was found in a view that holds nothing but digits that stood on several lines: the lines have been read, so
    /// what counts is what a break cuts.
    pub(super) fn wrapped(&self) -> Option<Found> {
        let Places::Pieces(run) = &self.places else { return None };
        Some(Found { stretches: run.stretches(&self.text), ..Found::default() })
    }
}

/// The views of a text, by what was found in it.
pub(super) fn of(text: &[u8], found: &Found) -> Vec<View> {
    let digits = found.stretches.iter().filter_map(|stretch| match stretch.encoding {
        Encoding::Base64 => base64(text, stretch.start..stretch.end),
        Encoding::Hex => Some(hex(text, stretch.start..stretch.end)),
    });
    let mut views: Vec<View> = digits.collect();
    let mut before = None;
    for at in &found.openings {
        // Two credentials of one name open once.
        if let Some((text, places)) =
            joined::read(text, *at).filter(|(_, places)| before != places.first().copied())
        {
            before = places.first().copied();
            views.push(View { text, name: "joined", places: Places::Each(places) });
        }
    }
    for (text, run) in wrapped::runs(text, &found.ends) {
        views.push(View { text, name: "wrapped", places: Places::Pieces(run) });
    }
    percent(text, &found.percents, &mut views);
    escapes(text, &mut views);
    views
}

fn base64(text: &[u8], stretch: Range<usize>) -> Option<View> {
    let standard = |byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => *byte,
    };
    let start = stretch.start;
    let digits: Vec<u8> = text[stretch].iter().map(standard).collect();
    let text = BASE64.decode(digits).ok()?;
    Some(View { text, name: "base64", places: Places::Groups { start, characters: 4, bytes: 3 } })
}

fn hex(text: &[u8], stretch: Range<usize>) -> View {
    let start = stretch.start;
    let text = text[stretch].as_chunks::<2>().0.iter().filter_map(byte).collect();
    View { text, name: "hex", places: Places::Groups { start, characters: 2, bytes: 1 } }
}

/// Pieces without spaces and quotes that hold a percent escape, whole.
fn percent(text: &[u8], signs: &[usize], views: &mut Vec<View>) {
    let escape = |at: usize| text.get(at..at + 3).and_then(|three| byte(&[three[1], three[2]]));
    let mut done = 0;
    for &at in signs {
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

/// Lines that hold control sequences or Unicode escapes, as who reads them sees them: without the former, and with
/// the characters that the latter stand for. The letter that ends either would else join the word behind it, and a
/// sequence inside a value would cut it in two.
fn escapes(text: &[u8], views: &mut Vec<View>) {
    let mut signs: Vec<usize> = memchr::memchr_iter(ESCAPE, text).collect();
    signs.extend(memmem::find_iter(text, b"\\u"));
    signs.sort_unstable();
    let mut done = 0;
    for at in signs {
        if at < done || control(&text[at..]).is_none() && unicode(&text[at..]).is_none() {
            continue;
        }
        let first = done.max(at.saturating_sub(AROUND));
        let start = memrchr(b'\n', &text[first..at]).map_or(first, |newline| first + newline + 1);
        let end = text.len().min(at + AROUND);
        let end = memchr(b'\n', &text[at..end]).map_or(end, |newline| at + newline);
        let (mut plain, mut places, mut from) = (Vec::new(), Vec::new(), start);
        // A sequence goes with what follows it, so that the one which ends a colour stays.
        let mut place = start;
        while from < end {
            if let Some(length) = control(&text[from..end]) {
                from += length;
                continue;
            }
            let escaped = unicode(&text[from..end]);
            let mut bytes = [0; 4];
            let (piece, length) = match escaped {
                Some((c, length)) => (c.encode_utf8(&mut bytes).as_bytes(), length),
                None => (&text[from..=from], 1),
            };
            plain.extend_from_slice(piece);
            places.resize(plain.len(), place);
            from += length;
            place = from;
        }
        places.push(place);
        done = from;
        views.push(View { text: plain, name: "escapes", places: Places::Each(places) });
    }
}

/// The length of a control sequence or string at the beginning (ECMA-48, sections 5.4 and 5.6), or of another escape.
fn control(text: &[u8]) -> Option<usize> {
    let (&ESCAPE, rest) = text.split_first()? else { return None };
    let within =
        |bytes: &[u8], from: u8, to: u8| bytes.iter().take_while(|b| (from..=to).contains(b)).count();
    let length = match rest.first()? {
        b'[' => {
            let parameters = within(&rest[1..], 0x20, 0x3f);
            1 + parameters
                + usize::from(rest.get(1 + parameters).is_some_and(|byte| (0x40..=0x7e).contains(byte)))
        }
        b']' | b'P' | b'X' | b'^' | b'_' => match memchr2(0x07, ESCAPE, &rest[1..]) {
            Some(end) => 2 + end + usize::from(rest[1 + end] == ESCAPE && rest.get(2 + end) == Some(&b'\\')),
            None => rest.len(),
        },
        _ => {
            let between = within(rest, 0x20, 0x2f);
            between + usize::from(rest.get(between).is_some_and(|byte| (0x30..=0x7e).contains(byte)))
        }
    };
    Some(1 + length)
}

/// The character of a `\u` with its four digits at the beginning, or of two that stand for one (RFC 8259, section 7), and
/// the length of all that. Half of one is none.
fn unicode(text: &[u8]) -> Option<(char, usize)> {
    const LENGTH: usize = 6;
    let unit = |at: usize| {
        let digits = text.get(at..)?.strip_prefix(b"\\u")?.first_chunk::<4>()?;
        let bytes = digits.as_chunks::<2>().0;
        bytes.iter().try_fold(0u16, |unit, pair| Some(unit << 8 | u16::from(byte(pair)?)))
    };
    let units = [Some(unit(0)?), unit(LENGTH)];
    let (c, length) = match char::decode_utf16(units.into_iter().flatten()).next()?.ok()? {
        c if c.len_utf16() == 2 => (c, 2 * LENGTH),
        c => (c, LENGTH),
    };
    Some((c, length))
}

/// The byte of a pair of hexadecimal digits.
fn byte(pair: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(pair[0])? << 4 | digit(pair[1])?)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::super::stretches;
    use super::*;

    const PLAIN: &str = "token = \"x?>~ and more of it\"";

    fn texts(text: &str) -> Vec<(&'static str, String, Range<usize>)> {
        let show = |view: View| {
            let whole = view.original(&(0..view.text.len()));
            (view.name, String::from_utf8(view.text).unwrap(), whole)
        };
        let stretches = stretches::of(text.as_bytes());
        let percents = memchr::memchr_iter(b'%', text.as_bytes()).collect();
        let found = Found { stretches, percents, ..Found::default() };
        of(text.as_bytes(), &found).into_iter().map(show).collect()
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
