//! The end of a log in a file, as this process left it.
//!
//! Where it still is the end, a group of records that change nothing else is linked beforehand and written in one
//! statement ([`Writer::append_after`]). That another process has appended meanwhile shows in the same statement, which
//! then writes nothing.

use std::ops::RangeInclusive;

use store::{NewRecord, StoreError, Writer};
use types::{Digest, Field, Record};

use crate::moment::Moment;
use crate::recorder::{AuditError, Job, Work};
use crate::task::refusal_of;
use crate::{chain, clock};

/// The most records in one statement. As many have been prepared for as there were numbers of them.
const TOGETHER: usize = 64;

/// The last record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) seq: u64,
    pub(crate) chain: Digest,
    pub(crate) at_ms: u64,
}

impl End {
    /// Appends records after this end, which moves on; their numbers. `None`, and nothing is written, where the log goes
    /// on otherwise, or the clock is behind.
    pub(crate) async fn append(
        &mut self,
        writer: &mut Writer,
        records: &[&Record],
    ) -> Result<Option<RangeInclusive<u64>>, AuditError> {
        let now_ms = clock::now_ms();
        if now_ms < self.at_ms {
            return Ok(None);
        }
        let mut end = *self;
        let mut links = Vec::with_capacity(records.len());
        for record in records {
            let bytes = record.encode(now_ms);
            end.seq += 1;
            end.chain = chain::link(&end.chain, end.seq, &bytes);
            links.push((end.seq, bytes, end.chain));
        }
        end.at_ms = now_ms;
        let mut rows = Vec::with_capacity(records.len());
        for (record, (seq, bytes, chain)) in records.iter().zip(&links) {
            rows.push(NewRecord {
                seq: i64::try_from(*seq).map_err(|_| AuditError::Head)?,
                record: bytes,
                chain: chain.as_bytes(),
                refusal: refusal_of(record),
                claim: None,
                at_ms: now_ms,
            });
        }
        let first = self.seq + 1;
        if !writer.append_after(self.chain.as_bytes(), &rows).await.map_err(failed)? {
            return Ok(None);
        }
        *self = end;
        Ok(Some(first..=end.seq))
    }
}

/// One statement writes and commits, so that it is not known of a failure what the disk kept, unless it came before.
fn failed(error: StoreError) -> AuditError {
    match error {
        StoreError::Busy | StoreError::Exposed { .. } | StoreError::Gone { .. } => {
            AuditError::Unavailable(error)
        }
        error => AuditError::Uncertain(error),
    }
}

/// The records of a group that does nothing but append them as of `now`, and not many.
pub(crate) fn only_appended(group: &[Job], now: Moment) -> Option<Vec<&Record>> {
    fn plain(job: &Job, now: Moment) -> Option<&Record> {
        let record = match &job.work {
            Work::Record(record, None) => record,
            Work::AsOf(moment, record, None) if *moment == now => record,
            _ => return None,
        };
        Some(record).filter(|record| record.field(Field::Claim).is_none())
    }
    (group.len() <= TOGETHER).then(|| group.iter().map(|job| plain(job, now)).collect())?
}
