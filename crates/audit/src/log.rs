//! Reading the log, and finding the first record that is not what was written.

use store::{AuditRow, Reader, StoreError};
use types::{Digest, Field, Record, RefusalId};

use crate::chain;
use crate::task::refusal_of;

/// Records fetched at a time while verifying: 1024 of the longest are 33 MiB.
const STRIDE: u32 = 1024;

/// The log, for those who read it.
#[derive(Clone)]
pub struct Log {
    reader: Reader,
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

/// A chain without a fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verified {
    /// How many records it has; the last one bears this number.
    pub records: u64,
    /// The chain after the last record, which stands for all of them.
    pub head: Digest,
}

/// The first record that is not as it was written, or the reason why nobody can tell.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Broken {
    /// The record with this number is bad; all before it are good.
    #[error("record {seq} {fault}")]
    Record {
        /// The number that it has or should have.
        seq: u64,
        /// What is wrong with it.
        fault: Fault,
    },
    /// The log could not be read.
    #[error("the audit log cannot be read: {0}")]
    Store(#[from] StoreError),
}

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// There are later ones but not this one.
    #[error("is missing")]
    Missing,
    /// Its number is none that a record can have.
    #[error("has no place in the order")]
    Number,
    /// Its bytes, its number or its hash were changed, or it stands where another one stood.
    #[error("is not the one that was written there")]
    Chain,
    /// It hangs in the chain but is no record that this program can read.
    #[error("cannot be read")]
    Unreadable,
    /// The column by which refusals are found names another refusal than the record.
    #[error("is indexed under a refusal that is not its own")]
    Index,
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
        rows.iter().map(Entry::read).collect()
    }

    /// One record.
    pub async fn show(&self, seq: u64) -> Result<Option<Entry>, Broken> {
        let Some(before) = seq.checked_sub(1).and_then(|before| i64::try_from(before).ok()) else {
            return Ok(None);
        };
        let rows = self.reader.audit_after(before, 1).await?;
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
    /// moved, one that cannot be read, and a wrong entry in the refusals' index. Where somebody
    /// changed a record and its hash together, the bad record named is the one after it, since that
    /// is the first that contradicts another.
    ///
    /// What it cannot find: records cut off at the end, or a whole chain replaced by another valid
    /// one. Both show only against a head that was kept elsewhere (compare [`Verified::head`]).
    pub async fn verify(&self) -> Result<Verified, Broken> {
        let mut verified = Verified { records: 0, head: chain::genesis() };
        // Starts below every number, so that a planted record 0 or -1 is looked at too.
        let mut after = i64::MIN;
        loop {
            let rows = self.reader.audit_after(after, STRIDE).await?;
            for row in &rows {
                verified.extend(row)?;
            }
            match rows.last() {
                Some(last) if rows.len() == STRIDE as usize => after = last.seq,
                _ => return Ok(verified),
            }
        }
    }
}

impl Verified {
    /// Adds the next row, if it is the next record.
    fn extend(&mut self, row: &AuditRow) -> Result<(), Broken> {
        let expected = self.records + 1;
        let broken = |seq, fault| Err(Broken::Record { seq, fault });
        match u64::try_from(row.seq) {
            Ok(seq) if seq == expected => {}
            Ok(seq) if seq > expected => return broken(expected, Fault::Missing),
            _ => return broken(expected, Fault::Number),
        }
        let head = chain::link(&self.head, expected, &row.record);
        if row.chain != head.as_bytes() {
            return broken(expected, Fault::Chain);
        }
        let Ok((_, record)) = Record::decode(&row.record) else {
            return broken(expected, Fault::Unreadable);
        };
        if row.refusal.as_deref() != refusal_of(&record).as_ref().map(|id| id.as_bytes().as_slice()) {
            return broken(expected, Fault::Index);
        }
        if row.claim.as_deref() != record.field(Field::Claim).map(str::as_bytes) {
            return broken(expected, Fault::Index);
        }
        *self = Self { records: expected, head };
        Ok(())
    }
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
