//! The exchange of the key that seals the log: from one record on another key seals it.
//!
//! The record holds both public keys, and both have signed one text: the checkpoint over all records before it,
//! with a line more that names the successor. So who trusts the old key comes to the new one, and who trusts the new
//! one knows which seals before it were the old one's; and nobody who lacks either can make such a record.
//!
//! ```text
//! ironclaw/5f2c1b0a9e8d7c6b
//! 1234
//! CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=
//! successor ironclaw/77d0ab12f3e44590+5d0c1b2a+AQmM...
//! ```

use store::{AuditRow, Batch, StoreError};
use types::{Digest, Field, Kind, Record, Verdict};

use crate::checkpoint::{Checkpoint, CheckpointError, Signed, Signer, Verifier};
use crate::log::Log;
use crate::verify::{Broken, Fault};

/// What handovers claim: everything from the first text up to, not including, the second.
const CLAIMS: (&str, &str) = ("signing/", "signing0");

/// An exchange of the key, both of whose signatures are good.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handover {
    /// The record that holds it.
    pub seq: u64,
    /// The root of the tree over all records before it.
    pub(crate) root: Digest,
    /// The key that sealed until then.
    pub from: Verifier,
    /// The key that seals from then on.
    pub to: Verifier,
}

/// The record by which `from` hands over to `to`, after so many records.
pub(crate) fn record(from: &Signer, to: &Signer, size: u64, root: Digest) -> Record {
    let text = text(from.verifier(), to.verifier(), size, root);
    Record::new(Kind::Signing, Verdict::Done)
        .with(Field::Actor, "owner")
        .with(Field::Count, size)
        .with(Field::Digest, root)
        .with(Field::Key, from.verifier())
        .with(Field::Successor, to.verifier())
        .with(Field::Signature, from.sign_text(&text))
        .with(Field::Proof, to.sign_text(&text))
        .with(Field::Claim, format!("{}{size:020}", CLAIMS.0))
}

fn text(from: &Verifier, to: &Verifier, size: u64, root: Digest) -> String {
    let checkpoint = Checkpoint { origin: from.name().to_owned(), size, root };
    format!("{checkpoint}successor {to}\n")
}

impl Handover {
    /// Reads a row; `None` where it says something else, or either signature is not good.
    fn read(row: &AuditRow) -> Option<Self> {
        let (_, record) =
            Record::decode(&row.record).ok().filter(|(_, record)| record.kind == Kind::Signing)?;
        let field = |name| record.field(name);
        let key = |name| Verifier::parse(field(name)?).ok();
        let (from, to) = (key(Field::Key)?, key(Field::Successor)?);
        let (size, root) = (field(Field::Count)?.parse().ok()?, Digest::parse(field(Field::Digest)?)?);
        let text = text(&from, &to, size, root);
        let signed =
            from.has_signed(&text, field(Field::Signature)?) && to.has_signed(&text, field(Field::Proof)?);
        let seq = u64::try_from(row.seq).ok().filter(|seq| *seq == size + 1 && signed)?;
        Some(Self { seq, root, from, to })
    }
}

/// The key that seals the log now, as the log says it; `None` where it was never exchanged.
pub(crate) async fn in_force(batch: &mut Batch<'_>) -> Result<Option<Verifier>, StoreError> {
    let row = batch.last_claim(CLAIMS.0, CLAIMS.1).await?;
    Ok(row.as_ref().and_then(Handover::read).map(|handover| handover.to))
}

impl Log {
    /// Every exchange of the key, oldest first; each begins with the key that the one before ended with.
    pub async fn handovers(&self) -> Result<Vec<Handover>, Broken> {
        let mut handovers: Vec<Handover> = Vec::new();
        for row in self.reader.claims(CLAIMS.0, CLAIMS.1).await? {
            let seq = u64::try_from(row.seq).unwrap_or(0);
            let follows = |next: &Handover| handovers.last().is_none_or(|last| last.to == next.from);
            let handover = Handover::read(&row).filter(follows);
            handovers.push(handover.ok_or(Broken::Record { seq, fault: Fault::Key })?);
        }
        Ok(handovers)
    }
}

/// Which key seals which part of a log.
#[derive(Debug)]
pub(crate) struct Keys {
    handovers: Vec<Handover>,
    /// The key that was given, where the log knows none by that name.
    stranger: bool,
    /// The key of a log that was never exchanged, once it is known.
    only: Option<Verifier>,
}

impl Keys {
    /// The keys of a log, of which the given one must be one.
    pub(crate) fn new(handovers: Vec<Handover>, given: Option<&Verifier>) -> Self {
        let is_known =
            |key: &Verifier| handovers.iter().any(|handover| handover.from == *key || handover.to == *key);
        let stranger = !handovers.is_empty() && given.is_some_and(|key| !is_known(key));
        Self { stranger, only: given.cloned(), handovers }
    }

    /// Checks the seal that record `seq` holds. Where nobody knows a key, all seals are of one name.
    pub(crate) fn check(&self, seq: u64, seal: &Signed) -> Result<(), CheckpointError> {
        if self.stranger {
            return Err(CheckpointError::Key);
        }
        match (self.at(seq), &self.only) {
            (Some(key), _) | (None, Some(key)) => key.check(seal),
            (None, None) => Ok(()),
        }
    }

    /// The key that seals at that place, where the log says it.
    fn at(&self, seq: u64) -> Option<&Verifier> {
        let before =
            self.handovers.iter().rev().find(|handover| handover.seq < seq).map(|handover| &handover.to);
        before.or_else(|| self.handovers.first().map(|handover| &handover.from))
    }

    /// Whether any key is known, so that seals need not be compared with each other.
    pub(crate) fn knows(&self) -> bool {
        self.only.is_some() || !self.handovers.is_empty()
    }

    /// Whether one of them has signed a checkpoint that was kept elsewhere.
    pub(crate) fn check_kept(&self, kept: &Signed) -> Result<(), CheckpointError> {
        let all = self.handovers.iter().flat_map(|handover| [&handover.from, &handover.to]).chain(&self.only);
        let mut outcome = if self.knows() { Err(CheckpointError::Key) } else { Ok(()) };
        for key in all {
            match key.check(kept) {
                Ok(()) if !self.stranger => return Ok(()),
                Err(error @ CheckpointError::Signature) => outcome = Err(error),
                _ => {}
            }
        }
        outcome
    }

    /// Whether record `seq`, before which the tree has this root, hands over as it says.
    pub(crate) fn fits(&self, seq: u64, root: Digest) -> bool {
        self.handovers.iter().any(|handover| handover.seq == seq && handover.root == root)
    }
}
