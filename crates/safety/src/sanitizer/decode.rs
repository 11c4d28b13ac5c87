//! Texts inside the text: what escapes stand for, literals that are put together, and what other modules
//! find encoded or between tags.
//!
//! Each decoder first asks a cheap question that honest prose answers with no.

use memchr::{memchr, memchr_iter};

use super::view::{Builder, View};
use super::{codes, encoded, tags};
use crate::validator::characters::is_invisible;

/// Every text inside a text.
pub(super) fn inside(text: &str) -> Vec<View> {
    let bytes = text.as_bytes();
    let mut views = encoded::inside(text);
    for (name, mark, read) in ESCAPES {
        if memchr(mark, bytes).is_some() {
            views.extend(escapes(text, name, mark, read));
        }
    }
    if memchr(b'<', bytes).is_some() {
        views.extend(tags::without(text));
    }
    if memchr_iter(b'\'', bytes).chain(memchr_iter(b'"', bytes)).nth(3).is_some() {
        views.extend(joined(text));
    }
    views.extend(codes::inside(text));
    views
}

pub(super) fn hex_byte(pair: &[u8]) -> Option<u8> {
    let [high, low] = pair else { return None };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    Some((digit(high)? * 16 + digit(low)?) as u8)
}

/// Reads one escape: the bytes it stands for, and its length.
type Escape = fn(&[u8]) -> Option<(Vec<u8>, usize)>;

/// Each kind of escape with the sign that it begins with.
const ESCAPES: [(&str, u8, Escape); 4] = [
    ("percent", b'%', percent),
    ("quoted-printable", b'=', quoted_printable),
    ("entities", b'&', entity),
    ("escapes", b'\\', backslash),
];
/// Escapes of signs that honest programs escape; fewer hide nothing.
const FEWEST: usize = 4;

/// Reads the escapes that begin with `mark`; none when there are fewer than four and each stands for a sign
/// that honest programs escape. One for a letter, or for a character that nobody sees, is enough.
fn escapes(text: &str, name: &'static str, mark: u8, read: Escape) -> Option<View> {
    if !hides(text, mark, read) {
        return None;
    }
    let bytes = text.as_bytes();
    let mut view = Builder::new(text.len());
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
    Some(view.finish(name))
}

/// True when the escapes of a text are worth reading.
fn hides(text: &str, mark: u8, read: Escape) -> bool {
    let bytes = text.as_bytes();
    let mut count = 0;
    memchr_iter(mark, bytes).any(|at| {
        let Some((decoded, _)) = read(&bytes[at..]) else { return false };
        count += 1;
        let unseen = |text: &str| text.chars().any(|c| c.is_ascii_alphanumeric() || is_invisible(c));
        count >= FEWEST || std::str::from_utf8(&decoded).is_ok_and(unseen)
    })
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

/// A character reference of HTML: by name, or by number with or without its semicolon.
fn entity(rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    if rest.get(1) != Some(&b'#') {
        let end = rest.iter().take(LONGEST_NAME).position(|byte| *byte == b';')?;
        let name = std::str::from_utf8(&rest[1..end]).ok()?;
        let text = quick_xml::escape::resolve_html5_entity(name)?;
        return Some((text.into(), end + 1));
    }
    let hex = matches!(rest.get(2), Some(b'x' | b'X'));
    let (start, base) = if hex { (3, 16) } else { (2, 10) };
    let digits = rest[start..].iter().take(LONGEST_NAME);
    let end = start + digits.take_while(|byte| char::from(**byte).is_digit(base)).count();
    let code = u32::from_str_radix(std::str::from_utf8(&rest[start..end]).ok()?, base).ok()?;
    let length = end + usize::from(rest.get(end) == Some(&b';'));
    Some((char::from_u32(code)?.to_string().into_bytes(), length))
}

/// Bytes of the longest name of a character; more zeros before a number than that are no number.
const LONGEST_NAME: usize = 34;

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
