//! The shipped rules: data in `rules/*.toml`, compiled with the program, with examples that are tests.
//!
//! What the build makes of them (`build.rs`) is a table in the program's read-only memory: a process that starts
//! pays nothing for a rule that it does not meet. An expression is compiled when its key is first seen.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::checksum::Checksum;
use super::context;
use super::filter::Filter;
use super::lane::{Behind, Key, Lane};
use crate::finding::{Kind, Severity};

/// Text that is part of the program, but for rules of tests.
type Text = Cow<'static, str>;

/// A rule that is ready to run.
pub(super) struct LeakRule {
    pub(super) id: Text,
    pub(super) description: Text,
    pub(super) kind: Kind,
    pub(super) severity: Severity,
    pub(super) literals: Cow<'static, [Text]>,
    /// Where the engine looks for it.
    pub(super) lane: Lane,
    /// Bytes of its longest match.
    pub(super) longest: usize,
    /// One of these has to follow the name, with nothing but a word between, if there are any.
    pub(super) operators: Cow<'static, [u8]>,
    /// What every match has behind its key.
    pub(super) behind: Behind,
    /// The whole match is the secret.
    pub(super) is_whole: bool,
    /// A value without a form of its own that has no digit is a word.
    pub(super) needs_digit: bool,
    pub(super) expression: Lazy,
    /// The part of the expression that begins with the key, where a match begins before it.
    pub(super) tail: Option<Lazy>,
    pub(super) checksum: Option<Checksum>,
    pub(super) filter: context::Filter,
    pub(super) entropy: f32,
}

include!(concat!(env!("OUT_DIR"), "/leak_rules.rs"));

/// An expression that is compiled when it is first needed, once for the whole process.
pub(super) struct Lazy {
    source: Text,
    compiled: OnceLock<Option<Regex>>,
}

impl Lazy {
    pub(super) const fn new(source: Text) -> Self {
        Self { source, compiled: OnceLock::new() }
    }

    fn regex(&self) -> Option<&Regex> {
        // Expressions read bytes and know no Unicode classes. What a rule's examples did not compile would be found
        // by their test.
        let syntax = syntax::Config::new().unicode(false).utf8(false);
        let config = Regex::config().nfa_size_limit(Some(1 << 20)).utf8_empty(false);
        self.compiled
            .get_or_init(|| Regex::builder().syntax(syntax).configure(config).build(&self.source).ok())
            .as_ref()
    }
}

/// What became of one match.
pub(super) struct Judged {
    /// Where the next match may begin.
    pub(super) next: usize,
    pub(super) secret: Option<(Range<usize>, Severity)>,
}

impl LeakRule {
    /// Calls `found` with each secret on a line and its severity: the slow way, from one end to the other.
    pub(super) fn find(&self, line: &[u8], mut found: impl FnMut(Range<usize>, Severity)) {
        let Some(regex) = self.expression.regex() else { return };
        let mut at = 0;
        while let Some(whole) = regex.find(Input::new(line).range(at..)) {
            let judged = self.judge(line, whole.range());
            at = judged.next;
            if let Some((secret, severity)) = judged.secret {
                found(secret, severity);
            }
        }
    }

    #[cfg(test)]
    pub(super) fn compiles(&self) -> bool {
        self.expression.regex().is_some() && self.tail.as_ref().is_none_or(|tail| tail.regex().is_some())
    }

    /// The match that begins at `at`.
    pub(super) fn match_at(&self, line: &[u8], at: usize) -> Option<Range<usize>> {
        let span = at..line.len().min(at + self.longest);
        let whole = self.expression.regex()?.find(Input::new(line).range(span).anchored(Anchored::Yes))?;
        Some(whole.range())
    }

    /// The first match from `from` on.
    pub(super) fn match_from(&self, line: &[u8], from: usize) -> Option<Range<usize>> {
        Some(self.expression.regex()?.find(Input::new(line).range(from..))?.range())
    }

    /// The first match from `from` on that begins at `key` or before.
    pub(super) fn match_around(&self, line: &[u8], from: usize, key: usize) -> Option<Range<usize>> {
        let end = line.len().min(key + self.longest);
        if let Some(tail) = &self.tail {
            tail.regex()?.search_half(&Input::new(line).range(key..end).anchored(Anchored::Yes))?;
        }
        let whole = self.expression.regex()?.find(Input::new(line).range(from..end))?;
        (whole.start() <= key).then(|| whole.range())
    }

