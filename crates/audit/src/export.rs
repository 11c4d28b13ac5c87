//! How far the records were handed to a collector: the log says so itself, by what its records claim.
//!
//! So the log is the spool of the export, and this is all that is kept of it beside: no file that could fill up, be
//! lost, or disagree. Of several processes that hand over the same records one makes the claim.

use types::{Digest, Field, Kind, Record, Verdict};

use crate::log::Log;
use crate::verify::Broken;

/// Records that a collector has taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handed {
    /// The collector, by the digest of its address.
    pub collector: Digest,
    /// The last one's number; all before it were handed over, too.
    pub last: u64,
    /// How many it has taken.
    pub taken: u64,
    /// How many it has refused to take.
    pub refused: u64,
    /// How many were in an archive before anybody handed them over.
    pub archived: u64,
    /// How many went without their fields, since these held what may not leave.
    pub withheld: u64,
}

impl Handed {
    /// The record that tells of it.
    pub fn record(&self) -> Record {
        let Self { collector, last, taken, refused, archived, withheld } = self;
        let whole = refused + archived + withheld == 0;
        let record = Record::new(Kind::Export, if whole { Verdict::Done } else { Verdict::Warn })
            .with(Field::Actor, types::Caller::Log)
            .with(Field::Count, taken)
            .with(Field::Claim, format!("{}{last:020}", range(collector).0));
        if whole {
            return record;
        }
        record.with(
            Field::Reason,
            format_args!("{refused} not taken, {archived} archived before, {withheld} sent without fields"),
        )
    }
}

impl Log {
    /// The last record that this collector was handed; 0 before the first.
    pub async fn handed(&self, collector: &Digest) -> Result<u64, Broken> {
        let (low, high) = range(collector);
        let row = self.reader.last_claim(&low, &high).await?;
        let claim = row.and_then(|row| String::from_utf8(row.claim?).ok());
        Ok(claim.and_then(|claim| claim.strip_prefix(&low)?.parse().ok()).unwrap_or(0))
    }
}

/// The claims about one collector: everything from the first text up to, not including, the second.
fn range(collector: &Digest) -> (String, String) {
    // '0' is the character after '/'.
    (format!("export/{collector}/"), format!("export/{collector}0"))
}
