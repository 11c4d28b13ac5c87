//! What one run was refused, for its owner when it is over, and the values of keys that came up in it.
//!
//! A record explains each refusal, but a program often hides that there was one: of an answer to `CONNECT` curl, pip and
//! git show nothing. So the kinds of refusals are counted here. What the leak detector stopped is told at once, and the
//! third value of a key ends the use of keys in the run: what looks like a mistake can be a program that guesses
//! (attacks C21, M05).

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use safety::finding::KNOWN_VALUE;
use tokio::sync::mpsc::UnboundedSender;
use types::{Field, Record, Verdict};

/// Kinds that are told apart; what is asked for is the program's to choose.
const MOST_KINDS: usize = 64;

/// Leaks of one run that are told as they happen.
const MOST_TOLD: usize = 16;

/// Values of keys that came up, after which the run uses none any more.
const MOST_VALUES: u32 = 3;

/// Refusals of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The rule, by its id.
    pub rule: String,
    /// What was asked, `METHOD HOST:PORT`, with `?` for a method that nobody defined; empty where it could not be read or must not be repeated.
    pub asked: String,
    /// How many there were.
    pub count: u64,
    /// The newest that is on the record, for `ironclaw policy explain`.
    pub id: String,
}

/// A leak that was stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leak {
    /// The rule that stopped it, by its id.
    pub rule: String,
    /// What was found, in fixed words, numbers and parsed names.
    pub reason: String,
}

/// Methods that are told apart: those of RFC 9110 and RFC 5789, and of WebDAV (RFC 4918), as git and its kin use it.
const METHODS: [&str; 16] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "PROPFIND",
    "PROPPATCH",
    "MKCOL",
    "COPY",
    "MOVE",
    "LOCK",
    "UNLOCK",
];

/// What was asked, `METHOD HOST:PORT`, as it is counted and shown: a method that a program made up is `?`, whatever it is
/// and however long.
pub(crate) fn kind(asked: &str) -> Cow<'_, str> {
    match asked.split_once(' ') {
        Some((method, rest)) if !METHODS.contains(&method) => Cow::Owned(format!("? {rest}")),
        _ => Cow::Borrowed(asked),
    }
}

#[derive(Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    kinds: BTreeMap<(String, String), Refused>,
    more: u64,
    values: u32,
    told: BTreeSet<(String, String)>,
    alarm: Option<UnboundedSender<Leak>>,
}

impl Tally {
    /// Tells of leaks from here on.
    pub(crate) fn alarm(&self, alarm: UnboundedSender<Leak>) {
        self.counts().alarm = Some(alarm);
    }

    /// Counts a refusal.
    pub(crate) fn note(&self, rule: &str, asked: &str, id: &str, reason: &str) {
        let mut counts = self.counts();
        let kind = (rule.to_owned(), kind(asked).into_owned());
        counts.values += u32::from(rule == KNOWN_VALUE.id);
        if rule.starts_with("leaks.") && counts.told.len() < MOST_TOLD && counts.told.insert(kind.clone()) {
            let leak = Leak { rule: rule.to_owned(), reason: reason.to_owned() };
            // Nobody may listen any more.
            counts.alarm.as_ref().map(|alarm| alarm.send(leak));
        }
        if counts.kinds.len() >= MOST_KINDS && !counts.kinds.contains_key(&kind) {
            counts.more += 1;
            return;
        }
        let first = Refused { rule: kind.0.clone(), asked: kind.1.clone(), count: 0, id: String::new() };
        let refused = counts.kinds.entry(kind).or_insert(first);
        refused.count += 1;
        id.clone_into(&mut refused.id);
    }

    /// True when values of keys came up so often that no key is used any more.
    pub(crate) fn is_spent(&self) -> bool {
        self.counts().values >= MOST_VALUES
    }

    /// The kinds, the most frequent first, and how many refusals there were of others.
    pub(crate) fn kinds(&self) -> (Vec<Refused>, u64) {
        let counts = self.counts();
        let mut kinds: Vec<Refused> = counts.kinds.values().cloned().collect();
        kinds.sort_by_key(|kind| std::cmp::Reverse(kind.count));
        (kinds, counts.more)
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who counts what becomes of one permitted request.
pub(crate) struct Counted {
    pub(crate) tally: Arc<Tally>,
    /// `METHOD HOST:PORT`.
    pub(crate) asked: String,
}

impl Counted {
    /// Counts a request that was refused after it had been permitted: on its way out, or for what came back.
    pub(crate) fn settled(&self, record: &Record) {
        let text = |field| record.field(field).unwrap_or_default();
        if record.verdict == Verdict::Block {
            let (rule, id, reason) = (text(Field::Rule), text(Field::Refusal), text(Field::Reason));
            self.tally.note(rule, &self.asked, id, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_counted_and_bounded() {
        let tally = Tally::default();
        (0..3).for_each(|n| tally.note("policy.not-allowed", "GET a.example:443", &n.to_string(), ""));
        tally.note("policy.not-allowed", "GET b.example:443", "b", "");
        let (kinds, more) = tally.kinds();
        assert_eq!((kinds.len(), kinds[0].count, &*kinds[0].id, more), (2, 3, "2", 0));
        (0..1000).for_each(|n| tally.note("policy.not-allowed", &format!("GET n{n}.example:443"), "x", ""));
        let (kinds, more) = tally.kinds();
        assert_eq!((kinds.len(), more), (MOST_KINDS, 1000 - 62));
    }

    #[test]
    fn a08_methods_of_a_programs_own_are_one_kind() {
        let tally = Tally::default();
        for n in 0..1500 {
            let asked = format!("{n}{} a.example:443", "M".repeat(58_000));
            tally.note("policy.not-allowed", &asked, "x", "");
        }
        tally.note("policy.not-allowed", "PATCH a.example:443", "x", "");
        let (kinds, more) = tally.kinds();
        let told: Vec<(&str, u64)> = kinds.iter().map(|kind| (&*kind.asked, kind.count)).collect();
        assert_eq!((told, more), (vec![("? a.example:443", 1500), ("PATCH a.example:443", 1)], 0));
    }

    #[test]
    fn c21_m05_leaks_are_told_once_each_and_the_third_value_is_the_last() {
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let tally = Tally::default();
        tally.alarm(sender);
        for n in 1..=3 {
            assert!(!tally.is_spent(), "{n}");
            tally.note("leaks.known-value", "GET a.example:443", "x", "a value of the vault, KEY");
        }
        assert!(tally.is_spent());
        tally.note("leaks.token", "GET a.example:443", "x", "a token");
        let rules: Vec<String> = std::iter::from_fn(|| told.try_recv().ok()).map(|leak| leak.rule).collect();
        assert_eq!(rules, ["leaks.known-value", "leaks.token"]);
    }
}
