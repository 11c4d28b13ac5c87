//! The record of how a run ended.

use std::time::Duration;

use policy::Settlement;
use types::{Field, Verdict};

use crate::config::Downgrade;
use crate::container::{Ended, Finished, RunError};
use crate::quarantine::Quarantine;
use crate::unfit::Unfit;

/// Paths of quarantined names that a record lists; of more it has the number.
const LISTED: usize = 8;

/// Records the outcome, with what the engine does not hold and the owner accepts.
pub(crate) async fn record(
    settlement: Settlement,
    finished: &Result<Finished, RunError>,
    accepted: &[(Downgrade, Unfit)],
    took: Duration,
) -> Result<(), RunError> {
    let mut fields = vec![(Field::Micros, took.as_micros().to_string())];
    fields.extend(accepted.iter().map(|(given_up, _)| (Field::Downgrade, given_up.as_str().to_owned())));
    let verdict = match finished {
        Ok(finished) => {
            fields.extend(fields_of_names(&finished.quarantine));
            match finished.ended {
                Ended::Exited(code) => {
                    fields.push((Field::Status, code.to_string()));
                    Verdict::Done
                }
                Ended::Stopped(rule) => {
                    fields.push((Field::Rule, rule.id.to_owned()));
                    Verdict::Block
                }
            }
        }
        Err(error) => {
            fields.extend(fields_of(error));
            Verdict::Failed
        }
    };
    settlement.settle(verdict, fields).await?;
    Ok(())
}

/// What a record says of names that were moved.
pub(crate) fn fields_of_names(quarantine: &Quarantine) -> impl Iterator<Item = (Field, String)> {
    let names = quarantine.moved.iter().take(LISTED);
    let count = Some(quarantine.moved.len()).filter(|count| *count > 0);
    let names = names.map(|path| (Field::Path, path.display().to_string()));
    names.chain(count.map(|count| (Field::Count, count.to_string())))
}

/// What a record says of an error.
pub(crate) fn fields_of(error: &RunError) -> Vec<(Field, String)> {
    match error {
        RunError::Refused(refusal) => {
            let mut fields = vec![
                (Field::Rule, refusal.rule.id.to_owned()),
                (Field::Refusal, refusal.id.to_string()),
                (Field::Reason, refusal.detail.clone()),
            ];
            fields.extend(refusal.widen.clone().map(|widen| (Field::Widen, widen)));
            fields
        }
        other => vec![(Field::Reason, other.to_string())],
    }
}
