//! Texts inside the text: what base64, hexadecimal, percent and other escapes stand for.
//!
//! Each decoder first asks a cheap question that honest prose answers with no.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use memchr::{memchr_iter, memmem};

use super::view::{Builder, View};

/// The shortest run that is decoded: 12 bytes of text are no instruction.
const SHORTEST_RUN: usize = 16;

/// Every text inside a text. `longest` is the length of its longest word.
pub(super) fn inside(text: &str, longest: usize) -> Vec<View> {
    let bytes = text.as_bytes();
    let mut views = Vec::new();
    if longest >= SHORTEST_RUN {
        views.extend(runs(text, is_base64).filter_map(|run| base64(text, run)));
        views.extend(runs(text, |byte| byte.is_ascii_hexdigit()).filter_map(|run| hex(text, run)));
    }
    if memchr_iter(b'%', bytes).take(4).count() == 4 {
        views.extend(escapes(text, "percent", b'%', |rest| {
            hex_byte(rest.get(1..3)?).map(|byte| (vec![byte], 3))
        }));
    }
    if memchr_iter(b'=', bytes).take(8).count() == 8 {
        views.extend(escapes(text, "quoted-printable", b'=', quoted_printable));
    }
    if memchr_iter(b'&', bytes).take(4).count() == 4 {
        views.extend(escapes(text, "entities", b'&', entity));
    }
    if memchr_iter(b'\\', bytes).take(4).count() == 4 {
        views.extend(escapes(text, "escapes", b'\\', backslash));
    }
    if memchr::memchr(b'<', bytes).is_some() && memchr::memchr(b'>', bytes).is_some() {
        views.extend(without_tags(text));
    }
    if memmem::find(bytes, b" 011").is_some() {
        views.extend(binary(text));
    }
    if memmem::find(bytes, b" -. ").is_some() {
        views.extend(morse(text));
    }
    views
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=')
}

/// Runs of at least [`SHORTEST_RUN`] bytes of one alphabet.
fn runs(text: &str, belongs: fn(u8) -> bool) -> impl Iterator<Item = Range<usize>> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += bytes[at..].iter().position(|byte| belongs(*byte))?;
            let start = at;
            at += bytes[at..].iter().take_while(|byte| belongs(**byte)).count();
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
    let written = text[run.clone()].trim_end_matches('=');
    // A run that is cut in mid-group says all that its whole groups say.
    let whole = written.len() - usize::from(written.len() % 4 == 1);
    let alphabet = if written.contains(['-', '_']) { alphabet::URL_SAFE } else { alphabet::STANDARD };
    let decoded = GeneralPurpose::new(&alphabet, config).decode(&written[..whole]).ok()?;
    readable(&decoded).map(|text| View::whole("base64", text, run))
}

fn hex(text: &str, run: Range<usize>) -> Option<View> {
    let digits = &text.as_bytes()[run.clone()];
    let decoded: Vec<u8> = digits.chunks_exact(2).map_while(hex_byte).collect();
    readable(&decoded).map(|text| View::whole("hex", text, run))
}

/// Bytes that are text: UTF-8, or UTF-16 as PowerShell encodes it; none for the rest, which is data.
fn readable(bytes: &[u8]) -> Option<String> {
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

fn hex_byte(pair: &[u8]) -> Option<u8> {
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
            view.push_bytes(&decoded, start..at);
        } else if let Some(c) = text[at..].chars().next() {
            view.push(c, at..at + c.len_utf8());
            at += c.len_utf8();
        }
    }
    (count >= 4).then(|| view.finish(name))
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

/// `\u0041`, `\x41`, `\n`; surrogate pairs come in two.
fn backslash(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    match rest.get(1)? {
        b'u' => {
            let digits = std::str::from_utf8(rest.get(2..6)?).ok()?;
            let unit = u32::from_str_radix(digits, 16).ok()?;
            Some((char::from_u32(unit).unwrap_or('\u{fffd}').to_string().into_bytes(), 6))
        }
        b'x' => hex_byte(rest.get(2..4)?).map(|byte| (vec![byte], 4)),
        b'n' | b't' | b'r' => Some((vec![b' '], 2)),
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

/// Groups of eight binary digits.
fn binary(text: &str) -> Option<View> {
    let group = |word: &&str| word.len() == 8 && word.bytes().all(|byte| matches!(byte, b'0' | b'1'));
    let groups: Vec<&str> = text.split_ascii_whitespace().filter(group).collect();
    let bytes: Vec<u8> = groups.iter().filter_map(|group| u8::from_str_radix(group, 2).ok()).collect();
    let start = text.find(groups.first()?)?;
    let end = text.rfind(groups.last()?)? + 8;
    (bytes.len() >= 8).then(|| readable(&bytes)).flatten().map(|text| View::whole("binary", text, start..end))
}

/// Morse code, letters only.
fn morse(text: &str) -> Option<View> {
    const LETTERS: [&str; 26] = [
        ".-", "-...", "-.-.", "-..", ".", "..-.", "--.", "....", "..", ".---", "-.-", ".-..", "--", "-.",
        "---", ".--.", "--.-", ".-.", "...", "-", "..-", "...-", ".--", "-..-", "-.--", "--..",
    ];
    let mut decoded = String::new();
    let mut span: Option<Range<usize>> = None;
    for word in text.split([' ', '\n']) {
        let at = word.as_ptr() as usize - text.as_ptr() as usize;
        if word == "/" {
            decoded.push(' ');
        } else if let Some(letter) = LETTERS.iter().position(|code| *code == word) {
            decoded.push(char::from(b'a' + letter as u8));
            span = Some(span.map_or(at, |span| span.start)..at + word.len());
        }
    }
    (decoded.len() >= 16).then(|| View::whole("morse", decoded, span.unwrap_or(0..text.len())))
}
