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
//! hardly ever meets, two signals close to each other ([`Thresholds::near`]), or a Medium one that fires only after
//! decoding. Critical is a hidden channel, a forged delimiter, a way out for data, or a High one that fires only
//! after decoding; it alerts. Orders to an assistant ([`Kind::Task`]) count in data from outside alone.
//!
//! What the owner typed is flagged at most, unless `owner = "block"`. A value of the vault blocks
//! wherever anyone but the owner speaks, and no configuration changes that.

mod config;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use types::{Digest, Source, Verdict};

use crate::Channel;
use crate::finding::{Action, Finding, Kind, Severity};
use crate::signal::{Print, Signal};
pub use config::{Allow, Choice, Config, ConfigError, Owner, Thresholds};

/// The compiled configuration.
#[derive(Debug)]
pub(crate) struct Rulebook {
    owner: Owner,
    max_length: usize,
    allow: HashMap<u64, Option<u64>>,
    rules: HashMap<Arc<str>, Choice>,
    attacks: BTreeMap<Severity, Choice>,
    leaks: BTreeMap<Severity, Choice>,
    near: usize,
    generation: u64,
}

/// What a channel and a source make of a list of signals.
pub(crate) struct Judgement {
    pub(crate) verdict: Verdict,
    pub(crate) severity: Severity,
    pub(crate) score: f32,
    pub(crate) findings: Vec<Finding>,
}

impl Judgement {
    /// Cutting the spans that are known is not enough where there are more than are listed.
    pub(crate) fn refuse_cuts(&mut self) {
        let cuts = |finding: &&mut Finding| finding.action == Action::Redact && !finding.kind.is_leak();
        for finding in self.findings.iter_mut().filter(cuts) {
            finding.action = Action::Block;
            self.verdict = Verdict::Block;
        }
    }
}

/// No text is longer than this times the configured length before it is refused unread.
const UNREAD_FACTOR: usize = 16;

impl Rulebook {
    /// Checks a configuration against the ids of the shipped rules. `shipped` is the text of all
    /// rules, for the generation.
    pub(crate) fn new(config: &Config, ids: &[Arc<str>], shipped: &[&[u8]]) -> Result<Self, ConfigError> {
        if !(1 << 10..=16 << 20).contains(&config.max_length) {
            return Err(ConfigError::Length);
        }
        let typed = format!("{config:?}");
        let digest = Digest::of_parts(shipped.iter().copied().chain([typed.as_bytes()]));
        let head = digest.as_bytes().iter().take(8).fold(0, |head, byte| head << 8 | u64::from(*byte));
        Ok(Self {
            owner: config.owner,
            max_length: usize::try_from(config.max_length).map_err(|_| ConfigError::Length)?,
            allow: config::accepted(&config.allow)?,
            rules: config::chosen(&config.rules, ids)?,
            attacks: config.attacks.clone(),
            leaks: config.leaks.clone(),
            near: usize::try_from(config.thresholds.near).unwrap_or(usize::MAX),
            generation: head,
        })
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
                && ![crate::sanitizer::QUOTED, crate::sanitizer::UNREAD].contains(&signal.view)
                && !self.is_allowed(signal.fingerprint)
        };
        let near = |one: &Signal, other: &Signal| {
            one.rule != other.rule
                && one.span.start < other.span.end.saturating_add(self.near)
                && other.span.start < one.span.end.saturating_add(self.near)
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
            kind => self.chosen(signal, channel).unwrap_or_else(|| match kind {
                Kind::Size => for_size(signal.severity, channel),
                kind if kind.is_leak() => for_leak(signal.severity, channel),
                _ => for_attack(signal.severity, channel),
            }),
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

    /// What the owner chose for this rule, or else for its severity.
    fn chosen(&self, signal: &Signal, channel: Channel) -> Option<Action> {
        let by_severity = match signal.kind {
            Kind::Size => None,
            kind if kind.is_leak() => self.leaks.get(&signal.severity),
            _ => self.attacks.get(&signal.severity),
        };
        let on = |choice: Option<&Choice>| choice.and_then(|choice| choice.on(channel));
        on(self.rules.get(&signal.rule)).or_else(|| on(by_severity))
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

/// Days since 1970-01-01.
fn today() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "an allow entry ends with its day")]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs() / 86_400)
}
