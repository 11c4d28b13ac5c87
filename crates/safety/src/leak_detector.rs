//! Secrets in text and in streams: vendors' tokens, connection strings, private keys, passwords in
//! context, and the vault's own values.
//!
//! One pass of Aho-Corasick finds the literals of all rules; only a rule whose literal stands on a
//! line runs its expression, and only on that line. Every expression is a finite automaton, so the
//! time is linear on every input. A text is read line by line (a very long line in overlapping
//! pieces), which makes the result of a stream independent of how it was cut into chunks.
//!
//! A checksum is confidence, not a filter: a token whose checksum is right is critical, one whose
//! checksum is wrong is still a token of that format.

mod checksum;
pub(crate) mod context;
mod encodings;
#[cfg(test)]
mod examples;
mod known;
mod letters;
mod lines;
mod placeholder;
mod private_key;
mod rules;
mod stream;
mod surroundings;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use memchr::{memchr, memrchr};

pub(crate) use known::Cursor;
pub use known::{Fingerprints, FingerprintsError, KnownValues, TooWeak};
pub(crate) use stream::LeakStream;

use crate::finding::{Kind, Severity};
use crate::signal::{Fingerprinter, Signal};
use rules::LeakRule;

/// All rules, compiled.
pub(crate) struct LeakDetector {
    rules: Vec<LeakRule>,
    literals: AhoCorasick,
    /// For each literal, the rules that begin with it.
    wanted_by: Vec<Vec<u16>>,
    prints: Fingerprinter,
}

impl LeakDetector {
    /// Reads the shipped rules.
    pub(crate) fn new(prints: Fingerprinter) -> Result<Self, String> {
        let rules = rules::shipped()?;
        let mut words: Vec<String> = Vec::new();
        let mut wanted_by: Vec<Vec<u16>> = Vec::new();
        for (index, rule) in (0u16..).zip(&rules) {
            for literal in &rule.literals {
                let literal = literal.to_ascii_lowercase();
                match words.iter().position(|word| *word == literal) {
                    Some(at) => wanted_by[at].push(index),
                    None => {
                        words.push(literal);
                        wanted_by.push(vec![index]);
                    }
                }
            }
        }
        let literals = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .kind(Some(aho_corasick::AhoCorasickKind::DFA))
            .build(&words)
            .map_err(|error| error.to_string())?;
        Ok(Self { rules, literals, wanted_by, prints })
    }

    /// The text of the rule files.
    pub(crate) fn shipped() -> impl Iterator<Item = &'static str> {
        rules::FILES.into_iter()
    }

    /// The ids of all rules.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Arc<str>> {
        let own = [private_key::RULE, known::RULE].map(Arc::from);
        self.rules.iter().map(|rule| rule.id.clone()).chain(own)
    }

    /// Everything in a whole text. Spans count from its beginning.
    pub(crate) fn scan(&self, text: &[u8]) -> Vec<Signal> {
        let mut signals = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let cut = lines::settled(&text[at..], true);
            self.scan_lines(&text[at..at + cut.read], at, cut.accept, &mut signals);
            at += cut.accept;
        }
        merge(signals)
    }

    /// Reads whole lines that stand at offset `base`; keeps what begins before `accept`.
    fn scan_lines(&self, text: &[u8], base: usize, accept: usize, signals: &mut Vec<Signal>) {
        let first_new = signals.len();
        for found in private_key::find(text) {
            signals.push(private_key::signal(&self.prints, &text[found.clone()], found));
        }
        let mut line = 0..0;
        let mut due: Vec<u16> = Vec::new();
        for hit in self.literals.find_overlapping_iter(text) {
            if hit.start() >= line.end {
                self.run(&mut due, text, line, signals);
                line = line_around(text, hit.start());
            }
            for rule in &self.wanted_by[hit.pattern().as_usize()] {
                let ready = !self.rules[usize::from(*rule)].needs_operator
                    || operator_follows(&text[hit.end()..line.end.max(hit.end())]);
                if ready && !due.contains(rule) {
                    due.push(*rule);
                }
            }
        }
        self.run(&mut due, text, line, signals);
        let mut index = first_new;
        while let Some(signal) = signals.get_mut(index) {
            if signal.span.start < accept {
                signal.span = signal.span.start + base..signal.span.end + base;
                index += 1;
            } else {
                signals.swap_remove(index);
            }
        }
    }

    /// Runs the rules that are due on one line.
    fn run(&self, due: &mut Vec<u16>, text: &[u8], line: Range<usize>, signals: &mut Vec<Signal>) {
        for index in due.drain(..) {
            let rule = &self.rules[usize::from(index)];
            rule.find(&text[line.clone()], |span, severity| {
                let span = span.start + line.start..span.end + line.start;
                signals.push(Signal {
                    rule: rule.id.clone(),
                    reason: rule.description.clone(),
                    kind: rule.kind,
                    severity,
                    fingerprint: self.prints.of(&rule.id, &text[span.clone()]),
                    span,
                    view: "plain",
                    secret: None,
                });
            });
        }
    }
}

/// The line that holds the byte at `at`, without its line feed.
fn line_around(text: &[u8], at: usize) -> Range<usize> {
    let start = memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
    let end = memchr(b'\n', &text[at..]).map_or(text.len(), |newline| at + newline);
    start..end
}

/// True when something that assigns stands close after a name.
fn operator_follows(rest: &[u8]) -> bool {
    let near = &rest[..rest.len().min(64)];
    near.iter().any(|byte| matches!(byte, b'=' | b':' | b'>' | b'(' | b',' | b' '))
}

/// Of findings that overlap, keeps the most severe; of equals the one from the more precise kind,
/// then the longer.
fn merge(mut signals: Vec<Signal>) -> Vec<Signal> {
    signals.sort_by_key(|signal| (signal.span.start, std::cmp::Reverse(signal.span.end)));
    let mut kept: Vec<Signal> = Vec::with_capacity(signals.len());
    for signal in signals {
        match kept.last_mut() {
            Some(last) if signal.span.start < last.span.end => {
                let end = last.span.end.max(signal.span.end);
                if rank(&signal) > rank(last) {
                    let start = last.span.start;
                    *last = signal;
                    last.span.start = start;
                }
                last.span.end = end;
            }
            _ => kept.push(signal),
        }
    }
    kept
}

/// Widens spans to whole characters: expressions read bytes.
pub(crate) fn to_characters(text: &str, signals: &mut Vec<Signal>) {
    for signal in signals.iter_mut() {
        while !text.is_char_boundary(signal.span.start) {
            signal.span.start -= 1;
        }
        while !text.is_char_boundary(signal.span.end) {
            signal.span.end += 1;
        }
    }
    *signals = merge(std::mem::take(signals));
}

fn rank(signal: &Signal) -> (Severity, u8) {
    let precise = match signal.kind {
        Kind::KnownValue => 4,
        Kind::PrivateKey => 3,
        Kind::VendorToken => 2,
        Kind::ConnectionString => 1,
        _ => 0,
    };
    (signal.severity, precise)
}
