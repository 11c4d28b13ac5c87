//! Known attack patterns, looked for under every reading of a text.
//!
//! A reading is the text itself, the text with look-alikes folded, or a text inside the text (base64,
//! escapes, hidden characters), which is read again to a depth of [`DEPTH`] within a budget. What fires
//! only after decoding was hidden on purpose and weighs more.
//!
//! Patterns are data (`sanitizer/patterns.toml`): sequences of words, expressions, phrases in other
//! languages. They tell of attacks that somebody has seen before; that is all they promise.

mod decode;
mod fold;
mod squash;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use aho_corasick::AhoCorasick;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::finding::{Kind, Severity};
use crate::signal::{Fingerprinter, Signal};
use crate::validator::characters::Cleaned;
use squash::Squash;
use view::View;
use words::{Shape, Words};

const PATTERNS: &str = include_str!("sanitizer/patterns.toml");

/// Texts inside texts inside texts are read; a fourth layer is not.
const DEPTH: usize = 3;
/// Bytes of decoded readings, beyond twice the text itself.
const BUDGET: usize = 256 * 1024;
/// Findings of one text; more say nothing more.
const MOST_SIGNALS: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    classes: BTreeMap<String, String>,
    sequence: Vec<WrittenSequence>,
    pattern: Vec<WrittenPattern>,
    phrase: Vec<WrittenPhrase>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSequence {
    id: String,
    severity: Severity,
    reason: String,
    steps: Vec<String>,
    gap: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPattern {
    id: String,
    severity: Severity,
    reason: String,
    literals: Vec<String>,
    regex: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPhrase {
    id: String,
    severity: Severity,
    reason: String,
    any: Vec<Vec<String>>,
}

/// The patterns, compiled.
pub(crate) struct Sanitizer {
    words: Words,
    squash: Squash,
    patterns: Vec<Pattern>,
    literals: AhoCorasick,
    wanted_by: Vec<u16>,
    phrases: Vec<Phrase>,
    /// The first parts of the phrases, as written and with a capital.
    beginnings: AhoCorasick,
    begun_by: Vec<u16>,
    prints: Fingerprinter,
}

struct Pattern {
    id: Arc<str>,
    reason: Arc<str>,
    severity: Severity,
    regex: Regex,
}

/// Parts that stand in one order, close together, in scripts and languages without a word list.
struct Phrase {
    id: Arc<str>,
    reason: Arc<str>,
    severity: Severity,
    parts: Vec<String>,
}

/// How far the parts of a phrase may be apart.
const PHRASE_GAP: usize = 96;

impl Sanitizer {
    pub(crate) fn new(prints: Fingerprinter) -> Result<Self, String> {
        let file: File = toml::from_str(PATTERNS).map_err(|error| error.to_string())?;
        let classes: Vec<_> = file.classes.into_iter().collect();
        let (mut words, mut vocabulary) = Words::new(&classes)?;
        for rule in &file.sequence {
            words.add(&mut vocabulary, &rule.id, &rule.reason, rule.severity, &rule.steps, rule.gap)?;
        }
        words.finish(vocabulary);
        let mut literals = Vec::new();
        let mut wanted_by = Vec::new();
        let mut patterns = Vec::new();
        for (index, rule) in (0u16..).zip(file.pattern) {
            wanted_by.extend(rule.literals.iter().map(|_| index));
            literals.extend(rule.literals);
            let regex = RegexBuilder::new(&rule.regex).case_insensitive(true).build();
            let regex = regex.map_err(|error| error.to_string())?;
            patterns.push(Pattern {
                id: rule.id.into(),
                reason: rule.reason.into(),
                severity: rule.severity,
                regex,
            });
        }
        let literals = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(&literals)
            .map_err(|error| error.to_string())?;
        let phrases = phrases(file.phrase);
        let mut begun_by = Vec::new();
        let mut firsts = Vec::new();
        for (index, phrase) in (0u16..).zip(&phrases) {
            let first = phrase.parts.first().ok_or("a phrase wants parts")?;
            let capital: String =
                first.chars().take(1).flat_map(char::to_uppercase).chain(first.chars().skip(1)).collect();
            firsts.extend([first.clone(), capital]);
            begun_by.extend([index, index]);
        }
        let beginnings = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(&firsts)
            .map_err(|error| error.to_string())?;
        let squash = Squash::new()?;
        Ok(Self { words, squash, patterns, literals, wanted_by, phrases, beginnings, begun_by, prints })
    }

    /// The ids of all rules.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Arc<str>> {
        let patterns = self.patterns.iter().map(|pattern| pattern.id.clone());
        let phrases = self.phrases.iter().map(|phrase| phrase.id.clone());
        self.words.ids().chain(patterns).chain(phrases).chain([Arc::from(DISGUISED)])
    }

    /// The text of the rule file.
    pub(crate) fn shipped() -> impl Iterator<Item = &'static str> {
        [PATTERNS].into_iter()
    }

    /// Adds a signal for each pattern under each reading. Spans count in the original.
    pub(crate) fn scan(&self, cleaned: &Cleaned<'_>, signals: &mut Vec<Signal>) {
        let mut budget = BUDGET + 2 * cleaned.text.len();
        let mut found = Vec::new();
        self.read(&cleaned.text, "plain", 0, &mut budget, &mut found);
        for hit in &mut found {
            hit.span = cleaned.original(hit.span.clone());
        }
        for (span, hidden) in &cleaned.hidden {
            let mut inside = Vec::new();
            self.read(hidden, "tag characters", 1, &mut budget, &mut inside);
            found.extend(inside.into_iter().map(|hit| Hit { span: span.clone(), ..hit }));
        }
        found.truncate(MOST_SIGNALS);
        signals.extend(found.into_iter().map(|hit| self.signal(hit)));
    }

    /// Reads a text and the texts inside it. Spans count in this text.
    fn read(&self, text: &str, name: &'static str, depth: usize, budget: &mut usize, found: &mut Vec<Hit>) {
        let mut shape = Shape::default();
        self.detect(text, name, depth > 0, &mut shape, found);
        if !text.is_ascii() {
            self.phrases(text, name, found);
            let folded = fold::fold(text);
            let mut hits = Vec::new();
            self.detect(
                &folded.text,
                if depth == 0 { folded.name } else { name },
                depth > 0,
                &mut shape,
                &mut hits,
            );
            self.phrases(&folded.text, name, &mut hits);
            hits.retain(|hit| folded.changed(&hit.span));
            found.extend(lowered(&folded, hits));
        } else {
            self.phrases(text, name, found);
        }
        if depth == DEPTH {
            return;
        }
        for view in decode::inside(text, shape.longest) {
            match budget.checked_sub(view.text.len()) {
                Some(rest) => *budget = rest,
                None => return,
            }
            let mut hits = Vec::new();
            // Markup is not a disguise; what it hides is read at the same weight.
            let deeper = if view.name == "without tags" { DEPTH } else { depth + 1 };
            self.read(&view.text, view.name, deeper, budget, &mut hits);
            // A hit in which nothing was decoded stands in the text below as well.
            hits.retain(|hit| view.changed(&hit.span));
            found.extend(lowered(&view, hits));
        }
    }

    /// Runs all rules on one reading.
    fn detect(&self, text: &str, name: &'static str, decoded: bool, shape: &mut Shape, found: &mut Vec<Hit>) {
        let before = found.len();
        let weight = |severity: Severity| match (decoded && name != "without tags", severity) {
            (true, Severity::High) => Severity::Critical,
            (true, Severity::Medium) => Severity::High,
            _ => severity,
        };
        for hit in self.words.find(text, shape) {
            let severity = if hit.scrambled {
                Severity::Medium.min(hit.sequence.severity)
            } else {
                weight(hit.sequence.severity)
            };
            let view = if hit.scrambled { "scrambled" } else { name };
            let rule = (&hit.sequence.id, &hit.sequence.reason);
            found.push(Hit::new(rule, severity, hit.span, view, text));
        }
        let mut seen = 0u64;
        for hit in self.literals.find_overlapping_iter(text) {
            let index = self.wanted_by[hit.pattern().as_usize()];
            if seen >> index & 1 == 0 {
                seen |= 1 << index;
                let pattern = &self.patterns[usize::from(index)];
                for at in pattern.regex.find_iter(text).take(8) {
                    let rule = (&pattern.id, &pattern.reason);
                    found.push(Hit::new(rule, weight(pattern.severity), at.range(), name, text));
                }
            }
        }
        for (view, span) in self.squash.find(text) {
            let span = view.below(span);
            let known =
                found[before..].iter().any(|hit| hit.span.start < span.end && span.start < hit.span.end);
            if !known {
                let rule = (
                    &Arc::from(DISGUISED),
                    &Arc::from("a known attack with its letters spread, joined, turned or shifted"),
                );
                found.push(Hit::new(rule, Severity::High, span, view.name, text));
            }
        }
    }

    /// Looks for the phrases of other languages.
    fn phrases(&self, text: &str, name: &'static str, found: &mut Vec<Hit>) {
        for hit in self.beginnings.find_overlapping_iter(text).take(4 * MOST_SIGNALS) {
            let phrase = &self.phrases[usize::from(self.begun_by[hit.pattern().as_usize()])];
            if let Some(end) = in_order(text, hit.end(), &phrase.parts[1..]) {
                found.push(Hit::new(
                    (&phrase.id, &phrase.reason),
                    phrase.severity,
                    hit.start()..end,
                    name,
                    text,
                ));
            }
        }
    }

    fn signal(&self, hit: Hit) -> Signal {
        Signal {
            fingerprint: self.prints.of(&hit.rule, hit.matched.as_bytes()),
            rule: hit.rule,
            reason: hit.reason,
            kind: Kind::Injection,
            severity: hit.severity,
            span: hit.span,
            view: hit.view,
            secret: None,
        }
    }
}

