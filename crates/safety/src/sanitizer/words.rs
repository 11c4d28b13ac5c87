//! Sequences of words: an attack is a few kinds of words close together in one order, whatever
//! stands between them.
//!
//! One pass reads the text into words; a word is looked up by a hash of its lower-case letters, and
//! only words that some rule knows are kept. A word whose letters are scrambled, or written with digits
//! for letters, is recognised too.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::Arc;

use crate::finding::Severity;

/// Classes that a word belongs to, one bit each.
type Classes = u128;

/// The words and sequences of all rules.
pub(super) struct Words {
    exact: HashMap<u64, Classes, BuildHasherDefault<Ready>>,
    /// By their letters in any order, for words of six letters and more.
    scrambled: HashMap<u64, Classes, BuildHasherDefault<Ready>>,
    sequences: Vec<Sequence>,
    /// For each class bit, the sequences that begin with it.
    beginning: Vec<Vec<u16>>,
}

/// One rule.
pub(super) struct Sequence {
    pub(super) id: Arc<str>,
    pub(super) reason: Arc<str>,
    pub(super) severity: Severity,
    steps: Vec<Classes>,
    gap: u32,
}

/// A word that some rule knows.
struct Word {
    span: Range<usize>,
    classes: Classes,
    /// Its place among all words of the text.
    place: u32,
    scrambled: bool,
}

/// A rule that fired.
pub(super) struct Match<'a> {
    pub(super) sequence: &'a Sequence,
    pub(super) span: Range<usize>,
    /// One of its words had to be unscrambled.
    pub(super) scrambled: bool,
}

/// What the pass over the words noticed besides.
#[derive(Default)]
pub(super) struct Shape {
    /// Length of the longest run of letters and digits: encodings are long, words are not.
    pub(super) longest: usize,
}

/// The end of a sentence stands for this many words: a phrase seldom reaches over it.
const SENTENCE: u32 = 4;

impl Words {
    pub(super) fn new(classes: &[(String, String)]) -> Result<(Self, Vocabulary), String> {
        let mut vocabulary = Vocabulary { classes: HashMap::new(), words: HashMap::new(), next: 0 };
        for (name, words) in classes {
            let bit = vocabulary.bit()?;
            vocabulary.classes.insert(name.clone(), bit);
            for word in words.split_whitespace() {
                *vocabulary.words.entry(word.to_owned()).or_default() |= bit;
            }
        }
        let words = Self {
            exact: HashMap::default(),
            scrambled: HashMap::default(),
            sequences: Vec::new(),
            beginning: Vec::new(),
        };
        Ok((words, vocabulary))
    }

    pub(super) fn add(
        &mut self,
        vocabulary: &mut Vocabulary,
        id: &str,
        reason: &str,
        severity: Severity,
        steps: &[String],
        gap: u32,
    ) -> Result<(), String> {
        let steps = steps.iter().map(|step| vocabulary.step(step)).collect::<Result<Vec<_>, _>>()?;
        if steps.is_empty() {
            return Err(format!("{id}: a sequence wants steps"));
        }
        self.sequences.push(Sequence { id: id.into(), reason: reason.into(), severity, steps, gap });
        Ok(())
    }

    pub(super) fn finish(&mut self, vocabulary: Vocabulary) {
        for (word, classes) in vocabulary.words {
            let (exact, bag) = hashes(word.as_bytes());
            *self.exact.entry(exact).or_default() |= classes;
            if word.len() >= 6 {
                *self.scrambled.entry(bag).or_default() |= classes;
            }
        }
        self.beginning = (0..Classes::BITS)
            .map(|bit| {
                let begins = |sequence: &&(u16, &Sequence)| sequence.1.steps[0] >> bit & 1 == 1;
                let numbered: Vec<_> = (0u16..).zip(&self.sequences).collect();
                numbered.iter().filter(begins).map(|(index, _)| *index).collect()
            })
            .collect();
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Arc<str>> {
        self.sequences.iter().map(|sequence| sequence.id.clone())
    }

    /// Finds every sequence; of one rule, each place once.
    pub(super) fn find(&self, text: &str, shape: &mut Shape) -> Vec<Match<'_>> {
        let words = self.read(text.as_bytes(), shape);
        let mut matches: Vec<Match<'_>> = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let mut due: Vec<u16> = Vec::new();
            let mut classes = word.classes;
            while classes != 0 {
                let bit = classes.trailing_zeros() as usize;
                classes &= classes - 1;
                due.extend(
                    self.beginning[bit]
                        .iter()
                        .filter(|index| !due.contains(index))
                        .copied()
                        .collect::<Vec<_>>(),
                );
            }
            for index in due {
                let sequence = &self.sequences[usize::from(index)];
                if let Some((end, scrambled)) = follow(sequence, &words, at) {
                    let span = word.span.start..words[end].span.end;
                    let seen =
                        matches.iter().rev().take(8).any(|known| {
                            std::ptr::eq(known.sequence, sequence) && known.span.end >= span.end
                        });
                    if !seen {
                        matches.push(Match { sequence, span, scrambled });
                    }
                }
            }
        }
        matches
    }

    /// The words that some rule knows.
    fn read(&self, text: &[u8], shape: &mut Shape) -> Vec<Word> {
        let mut words = Vec::new();
        let mut place = 0u32;
        let mut last = 0u64;
        let mut at = 0;
        while at < text.len() {
            let byte = text[at];
            if !is_word(byte) {
                place += SENTENCE * u32::from(ends_sentence(text, at));
                at += 1;
                continue;
            }
            let start = at;
            while at < text.len() && (is_word(text[at]) || is_inner(text, at)) {
                at += 1;
            }
            let word = &text[start..at];
            shape.longest = shape.longest.max(word.len());
            if word.len() > 32 {
                place += 1;
                continue;
            }
            let (exact, bag) = hashes(word);
            // The same word again and again would only stretch the distance.
            if std::mem::replace(&mut last, exact) == exact {
                continue;
            }
            place += 1;
            if let Some((classes, scrambled)) = self.classes(word, exact, bag) {
                words.push(Word { span: start..at, classes, place, scrambled });
            }
        }
        words
    }

    fn classes(&self, word: &[u8], exact: u64, bag: u64) -> Option<(Classes, bool)> {
        if let Some(classes) = self.exact.get(&exact) {
            return Some((*classes, false));
        }
        if word.len() >= 3 && word.iter().any(|byte| !byte.is_ascii_alphabetic()) {
            return [b'i', b'l']
                .into_iter()
                .find_map(|one| self.exact.get(&hashes(&letters(word, one)).0))
                .map(|c| (*c, false));
        }
        let classes = self.scrambled.get(&bag).filter(|_| word.len() >= 6)?;
        Some((*classes, true))
    }
}

