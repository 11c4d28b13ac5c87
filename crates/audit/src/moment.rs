//! Moments of the log, between which nothing was granted or taken back.
//!
//! Who remembers grants remembers the moment before they were read. A record that rests on them
//! ([`Audit::record_as_of`](crate::Audit::record_as_of)) is written only where no change of grants, whoever made it, stands
//! between that moment and the record. Of this process's own changes the writer task knows. Those of others are records
//! between the end of the log as the task left it and the end as it finds it, under the lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use store::{Batch, StoreError};
use types::{Digest, Kind, Record};

use crate::end::End;

/// The most records of others that are looked at. Where there are more, they may be anything.
const MOST: u32 = 256;

/// A moment of the log, as one process knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment(u64);

/// The newest moment: moved on by the writer task alone, before anybody is told of the change.
#[derive(Clone, Default, Debug)]
pub(crate) struct Moments(Arc<AtomicU64>);

impl Moments {
    pub(crate) fn now(&self) -> Moment {
        Moment(self.0.load(Ordering::Acquire))
    }

    /// Grants may be others from here on.
    pub(crate) fn pass(&self) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Whether somebody else may have changed grants since this process left the log, which ends with that number and link
/// now.
pub(crate) async fn is_changed(
    batch: &mut Batch<'_>,
    left: Option<End>,
    (seq, chain): (u64, Digest),
) -> Result<bool, StoreError> {
    let Some(left) = left else { return Ok(true) };
    if (left.seq, left.chain) == (seq, chain) {
        return Ok(false);
    }
    // The first row is the one that we left: in a database that was put back it is another one, or none.
    let rows = batch.records_after(left.seq as i64 - 1, MOST + 2).await?;
    let [ours, others @ ..] = &rows[..] else { return Ok(true) };
    let is_seen = ours.chain == left.chain.as_bytes() && others.len() <= MOST as usize;
    let tells =
        |record: &[u8]| Record::decode(record).map_or(true, |(_, record)| tells_of_grants(record.kind));
    Ok(!is_seen || others.iter().any(|row| tells(&row.record)))
}

/// Whether a record of this kind may tell of a change of grants. No other kind can be recorded with one.
pub(crate) fn tells_of_grants(kind: Kind) -> bool {
    match kind {
        Kind::Admit
        | Kind::Call
        | Kind::Request
        | Kind::Settle
        | Kind::Unseal
        | Kind::Release
        | Kind::Alert
        | Kind::Approval
        | Kind::Clock
        | Kind::Model
        | Kind::Loss
        | Kind::Checkpoint
        | Kind::Command
        | Kind::Image
        | Kind::Export => false,
        Kind::Tool
        | Kind::Grant
        | Kind::Revoke
        | Kind::Secret
        | Kind::Vault
        | Kind::Config
        | Kind::Archive
        | Kind::Signing => true,
    }
}
