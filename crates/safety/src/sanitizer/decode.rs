//! Texts inside the text: what base64, hexadecimal, percent and other escapes stand for.
//!
//! Each decoder first asks a cheap question that honest prose answers with no.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::memchr_iter;

use super::codes;
use super::view::{Builder, View};

/// The shortest run that is decoded: 12 bytes of text are no instruction.
const SHORTEST_RUN: usize = 16;
/// The shortest line after which a run may go on in the next.
const SHORTEST_LINE: usize = 40;

/// Every text inside a text. `longest` is the length of its longest word.
pub(super) fn inside(text: &str, longest: usize) -> Vec<View> {
    let bytes = text.as_bytes();
    let mut views = Vec::new();
    let marks = Marks::count(bytes);
    if longest >= SHORTEST_RUN {
        views.extend(runs(text, is_base64).filter_map(|run| base64(text, run)));
        views.extend(runs(text, |byte| byte.is_ascii_hexdigit()).filter_map(|run| hex(text, run)));
    }
    if marks.percent >= 4 {
        views.extend(escapes(text, "percent", b'%', percent));
    }
    if marks.equals >= 8 {
        views.extend(escapes(text, "quoted-printable", b'=', quoted_printable));
    }
    if marks.ampersand >= 4 {
        views.extend(escapes(text, "entities", b'&', entity));
    }
    if marks.backslash >= 4 {
        views.extend(escapes(text, "escapes", b'\\', backslash));
    }
    if marks.less > 0 {
        views.extend(without_tags(text));
    }
    if marks.quote >= 4 {
        views.extend(joined(text));
    }
    views.extend(codes::inside(text));
    views
}

/// How often the signs stand in a text without which there is nothing to decode.
#[derive(Default)]
struct Marks {
    percent: usize,
    equals: usize,
    ampersand: usize,
    backslash: usize,
    less: usize,
    quote: usize,
}

impl Marks {
    fn count(bytes: &[u8]) -> Self {
        let of = |mark: u8| memchr_iter(mark, bytes).take(8).count();
        Self {
            percent: of(b'%'),
            equals: of(b'='),
            ampersand: of(b'&'),
            backslash: of(b'\\'),
            less: of(b'<'),
            quote: of(b'\'') + of(b'"'),
        }
    }
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// Runs of at least [`SHORTEST_RUN`] bytes of one alphabet. A run that fills its line goes on in the
/// next, as mail and PEM wrap them.
fn runs(text: &str, belongs: fn(u8) -> bool) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += bytes[at..].iter().position(|byte| belongs(*byte))?;
            let start = at;
            let mut line = at;
            loop {
                at += bytes[at..].iter().take_while(|byte| belongs(**byte)).count();
                let next =
                    at + bytes[at..].iter().take(10).take_while(|byte| byte.is_ascii_whitespace()).count();
                let wrapped = at - line >= SHORTEST_LINE && bytes[at..next].contains(&b'\n');
                if !wrapped || !bytes.get(next).is_some_and(|byte| belongs(*byte)) {
                    break;
                }
                (line, at) = (next, next);
            }
            if at - start >= SHORTEST_RUN {
                return Some(start..at);
            }
        }
    })
}

fn base64(text: &str, run: Range<usize>) -> Option<View> {
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let written: String = text[run.clone()].split_ascii_whitespace().collect();
    let written = written.trim_end_matches('=');
    // A run that is cut in mid-group says all that its whole groups say.
    let whole = written.len() - usize::from(written.len() % 4 == 1);
    let alphabet = if written.contains(['-', '_']) { alphabet::URL_SAFE } else { alphabet::STANDARD };
    let decoded = GeneralPurpose::new(&alphabet, config).decode(&written[..whole]).ok()?;
    readable(&decoded).map(|text| View::whole("base64", text, run))
}

fn hex(text: &str, run: Range<usize>) -> Option<View> {
    let digits: Vec<u8> =
        text.as_bytes()[run.clone()].iter().filter(|byte| !byte.is_ascii_whitespace()).copied().collect();
    let decoded: Vec<u8> = digits.chunks_exact(2).map_while(hex_byte).collect();
    readable(&decoded).map(|text| View::whole("hex", text, run))
}

/// Bytes that are text: UTF-8, or UTF-16 as PowerShell encodes it; none for the rest, which is data.
pub(super) fn readable(bytes: &[u8]) -> Option<String> {
    let wide = bytes.len() >= 8
        && bytes.len().is_multiple_of(2)
        && bytes.iter().skip(1).step_by(2).all(|byte| *byte == 0);
    let text = match wide {
        true => bytes.iter().step_by(2).map(|byte| char::from(*byte)).collect(),
        false => std::str::from_utf8(bytes).ok()?.to_owned(),
    };
    let printable = text.chars().all(|c| !c.is_control() || matches!(c, '\n' | '\t' | '\r'));
    printable.then_some(text)
}

pub(super) fn hex_byte(pair: &[u8]) -> Option<u8> {
    let [high, low] = pair else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    Some((digit(high)? * 16 + digit(low)?) as u8)
}

/// Reads one escape: the bytes it stands for, and its length.
type Escape = fn(&[u8]) -> Option<(Vec<u8>, usize)>;

