//! Finding the first record that is not what was written.

use store::{AuditRow, Reader, StoreError};
use tokio::sync::mpsc;
use types::{Digest, Field, Kind, Record};

use crate::archive::{Archive, stays};
use crate::chain;
use crate::checkpoint::{Checkpoint, CheckpointError, Signed, Verifier};
use crate::handover::Keys;
use crate::log::Log;
use crate::merkle::Tree;
use crate::seal::Seal;
use crate::task::refusal_of;

/// Records fetched at a time: 1024 of the longest are 33 MiB.
pub(crate) const STRIDE: u32 = 1024;

/// How many strides are read ahead of the one that is looked at.
const AHEAD: usize = 2;

/// What was kept elsewhere, to compare a log with.
#[derive(Clone, Default, Debug)]
pub struct Against {
    /// The key that every seal must be of.
    pub key: Option<Verifier>,
    /// What the log was once.
    pub checkpoint: Option<Signed>,
}

/// A log without a fault.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// How many records it has; the last one bears this number.
    pub records: u64,
    /// The chain after the last record, which stands for all of them.
    pub head: Digest,
    /// The root of the tree over all records.
    pub root: Digest,
    /// The last seal in it.
    pub sealed: Option<Checkpoint>,
    /// How many records have only their links here; their bytes are in archives.
    pub detached: u64,
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
    /// The log is not the one of the checkpoint, and shows no other fault.
    #[error(
        "the log is not the one that the checkpoint of {size} records tells of: it was rewritten or went on from an older state, from record {first} on at the earliest"
    )]
    Forked {
        /// The first record that can be another one than it was: the one after the last seal that holds.
        first: u64,
        /// How many records the checkpoint tells of.
        size: u64,
    },
    /// Records that the checkpoint tells of are not there.
    #[error("record {first} and those after it are missing: the checkpoint tells of {size} records")]
    Truncated {
        /// The first missing record.
        first: u64,
        /// How many records the checkpoint tells of.
        size: u64,
    },
    /// The checkpoint itself proves nothing.
    #[error("the checkpoint is not used: {0}")]
    Checkpoint(CheckpointError),
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
    /// The column by which refusals or claims are found says something else than the record.
    #[error("is indexed under a refusal or a claim that is not its own")]
    Index,
    /// A seal over something else than the records before it, or with a signature that does not fit.
    #[error("is a seal that does not fit the records before it")]
    Seal,
    /// Its bytes are in a file of their own.
    #[error("is in an archive; to read it: ironclaw audit export --archive FILE")]
    Detached,
    /// A record of its segment, which the archive's record says stayed whole, did not.
    #[error("or one that was archived with it lost more than an archive takes")]
    Stripped,
    /// A seal of another key than the one that was given or the one of the seals before.
    #[error("is a seal of another key")]
    Key,
}

/// Reads ahead in a task of its own, and looks at each stride as it comes.
pub(crate) async fn run(log: &Log, against: &Against) -> Result<Verified, Broken> {
    let keys = Keys::new(log.handovers().await?, against.key.as_ref());
    if let Some(checkpoint) = &against.checkpoint {
        keys.check_kept(checkpoint).map_err(Broken::Checkpoint)?;
    }
    let (send, mut strides) = mpsc::channel(AHEAD);
    let mut walk = Walk::new(against.clone(), keys, log.archives().await?);
    let reading = tokio::spawn(read(log.reader.clone(), send));
    while let Some(rows) = strides.recv().await {
        let rows = rows?;
        // Hashing and decoding would hold up the tasks that share this thread.
        let walked = tokio::task::spawn_blocking(move || {
            let outcome = rows.iter().try_for_each(|row| walk.step(row));
            (walk, outcome)
        });
        let outcome;
        (walk, outcome) = walked.await.map_err(|_| StoreError::Damaged("audit_record"))?;
        if let Err(broken) = outcome {
            reading.abort();
            return Err(broken);
        }
    }
    walk.end()
}

/// Two strides at a time, on a connection each: in a whole log the second begins where the first ends.
async fn read(reader: Reader, send: mpsc::Sender<Result<Vec<AuditRow>, StoreError>>) {
    // Starts below every number, so that a planted record 0 or -1 is looked at too.
    let mut after = i64::MIN;
    loop {
        let expected = after.saturating_add(STRIDE.into());
        let both = tokio::join!(reader.audit_after(after, STRIDE), reader.audit_after(expected, STRIDE));
        let mut next = last(&both.0);
        let follows = next == Some(expected);
        if send.send(both.0).await.is_err() {
            return;
        }
        if follows {
            next = last(&both.1);
            if send.send(both.1).await.is_err() {
                return;
            }
        }
        match next {
            Some(next) => after = next,
            None => return,
        }
    }
}

/// The number of the last row of a full stride: there may be more after it.
fn last(rows: &Result<Vec<AuditRow>, StoreError>) -> Option<i64> {
    match rows {
        Ok(rows) if rows.len() == STRIDE as usize => rows.last().map(|last| last.seq),
        _ => None,
    }
}

