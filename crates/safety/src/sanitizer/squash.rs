//! The best-known phrases with everything but letters taken out, forwards, backwards and in ROT13: what
//! is left of spacing, dots, hyphenation, emphasis, camel case, joined words and concatenated literals.

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::view::{Builder, View};

/// The phrases, compiled.
pub(super) struct Squash {
    phrases: AhoCorasick,
    /// For each phrase how it was read.
    readings: Vec<&'static str>,
}

impl Squash {
    pub(super) fn new() -> Result<Self, String> {
        let mut plain = Vec::new();
        for verb in ["ignore", "disregard", "forget"] {
            for what in ["", "all", "allthe", "allof", "allyour", "any", "your", "the"] {
                for which in ["previous", "prior", "above", "earlier"] {
                    plain.push(format!("{verb}{what}{which}instruction"));
                }
            }
            plain.push(format!("{verb}allinstruction"));
            plain.push(format!("{verb}yourinstruction"));
        }
        for verb in ["reveal", "show", "print", "repeat", "leak", "outputyour"] {
            for what in [
                "thesystemprompt",
                "yoursystemprompt",
                "mesystemprompt",
                "yourinstructions",
                "meyourinstructions",
            ] {
                plain.push(format!("{verb}{what}"));
            }
        }
        let rot13 =
            |phrase: &String| phrase.bytes().map(|b| char::from((b - b'a' + 13) % 26 + b'a')).collect();
        let backwards = |phrase: &String| phrase.chars().rev().collect();
        let mut phrases: Vec<String> = plain.clone();
        phrases.extend(plain.iter().map(rot13).collect::<Vec<String>>());
        phrases.extend(plain.iter().map(backwards).collect::<Vec<String>>());
        let names = ["squashed", "rot13", "reversed"];
        let readings = names.into_iter().flat_map(|name| std::iter::repeat_n(name, plain.len())).collect();
        let phrases = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .kind(Some(AhoCorasickKind::DFA))
            .build(&phrases)
            .map_err(|error| error.to_string())?;
        Ok(Self { phrases, readings })
    }

    /// The phrases in a text, each with its reading.
    pub(super) fn find(&self, text: &str) -> Vec<(View, std::ops::Range<usize>)> {
        let mut letters = Vec::with_capacity(text.len());
        letters.extend(text.bytes().map(|byte| byte | 0x20).filter(u8::is_ascii_lowercase));
        if !self.phrases.is_match(&letters) {
            return Vec::new();
        }
        // Something is there: now with the way back.
        let mut found = Vec::new();
        let hits: Vec<_> = self.phrases.find_iter(&letters).take(16).collect();
        for hit in hits {
            found.push((squashed(text, self.readings[hit.pattern().as_usize()]), hit.range()));
        }
        found
    }
}

fn squashed(text: &str, name: &'static str) -> View {
    let mut view = Builder::new(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let letter = byte | 0x20;
        if letter.is_ascii_lowercase() {
            view.push(char::from(letter), at..at + 1);
        }
    }
    view.finish(name)
}
