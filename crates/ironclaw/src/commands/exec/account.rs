//! The account of a run, for programs: how it ended, and the record of everything that it asked for.

use ::audit::Log;
use container::{Ended, Finished};
use policy::{Refused, Turn};
use serde_json::{Value, json};

use super::moved;
use crate::commands::audit;
use crate::exit::{Failure, Outcome};
use crate::parts::Base;
use crate::terminal::Terminal;

/// Records that are told, and names that were moved; of more only the number is. `ironclaw audit tail` has all of the one,
/// the quarantine all of the other.
const TOLD: usize = 1000;

/// Records that are read at a time.
const PAGE: u32 = 1000;

/// The last record so far, which is before those of a run that begins now.
pub async fn last_record(base: &Base) -> Result<u64, Failure> {
    let tail = Log::new(base.reader.clone()).tail(1).await.map_err(audit::broken)?;
    Ok(tail.first().map_or(0, |entry| entry.seq))
}

/// Prints the account as one object, after the lines of the output.
pub async fn tell(
    (finished, (refused, refused_more)): (Result<&Finished, &Failure>, &(Vec<Refused>, u64)),
    turn: &Turn,
    before: u64,
    base: &Base,
    terminal: &Terminal,
) -> Outcome {
    let mut ended = match finished {
        Ok(Finished { ended, quarantine }) => {
            let mut object = match ended {
                Ended::Exited(code) => json!({ "ended": "exited", "code": code }),
                Ended::Stopped(rule) => json!({ "ended": "stopped", "rule": rule.id }),
            };
            let is_there = !quarantine.moved.is_empty();
            object["quarantine"] = is_there.then_some(quarantine.folder.as_str()).into();
            object["quarantined"] = moved::names(quarantine, TOLD, base).into();
            object["quarantined_more"] = quarantine.moved.len().saturating_sub(TOLD).into();
            object
        }
        Err(_) => json!({ "ended": "refused" }),
    };
    ended["refused"] = refused.iter().map(object).collect();
    ended["refused_more"] = (*refused_more).into();
    let (records, more) = records(turn, before, base).await?;
    ended["turn"] = turn.id().to_string().into();
    ended["records"] = records.into();
    ended["more"] = more.into();
    terminal.json(&ended);
    Ok(())
}

fn object(Refused { rule, asked, count, id }: &Refused) -> Value {
    json!({ "rule": rule, "asked": asked, "count": count, "refusal": id })
}

/// The records of the run, in order, and how many more there are.
async fn records(turn: &Turn, before: u64, base: &Base) -> Result<(Vec<Value>, usize), Failure> {
    let log = Log::new(base.reader.clone());
    let (mut told, mut more, mut after) = (Vec::new(), 0, before);
    loop {
        let page = log.after(after, PAGE).await.map_err(audit::broken)?;
        let Some(last) = page.last() else { return Ok((told, more)) };
        after = last.seq;
        for entry in page.iter().filter(|entry| entry.record.turn == Some(turn.id())) {
            match told.len() < TOLD {
                true => told.push(audit::object(entry, &base.safety)),
                false => more += 1,
            }
        }
    }
}
