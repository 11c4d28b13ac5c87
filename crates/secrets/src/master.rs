//! The master key, from its slots; and the slots themselves: listed, added, removed.
//!
//! While the master key is being changed there are two of them ([`crate::rotation`]). Which one is in
//! force is said by one row; both open every secret, since both wrap every tenant's key.

use ::store::{Mutation, Reader, RotationRow, RotationState, SlotRow};
use ::types::{Field, Kind, Record, Verdict};
use audit::{Audit, Seq, now_ms};

use crate::crypto::{self, Place, Purpose};
use crate::error::VaultError;
use crate::key::Key;
use crate::slot::{SlotError, SlotKind, Unlock};

/// An open master key, which of them it is, and the slot that opened it.
pub(crate) struct Master {
    pub(crate) key: Key,
    pub(crate) generation: u32,
    pub(crate) slot: String,
}

/// A key slot, as a person may know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotInfo {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: SlotKind,
    /// The generation of the master key that it opens.
    pub generation: i64,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
}

impl SlotInfo {
    /// `None` for a kind that this program does not know.
    pub(crate) fn of(row: &SlotRow) -> Option<Self> {
        let kind = SlotKind::parse(&row.kind)?;
        Some(Self { id: row.id.clone(), kind, generation: row.generation, created_ms: row.created_ms })
    }
}

/// The key slots of the master key in force, oldest first; none where there is no vault. Needs no key.
pub async fn slots(reader: &Reader) -> Result<Vec<SlotInfo>, VaultError> {
    let (rows, rotation) = (reader.slots().await?, reader.rotation().await?);
    Ok(in_force(&rows, rotation.as_ref()).filter_map(SlotInfo::of).collect())
}

/// Makes another slot for the master key, which `with` opens. Returns the slot once it is on record.
pub async fn add_slot(
    reader: &Reader,
    audit: &Audit,
    with: &Unlock,
    new: &Unlock,
) -> Result<SlotInfo, VaultError> {
    let (rows, rotation) = (reader.slots().await?, reader.rotation().await?);
    let master = open_any(with, in_force(&rows, rotation.as_ref())).await?;
    let row = new.make(&master.key, master.generation, now_ms()).await?;
    let record = about(new.kind(), master.generation, "slot added");
    if let Err(error) = audit.change(record, Mutation::AddSlot(row.clone())).await {
        if let audit::ChangeError::Lost(_) = error {
            new.discard(&row).await;
        }
        return Err(error.into());
    }
    SlotInfo::of(&row).ok_or(VaultError::NoSlot)
}

/// Removes a slot. `with` must open another one first, so that nobody locks himself out. `keeper` is where
/// the slot kept its key, if that can be erased from here.
pub async fn remove_slot(
    reader: &Reader,
    audit: &Audit,
    with: &Unlock,
    id: &str,
    keeper: Option<&Unlock>,
) -> Result<Seq, VaultError> {
    let (rows, rotation) = (reader.slots().await?, reader.rotation().await?);
    let row = rows.iter().find(|row| row.id == id).ok_or(VaultError::NoSlot)?;
    let others = in_force(&rows, rotation.as_ref()).filter(|other| other.id != id);
    let master = open_any(with, others).await?;
    let record = Record::new(Kind::Vault, Verdict::Done)
        .with(Field::Actor, "owner")
        .with(Field::Slot, &row.kind)
        .with(Field::Generation, master.generation)
        .with(Field::State, "slot removed");
    let seq = audit.change(record, Mutation::RemoveSlot { id: row.id.clone() }).await?;
    // The row is gone: a key that stays behind opens nothing.
    if let Some(keeper) = keeper.filter(|keeper| keeper.kind().as_str() == row.kind) {
        keeper.discard(row).await;
    }
    Ok(seq)
}

/// The slots that open the master key in force.
pub(crate) fn in_force<'a>(
    rows: &'a [SlotRow],
    rotation: Option<&RotationRow>,
) -> impl Iterator<Item = &'a SlotRow> + use<'a> {
    let generation = rotation.map(|row| match row.state {
        RotationState::Pending => row.from,
        RotationState::Switched => row.to,
    });
    rows.iter().filter(move |row| generation.is_none_or(|in_force| row.generation == in_force))
}

/// Opens the first slot of the right kind that opens; otherwise the last one's error.
pub(crate) async fn open_any<'a>(
    unlock: &Unlock,
    rows: impl Iterator<Item = &'a SlotRow>,
) -> Result<Master, SlotError> {
    let kind = unlock.kind();
    let mut last = SlotError::None(kind);
    for row in rows.filter(|row| row.kind == kind.as_str()) {
        match unlock.open(row).await {
            Ok((key, generation)) => return Ok(Master { key, generation, slot: row.id.clone() }),
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Master {
    /// The master key that is to follow this one.
    pub(crate) fn next(&self, rotation: &RotationRow) -> Result<Self, VaultError> {
        let to = u32::try_from(rotation.to).map_err(|_| VaultError::Rotation(crypto::OpenError::Format))?;
        let opened = crypto::open(&self.key, self.generation, &next_place(to), &rotation.transfer);
        let key = opened.map_err(VaultError::Rotation)?;
        let key = Key::from_slice(&key).ok_or(VaultError::Rotation(crypto::OpenError::Format))?;
        Ok(Self { key, generation: to, slot: self.slot.clone() })
    }

    /// Makes the slot of the next master key that takes the place of the one that opened this, and puts it
    /// on record. It proves that who opens the one can open the other.
    pub(crate) async fn follow(
        next: &Self,
        audit: &Audit,
        unlock: &Unlock,
        old: &str,
    ) -> Result<(), VaultError> {
        let mut row = unlock.make(&next.key, next.generation, now_ms()).await?;
        old.clone_into(&mut row.follows);
        let record = about(unlock.kind(), next.generation, "slot follows");
        match audit.change(record, Mutation::AddSlot(row.clone())).await {
            Ok(_) => Ok(()),
            // Another process was faster with the same slot.
            Err(audit::ChangeError::Lost(_)) => {
                unlock.discard(&row).await;
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Where the next master key lies, sealed under the one in force.
pub(crate) fn next_place(to: u32) -> Place<'static> {
    Place { purpose: Purpose::NextMasterKey, tenant: "", secret: "", name: b"", version: to.into() }
}

pub(crate) fn about(slot: SlotKind, generation: u32, state: &str) -> Record {
    Record::new(Kind::Vault, Verdict::Done)
        .with(Field::Actor, "owner")
        .with(Field::Slot, slot)
        .with(Field::Generation, generation)
        .with(Field::State, state)
}
