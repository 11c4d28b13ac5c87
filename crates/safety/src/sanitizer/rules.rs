//! The rule files, read and compiled: sequences of words, expressions behind literals, phrases.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use super::words::{Words, Written};
use crate::finding::Severity;

/// One file for each family of attacks.
pub(super) const FILES: [&str; 8] = [
    include_str!("patterns/words.toml"),
    include_str!("patterns/takeover.toml"),
    include_str!("patterns/personas.toml"),
    include_str!("patterns/tasks.toml"),
    include_str!("patterns/steering.toml"),
    include_str!("patterns/delimiters.toml"),
    include_str!("patterns/ways_out.toml"),
    include_str!("patterns/languages.toml"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    classes: BTreeMap<String, String>,
    #[serde(default)]
    sequence: Vec<WrittenSequence>,
    #[serde(default)]
    pattern: Vec<WrittenPattern>,
    #[serde(default)]
    phrase: Vec<WrittenPhrase>,
}

/// Where a rule counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scope {
    /// Whoever speaks.
    #[default]
    Anywhere,
    /// In data from outside: the owner may give such an order.
    Data,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSequence {
    id: String,
    #[serde(default)]
    scope: Scope,
    severity: Severity,
    reason: String,
    steps: Vec<String>,
    gap: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPattern {
    id: String,
    #[serde(default)]
    scope: Scope,
    severity: Severity,
    reason: String,
    literals: Vec<String>,
    regex: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPhrase {
    id: String,
    #[serde(default)]
    scope: Scope,
    severity: Severity,
    reason: String,
    any: Vec<Vec<String>>,
}

/// What a rule of any form says.
#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) id: Arc<str>,
    pub(super) reason: Arc<str>,
    pub(super) severity: Severity,
    pub(super) scope: Scope,
}

/// An expression that runs where one of its literals stands.
struct Pattern {
    rule: Rule,
    written: String,
    /// Compiled when one of its literals is first seen: most texts hold none.
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    fn regex(&self) -> Option<&Regex> {
        let compile = || RegexBuilder::new(&self.written).case_insensitive(true).build().ok();
        self.compiled.get_or_init(compile).as_ref()
    }
}

/// Parts that stand in one order, close together, in scripts and languages without a word list.
struct Phrase {
    rule: Rule,
    parts: Vec<String>,
}

/// All rules, compiled.
pub(super) struct Rules {
    pub(super) words: Words,
    patterns: Vec<Pattern>,
    phrases: Vec<Phrase>,
    /// The literals of the patterns and the first parts of the phrases: those of ASCII, and the others.
    ascii: Literals,
    wide: Literals,
}

/// Literals in one pass over a text.
#[derive(Default)]
struct Literals {
    texts: Vec<String>,
    wanted_by: Vec<Wanted>,
    /// Made by the first text that may hold one: many processes screen none.
    automaton: OnceLock<Option<AhoCorasick>>,
}

impl Literals {
    /// What finds them; a test holds that it can be built.
    fn automaton(&self) -> Option<&AhoCorasick> {
        let kind = Some(AhoCorasickKind::DFA);
        let build = || AhoCorasick::builder().ascii_case_insensitive(true).kind(kind).build(&self.texts).ok();
        self.automaton.get_or_init(build).as_ref()
    }

    /// Where they stand, and who wants them.
    fn find(&self, text: &str) -> impl Iterator<Item = (Wanted, Range<usize>)> {
        let hits =
            self.automaton().into_iter().flat_map(move |automaton| automaton.find_overlapping_iter(text));
        hits.map(|hit| (self.wanted_by[hit.pattern().as_usize()], hit.range()))
    }
}

#[derive(Clone, Copy)]
enum Wanted {
    Pattern(u16),
    Phrase(u16),
}

/// How far the parts of a phrase may be apart.
const PHRASE_GAP: usize = 96;
/// Places that one expression is taken to in one text, and beginnings of phrases that are followed.
const MOST_PLACES: usize = 256;

impl Rules {
    pub(super) fn new() -> Result<Self, String> {
        let mut classes = Vec::new();
        let (mut sequences, mut patterns, mut phrases) = (Vec::new(), Vec::new(), Vec::new());
        for text in FILES {
            let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
            classes.extend(file.classes);
            sequences.extend(file.sequence);
            patterns.extend(file.pattern);
            phrases.extend(file.phrase);
        }
        let written = sequences.into_iter().map(|sequence| Written {
            rule: Rule {
                id: sequence.id.into(),
                reason: sequence.reason.into(),
                severity: sequence.severity,
                scope: sequence.scope,
            },
            steps: sequence.steps,
            gap: sequence.gap,
        });
        let words = Words::new(&classes, written.collect())?;
        let mut rules = Compiling::default();
        patterns.into_iter().for_each(|pattern| rules.pattern(pattern));
        phrases.into_iter().for_each(|phrase| rules.phrase(phrase));
        let Compiling { patterns, phrases, ascii, wide } = rules;
        Ok(Self { words, patterns, phrases, ascii, wide })
    }

    /// The ids of all rules.
    pub(super) fn ids(&self) -> impl Iterator<Item = Arc<str>> {
        let patterns = self.patterns.iter().map(|pattern| pattern.rule.id.clone());
        let phrases = self.phrases.iter().map(|phrase| phrase.rule.id.clone());
        self.words.ids().chain(patterns).chain(phrases)
    }

    /// Calls `found` for every expression and phrase in a text.
    pub(super) fn find(&self, text: &str, mut found: impl FnMut(&Rule, Range<usize>)) {
        let mut seen = vec![false; self.patterns.len()];
        let mut begun = 0;
        let wide = (!text.is_ascii()).then_some(&self.wide);
        let hits = [Some(&self.ascii), wide].into_iter().flatten().flat_map(|literals| literals.find(text));
        for (wanted, hit) in hits {
            match wanted {
                Wanted::Pattern(index) => {
                    let index = usize::from(index);
                    if !std::mem::replace(&mut seen[index], true) {
                        let pattern = &self.patterns[index];
                        let Some(regex) = pattern.regex() else { continue };
                        let places = regex.find_iter(text).take(MOST_PLACES);
                        places.for_each(|at| found(&pattern.rule, at.range()));
                    }
                }
                Wanted::Phrase(index) if begun < MOST_PLACES => {
                    begun += 1;
                    let phrase = &self.phrases[usize::from(index)];
                    if let Some(end) = in_order(text, hit.end, &phrase.parts[1..]) {
                        found(&phrase.rule, hit.start..end);
                    }
                }
                Wanted::Phrase(_) => {}
            }
        }
    }
}

#[derive(Default)]
struct Compiling {
    patterns: Vec<Pattern>,
    phrases: Vec<Phrase>,
    ascii: Literals,
    wide: Literals,
}

impl Compiling {
    fn literal(&mut self, literal: String, wanted: Wanted) {
        let literals = if literal.is_ascii() { &mut self.ascii } else { &mut self.wide };
        literals.texts.push(literal);
        literals.wanted_by.push(wanted);
    }

    fn pattern(&mut self, written: WrittenPattern) {
        let index = self.patterns.len() as u16;
        for literal in written.literals {
            self.literal(literal, Wanted::Pattern(index));
        }
        let (id, reason) = (written.id.into(), written.reason.into());
        let rule = Rule { id, reason, severity: written.severity, scope: written.scope };
        self.patterns.push(Pattern { rule, written: written.regex, compiled: OnceLock::new() });
    }

    fn phrase(&mut self, written: WrittenPhrase) {
        let (id, reason) = (written.id.into(), written.reason.into());
        let rule = Rule { id, reason, severity: written.severity, scope: written.scope };
        for parts in written.any {
            let Some(first) = parts.first().cloned() else { continue };
            self.literal(first, Wanted::Phrase(self.phrases.len() as u16));
            self.phrases.push(Phrase { rule: rule.clone(), parts });
        }
    }
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

#[cfg(test)]
mod tests {
    #[test]
    fn every_expression_compiles() {
        let rules = super::Rules::new().unwrap();
        assert!(rules.patterns.len() > 15);
        assert!(rules.ascii.automaton().is_some() && rules.wide.automaton().is_some());
        for pattern in &rules.patterns {
            assert!(pattern.regex().is_some(), "{}", pattern.rule.id);
        }
    }
}
