//! One spelling for what looks the same: compatibility forms (NFKC, UAX 15), look-alikes (UTS 39),
//! accents, invisible characters, small capitals, regional indicators and Braille cells become plain
//! ASCII where they stand for it. Scripts that stand for themselves stay.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::{decompose_compatible, is_combining_mark};
use unicode_security::confusable_detection::skeleton;

use super::view::{Builder, View};
use crate::validator::characters::is_invisible;

/// The folded reading of a text that is not all ASCII.
pub(super) fn fold(text: &str) -> View {
    let mut folded = Builder::new(text.len());
    let mut known: [Option<(char, char)>; 64] = [None; 64];
    for (at, c) in text.char_indices() {
        let span = at..at + c.len_utf8();
        if c.is_ascii() || is_own_script(c) {
            folded.push(c, span);
        } else if is_invisible(c) || is_combining_mark(c) {
            continue;
        } else if let Some((_, plain)) = known[c as usize % 64].filter(|(seen, _)| *seen == c) {
            folded.push(plain, span);
        } else {
            let plain = fold_char(c);
            if let [one] = plain.as_slice() {
                known[c as usize % 64] = Some((c, *one));
            }
            plain.into_iter().for_each(|c| folded.push(c, span.clone()));
        }
    }
    folded.finish("folded")
}

/// The reading in small letters of a text with capitals beyond ASCII, in which no rule is written.
pub(super) fn lower(text: &str) -> Option<View> {
    let capital = |c: char| !c.is_ascii() && c.is_uppercase();
    if !text.chars().any(capital) {
        return None;
    }
    let mut lower = Builder::new(text.len());
    for (at, c) in text.char_indices() {
        let span = at..at + c.len_utf8();
        match c.is_ascii() {
            true => lower.push(c, span),
            false => c.to_lowercase().for_each(|c| lower.push_disguised(c, span.clone())),
        }
    }
    Some(lower.finish("small letters"))
}

/// Han, kana, hangul: no letter of theirs is taken for an ASCII one.
fn is_own_script(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}')
}

fn fold_char(c: char) -> Vec<char> {
    match c {
        '\u{1f1e6}'..='\u{1f1ff}' => return vec![offset('a', c as u32 - 0x1f1e6)],
        '\u{1f170}'..='\u{1f189}' => return vec![offset('a', c as u32 - 0x1f170)],
        '\u{1f150}'..='\u{1f169}' => return vec![offset('a', c as u32 - 0x1f150)],
        '\u{2801}'..='\u{283f}' => return braille(c).into_iter().collect(),
        c if c.is_whitespace() => return vec![' '],
        _ => {}
    }
    if let Some(letter) = small_capital(c) {
        return vec![letter];
    }
    let mut base = Vec::new();
    decompose_compatible(c, |part| {
        if !is_combining_mark(part) {
            base.push(part);
        }
    });
    if base.is_empty() || base.iter().all(char::is_ascii) {
        return base;
    }
    let text: String = base.iter().collect();
    let alike: Vec<char> = skeleton(&text).nfc().filter(|part| !is_combining_mark(*part)).collect();
    match alike.as_slice() {
        // The table takes capital I and small l for the same; a capital is an I.
        ['l'] if c.is_uppercase() => vec!['I'],
        _ if alike.iter().all(char::is_ascii) => alike,
        // Ligatures that stand for a whole phrase stand for no word of ASCII.
        _ if base.len() > LONGEST => vec![c],
        _ => base,
    }
}

/// Characters beyond ASCII that one may be read as; U+FDFA stands for eighteen.
const LONGEST: usize = 4;

fn offset(first: char, by: u32) -> char {
    char::from_u32(first as u32 + by).unwrap_or(first)
}

/// Phonetic small capitals, which no table of look-alikes takes for letters.
fn small_capital(c: char) -> Option<char> {
    const SMALL: &str = "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡxʏᴢ";
    let index = SMALL.chars().position(|small| small == c)?;
    Some(offset('a', index as u32))
}

/// Letters of six-dot Braille.
fn braille(c: char) -> Option<char> {
    const LETTERS: [u8; 26] = [
        0x01, 0x03, 0x09, 0x19, 0x11, 0x0b, 0x1b, 0x13, 0x0a, 0x1a, 0x05, 0x07, 0x0d, 0x1d, 0x15, 0x0f, 0x1f,
        0x17, 0x0e, 0x1e, 0x25, 0x27, 0x3a, 0x2d, 0x3d, 0x35,
    ];
    let dots = (c as u32 - 0x2800) as u8;
    let index = LETTERS.iter().position(|letter| *letter == dots)?;
    Some(offset('a', index as u32))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_looks_like_ascii_is_read_as_ascii() {
        for text in [
            "Іgnоrе",
            "Ιgnοre",
            "Ｉｇｎｏｒｅ",
            "𝐈𝐠𝐧𝐨𝐫𝐞",
            "ⓘⓖⓝⓞⓡⓔ",
            "🇮🇬🇳🇴🇷🇪",
            "ɪɢɴᴏʀᴇ",
            "⠊⠛⠝⠕⠗⠑",
            "Ignöré",
            "I\u{337}gnore",
        ] {
            assert_eq!(fold(text).text.to_lowercase(), "ignore", "{text}");
        }
        assert_eq!(fold("忽略").text, "忽略");
        assert_eq!(fold("a\u{2003}b").text, "a b");
    }

    #[test]
    fn spans_come_back_to_the_original() {
        let text = "x Ｉｇｎ y";
        let folded = fold(text);
        assert_eq!(folded.text, "x Ign y");
        assert_eq!(&text[folded.below(2..5)], "Ｉｇｎ");
    }

    proptest! {
        #[test]
        fn every_span_is_inside_and_on_boundaries(text in "\\PC{0,40}", cut in 0usize..40, length in 1usize..10) {
            let folded = fold(&text);
            let bytes = folded.text.len();
            if bytes > 0 {
                let start = cut % bytes;
                let span = folded.below(start..(start + length).min(bytes));
                prop_assert!(text.get(span).is_some());
            }
        }
    }
}