/// Reads the escapes that begin with `mark`; none when there are fewer than four.
fn escapes(text: &str, name: &'static str, mark: u8, read: Escape) -> Option<View> {
    let bytes = text.as_bytes();
    let mut view = Builder::new(text.len());
    let mut count = 0;
    let mut at = 0;
    while at < bytes.len() {
        // Neighbouring escapes are read together: a character may take several.
        let start = at;
        let mut decoded = Vec::new();
        while bytes.get(at) == Some(&mark)
            && let Some((more, length)) = read(&bytes[at..])
        {
            decoded.extend(more);
            at += length;
            count += 1;
            if decoded.is_ascii() {
                break;
            }
        }
        if at > start {
            view.push_escaped(&decoded, start..at);
        } else if let Some(c) = text[at..].chars().next() {
            view.push(c, at..at + c.len_utf8());
            at += c.len_utf8();
        }
    }
    (count >= 4).then(|| view.finish(name))
}

fn percent(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    hex_byte(rest.get(1..3)?).map(|byte| (vec![byte], 3))
}

fn quoted_printable(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    match rest.get(1..3)? {
        [b'\r', b'\n'] => Some((Vec::new(), 3)),
        [b'\n', _] => Some((Vec::new(), 2)),
        pair => hex_byte(pair).map(|byte| (vec![byte], 3)),
    }
}

fn entity(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let end = rest.iter().take(12).position(|byte| *byte == b';')?;
    let name = std::str::from_utf8(&rest[1..end]).ok()?;
    let c = match name {
        "lt" => '<',
        "gt" => '>',
        "amp" => '&',
        "quot" => '"',
        "apos" => '\'',
        "nbsp" | "Tab" | "NewLine" => ' ',
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)?
        }
    };
    Some((c.to_string().into_bytes(), end + 1))
}

/// The escapes of JSON, of programming languages and of style sheets: `\u0041`, `\u{41}`, `\U00000041`,
/// `\x41`, `\101`, `\n`, `\"`; surrogate pairs come in two.
fn backslash(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let unit = |digits: &[u8]| -> Option<Vec<u8>> {
        let unit = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        Some(char::from_u32(unit).unwrap_or('\u{fffd}').to_string().into_bytes())
    };
    match rest.get(1)? {
        b'u' if rest.get(2) == Some(&b'{') => {
            let end = rest.iter().take(11).position(|byte| *byte == b'}')?;
            Some((unit(&rest[3..end])?, end + 1))
        }
        b'u' => Some((unit(rest.get(2..6)?)?, 6)),
        b'U' => Some((unit(rest.get(2..10)?)?, 10)),
        b'x' => hex_byte(rest.get(2..4)?).map(|byte| (vec![byte], 4)),
        b'0'..=b'3' => {
            let digits = std::str::from_utf8(rest.get(1..4)?).ok()?;
            u8::from_str_radix(digits, 8).ok().map(|byte| (vec![byte], 4))
        }
        b'n' | b't' | b'r' => Some((vec![b' '], 2)),
        quoted @ (b'"' | b'\'' | b'/' | b'\\') => Some((vec![*quoted], 2)),
        _ => None,
    }
}

/// The text between tags; a tag inside a word takes no place.
fn without_tags(text: &str) -> Option<View> {
    let bytes = text.as_bytes();
    let mut view = Builder::new(text.len());
    let mut tags = 0;
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let opens = c == '<'
            && bytes
                .get(at + 1)
                .is_some_and(|next| next.is_ascii_alphabetic() || matches!(next, b'/' | b'!'));
        let closed = opens.then(|| bytes[at..].iter().take(256).position(|byte| *byte == b'>')).flatten();
        match closed {
            Some(length) => {
                tags += 1;
                at += length + 1;
            }
            None => {
                view.push(c, at..at + c.len_utf8());
                at += c.len_utf8();
            }
        }
    }
    (tags > 0).then(|| view.finish("without tags"))
}

/// The text with literals that are put together read as one: `'ab' + 'cd'`, `x = 'ab'; y = 'cd'`.
fn joined(text: &str) -> Option<View> {
    let bytes = text.as_bytes();
    let mut view = Builder::new(text.len());
    let (mut joints, mut at) = (0, 0);
    while let Some(c) = text[at..].chars().next() {
        let gap = if matches!(c, '\'' | '"') { joint(&bytes[at..]) } else { None };
        joints += usize::from(gap.is_some());
        let length = gap.unwrap_or(c.len_utf8());
        if gap.is_none() {
            view.push(c, at..at + length);
        }
        at += length;
    }
    (joints > 0).then(|| view.finish("joined literals"))
}

/// The length of what stands between two literals that are put together, both quotes included.
fn joint(rest: &[u8]) -> Option<usize> {
    let skip = |from: usize| {
        from + rest[from..].iter().take(8).take_while(|byte| byte.is_ascii_whitespace()).count()
    };
    let mut at = skip(1);
    match rest.get(at)? {
        b'+' | b'.' | b'&' | b'|' => {
            at += rest[at..].iter().take(2).take_while(|byte| b"+.&|=".contains(byte)).count()
        }
        b';' => {
            at = skip(at + 1);
            at += rest[at..]
                .iter()
                .take(24)
                .take_while(|byte| byte.is_ascii_alphanumeric() || b"_$ ".contains(byte))
                .count();
            at += usize::from(rest.get(at) == Some(&b':'));
            (rest.get(at) == Some(&b'=')).then_some(())?;
            at += 1;
        }
        _ => return None,
    }
    let at = skip(at);
    matches!(rest.get(at)?, b'\'' | b'"').then_some(at + 1)
}
