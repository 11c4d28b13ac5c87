//! Texts in base64 and hexadecimal: whole, in lines or groups, from the middle of a group on, backwards, and
//! with bytes among them that are no text.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::decode::hex_byte;
use super::view::View;

/// The shortest run that is decoded: 12 bytes of text are no instruction.
const SHORTEST_RUN: usize = 16;
/// The shortest line after which a run may go on in the next, whatever the length of the lines before.
const SHORTEST_LINE: usize = 40;
/// The shortest group of several of equal length.
const SHORTEST_GROUP: usize = 4;
/// The shortest text.
const SHORTEST_TEXT: usize = 8;
/// The shortest stretch of text among bytes that are none.
const SHORTEST_STRETCH: usize = 12;

/// Which bytes an alphabet has.
type Digits = [bool; 256];

const BASE64: Digits = digits(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_");
const HEX: Digits = digits(b"0123456789abcdefABCDEF");

const fn digits(of: &[u8]) -> Digits {
    let (mut digits, mut at) = ([false; 256], 0);
    while at < of.len() {
        digits[of[at] as usize] = true;
        at += 1;
    }
    digits
}

/// Every text that is written so.
pub(super) fn inside(text: &str) -> Vec<View> {
    let read = |name: &'static str, belongs: &'static Digits, decode: fn(&[u8]) -> Option<String>| {
        runs(text, belongs).filter_map(move |run| {
            let bytes = text.as_bytes()[run.clone()].iter().copied();
            let digits = bytes.filter(|byte| belongs[usize::from(*byte)]).collect::<Vec<u8>>();
            let read = if is_prose(&digits) { None } else { decode(&digits) }?;
            let padding = text.as_bytes()[run.end..].iter().take(2).take_while(|byte| **byte == b'=');
            Some(View::whole(name, read, run.start..run.end + padding.count()))
        })
    };
    read("base64", &BASE64, base64).chain(read("hex", &HEX, hex)).collect()
}

/// True of words: text in base64 has as many capitals and digits as small letters, and text in hexadecimal a digit in
/// every pair. Each piece is asked, since words may stand before what is encoded.
fn is_prose(digits: &[u8]) -> bool {
    let told = |byte: &&u8| byte.is_ascii_digit() || byte.is_ascii_uppercase();
    digits.chunks(SHORTEST_RUN).all(|piece| piece.iter().filter(told).count() * 8 < piece.len())
}

/// Runs of at least [`SHORTEST_RUN`] bytes of one alphabet. A run that fills its line goes on in the next, as
/// mail and PEM wrap them, and one of groups of one length from group to group.
fn runs(text: &str, belongs: &'static Digits) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let is_digit = |byte: &u8| belongs[usize::from(*byte)];
    let group = move |at: usize| bytes[at..].iter().take_while(|byte| is_digit(byte)).count();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += bytes[at..].iter().position(is_digit)?;
            let (start, first) = (at, group(at));
            let mut length = first;
            at += length;
            while length >= SHORTEST_GROUP && (length == first || length >= SHORTEST_LINE) {
                let between = bytes[at..].iter().take(10);
                let next =
                    at + between.take_while(|byte| byte.is_ascii_whitespace() || **byte == b'>').count();
                length = group(next);
                if next == at || length == 0 || length > first.max(SHORTEST_LINE) {
                    break;
                }
                at = next + length;
            }
            if at - start >= SHORTEST_RUN {
                return Some(start..at);
            }
        }
    })
}

/// What a run of base64 or base64url says. What stands before the text, or its last letters first, only
/// shifts or turns it.
fn base64(run: &[u8]) -> Option<String> {
    let digit = |byte: &u8| match byte {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    };
    let run: Vec<u8> = run.iter().map(digit).collect();
    let engine = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_padding_mode(DecodePaddingMode::Indifferent)
            .with_decode_allow_trailing_bits(true),
    );
    // A run that is cut in mid-group says all that its whole groups say.
    let whole = |run: &[u8]| run.len() - usize::from(run.len() % 4 == 1);
    let decode = |run: &[u8]| engine.decode(&run[..whole(run)]).ok();
    every_way(&run, 4, decode)
}

fn hex(run: &[u8]) -> Option<String> {
    every_way(run, 2, |run| Some(run.chunks_exact(2).filter_map(hex_byte).collect()))
}

/// The text of a run as it stands; else what can be read of it from each of the first digits on, forwards
/// and backwards.
fn every_way(run: &[u8], shifts: usize, decode: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<String> {
    if let Some(text) = decode(run).and_then(|bytes| readable(&bytes)) {
        return Some(text);
    }
    let mut turned = run.to_vec();
    turned.reverse();
    let mut found = String::new();
    for run in [run, &turned] {
        for shift in 0..shifts {
            let decoded = run.get(shift..).and_then(&decode).unwrap_or_default();
            match readable(&decoded) {
                Some(text) => found.push_str(&text),
                None => stretches(&decoded, &mut found),
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

/// Bytes that are text: UTF-8, or UTF-16 of ASCII, whose other halves are zero; none for the rest, which is
/// data. One byte of eight that is no text does not make it data.
pub(super) fn readable(bytes: &[u8]) -> Option<String> {
    let written = bytes.iter().copied().filter(|byte| *byte != 0).collect::<Vec<u8>>();
    let mut text = String::with_capacity(written.len());
    for chunk in written.utf8_chunks() {
        text.extend(chunk.valid().chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\r')));
        // Data shows itself early.
        let read = chunk.valid().as_ptr().addr() - written.as_ptr().addr() + chunk.valid().len();
        if read > 256 && text.len() * 8 < read * 6 {
            return None;
        }
    }
    (text.len() >= SHORTEST_TEXT && text.len() * 8 >= written.len() * 7).then_some(text)
}

/// Adds the stretches of text among bytes that are none, each as a line of its own.
fn stretches(bytes: &[u8], found: &mut String) {
    let text = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    for stretch in bytes.split(|byte| !text(byte)).filter(|stretch| stretch.len() >= SHORTEST_STRETCH) {
        let letters = stretch.iter().filter(|byte| byte.is_ascii_alphabetic() || **byte == b' ').count();
        if letters * 4 >= stretch.len() * 3 {
            found.push('\n');
            found.extend(stretch.iter().copied().map(char::from));
        }
    }
}