/// Follows the steps of a sequence from the word at `at`; the index of the last word.
fn follow(sequence: &Sequence, words: &[Word], at: usize) -> Option<(usize, bool)> {
    let mut current = at;
    let mut scrambled = words[at].scrambled;
    for step in &sequence.steps[1..] {
        let reach = words[current].place + sequence.gap + 1;
        let next = words[current + 1..]
            .iter()
            .take_while(|word| word.place <= reach)
            .position(|word| word.classes & step != 0)?;
        current += 1 + next;
        scrambled |= words[current].scrambled;
    }
    Some((current, scrambled))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

/// Signs that stand for letters, and the apostrophe, between letters.
fn is_inner(text: &[u8], at: usize) -> bool {
    matches!(text[at], b'\'' | b'@' | b'$' | b'!' | b'|')
        && text.get(at + 1).is_some_and(|next| next.is_ascii_alphanumeric())
}

fn ends_sentence(text: &[u8], at: usize) -> bool {
    let next = text.get(at + 1).copied().unwrap_or(b' ');
    match text[at] {
        b'.' | b'!' | b'?' | b';' => next.is_ascii_whitespace(),
        b'\n' => next == b'\n',
        _ => false,
    }
}

/// The letters that digits and signs stand for.
fn letters(word: &[u8], one: u8) -> Vec<u8> {
    let letter = |byte: &u8| match byte {
        b'0' => b'o',
        b'1' | b'|' | b'!' => one,
        b'3' => b'e',
        b'4' | b'@' => b'a',
        b'5' | b'$' => b's',
        b'7' => b't',
        b'8' => b'b',
        b'9' => b'g',
        other => *other,
    };
    word.iter().map(letter).collect()
}

/// A hash of the lower-case letters in their order, and one of them in any order but for the first
/// and the last. Apostrophes count for nothing.
fn hashes(word: &[u8]) -> (u64, u64) {
    let mut exact = 0xcbf2_9ce4_8422_2325u64;
    let mut bag = 0u64;
    for byte in word.iter().filter(|byte| **byte != b'\'') {
        let lower = u64::from(byte.to_ascii_lowercase());
        exact = (exact ^ lower).wrapping_mul(0x0100_0000_01b3);
        bag = bag
            .wrapping_add((lower + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left((lower % 61) as u32));
    }
    let end = |byte: Option<&u8>| u64::from(byte.map_or(0, u8::to_ascii_lowercase));
    let ends = end(word.first()) << 8 | end(word.last());
    (exact ^ exact >> 29, bag ^ ends.wrapping_mul(0xff51_afd7_ed55_8ccd))
}

/// Classes and words while rules are read.
pub(super) struct Vocabulary {
    classes: HashMap<String, Classes>,
    words: HashMap<String, Classes>,
    next: u32,
}

impl Vocabulary {
    fn bit(&mut self) -> Result<Classes, String> {
        let bit = 1u128.checked_shl(self.next).ok_or("more than 128 classes and single words")?;
        self.next += 1;
        Ok(bit)
    }

    /// `a|b|c`, each a class or a word of its own.
    fn step(&mut self, step: &str) -> Result<Classes, String> {
        let bit = match step.contains('|') || !self.classes.contains_key(step) {
            true => self.bit()?,
            false => return Ok(self.classes[step]),
        };
        let mut all = bit;
        for part in step.split('|') {
            match self.classes.get(part) {
                Some(class) => all |= class,
                None => *self.words.entry(part.to_owned()).or_default() |= bit,
            }
        }
        Ok(all)
    }
}

/// Hands a hash through: the keys are hashes already.
#[derive(Default)]
struct Ready(u64);

impl Hasher for Ready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash << 8 | u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
