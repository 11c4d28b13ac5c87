//! The shipped rules: data in `rules/*.toml`, one expression each, with examples that are tests.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use regex_automata::meta::Regex;
use regex_automata::util::captures::Captures;
use regex_automata::{Anchored, Input};
use regex_syntax::hir::Hir;
use serde::Deserialize;

use super::checksum::Checksum;
use super::context::{self, Filter};
use super::lane::{self, Lane, Sides};
use crate::finding::{Kind, Severity};

/// The rule files, in the order in which their rules are tried.
pub(crate) const FILES: [&str; 14] = [
    include_str!("rules/standards.toml"),
    include_str!("rules/cloud.toml"),
    include_str!("rules/source.toml"),
    include_str!("rules/ai.toml"),
    include_str!("rules/payments.toml"),
    include_str!("rules/messaging.toml"),
    include_str!("rules/observability.toml"),
    include_str!("rules/databases.toml"),
    include_str!("rules/identity.toml"),
    include_str!("rules/crypto.toml"),
    include_str!("rules/saas.toml"),
    include_str!("rules/data.toml"),
    include_str!("rules/connections.toml"),
    include_str!("rules/passwords.toml"),
];

/// A rule as it is written.
///
/// Either `pattern` is the whole expression, or `name` and `value` are the two sides of an
/// assignment. The group `secret` is what is redacted; without it, the whole match. Where `literals` are
/// given, the rule holds only on a line that has one of them, in any case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    description: String,
    severity: Severity,
    #[serde(default)]
    literals: Vec<String>,
    pattern: Option<String>,
    name: Option<String>,
    value: Option<String>,
    checksum: Option<Checksum>,
    #[serde(default)]
    filter: Filter,
    /// Bits per character that a secret must have.
    entropy: Option<f32>,
    #[cfg_attr(not(test), allow(dead_code, reason = "examples are read by tests"))]
    positive: Vec<String>,
    #[serde(default)]
    #[cfg_attr(not(test), allow(dead_code, reason = "examples are read by tests"))]
    negative: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kind: Kind,
    rule: Vec<Written>,
}

/// A rule that is ready to run.
pub(super) struct LeakRule {
    pub(super) id: Arc<str>,
    pub(super) description: Arc<str>,
    pub(super) kind: Kind,
    severity: Severity,
    pub(super) literals: Vec<String>,
    /// Where the engine looks for it.
    pub(super) lane: Lane,
    /// Bytes of its longest match.
    pub(super) longest: usize,
    /// An operator has to follow the name, with nothing but a word between.
    pub(super) needs_operator: bool,
    /// The whole match is the secret.
    is_whole: bool,
    /// A value without a form of its own that has no digit is a word.
    needs_digit: bool,
    /// Compiled when its key is first seen: most processes meet few of the vendors.
    expression: Lazy,
    tail: Option<Lazy>,
    checksum: Option<Checksum>,
    filter: Filter,
    entropy: f32,
}

/// An expression that is compiled when it is first needed.
struct Lazy {
    syntax: Hir,
    compiled: OnceLock<Option<Regex>>,
}

impl Lazy {
    fn new(syntax: Hir) -> Self {
        Self { syntax, compiled: OnceLock::new() }
    }

    fn regex(&self) -> Option<&Regex> {
        // What a rule's examples did not compile would be found by their test.
        let config = Regex::config().nfa_size_limit(Some(1 << 20)).utf8_empty(false);
        self.compiled
            .get_or_init(|| Regex::builder().configure(config).build_from_hir(&self.syntax).ok())
            .as_ref()
    }
}

/// What became of one match.
pub(super) struct Judged {
    /// Where the next match may begin.
    pub(super) next: usize,
    pub(super) secret: Option<(Range<usize>, Severity)>,
}

/// Reads all rule files.
pub(super) fn shipped() -> Result<Vec<LeakRule>, String> {
    let mut rules = Vec::new();
    for text in FILES {
        rules.extend(read(text)?);
    }
    Ok(rules)
}

