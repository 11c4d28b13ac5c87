//! Texts written letter by letter: groups of hexadecimal, decimal or binary digits, Morse code, and the
//! first letters of lines.

use std::ops::Range;

use memchr::memmem;

use super::encoded::readable;
use super::view::{Builder, View};

/// The fewest groups that are read: fewer are a date or a colour.
const FEWEST: usize = 12;

/// Every text that is written in such a way.
pub(super) fn inside(text: &str) -> Vec<View> {
    let bytes = text.as_bytes();
    let mut views = Vec::new();
    if has_digits(bytes) {
        views.extend(groups(text, "hex", hexadecimal));
        views.extend(groups(text, "character codes", decimal));
        views.extend(groups(text, "binary", binary));
    }
    views.extend(acrostic(text));
    if memmem::find(bytes, b" -. ").is_some() || memmem::find(bytes, b" .- ").is_some() {
        views.extend(morse(text));
    }
    views
}

/// True when every fourth of some 64 bytes is a digit; prose is far from it.
fn has_digits(bytes: &[u8]) -> bool {
    bytes.chunks(64).any(|chunk| chunk.iter().filter(|byte| byte.is_ascii_digit()).count() >= 16)
}

/// Reads a group of digits: the byte it stands for.
type Group = fn(&[u8]) -> Option<u8>;

/// Groups of one kind in a row, apart by a space or a sign.
fn groups(text: &str, name: &'static str, read: Group) -> Vec<View> {
    let bytes = text.as_bytes();
    let mut views = Vec::new();
    let mut run: Vec<u8> = Vec::new();
    let mut span = 0..0;
    let mut at = 0;
    while at <= bytes.len() {
        let length = bytes[at..].iter().take(9).take_while(|byte| byte.is_ascii_alphanumeric()).count();
        let near = at - span.end <= 3 || run.is_empty();
        match read(&bytes[at..at + length]).filter(|_| near) {
            Some(byte) => {
                if run.is_empty() {
                    span.start = at;
                }
                run.push(byte);
                span.end = at + length;
            }
            None if length == 0 && near => {}
            None => {
                views.extend(taken(&mut run, name, span.clone()));
                // What ended the run may begin the next.
                if let Some(byte) = read(&bytes[at..at + length]) {
                    run.push(byte);
                    span = at..at + length;
                }
            }
        }
        at += length.max(1);
    }
    views.extend(taken(&mut run, name, span));
    views
}

fn taken(run: &mut Vec<u8>, name: &'static str, span: Range<usize>) -> Option<View> {
    let bytes = std::mem::take(run);
    let letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic() || **byte == b' ').count();
    // Numbers that happen to be codes of letters spell no words.
    let spelt = bytes.len() >= FEWEST && letters * 4 >= bytes.len() * 3;
    spelt.then(|| readable(&bytes)).flatten().map(|text| View::whole(name, text, span))
}

fn hexadecimal(group: &[u8]) -> Option<u8> {
    let digits = match group {
        [b'0', b'x' | b'X', rest @ ..] => rest,
        [b'x' | b'X' | b'h', rest @ ..] => rest,
        digits => digits,
    };
    super::decode::hex_byte(digits).filter(u8::is_ascii)
}

fn decimal(group: &[u8]) -> Option<u8> {
    let number = std::str::from_utf8(group).ok()?;
    if !(2..=3).contains(&number.len()) {
        return None;
    }
    number.parse().ok().filter(u8::is_ascii)
}

fn binary(group: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(group).ok().filter(|digits| (7..=8).contains(&digits.len()))?;
    u8::from_str_radix(digits, 2).ok()
}

/// The first letters of the lines, where they begin as an attack begins.
fn acrostic(text: &str) -> Option<View> {
    const SPELT: [&str; 6] =
        ["IGNOREALL", "IGNORERULE", "IGNOREPREV", "IGNOREYOUR", "DISREGARD", "REVEALPROMPT"];
    let first = |line: &str| line.trim_start().chars().next().filter(char::is_ascii_alphabetic);
    let mut letters = Builder::new(64);
    for line in text.lines().take(4096) {
        if let Some(letter) = first(line) {
            let at = line.as_ptr() as usize - text.as_ptr() as usize + (line.len() - line.trim_start().len());
            letters.push_disguised(letter.to_ascii_uppercase(), at..at + 1);
        }
    }
    let view = letters.finish("acrostic");
    SPELT.iter().any(|word| view.text.contains(word)).then_some(view)
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

/// A text under a shift of its letters (ROT13) or their mirror (Atbash); what is no letter stays.
pub(super) fn shifted(text: &str, name: &'static str, letter: fn(u8) -> u8) -> View {
    let mut view = Builder::new(text.len());
    for (at, c) in text.char_indices() {
        let span = at..at + c.len_utf8();
        if c.is_ascii_alphabetic() {
            let low = letter(c.to_ascii_lowercase() as u8 - b'a') + b'a';
            let cased = if c.is_ascii_uppercase() { low.to_ascii_uppercase() } else { low };
            view.push_disguised(char::from(cased), span);
        } else {
            view.push(c, span);
        }
    }
    view.finish(name)
}

/// A text from its end to its beginning.
pub(super) fn reversed(text: &str) -> View {
    let mut view = Builder::new(text.len());
    for (at, c) in text.char_indices().rev() {
        view.push_disguised(c, at..at + c.len_utf8());
    }
    view.finish("reversed")
}
