//! The best-known phrases with everything but letters taken out: what is left of spacing, dots,
//! hyphenation, emphasis, camel case and joined words. And the words by which a text betrays that it is
//! written backwards or with its letters shifted, so that it is worth reading that way.

use std::sync::OnceLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::codes;
use super::view::{Builder, View};

/// The phrases and the words.
pub(super) struct Squash {
    /// The phrases, then the words of each cipher.
    phrases: Vec<String>,
    plain: usize,
    /// Made of them by the first text: many processes screen none.
    automaton: OnceLock<Option<AhoCorasick>>,
}

/// A way to write a text so that no word of it is left.
type Cipher = fn(&str) -> View;

const CIPHERS: [Cipher; 3] = [
    |text| codes::shifted(text, "rot13", |letter| (letter + 13) % 26),
    |text| codes::shifted(text, "atbash", |letter| 25 - letter),
    codes::reversed,
];

/// Words without which no attack is worth reading for. Two of them under one cipher, and it is read.
const TELLING: [&str; 14] = [
    "instruction",
    "previous",
    "ignore",
    "disregard",
    "systemprompt",
    "password",
    "forget",
    "reveal",
    "override",
    "secret",
    "credential",
    "execute",
    "forward",
    "delete",
];

impl Squash {
    pub(super) fn new() -> Self {
        let mut phrases = known_phrases();
        let plain = phrases.len();
        for cipher in CIPHERS {
            phrases.extend(TELLING.map(|word| cipher(word).text));
        }
        Self { phrases, plain, automaton: OnceLock::new() }
    }

    /// What finds them; a test holds that it can be built.
    fn automaton(&self) -> Option<&AhoCorasick> {
        let (first, kind) = (MatchKind::LeftmostFirst, Some(AhoCorasickKind::DFA));
        let build = || AhoCorasick::builder().match_kind(first).kind(kind).build(&self.phrases).ok();
        self.automaton.get_or_init(build).as_ref()
    }

    /// The known phrases in a text, where they stand, and the ciphers that it seems to be written in.
    pub(super) fn find(&self, text: &str) -> Squashed {
        let mut letters = Vec::with_capacity(text.len());
        letters.extend(text.bytes().map(|byte| byte | 0x20).filter(u8::is_ascii_lowercase));
        let mut found = Squashed::default();
        let mut told = [0u32; CIPHERS.len()];
        let mut spans = Vec::new();
        let hits = self.automaton().into_iter().flat_map(|automaton| automaton.find_iter(&letters));
        for hit in hits {
            match hit.pattern().as_usize().checked_sub(self.plain) {
                None if spans.len() < 16 => spans.push(hit.range()),
                None => {}
                Some(word) => told[word / TELLING.len()] |= 1 << (word % TELLING.len()),
            }
        }
        if !spans.is_empty() {
            // Something is there: now with the way back.
            let view = squashed(text);
            found.phrases.extend(spans.into_iter().map(|span| view.below(span)));
        }
        let seems = told.iter().zip(CIPHERS).filter(|(told, _)| told.count_ones() >= 2);
        found.ciphers.extend(seems.map(|(_, cipher)| cipher(text)));
        found
    }
}

/// What [`Squash::find`] found.
#[derive(Default)]
pub(super) struct Squashed {
    pub(super) phrases: Vec<std::ops::Range<usize>>,
    pub(super) ciphers: Vec<View>,
}

fn known_phrases() -> Vec<String> {
    let mut phrases = Vec::new();
    for verb in ["ignore", "disregard", "forget", "bypass", "override"] {
        for what in ["", "all", "allthe", "allof", "allofthe", "allyour", "any", "your", "the", "every"] {
            for which in ["previous", "prior", "above", "earlier", "preceding"] {
                phrases.push(format!("{verb}{what}{which}instruction"));
                phrases.push(format!("{verb}{what}{which}prompt"));
            }
        }
        phrases.push(format!("{verb}allinstruction"));
        phrases.push(format!("{verb}yourinstruction"));
    }
    for verb in ["reveal", "show", "print", "repeat", "leak", "outputyour"] {
        for what in [
            "thesystemprompt",
            "yoursystemprompt",
            "mesystemprompt",
            "yourinstructions",
            "meyourinstructions",
        ] {
            phrases.push(format!("{verb}{what}"));
        }
    }
    phrases
}

fn squashed(text: &str) -> View {
    let mut view = Builder::new(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let letter = byte | 0x20;
        if letter.is_ascii_lowercase() {
            view.push(char::from(letter), at..at + 1);
        }
    }
    view.finish("squashed")
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_phrases_and_words_make_an_automaton() {
        assert!(super::Squash::new().automaton().is_some());
    }
}
