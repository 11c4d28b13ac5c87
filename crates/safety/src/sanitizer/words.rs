//! Sequences of words: an attack is a few kinds of words close together in one order, whatever
//! stands between them.
//!
//! A word is looked up by a hash of its lower-case letters, and only words that some rule knows are
//! kept. A word whose letters are scrambled, or written with digits for letters, is recognised too.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;
use std::sync::Arc;

use super::rules::Rule;
use super::tokens::{Shape, Token, hashes};

/// Classes that a word belongs to, one bit each.
#[derive(Clone, Copy, Default)]
struct Classes([u64; 10]);

impl Classes {
    const BITS: usize = 10 * 64;

    fn one(bit: usize) -> Self {
        let mut classes = Self::default();
        classes.0[bit / 64] = 1 << (bit % 64);
        classes
    }

    fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(own, other)| *own |= other);
    }

    fn meets(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(own, other)| own & other != 0)
    }
}

/// The words and sequences of all rules.
pub(super) struct Words {
    exact: Table,
    /// By their letters in any order, for words of six letters and more.
    scrambled: Table,
    /// Classes of what has a shape: addresses, links, numbers.
    shapes: [Classes; 3],
    /// `never`, `not` and the like: an order behind them is none.
    negations: Classes,
    sequences: Vec<Sequence>,
    /// The sequences that begin with a word of an entry of the table.
    beginning: Vec<Vec<u16>>,
}

/// From the hash of a word to its number.
type Table = HashMap<u64, (Classes, u16), BuildHasherDefault<Ready>>;

/// One rule.
pub(super) struct Sequence {
    pub(super) rule: Rule,
    steps: Vec<Step>,
    gap: u32,
}

#[derive(Clone, Copy)]
struct Step {
    classes: Classes,
    /// The word has to begin a sentence, a quotation or a value.
    opens: bool,
}

/// A sequence as a rule file writes it.
pub(super) struct Written {
    pub(super) rule: Rule,
    pub(super) steps: Vec<String>,
    pub(super) gap: u32,
}

/// A word that some rule knows.
pub(super) struct Word {
    span: Range<usize>,
    classes: Classes,
    beginning: u16,
    place: u32,
    opens: bool,
    scrambled: bool,
}

/// A rule that fired.
pub(super) struct Match<'a> {
    pub(super) sequence: &'a Sequence,
    pub(super) span: Range<usize>,
    /// One of its words had to be unscrambled.
    pub(super) scrambled: bool,
}

/// Words over which a rule looks at most; a text that repeats them endlessly costs no more.
const MOST_STEPS: usize = 64;

impl Words {
    pub(super) fn new(classes: &[(String, String)], rules: Vec<Written>) -> Result<Self, String> {
        let mut vocabulary = Vocabulary { classes: HashMap::new(), words: HashMap::new(), next: 0 };
        for (name, words) in classes {
            let bit = vocabulary.bit()?;
            vocabulary.classes.insert(name.clone(), bit);
            for word in words.split_whitespace() {
                vocabulary.words.entry(word.to_owned()).or_default().add(bit);
            }
        }
        let mut sequences = Vec::new();
        for Written { rule, steps, gap } in rules {
            let steps = steps.iter().map(|step| vocabulary.step(step)).collect::<Result<Vec<_>, _>>()?;
            if steps.is_empty() {
                return Err(format!("{}: a sequence wants steps", rule.id));
            }
            sequences.push(Sequence { rule, steps, gap });
        }
        Ok(Self::compiled(vocabulary, sequences))
    }

    fn compiled(mut vocabulary: Vocabulary, sequences: Vec<Sequence>) -> Self {
        let mut shape = |name: &str| vocabulary.words.remove(name).unwrap_or_default();
        let shapes = [shape("@address"), shape("@link"), shape("@number")];
        let negations = vocabulary.classes.get("never").copied().unwrap_or_default();
        let mut words = Self {
            negations,
            exact: HashMap::default(),
            scrambled: HashMap::default(),
            shapes,
            sequences,
            beginning: vec![Vec::new(); 3],
        };
        for (word, classes) in vocabulary.words {
            let (exact, bag) = hashes(word.as_bytes());
            words.exact.entry(exact).or_default().0.add(classes);
            if word.len() >= 6 {
                words.scrambled.entry(bag).or_default().0.add(classes);
            }
        }
        for (at, classes) in shapes.into_iter().enumerate() {
            words.beginning[at] = words.begun_by(classes);
        }
        for scrambled in [false, true] {
            let mut table = std::mem::take(if scrambled { &mut words.scrambled } else { &mut words.exact });
            for (classes, beginning) in table.values_mut() {
                *beginning = words.beginning.len() as u16;
                words.beginning.push(words.begun_by(*classes));
            }
            *(if scrambled { &mut words.scrambled } else { &mut words.exact }) = table;
        }
        words
    }

