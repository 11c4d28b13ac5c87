//! The records that benchmarks write, in as many hands as keep each transaction full.

use audit::Audit;
use types::{Field, Kind, Record, TurnId, Verdict};

/// So many hands record at once, in groups as large as a transaction takes.
const HANDS: usize = 1_000;

/// Records so many.
pub(crate) async fn fill(audit: &Audit, total: usize) {
    let tasks: Vec<_> = (0..HANDS)
        .map(|hand| {
            let audit = audit.clone();
            let share = total / HANDS + usize::from(hand < total % HANDS);
            tokio::spawn(async move {
                for count in 0..share {
                    audit.record(record(count)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Like the record of a decision.
pub(crate) fn record(count: usize) -> Record {
    Record::new(Kind::Request, Verdict::Allow)
        .of_turn(TurnId::new())
        .with(Field::Actor, "tool weather")
        .with(Field::Target, "GET https://api.weather.com/v1/forecast")
        .with(Field::Rule, "policy.grant")
        .with(Field::Count, count)
}
