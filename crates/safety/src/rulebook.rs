//! From findings to actions: severities, channels, what the owner configured.
//!
//! | | untrusted text to the model | anything to a person or guest | arguments, outbound |
//! |---|---|---|---|
//! | attack, Low | warn | warn | - |
//! | attack, Medium | flag | flag | flag |
//! | attack, High and Critical | block | flag | flag |
//! | leak, Low | warn | warn | warn |
//! | leak, Medium | redact | redact | flag |
//! | leak, High | redact | redact | block |
//! | leak, Critical | block | block | block |
//!
//! Medium is one rule, the model, or characters that do not belong in text. High is a rule that honest text
//! hardly ever meets, two signals within [`NEAR`] bytes of each other, or a Medium one that fires only after
//! decoding. Critical is a hidden channel, a forged delimiter, a way out for data, or a High one that fires only
//! after decoding; it alerts. Orders to an assistant ([`Kind::Task`]) count in data from outside alone.
//!
//! What the owner typed is flagged at most, unless `owner = "block"`. A value of the vault blocks
//! wherever anyone but the owner speaks, and no configuration changes that.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use types::{Digest, Source, Verdict, limits};

use crate::Channel;
use crate::finding::{Action, Finding, Kind, Severity};
use crate::signal::{Print, Signal};

/// What the owner may say about screening: the `[safety]` table of the configuration.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What happens to text that the owner typed when a rule would block it.
    pub owner: Owner,
    /// Bytes of one text; longer ones are cut, and refused where cutting would change their meaning.
    pub max_length: u64,
    /// Findings that are known and accepted.
    pub allow: Vec<Allow>,
    /// Another action for a rule, by its id: `github-pat = "warn"`.
    pub rules: BTreeMap<String, Action>,
}

/// How the owner's own words are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// Findings are marked; the text passes as it was typed.
    #[default]
    Flag,
    /// The owner's words are treated like anyone's.
    Block,
}

/// One accepted finding.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow {
    /// As the finding showed it: 16 hexadecimal digits.
    pub fingerprint: String,
    /// The last day it holds, `YYYY-MM-DD` in UTC; without it, for good.
    #[serde(default)]
    pub until: Option<String>,
    /// Why, for whoever reads the configuration.
    #[serde(default)]
    pub reason: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            owner: Owner::Flag,
            max_length: limits::MAX_INPUT.0,
            allow: Vec::new(),
            rules: BTreeMap::new(),
        }
    }
}

/// Why a configuration was refused. Entries are named by their number, counted from 1.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// A fingerprint that no finding can have.
    #[error("safety.allow: the fingerprint of entry {0} is not 16 hexadecimal digits")]
    Fingerprint(usize),
    /// A day that does not exist.
    #[error("safety.allow: the last day of entry {0} is not a date like 2027-01-31")]
    Date(usize),
    /// A rule that is not shipped.
    #[error("safety.rules: entry {number} names no rule; the nearest is `{nearest}`")]
    Rule {
        /// Its place in the table, in alphabetical order.
        number: usize,
        /// The shipped rule whose id is most alike.
        nearest: Arc<str>,
    },
    /// A length under 1 KiB or over 16 MiB.
    #[error("safety.max_length is not between 1 KiB and 16 MiB")]
    Length,
    /// The shipped rules do not compile; a defect of this build.
    #[error("the shipped rules are broken: {0}")]
    Shipped(String),
}

/// The compiled configuration.
#[derive(Debug)]
pub(crate) struct Rulebook {
    owner: Owner,
    max_length: usize,
    allow: HashMap<u64, Option<u64>>,
    actions: HashMap<Arc<str>, Action>,
    generation: u64,
}

/// What a channel and a source make of a list of signals.
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) severity: Severity,
    pub(crate) score: f32,
    pub(crate) findings: Vec<Finding>,
}

/// No text is longer than this times the configured length before it is refused unread.
const UNREAD_FACTOR: usize = 16;

