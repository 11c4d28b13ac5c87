//! What is odd about the characters of a text, whatever it says: stretches of special characters, as
//! optimised suffixes are (Zou et al., arXiv:2307.15043), and words that mix scripts to pass for others.

use std::ops::Range;

use unicode_security::confusable_detection::skeleton;

/// Characters that are judged together.
const STRETCH: usize = 128;
/// Kinds of special characters that a stretch must hold: rulers, tables and boxes are made of a few.
const KINDS: u32 = 12;
/// Findings of one rule; more say nothing more.
const MOST: usize = 8;

/// The stretches of which at least `percent` are special characters of many kinds.
pub(super) fn special(text: &str, percent: u8) -> Vec<Range<usize>> {
    let needed = STRETCH * usize::from(percent) / 100;
    if percent > 100 {
        return Vec::new();
    }
    let odd = |stretch: &&[u8]| {
        let (mut count, mut kinds) = (0, 0u128);
        for byte in stretch.iter().filter(|byte| is_special(**byte)) {
            count += 1;
            kinds |= 1 << byte;
        }
        count >= needed && kinds.count_ones() >= KINDS
    };
    let bytes = text.as_bytes();
    let place = |stretch: &[u8]| stretch.as_ptr().addr() - bytes.as_ptr().addr();
    let stretches = bytes.chunks_exact(STRETCH).filter(odd).take(MOST);
    stretches
        .map(|stretch| place(stretch)..place(stretch) + STRETCH)
        .map(|span| text.floor_char_boundary(span.start)..text.ceil_char_boundary(span.end))
        .collect()
}

/// ASCII that is neither letter, digit, space nor the punctuation of prose.
fn is_special(byte: u8) -> bool {
    byte.is_ascii_punctuation() && !matches!(byte, b'.' | b',' | b'\'' | b'"' | b'-')
}

/// The words with a Latin letter beside letters of other scripts that are all taken for Latin ones. Greek
/// letters at an end of a word are the symbols of formulas: `\u{3c1}gh`, `\u{3b1}x`.
pub(super) fn mixed(text: &str) -> Vec<Range<usize>> {
    if text.is_ascii() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut rest = 0;
    while let Some(at) = text[rest..].find(|c: char| !c.is_ascii()).map(|at| rest + at) {
        let before = text[rest..at].char_indices().rev().find(|(_, c)| !c.is_alphabetic());
        let start = before.map_or(rest, |(before, c)| rest + before + c.len_utf8());
        let end = text[at..].find(|c: char| !c.is_alphabetic()).map_or(text.len(), |end| at + end);
        if is_mixed(&text[start..end]) {
            found.push(start..end);
        }
        // A character that is no letter stands for itself.
        rest = text.ceil_char_boundary(end.max(at + 1));
        if found.len() == MOST {
            break;
        }
    }
    found
}

fn is_mixed(word: &str) -> bool {
    let foreign = |c: &char| !c.is_ascii();
    let inner = word.trim_start_matches(is_greek).trim_end_matches(is_greek);
    word.chars().count() >= 3
        && word.chars().any(|c| c.is_ascii_alphabetic())
        && inner.chars().any(|c| foreign(&c))
        && word.chars().filter(foreign).all(is_taken_for_latin)
}

fn is_greek(c: char) -> bool {
    matches!(c, '\u{370}'..='\u{3ff}')
}

/// Letters of Greek, Cyrillic, Armenian and Cherokee that the table of look-alikes (UTS 39) reads as ASCII.
fn is_taken_for_latin(c: char) -> bool {
    let script = matches!(
        c,
        '\u{370}'..='\u{3ff}' | '\u{400}'..='\u{52f}' | '\u{530}'..='\u{58f}' | '\u{13a0}'..='\u{13fd}'
    );
    let mut bytes = [0; 4];
    script && skeleton(c.encode_utf8(&mut bytes)).all(|plain| plain.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_of_two_scripts_is_found_and_honest_ones_are_not() {
        let words = |text| mixed(text).into_iter().map(|span| &text[span]).collect::<Vec<_>>();
        assert_eq!(words("see p\u{430}yp\u{430}l.com, ign\u{3bf}re"), ["p\u{430}yp\u{430}l", "ign\u{3bf}re"]);
        for honest in [
            "\u{3c1}gh and \u{3b1}x, 5 \u{3bc}m, \u{394}t",
            "na\u{ef}ve Stra\u{df}e \u{e9}t\u{e9}",
            "USB-\u{43a}\u{430}\u{431}\u{435}\u{43b}\u{44c}",
            "C\u{442}\u{440}\u{430}\u{43d}\u{438}\u{446}\u{430}",
            "\u{5ffd}\u{7565}abc",
            "\u{440}\u{430}\u{441}\u{435}",
        ] {
            assert_eq!(words(honest), Vec::<&str>::new(), "{honest}");
        }
    }

    #[test]
    fn a_stretch_of_special_characters_is_found_and_rulers_and_tables_are_not() {
        let noise = "@#$%^&*()_+{}|:<>?~`/;[]=!".repeat(8);
        assert_eq!(special(&noise, 50).len(), 1);
        assert!(special(&noise, 101).is_empty());
        for honest in ["=".repeat(400), "| --- | :---: ".repeat(40), "let x = f(&a[i], b);\n".repeat(20)] {
            assert!(special(&honest, 50).is_empty(), "{honest}");
        }
    }

    proptest! {
        #[test]
        fn every_span_is_inside_and_on_boundaries(text in "[a\u{430}\u{3bf}\u{5ffd}@#$%^&*(){}<>?/ ]{0,300}") {
            for span in mixed(&text).into_iter().chain(special(&text, 10)) {
                prop_assert!(text.get(span).is_some());
            }
        }
    }
}