fn phrases(written: Vec<WrittenPhrase>) -> Vec<Phrase> {
    let mut phrases = Vec::new();
    for rule in written {
        let (id, reason): (Arc<str>, Arc<str>) = (rule.id.into(), rule.reason.into());
        let severity = rule.severity;
        let of = |parts| Phrase { id: id.clone(), reason: reason.clone(), severity, parts };
        phrases.extend(rule.any.into_iter().map(of));
    }
    phrases
}

/// The rule of the phrases that only [`squash`] finds.
const DISGUISED: &str = "disguised-phrase";

/// A rule that fired, with the text that made it fire for the fingerprint.
struct Hit {
    rule: Arc<str>,
    reason: Arc<str>,
    severity: Severity,
    span: Range<usize>,
    view: &'static str,
    matched: String,
}

impl Hit {
    fn new(
        rule: (&Arc<str>, &Arc<str>),
        severity: Severity,
        span: Range<usize>,
        view: &'static str,
        text: &str,
    ) -> Self {
        let matched = text.get(span.clone()).unwrap_or_default().to_lowercase();
        Self { rule: rule.0.clone(), reason: rule.1.clone(), severity, span, view, matched }
    }
}

/// Hits of a reading with the spans of the text below it.
fn lowered<'a>(view: &'a View, hits: Vec<Hit>) -> impl Iterator<Item = Hit> + 'a {
    hits.into_iter().map(|hit| Hit { span: view.below(hit.span.clone()), ..hit })
}

/// Where the last of the parts ends when they follow `at` in this order, close together.
fn in_order(text: &str, at: usize, parts: &[String]) -> Option<usize> {
    let mut end = at;
    for part in parts {
        let mut reach = text.len().min(end + PHRASE_GAP);
        while !text.is_char_boundary(reach) {
            reach -= 1;
        }
        let near = text[end..reach].to_ascii_lowercase().find(part.as_str())?;
        end += near + part.len();
    }
    Some(end)
}