/// Bytes between two signals that speak of one thing. An attack is a paragraph; two faint signals at the
/// two ends of a manual have nothing to do with each other.
const NEAR: usize = 1024;

impl Rulebook {
    /// Checks a configuration against the ids of the shipped rules. `shipped` is the text of all
    /// rules, for the generation.
    pub(crate) fn new(config: &Config, ids: &[Arc<str>], shipped: &[&[u8]]) -> Result<Self, ConfigError> {
        if !(1 << 10..=16 << 20).contains(&config.max_length) {
            return Err(ConfigError::Length);
        }
        let mut allow = HashMap::new();
        for (number, entry) in (1..).zip(&config.allow) {
            let plain = entry.fingerprint.len() == 16;
            let print = u64::from_str_radix(&entry.fingerprint, 16).ok().filter(|_| plain);
            let print = print.ok_or(ConfigError::Fingerprint(number))?;
            let until = entry.until.as_deref().map(|day| days(day).ok_or(ConfigError::Date(number)));
            allow.insert(print, until.transpose()?);
        }
        let mut actions = HashMap::new();
        for (number, (id, action)) in (1..).zip(&config.rules) {
            let Some(id) = ids.iter().find(|known| ***known == **id) else {
                return Err(ConfigError::Rule { number, nearest: nearest(id, ids) });
            };
            actions.insert(id.clone(), *action);
        }
        let typed = format!("{config:?}");
        let digest = Digest::of_parts(shipped.iter().copied().chain([typed.as_bytes()]));
        let head = digest.as_bytes().iter().take(8).fold(0, |head, byte| head << 8 | u64::from(*byte));
        let max_length = usize::try_from(config.max_length).map_err(|_| ConfigError::Length)?;
        Ok(Self { owner: config.owner, max_length, allow, actions, generation: head })
    }

    /// Names this set of rules and settings.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// Bytes after which a text is cut.
    pub(crate) fn max_length(&self) -> usize {
        self.max_length
    }

    /// Bytes after which a text is refused without being read.
    pub(crate) fn max_read(&self) -> usize {
        self.max_length.saturating_mul(UNREAD_FACTOR)
    }

    /// Decides about every signal.
    pub(crate) fn judge(&self, mut signals: Vec<Signal>, channel: Channel, source: &Source) -> Judgement {
        self.combine(&mut signals);
        let mut severity = Severity::None;
        let mut strongest = Action::Allow;
        let mut doubt = 1.0f32;
        let mut findings = Vec::with_capacity(signals.len());
        for signal in signals {
            let action = self.action(&signal, channel, source);
            if action > Action::Allow {
                severity = severity.max(signal.severity);
                strongest = strongest.max(action);
                doubt *= 1.0 - signal.weight();
            }
            findings.push(signal.into_finding(action));
        }
        findings.sort_by_key(|finding| (finding.span.start, finding.span.end));
        Judgement { verdict: strongest.into(), severity, score: 1.0 - doubt, findings }
    }

    /// Two attack rules that are Medium each and stand close together are High together.
    fn combine(&self, signals: &mut [Signal]) {
        let counts = |signal: &Signal| {
            matches!(signal.kind, Kind::Injection | Kind::Task)
                && signal.severity == Severity::Medium
                && signal.view != crate::sanitizer::QUOTED
                && !self.is_allowed(signal.fingerprint)
        };
        let near = |one: &Signal, other: &Signal| {
            one.rule != other.rule
                && one.span.start < other.span.end + NEAR
                && other.span.start < one.span.end + NEAR
        };
        let medium: Vec<usize> = (0..signals.len()).filter(|at| counts(&signals[*at])).collect();
        let joined: Vec<usize> = medium
            .iter()
            .copied()
            .filter(|at| medium.iter().any(|other| near(&signals[*at], &signals[*other])))
            .collect();
        joined.into_iter().for_each(|at| signals[at].severity = Severity::High);
    }

