//! Reading the log.

use std::ops::Range;

use store::{AuditRow, Reader};
use types::{Digest, Record, RefusalId};

use crate::checkpoint::Checkpoint;
use crate::merkle::Tree;
use crate::seal::Seal;
use crate::task::refusal_of;
use crate::verify::{self, Against, Broken, Fault, STRIDE, Verified};

/// The log, for those who read it.
#[derive(Clone)]
pub struct Log {
    pub(crate) reader: Reader,
}

/// One record as it stands in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its number. Not a [`Seq`](crate::Seq): what is read back was not proved durable by us.
    pub seq: u64,
    /// When it was written, in milliseconds since 1970, by the clock of that moment.
    pub at_ms: u64,
    /// What it says.
    pub record: Record,
    /// The chain up to and with it.
    pub chain: Digest,
}

impl Log {
    /// A log to read.
    pub fn new(reader: Reader) -> Self {
        Self { reader }
    }

    /// The last `count` records, oldest first.
    pub async fn tail(&self, count: u32) -> Result<Vec<Entry>, Broken> {
        let mut rows = self.reader.audit_last(count).await?;
        rows.reverse();
        self.entries(&rows).await
    }

    /// Up to `limit` records after number `seq`, in order; those that are in an archive are passed over.
    pub async fn after(&self, seq: u64, limit: u32) -> Result<Vec<Entry>, Broken> {
        let Ok(mut seq) = i64::try_from(seq) else { return Ok(Vec::new()) };
        loop {
            let rows = self.reader.audit_after(seq, limit).await?;
            let Some(last) = rows.last() else { return Ok(Vec::new()) };
            seq = last.seq;
            let entries = self.entries(&rows).await?;
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }

    /// The records of rows; those that are in an archive are passed over.
    async fn entries(&self, rows: &[AuditRow]) -> Result<Vec<Entry>, Broken> {
        let detached = match rows.iter().any(|row| row.record.is_empty()) {
            true => self.detached().await?,
            false => 0,
        };
        rows.iter().filter(|row| !is_detached(row, detached)).map(Entry::read).collect()
    }

    /// What the newest seal says, whoever signed it. Of a log that was never sealed, every record is read.
    pub async fn last_seal(&self) -> Result<Option<Checkpoint>, Broken> {
        let seal = |row: &AuditRow| Seal::read(&Record::decode(&row.record).ok()?.1);
        let mut rows = self.reader.audit_last(STRIDE).await?;
        while let Some(first) = rows.iter().map(|row| row.seq).min() {
            if let Some(seal) =
                rows.iter().filter_map(|row| Some((row.seq, seal(row)?))).max_by_key(|(seq, _)| *seq)
            {
                return Ok(Some(seal.1.signed.checkpoint));
            }
            let before = first.saturating_sub(1 + i64::from(STRIDE)).max(0);
            rows = self.reader.audit_after(before, STRIDE).await?;
            rows.retain(|row| row.seq < first);
        }
        Ok(None)
    }

    /// One record.
    pub async fn show(&self, seq: u64) -> Result<Option<Entry>, Broken> {
        let Some(before) = seq.checked_sub(1).and_then(|before| i64::try_from(before).ok()) else {
            return Ok(None);
        };
        let rows = self.reader.audit_after(before, 1).await?;
        if rows.first().is_some_and(|row| row.seq == before + 1 && row.record.is_empty())
            && seq <= self.detached().await?
        {
            return Err(Broken::Record { seq, fault: Fault::Detached });
        }
        let entry = rows.first().map(Entry::read).transpose()?;
        Ok(entry.filter(|entry| entry.seq == seq))
    }

    /// The records that tell of one refusal, oldest first.
    pub async fn by_refusal(&self, id: RefusalId) -> Result<Vec<Entry>, Broken> {
        let rows = self.reader.audit_by_refusal(id).await?;
        let entries: Vec<Entry> = rows.iter().map(Entry::read).collect::<Result<_, _>>()?;
        match entries.iter().find(|entry| refusal_of(&entry.record) != Some(id)) {
            Some(entry) => Err(Broken::Record { seq: entry.seq, fault: Fault::Index }),
            None => Ok(entries),
        }
    }

    /// Walks the whole chain from its beginning and stops at the first bad record.
    ///
    /// What this finds: a changed byte in any column, a record that is missing, was inserted or
    /// moved, one that cannot be read, a wrong entry in the refusals' index, and a seal that does not
    /// fit what it seals. Where somebody changed a record and its hash together, the bad record named is
    /// the one after it, since that is the first that contradicts another.
    ///
    /// What it cannot find by itself: records cut off at the end, or a whole chain replaced by another
    /// valid one with seals of another key. See [`Log::verify_against`].
    pub async fn verify(&self) -> Result<Verified, Broken> {
        self.verify_against(&Against::default()).await
    }

    /// The same, and compares with what was kept elsewhere: a key, a checkpoint, or both.
    ///
    /// The key finds what was sealed by another one. The checkpoint finds a log that is shorter, and one
    /// that was rewritten or went on from an older state; the first bad record is then known to lie after
    /// the last seal that still holds.
    pub async fn verify_against(&self, against: &Against) -> Result<Verified, Broken> {
        verify::run(self, against).await
    }

    /// The roots of subtrees, as [`merkle`](crate::merkle) asks for them in a proof. One pass over the log.
    pub async fn roots(&self, ranges: &[Range<u64>]) -> Result<Vec<Digest>, Broken> {
        let end = ranges.iter().map(|range| range.end).max().unwrap_or(0);
        let mut trees = vec![Tree::default(); ranges.len()];
        let mut index = 0;
        while index < end {
            let rows = self.reader.audit_after(index as i64, STRIDE).await?;
            if rows.is_empty() {
                return Err(Broken::Record { seq: index + 1, fault: Fault::Missing });
            }
            for row in &rows {
                for (tree, range) in trees.iter_mut().zip(ranges) {
                    if range.contains(&index) {
                        tree.push(&row.chain);
                    }
                }
                index += 1;
            }
        }
        Ok(trees.iter().map(Tree::root).collect())
    }
}

/// Whether a row stands for a record whose bytes are in an archive.
fn is_detached(row: &AuditRow, detached: u64) -> bool {
    row.record.is_empty() && u64::try_from(row.seq).is_ok_and(|seq| seq <= detached)
}

impl Entry {
    /// Reads one row, without the rows before it.
    fn read(row: &AuditRow) -> Result<Self, Broken> {
        let seq = u64::try_from(row.seq).unwrap_or(0);
        let broken = |fault| Broken::Record { seq, fault };
        let chain = row.chain.as_slice().try_into().map(Digest::from_bytes);
        let (at_ms, record) = Record::decode(&row.record).map_err(|_| broken(Fault::Unreadable))?;
        Ok(Self { seq, at_ms, record, chain: chain.map_err(|_| broken(Fault::Chain))? })
    }
}
