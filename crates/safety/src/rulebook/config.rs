//! What the owner may say about screening: the `[safety]` table of the configuration.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use types::limits;

use crate::Channel;
use crate::finding::{Action, Severity};

/// The `[safety]` table.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What happens to text that the owner typed when a rule would block it.
    pub owner: Owner,
    /// Bytes of one text; longer ones are cut, and refused where cutting would change their meaning.
    pub max_length: u64,
    /// Findings that are known and accepted.
    pub allow: Vec<Allow>,
    /// Another action for a rule, by its id: `github-pat = "warn"`. Goes before the severities.
    pub rules: BTreeMap<String, Choice>,
    /// Another action for attacks of a severity: `high = "redact"` cuts the dangerous span out.
    pub attacks: BTreeMap<Severity, Choice>,
    /// Another action for leaks of a severity; a value of the vault blocks whatever stands here.
    pub leaks: BTreeMap<Severity, Choice>,
    /// When signals count.
    pub thresholds: Thresholds,
}

/// One action wherever text flows, or one for each channel that is named: `{ reply = "block" }`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected allow, warn, flag, redact or block, or a table of these by input, result, arguments, reply, outbound, response, description or log"
)]
pub enum Choice {
    /// On every channel.
    Everywhere(Action),
    /// On these channels; on the others the shipped action.
    On(BTreeMap<Channel, Action>),
}

impl Choice {
    /// The action on a channel, if one is chosen.
    pub(super) fn on(&self, channel: Channel) -> Option<Action> {
        match self {
            Self::Everywhere(action) => Some(*action),
            Self::On(channels) => channels.get(&channel).copied(),
        }
    }
}

/// When signals count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Thresholds {
    /// Bytes between two Medium signals that still speak of one thing and are High together. An attack is a
    /// paragraph; two faint signals at the two ends of a manual have nothing to do with each other.
    pub near: u64,
    /// Percent of a stretch of text that special characters must make up to be noted; over 100 is never.
    pub special_characters: u8,
    /// What is added to the model's threshold, in its own units: over 0 it speaks less often, below 0 more.
    pub model_margin: i32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { near: 1024, special_characters: 50, model_margin: 0 }
    }
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

impl Config {
    /// The accepted findings whose last day is over: each fires again, as if there were no entry.
    pub fn ended(&self) -> impl Iterator<Item = &Allow> {
        let is_over =
            |allow: &&Allow| allow.until.as_deref().and_then(days).is_some_and(|last| last < super::today());
        self.allow.iter().filter(is_over)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            owner: Owner::Flag,
            max_length: limits::MAX_INPUT.0,
            allow: Vec::new(),
            rules: BTreeMap::new(),
            attacks: BTreeMap::new(),
            leaks: BTreeMap::new(),
            thresholds: Thresholds::default(),
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

/// The accepted fingerprints, each with the last day it holds, counted from 1970-01-01.
pub(super) fn accepted(entries: &[Allow]) -> Result<HashMap<u64, Option<u64>>, ConfigError> {
    let mut allow = HashMap::new();
    for (number, entry) in (1..).zip(entries) {
        let plain = entry.fingerprint.len() == 16;
        let print = u64::from_str_radix(&entry.fingerprint, 16).ok().filter(|_| plain);
        let print = print.ok_or(ConfigError::Fingerprint(number))?;
        let until = entry.until.as_deref().map(|day| days(day).ok_or(ConfigError::Date(number)));
        allow.insert(print, until.transpose()?);
    }
    Ok(allow)
}

/// The chosen actions under the ids of shipped rules.
pub(super) fn chosen(
    rules: &BTreeMap<String, Choice>,
    ids: &[Arc<str>],
) -> Result<HashMap<Arc<str>, Choice>, ConfigError> {
    let mut actions = HashMap::new();
    for (number, (id, choice)) in (1..).zip(rules) {
        let Some(id) = ids.iter().find(|known| ***known == **id) else {
            return Err(ConfigError::Rule { number, nearest: nearest(id, ids) });
        };
        actions.insert(id.clone(), choice.clone());
    }
    Ok(actions)
}

/// The id that shares the longest beginning with `given`, then the one with the nearest length.
fn nearest(given: &str, ids: &[Arc<str>]) -> Arc<str> {
    let shared = |id: &str| id.bytes().zip(given.bytes()).take_while(|(a, b)| a == b).count();
    let best = ids.iter().max_by_key(|id| (shared(id), usize::MAX - id.len().abs_diff(given.len())));
    best.cloned().unwrap_or_else(|| "".into())
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