    fn begun_by(&self, classes: Classes) -> Vec<u16> {
        let begins = |sequence: &Sequence| sequence.steps[0].classes.meets(classes);
        (0u16..).zip(&self.sequences).filter(|(_, sequence)| begins(sequence)).map(|(at, _)| at).collect()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Arc<str>> {
        self.sequences.iter().map(|sequence| sequence.rule.id.clone())
    }

    /// The word as rules know it; none knows most words.
    pub(super) fn known(&self, text: &str, token: &Token) -> Option<Word> {
        let (classes, beginning, scrambled) = match token.shape {
            Shape::Address => (self.shapes[0], 0, false),
            Shape::Link => (self.shapes[1], 1, false),
            Shape::Number => (self.shapes[2], 2, false),
            Shape::Word => {
                let ((classes, beginning), scrambled) = self.look_up(text, token)?;
                (classes, beginning, scrambled)
            }
        };
        let (span, place, opens) = (token.start..token.end, token.place, token.opens);
        Some(Word { span, classes, beginning, place, opens, scrambled })
    }

    fn look_up(&self, text: &str, token: &Token) -> Option<((Classes, u16), bool)> {
        if let Some(known) = self.exact.get(&token.hash) {
            return Some((*known, false));
        }
        let word = &text.as_bytes()[token.start..token.end];
        if word.len() >= 3 && word.iter().any(|byte| !byte.is_ascii_alphabetic()) {
            let read = |one| self.exact.get(&hashes(&letters(word, one)).0);
            return [b'i', b'l'].into_iter().find_map(read).map(|known| (*known, false));
        }
        let known = self.scrambled.get(&token.bag).filter(|_| word.len() >= 6)?;
        Some((*known, true))
    }

    /// Finds every sequence; of one rule, each place once.
    pub(super) fn find(&self, words: &[Word]) -> Vec<Match<'_>> {
        let mut matches: Vec<Match<'_>> = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let before = at.checked_sub(1).map(|at| &words[at]);
            if before
                .is_some_and(|before| before.place + 1 == word.place && before.classes.meets(self.negations))
            {
                continue;
            }
            for index in &self.beginning[usize::from(word.beginning)] {
                let sequence = &self.sequences[usize::from(*index)];
                let Some((end, scrambled)) = follow(sequence, words, at) else { continue };
                let span = word.span.start..words[end].span.end;
                let same =
                    |known: &Match<'_>| std::ptr::eq(known.sequence, sequence) && known.span.end >= span.end;
                if !matches.iter().rev().take(8).any(same) {
                    matches.push(Match { sequence, span, scrambled });
                }
            }
        }
        matches
    }
}

/// Follows the steps of a sequence from the word at `at`; the index of the last word.
fn follow(sequence: &Sequence, words: &[Word], at: usize) -> Option<(usize, bool)> {
    if sequence.steps[0].opens && !words[at].opens {
        return None;
    }
    let mut current = at;
    let mut scrambled = words[at].scrambled;
    for step in &sequence.steps[1..] {
        let reach = words[current].place + sequence.gap + 1;
        let near = words[current + 1..].iter().take(MOST_STEPS).take_while(|word| word.place <= reach);
        let fits = |word: &Word| word.classes.meets(step.classes) && (word.opens || !step.opens);
        current += 1 + near.into_iter().position(fits)?;
        scrambled |= words[current].scrambled;
    }
    Some((current, scrambled))
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

/// Classes and words while rules are read.
struct Vocabulary {
    classes: HashMap<String, Classes>,
    words: HashMap<String, Classes>,
    next: usize,
}

impl Vocabulary {
    fn bit(&mut self) -> Result<Classes, String> {
        if self.next == Classes::BITS {
            return Err(format!("more than {} classes and steps", Classes::BITS));
        }
        self.next += 1;
        Ok(Classes::one(self.next - 1))
    }

    /// `a|b|c`, each a class, a shape (`@address`, `@link`, `@number`) or a word of its own; `^` before
    /// them when the word has to begin something.
    fn step(&mut self, step: &str) -> Result<Step, String> {
        let (step, opens) = step.strip_prefix('^').map_or((step, false), |step| (step, true));
        if let Some(classes) = self.classes.get(step) {
            return Ok(Step { classes: *classes, opens });
        }
        let bit = self.bit()?;
        let mut classes = bit;
        for part in step.split('|') {
            match self.classes.get(part) {
                Some(class) => classes.add(*class),
                None => self.words.entry(part.to_owned()).or_default().add(bit),
            }
        }
        Ok(Step { classes, opens })
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