/// The walk along the chain.
struct Walk {
    against: Against,
    keys: Keys,
    records: u64,
    /// The segments whose bytes may be missing, the next one last: a record further on says where they are.
    archives: Vec<Archive>,
    detached: u64,
    /// The records of the segment at hand that stayed whole.
    kept: u64,
    head: Digest,
    tree: Tree,
    sealed: Option<Checkpoint>,
    /// The root at the size of the checkpoint, once that is reached.
    at_checkpoint: Option<Digest>,
    /// The last seal before the checkpoint's size.
    holds: u64,
}

impl Walk {
    fn new(against: Against, keys: Keys, mut archives: Vec<Archive>) -> Self {
        archives.reverse();
        let mut walk = Self {
            against,
            keys,
            records: 0,
            archives,
            detached: 0,
            kept: 0,
            head: chain::genesis(),
            tree: Tree::default(),
            sealed: None,
            at_checkpoint: None,
            holds: 0,
        };
        walk.reach();
        walk
    }

    /// Adds the next row, if it is the next record.
    fn step(&mut self, row: &AuditRow) -> Result<(), Broken> {
        let expected = self.records + 1;
        let broken = |seq, fault| Err(Broken::Record { seq, fault });
        match u64::try_from(row.seq) {
            Ok(seq) if seq == expected => {}
            Ok(seq) if seq > expected => return broken(expected, Fault::Missing),
            _ => return broken(expected, Fault::Number),
        }
        let archive = self.archives.last().copied().filter(|archive| archive.first <= expected);
        match archive {
            Some(archive) if row.record.is_empty() => self.pass(row, archive, expected),
            Some(archive) => {
                self.kept += u64::from(stays(row));
                self.check_whole(row, expected)?;
                self.leave(archive, expected)
            }
            None => self.check_whole(row, expected),
        }
    }

    /// A record whose bytes are here.
    fn check_whole(&mut self, row: &AuditRow, expected: u64) -> Result<(), Broken> {
        let broken = |seq, fault| Err(Broken::Record { seq, fault });
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
        match record.kind {
            Kind::Checkpoint => {
                self.check(&record).map_err(|fault| Broken::Record { seq: expected, fault })?;
            }
            Kind::Signing if !self.keys.fits(expected, self.tree.root()) => {
                return broken(expected, Fault::Seal);
            }
            _ => {}
        }
        self.tree.push(head.as_bytes());
        (self.records, self.head) = (expected, head);
        self.reach();
        Ok(())
    }

    /// A record whose bytes are in an archive. Its link is as good as the next record, which hangs on it, and the next
    /// seal, which stands for it.
    fn pass(&mut self, row: &AuditRow, archive: Archive, seq: u64) -> Result<(), Broken> {
        let broken = |fault| Broken::Record { seq, fault };
        if row.refusal.is_some() || stays(row) {
            return Err(broken(Fault::Index));
        }
        let link = row.chain.as_slice().try_into().map_err(|_| broken(Fault::Chain))?;
        self.tree.push(&row.chain);
        (self.records, self.head, self.detached) = (seq, Digest::from_bytes(link), self.detached + 1);
        self.reach();
        self.leave(archive, seq)
    }

    /// At the end of a segment as many records are whole as its archive's record says.
    fn leave(&mut self, archive: Archive, seq: u64) -> Result<(), Broken> {
        if seq == archive.last {
            if std::mem::take(&mut self.kept) != archive.kept {
                return Err(Broken::Record { seq: archive.first, fault: Fault::Stripped });
            }
            self.archives.pop();
        }
        Ok(())
    }

    /// A seal stands for exactly the records before it, and the key of that part of the log has signed it.
    fn check(&mut self, record: &Record) -> Result<(), Fault> {
        let seal = Seal::read(record).ok_or(Fault::Seal)?;
        if seal.tree != self.tree {
            return Err(Fault::Seal);
        }
        self.keys.check(self.records + 1, &seal.signed).map_err(|error| match error {
            CheckpointError::Key => Fault::Key,
            _ => Fault::Seal,
        })?;
        let other = |last: &Checkpoint| last.origin != seal.signed.checkpoint.origin;
        if !self.keys.knows() && self.sealed.as_ref().is_some_and(other) {
            return Err(Fault::Key);
        }
        if self.at_checkpoint.is_none() {
            self.holds = seal.signed.checkpoint.size;
        }
        self.sealed = Some(seal.signed.checkpoint);
        Ok(())
    }

    /// Keeps the root where the checkpoint has its own.
    fn reach(&mut self) {
        let size = self.against.checkpoint.as_ref().map(|signed| signed.checkpoint.size);
        if size == Some(self.records) {
            self.at_checkpoint = Some(self.tree.root());
        }
    }

    fn end(self) -> Result<Verified, Broken> {
        if let Some(Signed { checkpoint, .. }) = &self.against.checkpoint {
            let size = checkpoint.size;
            match self.at_checkpoint {
                None => return Err(Broken::Truncated { first: self.records + 1, size }),
                Some(root) if root != checkpoint.root => {
                    return Err(Broken::Forked { first: self.holds + 1, size });
                }
                Some(_) => {}
            }
        }
        let root = self.tree.root();
        let (records, head, sealed, detached) = (self.records, self.head, self.sealed, self.detached);
        Ok(Verified { records, head, root, sealed, detached })
    }
}
