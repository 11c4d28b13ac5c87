//! The shipped rules: data in `rules/*.toml`, one expression each, with examples that are tests.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::checksum::Checksum;
use super::context::{self, Filter};
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
/// assignment. The group `secret` is what is redacted; without it, the whole match.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    description: String,
    severity: Severity,
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
    /// The literal is a name and says nothing unless something is assigned to it.
    pub(super) needs_operator: bool,
    source: String,
    /// Compiled when its literal is first seen: most processes meet few of the vendors.
    pattern: OnceLock<Option<Regex>>,
    checksum: Option<Checksum>,
    filter: Filter,
    entropy: f32,
}

/// Reads all rule files.
pub(super) fn shipped() -> Result<Vec<LeakRule>, String> {
    let mut rules = Vec::new();
    for text in FILES {
        let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
        for written in file.rule {
            rules.push(LeakRule::new(file.kind, written)?);
        }
    }
    Ok(rules)
}

/// The positive and negative examples of every rule, in the order of [`shipped`].
#[cfg(test)]
pub(super) fn examples() -> impl Iterator<Item = (Vec<String>, Vec<String>)> {
    let files = FILES.into_iter().map(|text| toml::from_str::<File>(text).unwrap());
    files.flat_map(|file| file.rule.into_iter().map(|rule| (rule.positive, rule.negative)))
}

impl LeakRule {
    fn new(kind: Kind, written: Written) -> Result<Self, String> {
        let needs_operator = written.name.is_some();
        let source = match (written.pattern, written.name, written.value) {
            (Some(pattern), None, None) => pattern,
            (None, Some(name), Some(value)) => assignment(kind, &name, &value),
            _ => return Err(format!("{}: wants either a pattern or a name and a value", written.id)),
        };
        if written.literals.iter().any(|literal| literal.len() < 3) || written.literals.is_empty() {
            return Err(format!("{}: wants literals of three bytes or more", written.id));
        }
        Ok(Self {
            id: written.id.into(),
            description: written.description.into(),
            kind,
            severity: written.severity,
            literals: written.literals,
            needs_operator,
            source,
            pattern: OnceLock::new(),
            checksum: written.checksum,
            filter: written.filter,
            entropy: written.entropy.unwrap_or(0.0),
        })
    }

    fn regex(&self) -> Option<&Regex> {
        self.pattern.get_or_init(|| compile(&self.source).ok()).as_ref()
    }

    /// Calls `found` with each secret on a line and its severity.
    pub(super) fn find(&self, line: &[u8], mut found: impl FnMut(Range<usize>, Severity)) {
        let Some(regex) = self.regex() else { return };
        let whole_match = regex.captures_len() == 1;
        let mut at = 0;
        while at <= line.len() {
            let Some(whole) = regex.find_at(line, at) else { return };
            let secret = if whole_match {
                whole.range()
            } else {
                let captures = regex.captures_at(line, at);
                match captures.and_then(|captures| captures.name("secret").map(|group| group.range())) {
                    Some(range) => range,
                    None => whole.range(),
                }
            };
            at = whole.end().max(whole.start() + 1);
            let secret = self.filter.trimmed(line, secret);
            if let Some(severity) = self.weigh(line, &secret) {
                found(secret, severity);
            }
        }
    }

    /// How bad a candidate is, or none when it is no secret.
    fn weigh(&self, line: &[u8], secret: &Range<usize>) -> Option<Severity> {
        let value = &line[secret.clone()];
        if !context::stands_alone(line, secret) || context::entropy(value) < self.entropy {
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

/// Expressions read bytes, know no Unicode classes and never cross a line.
fn compile(source: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source).unicode(false).size_limit(1 << 20).build()
}