    /// Decides about one signal.
    pub(crate) fn action(&self, signal: &Signal, channel: Channel, source: &Source) -> Action {
        let owners_word = self.leaves_alone(channel, source);
        let usual = match signal.kind {
            Kind::KnownValue if owners_word => return Action::Flag,
            Kind::KnownValue => return Action::Block,
            _ if self.is_allowed(signal.fingerprint) => return Action::Allow,
            kind => match self.actions.get(&signal.rule) {
                Some(configured) => *configured,
                None if kind.is_leak() => for_leak(signal.severity, channel),
                None if kind == Kind::Size => for_size(signal.severity, channel),
                None => for_attack(signal.severity, channel),
            },
        };
        let unread = signal.kind == Kind::Size && signal.severity >= Severity::High;
        if owners_word && !unread {
            return usual.min(Action::Flag);
        }
        match usual {
            Action::Redact if !channel.can_alter() => Action::Block,
            other => other,
        }
    }

    /// True for the owner's own words, which are flagged at most and never altered.
    pub(crate) fn leaves_alone(&self, channel: Channel, source: &Source) -> bool {
        *source == Source::Owner && channel == Channel::Input && self.owner == Owner::Flag
    }

    fn is_allowed(&self, fingerprint: Print) -> bool {
        let holds = |print| match self.allow.get(&print) {
            None => false,
            Some(None) => true,
            Some(Some(last)) => today() <= *last,
        };
        holds(fingerprint.shown) || holds(fingerprint.open)
    }
}

fn for_leak(severity: Severity, channel: Channel) -> Action {
    match severity {
        Severity::None | Severity::Low => Action::Warn,
        Severity::Medium if channel.can_alter() => Action::Redact,
        Severity::Medium => Action::Flag,
        Severity::High if channel.can_alter() => Action::Redact,
        Severity::High | Severity::Critical => Action::Block,
    }
}

fn for_attack(severity: Severity, channel: Channel) -> Action {
    let to_model = matches!(channel, Channel::Input | Channel::Result | Channel::Description);
    match severity {
        Severity::None | Severity::Low => Action::Warn,
        Severity::Medium => Action::Flag,
        Severity::High | Severity::Critical if to_model => Action::Block,
        Severity::High | Severity::Critical => Action::Flag,
    }
}

fn for_size(severity: Severity, channel: Channel) -> Action {
    match severity {
        Severity::Low if channel.can_alter() => Action::Warn,
        _ => Action::Block,
    }
}

/// Days since 1970-01-01 of a date `YYYY-MM-DD` in the Gregorian calendar.
fn days(date: &str) -> Option<u64> {
    let bytes = date.as_bytes();
    if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<u64> {
        let part = bytes.get(range)?;
        part.iter().all(u8::is_ascii_digit).then(|| part.iter().fold(0, |n, b| n * 10 + u64::from(b - b'0')))
    };
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let this_month = *lengths.get(usize::try_from(month).ok()?.checked_sub(1)?)?;
    if year < 1970 || day == 0 || day > this_month {
        return None;
    }
    let years: u64 = (1970..year).map(|year| if leap(year) { 366 } else { 365 }).sum();
    let months: u64 = lengths.iter().take(usize::try_from(month).ok()? - 1).sum();
    Some(years + months + day - 1)
}

/// Days since 1970-01-01.
fn today() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "an allow entry ends with its day")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs() / 86_400)
}

/// The id that shares the longest beginning with `given`, then the one with the nearest length.
fn nearest(given: &str, ids: &[Arc<str>]) -> Arc<str> {
    let shared = |id: &str| id.bytes().zip(given.bytes()).take_while(|(a, b)| a == b).count();
    let best = ids.iter().max_by_key(|id| (shared(id), usize::MAX - id.len().abs_diff(given.len())));
    best.cloned().unwrap_or_else(|| "".into())
}