/// Reads one rule file.
pub(super) fn read(text: &str) -> Result<Vec<LeakRule>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    file.rule.into_iter().map(|written| LeakRule::new(file.kind, written)).collect()
}

/// The positive and negative examples of every rule, in the order of [`shipped`].
#[cfg(test)]
pub(super) fn examples() -> impl Iterator<Item = (Vec<String>, Vec<String>)> {
    let files = FILES.into_iter().map(|text| toml::from_str::<File>(text).unwrap());
    files.flat_map(|file| file.rule.into_iter().map(|rule| (rule.positive, rule.negative)))
}

impl LeakRule {
    fn new(kind: Kind, written: Written) -> Result<Self, String> {
        let sides = written.name.as_deref().zip(written.value.as_deref());
        let source = match (&written.pattern, sides) {
            (Some(pattern), None) => pattern.clone(),
            (None, Some((name, value))) => assignment(kind, name, value),
            _ => return Err(format!("{}: wants either a pattern or a name and a value", written.id)),
        };
        if written.literals.iter().any(|literal| literal.len() < 3) {
            return Err(format!("{}: wants literals of three bytes or more", written.id));
        }
        let by_value = sides.filter(|_| kind != Kind::Password);
        let by_value = by_value.map(|(name, value)| Sides { name, value });
        let (syntax, compiled) = lane::compile(&source, by_value, &written.literals)
            .map_err(|error| format!("{}: {error}", written.id))?;
        let is_password = kind == Kind::Password;
        Ok(Self {
            needs_operator: is_password && sides.is_some_and(|(name, _)| lane::is_word(name)),
            needs_digit: !is_password && sides.is_some(),
            is_whole: syntax.properties().explicit_captures_len() == 0,
            id: written.id.into(),
            description: written.description.into(),
            kind,
            severity: written.severity,
            literals: written.literals,
            lane: compiled.lane,
            longest: compiled.longest,
            expression: Lazy::new(syntax),
            tail: compiled.tail.map(Lazy::new),
            checksum: written.checksum,
            filter: written.filter,
            entropy: written.entropy.unwrap_or(0.0),
        })
    }

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
        let on_line = |literal: &String| places(line, literal.as_bytes()).next().is_some();
        self.literals.is_empty() || self.literals.iter().any(on_line)
    }

    /// True when a text begins with one of the rule's literals.
    pub(super) fn literal_at(&self, text: &[u8]) -> bool {
        let begins = |literal: &String| {
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

/// Joins the two sides of an assignment as the common languages and formats write it:
/// `name: value`, `"name" = "value"`, `name => 'value'`, `--name value`, `name("value")`.
///
/// A vendor's name alone says too little (a commit of its repository looks like its key), so a word for
/// a credential has to follow it; the name of a password is such a word already.
fn assignment(kind: Kind, name: &str, value: &str) -> String {
    let credential = match kind {
        Kind::Password => r"[\w\-]{0,24}",
        _ => {
            r"[\w.\- ]{0,24}?(?i:key|token|secret|pass|auth|pat|pwd|cred|login|appid|app_id|sid|hec)[\w.\-]{0,16}"
        }
    };
    let opening = r#"[ \t]{0,4}(?:[rbuf@$]?\\?["'`(]){0,2}(?:(?i:bearer|basic|token)[ \t])?"#;
    let between = match kind {
        Kind::Password => {
            format!(r#"(?:(?:[:?.+|]{{0,3}}=>?|:{{1,2}}|=>|>){opening}|[,(][ \t]?[rbu@]?["'])"#)
        }
        _ => format!(r"(?:[:?.+|]{{0,3}}=>?|:{{1,2}}|=>|[,(>]|[ \t]){opening}"),
    };
    // `token: &str = "..."`, `var token string = "..."`.
    let declared = r"(?:[ \t]{0,2}:?[ \t]{0,2}&?(?:'static )?(?i:string|str)\b)?";
    format!(r#"(?i:{name}){credential}["'`\]\\]{{0,3}}{declared}[ \t]{{0,4}}{between}(?P<secret>{value})"#)
}
