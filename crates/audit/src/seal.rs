//! Sealing: a signed checkpoint as a record of the log itself, in the transaction of the records that it
//! stands for. Whoever rewrites the log, chain and all, cannot sign it again.
//!
//! A seal carries the roots along its tree's edge, so that a process that starts goes on from the last
//! seal and need not read the log from its beginning. They are believed because they lead to the root
//! that is signed.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use store::{Batch, StoreError};
use types::{Digest, Field, Kind, Record, Verdict};

use crate::checkpoint::{Signed, Signer};
use crate::handover;
use crate::merkle::Tree;

/// After so many records the log is sealed again,
const RECORDS: u64 = 1000;
/// and after so much time, where anything was recorded.
const INTERVAL: Duration = Duration::from_secs(1);

/// Records read at a time.
const STRIDE: u32 = 4096;

/// How far back the last seal is looked for before the tree is built from the first record: many times
/// what lies between two seals.
const BACK: i64 = 65_536;

/// Signs the log of one writer.
#[derive(Debug)]
pub(crate) struct Sealer {
    signer: Signer,
    /// The tree up to the last seal that this process knows; empty at the start.
    tree: Tree,
    sealed: Instant,
}

impl Sealer {
    pub(crate) fn new(signer: Signer) -> Self {
        Self { signer, tree: Tree::default(), sealed: Instant::now() }
    }

    /// Whether a log of so many records is to be sealed again; at its end, whether anything is not.
    pub(crate) fn is_due(&self, records: u64, closing: bool) -> bool {
        let more = match self.tree.size() {
            0 => records,
            // The seal itself is a record, and needs no seal of its own.
            size => records.saturating_sub(size + 1),
        };
        more >= RECORDS || (more > 0 && (closing || self.sealed.elapsed() >= INTERVAL))
    }

    /// Whether the log has handed over to another key than ours, in another process: then its seals are not ours to
    /// make, and this process goes on without.
    pub(crate) async fn is_retired(&self, batch: &mut Batch<'_>) -> Result<bool, StoreError> {
        let key = handover::in_force(batch).await?;
        Ok(key.is_some_and(|key| key != *self.signer.verifier()))
    }

    /// The record by which our key hands over to another one, after the records of the tree.
    pub(crate) fn hand_over(&self, to: &Signer, tree: &Tree) -> Record {
        handover::record(&self.signer, to, tree.size(), tree.root())
    }

    /// From now on that key seals.
    pub(crate) fn followed_by(&mut self, signer: Signer) {
        self.signer = signer;
    }

    /// The record that seals the log as it stands in this batch, and the tree that it seals.
    pub(crate) async fn seal(
        &self,
        batch: &mut Batch<'_>,
        records: u64,
    ) -> Result<(Record, Tree), StoreError> {
        let mut tree = self.tree.clone();
        if tree.size() == 0 && records > 0 {
            tree = self.last(batch, records).await?.unwrap_or_default();
        }
        while tree.size() < records {
            let rows = batch.chains_after(tree.size() as i64, STRIDE).await?;
            if rows.is_empty() {
                return Err(StoreError::Damaged("audit_record"));
            }
            rows.iter().take((records - tree.size()) as usize).for_each(|chain| tree.push(chain));
        }
        let signed = self.signer.sign(records, tree.root());
        Ok((record(&signed, &tree), tree))
    }

    /// The seal was written.
    pub(crate) fn sealed(&mut self, tree: Tree) {
        self.tree = tree;
        self.sealed = Instant::now();
    }

    /// The tree of the newest seal that our key has signed.
    async fn last(&self, batch: &mut Batch<'_>, records: u64) -> Result<Option<Tree>, StoreError> {
        let mut before = records as i64 + 1;
        let stop = before.saturating_sub(BACK);
        while before > 1 && before > stop {
            let rows = batch.records_before(before, STRIDE).await?;
            for row in &rows {
                let seal = Record::decode(&row.record).ok().and_then(|(_, record)| Seal::read(&record));
                if let Some(seal) = seal
                    && self.signer.verifier().check(&seal.signed).is_ok()
                    && seal.tree.size() < records
                {
                    return Ok(Some(seal.tree));
                }
            }
            match rows.last() {
                Some(last) => before = last.seq,
                None => return Ok(None),
            }
        }
        Ok(None)
    }
}

/// What a seal says.
pub(crate) struct Seal {
    pub(crate) signed: Signed,
    pub(crate) tree: Tree,
}

fn record(signed: &Signed, tree: &Tree) -> Record {
    let peaks: Vec<u8> = tree.peaks().iter().flat_map(|peak| *peak.as_bytes()).collect();
    Record::new(Kind::Checkpoint, Verdict::Done)
        .with(Field::Actor, &signed.checkpoint.origin)
        .with(Field::Count, signed.checkpoint.size)
        .with(Field::Digest, signed.checkpoint.root)
        .with(Field::Signature, signed.signature())
        .with(Field::Peaks, BASE64.encode(peaks))
}

impl Seal {
    /// Reads a seal, whoever signed it; `None` where its parts do not fit together.
    pub(crate) fn read(record: &Record) -> Option<Self> {
        let field = |name| record.field(name).filter(|_| record.kind == Kind::Checkpoint);
        let size = field(Field::Count)?.parse().ok()?;
        let peaks = BASE64.decode(field(Field::Peaks)?).ok()?;
        let (peaks, rest) = peaks.as_chunks::<32>();
        let tree = Tree::from_peaks(size, peaks.iter().copied().map(Digest::from_bytes).collect())?;
        let root = tree.root();
        if !rest.is_empty() || field(Field::Digest)? != root.to_string() {
            return None;
        }
        let signed = Signed::from_parts(field(Field::Actor)?, size, root, field(Field::Signature)?)?;
        Some(Self { signed, tree })
    }
}
