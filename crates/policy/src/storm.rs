//! What one run was refused, counted: no program fills the log, or buries one refusal under many (attack A08).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use types::{Refusal, RefusalId};

use crate::tally::kind;

/// Refusals of one kind that are recorded one by one; after that each doubling of their number is.
const EACH: u64 = 8;

/// Kinds that are told apart. What is asked for is the program's to choose, so their number has to be bounded; beyond it
/// they are counted by rule alone.
const MOST_KINDS: usize = 1024;

/// The refusals of one run.
#[derive(Debug, Default)]
pub(crate) struct Storm(Mutex<HashMap<(&'static str, String), Kind>>);

#[derive(Debug)]
struct Kind {
    count: u64,
    recorded: RefusalId,
}

/// What to do with a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Counted {
    /// Record it: so many like it there were, itself among them.
    Record(u64),
    /// Like one that was recorded before, under this id.
    Like(RefusalId),
}

impl Storm {
    /// Counts a refusal of what was asked, `METHOD HOST:PORT`.
    pub(crate) fn count(&self, refusal: &Refusal, asked: &str) -> Counted {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rule = refusal.rule.id;
        let mut key = (rule, kind(asked).into_owned());
        if kinds.len() >= MOST_KINDS && !kinds.contains_key(&key) {
            key = (rule, String::new());
        }
        let kind = kinds.entry(key).or_insert(Kind { count: 0, recorded: refusal.id });
        kind.count += 1;
        if kind.count > EACH && !kind.count.is_power_of_two() {
            return Counted::Like(kind.recorded);
        }
        kind.recorded = refusal.id;
        Counted::Record(kind.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;

    #[test]
    fn a08_a_storm_of_refusals_is_a_handful_of_records_and_hides_nothing_new() {
        let storm = Storm::default();
        let recorded = |asked: &dyn Fn(u64) -> String, times| {
            let refusal = || Refusal::new(&rules::NOT_ALLOWED, "");
            let counted = (0..times).map(|n| storm.count(&refusal(), &asked(n)));
            counted.filter(|counted| matches!(counted, Counted::Record(_))).count()
        };
        assert_eq!(recorded(&|_| "GET a.example:443".to_owned(), 100_000), 8 + 13);
        // Words of a program's own are one method.
        assert_eq!(recorded(&|n| format!("M{n} c.example:443"), 100_000), 8 + 13);
        // Another place is another refusal, until there are too many of them to tell apart.
        assert_eq!(recorded(&|_| "GET b.example:443".to_owned(), 1), 1);
        assert!(recorded(&|n| format!("GET n{n}.example:443"), 100_000) < 2 * MOST_KINDS);
    }

    #[test]
    fn a08_what_is_not_recorded_is_told_under_the_id_of_what_was() {
        let storm = Storm::default();
        let ids: Vec<_> = (0..20)
            .map(|_| {
                let refusal = Refusal::new(&rules::NOT_ALLOWED, "");
                (refusal.id, storm.count(&refusal, "GET a.example:443"))
            })
            .collect();
        assert_eq!(ids[15].1, Counted::Record(16));
        assert_eq!(ids[17].1, Counted::Like(ids[15].0));
    }
}