    /// Weighs a match. Where the whole of it is the secret and its beginning is the middle of a word, the
    /// next one may begin inside it.
    pub(super) fn judge(&self, line: &[u8], whole: Range<usize>) -> Judged {
        // Up to its first byte, so that only what stands before it counts.
        let first = whole.start..whole.start + 1;
        if self.is_whole && !context::stands_alone(&line[..first.end], &first) {
            return Judged { next: first.end, secret: None };
        }
        let secret = if self.is_whole { whole.clone() } else { self.secret(line, whole.clone()) };
        let secret = self.filter.trimmed(line, secret);
        let severity = self.weigh(line, &secret);
        Judged { next: whole.end.max(whole.start + 1), secret: severity.map(|severity| (secret, severity)) }
    }

    /// The group `secret` of a match.
    fn secret(&self, line: &[u8], whole: Range<usize>) -> Range<usize> {
        let Some(regex) = self.expression.regex() else { return whole };
        let mut captures: Captures = regex.create_captures();
        let input = Input::new(line).range(whole.clone()).anchored(Anchored::Yes);
        regex.search_captures(&input, &mut captures);
        captures.get_group_by_name("secret").map_or(whole, |group| group.range())
    }

    /// How bad a candidate is, or none when it is no secret.
    fn weigh(&self, line: &[u8], secret: &Range<usize>) -> Option<Severity> {
        let value = &line[secret.clone()];
        if !context::stands_alone(line, secret) || context::entropy(value) < self.entropy {
            return None;
        }
        if self.needs_digit && !value.iter().any(u8::is_ascii_digit) {
            return None;
        }
        if self.checksum.is_some_and(|checksum| checksum.holds(value)) {
            return Some(if self.kind == Kind::VendorToken && self.severity == Severity::High {
                Severity::Critical
            } else {
                self.severity
            });
        }
        self.filter.passes(line, secret).then_some(self.severity)
    }

    /// True when a line has one of the rule's literals, or it needs none.
    pub(super) fn literal_on(&self, line: &[u8]) -> bool {
        let on_line = |literal: &Text| places(line, literal.as_bytes()).next().is_some();
        self.literals.is_empty() || self.literals.iter().any(on_line)
    }

    /// True when a text begins with one of the rule's literals.
    pub(super) fn literal_at(&self, text: &[u8]) -> bool {
        let begins = |literal: &Text| {
            text.get(..literal.len()).is_some_and(|head| head.eq_ignore_ascii_case(literal.as_bytes()))
        };
        self.literals.iter().any(begins)
    }
}

/// Where `text` has `literal` in any case.
fn places(text: &[u8], literal: &[u8]) -> impl Iterator<Item = usize> {
    let (lower, upper) = (literal[0].to_ascii_lowercase(), literal[0].to_ascii_uppercase());
    let last = text.len().saturating_sub(literal.len() - 1);
    memchr::memchr2_iter(lower, upper, &text[..last])
        .filter(move |at| text[*at..*at + literal.len()].eq_ignore_ascii_case(literal))
}

/// Rules that are not in the program: of tests and of fuzz targets.
#[cfg(any(test, fuzzing))]
mod written {
    use serde::Deserialize;
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error, StrDeserializer};

    use super::super::rule_file::{RuleFile, Written};
    use super::*;

    /// Reads one rule file.
    pub(crate) fn read(text: &str) -> Result<Vec<LeakRule>, String> {
        let file = RuleFile::read(text)?;
        file.rule.into_iter().map(|rule| ready(&file.kind, rule)).collect()
    }

    fn ready(kind: &str, rule: Written) -> Result<LeakRule, String> {
        let made = rule.compile(kind)?;
        Ok(LeakRule {
            kind: word(kind)?,
            severity: word(&rule.severity)?,
            checksum: rule.checksum.as_deref().map(word).transpose()?,
            filter: word(&rule.filter)?,
            id: rule.id.into(),
            description: rule.description.into(),
            literals: rule.literals.into_iter().map(Cow::Owned).collect(),
            lane: made.compiled.lane,
            longest: made.compiled.longest,
            operators: made.compiled.operators.into(),
            behind: made.compiled.behind,
            is_whole: made.compiled.is_whole,
            needs_digit: made.needs_digit,
            expression: Lazy::new(made.source.into()),
            tail: made.compiled.tail.map(|tail| Lazy::new(tail.into())),
            entropy: rule.entropy,
        })
    }

    fn word<'a, T: Deserialize<'a>>(word: &'a str) -> Result<T, String> {
        let deserializer: StrDeserializer<'a, Error> = word.into_deserializer();
        T::deserialize(deserializer).map_err(|error| error.to_string())
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) use written::read;
