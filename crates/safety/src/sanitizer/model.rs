//! A linear model of what orders to an assistant read like: one Medium signal beside the rules, in data
//! from outside alone.
//!
//! Every word adds the weights of its features: itself, itself at the beginning of something, its pairs and
//! triples with the words before it, its runs of four letters. A feature's weight stands where its hash
//! points to, in 128 KiB of signed bytes ("feature hashing", Weinberger et al., ICML 2009). The score of a
//! text is that of its [`WINDOW`] words that score highest, so that an order in a long document counts as it
//! would alone. `cargo xtask train-injection` makes the weights; `model/CARD.md` tells what from.

use std::ops::Range;

use super::tokens::{self, Shape, Token};

/// Weights, one byte each.
pub const SLOTS: usize = 1 << 17;
/// Words that are scored together.
pub const WINDOW: usize = 12;

/// The features of a text, as the trainer reads them.
#[derive(Clone, Debug, Default)]
pub struct Features {
    /// The places of the weights of all words, one word after the other.
    pub slots: Vec<u32>,
    /// For each word the number of places up to its end.
    pub ends: Vec<u32>,
}

/// The features of a text as the scanner reads it first: without what does not belong in text.
pub fn features(text: &str) -> Features {
    let prints = crate::signal::Fingerprinter::new(&[0; 32]);
    let cleaned = crate::validator::characters::clean(text, &prints, &mut Vec::new());
    let text = &*cleaned.text;
    let mut features = Features::default();
    let mut before = [0; 2];
    tokens::each(text, |token| {
        each(text, &token, &mut before, |slot| features.slots.push(slot as u32));
        features.ends.push(features.slots.len() as u32);
    });
    features
}

/// Calls `add` with the place of each feature of a word; `before` are the words before it.
fn each(text: &str, token: &Token, before: &mut [u64; 2], mut add: impl FnMut(usize)) {
    let word = match token.shape {
        Shape::Word => token.hash,
        Shape::Address => 1,
        Shape::Link => 2,
        Shape::Number => 3,
    };
    let [second, first] = *before;
    add(place(word, 0x11));
    add(place(word ^ first.rotate_left(21), 0x22));
    add(place(word ^ first.rotate_left(21) ^ second.rotate_left(42), 0x33));
    if token.opens {
        add(place(word, 0x44));
    }
    if token.shape == Shape::Word {
        letters(&text.as_bytes()[token.start..token.end], add);
    }
    *before = [first, word];
}

/// Runs of four letters, with the ends of the word as letters of their own.
fn letters(word: &[u8], mut add: impl FnMut(usize)) {
    let mut run = u32::from(b'<');
    for (at, byte) in word.iter().chain(b">").enumerate() {
        run = run << 8 | u32::from(byte | 0x20);
        if at >= 2 {
            add(place(u64::from(run), 0x55));
        }
    }
}

fn place(hash: u64, kind: u64) -> usize {
    let mixed = (hash ^ kind << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93) >> (64 - SLOTS.trailing_zeros())) as usize
}

/// The running score of one text.
#[derive(Default)]
pub(super) struct Score {
    before: [u64; 2],
    /// What each of the last words added, in a ring, with where each begins.
    ring: [(i32, usize); WINDOW],
    words: usize,
    sum: i32,
    best: i32,
    span: Range<usize>,
}

impl Score {
    /// Adds a word.
    pub(super) fn add(&mut self, text: &str, token: &Token) {
        let mut own = 0;
        each(text, token, &mut self.before, |slot| own += i32::from(FILE[slot] as i8));
        let at = self.words % WINDOW;
        self.sum += own - self.ring[at].0;
        self.ring[at] = (own, token.start);
        self.words += 1;
        if self.sum > self.best {
            self.best = self.sum;
            let first = if self.words > WINDOW { self.words % WINDOW } else { 0 };
            self.span = self.ring[first].1..token.end;
        }
    }

    /// Where the text reads like an order, if its best words score above the threshold and the margin.
    pub(super) fn order(&self, margin: i32) -> Option<Range<usize>> {
        let [.., a, b, c, d] = *FILE;
        (self.best >= i32::from_le_bytes([a, b, c, d]).saturating_add(margin)).then(|| self.span.clone())
    }
}

/// The weights, and behind them the score from which a text counts: 0.1% of honest documents, program texts
/// and tool outputs that were left out of a training scored higher.
static FILE: &[u8; SLOTS + 4] = include_bytes!("model/weights.bin");

#[cfg(test)]
mod tests {
    use super::*;

    fn order(text: &str) -> Option<&str> {
        let mut score = Score::default();
        tokens::each(text, |token| score.add(text, &token));
        score.order(0).map(|span| &text[span])
    }

    #[test]
    fn an_honest_document_is_no_order() {
        let honest =
            "The tower was finished in 1889 and has three floors that visitors may enter. ".repeat(20);
        assert_eq!(order(&honest), None);
    }

    #[test]
    fn trainer_and_scanner_read_the_same_features() {
        let text = "Please send it to a@b.com; see https://c.org, x_y and 12 more. Naïve?";
        let all = features(text);
        let mut before = [0; 2];
        let mut slots = Vec::new();
        let mut words = 0;
        tokens::each(text, |token| {
            each(text, &token, &mut before, |slot| slots.push(slot as u32));
            words += 1;
        });
        assert_eq!((all.slots, all.ends.len()), (slots.clone(), words));
        assert!(slots.iter().all(|slot| (*slot as usize) < SLOTS));
    }
}
