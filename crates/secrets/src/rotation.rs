//! A new master key, without a moment in which anything does not open.
//!
//! | step | what is durable after it | who opens what |
//! | --- | --- | --- |
//! | begin | the new key, sealed under the old one | old slots, old wraps |
//! | follow | for each old slot one of the new key: made by whoever opens the old one, which proves it | the same |
//! | wrap | each tenant's key a second time, under the new key | the same |
//! | switch | one row says that the new key is in force | new slots, new wraps |
//! | finish | old slots and wraps are gone, and the keys of the old slots erased | the same |
//!
//! Each step is one transaction, so a process that is killed between any two leaves a vault that opens, and
//! a rotation that goes on where it stood (K08). Secrets are not touched: tenants' keys stay what they are
//! and only their wraps change. So a rotation takes nothing away from somebody who had the old master key
//! *and* a copy of the database; it makes copies of the database worthless to whoever gets only a copy, as
//! soon as the old slots' keys are erased (a passphrase opens old copies for ever).

use std::time::Duration;

use ::store::{Mutation, Reader, RotationRow, RotationState, SlotRow, TenantKeyRow};
use ::types::{Field, Kind, Record, Verdict};
use audit::{Audit, now_ms};
use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::crypto::{self, OpenError};
use crate::error::VaultError;
use crate::key::Key;
use crate::master::{Master, SlotInfo, next_place, open_any};
use crate::slot::{SlotError, SlotKind, Unlock};
use crate::store::tenant_key_place;

/// Wraps in one transaction: others can record between two.
const TOGETHER: usize = 500;

/// How far one call came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Progress {
    /// The new key exists.
    Begun {
        /// Its generation.
        generation: i64,
    },
    /// One more slot opens the new key.
    Followed(SlotKind),
    /// So many tenants' keys more are wrapped under it.
    Wrapped(usize),
    /// It is in force.
    Switched,
    /// The old one is gone. Nothing is left to do.
    Finished,
    /// These slots must be opened, or removed, before it can be in force. A slot on another machine
    /// follows by itself when the vault is opened there.
    Waits(Vec<SlotInfo>),
    /// The old one stays until then, in milliseconds since 1970.
    Grace(u64),
}

/// Takes the next step of the rotation under way, or begins one. `hands` open slots: one of the master key
/// in force, and as many others as are at hand; a recovery code among them is a new one, which replaces the
/// old. Call it again until it says [`Progress::Finished`], waits or gives grace.
pub async fn rotate(
    reader: &Reader,
    audit: &Audit,
    hands: &[Unlock],
    grace: Duration,
) -> Result<Progress, VaultError> {
    let work = Work { reader, audit, hands, slots: reader.slots().await? };
    match reader.rotation().await? {
        None => work.begin().await,
        Some(row) if row.state == RotationState::Pending => work.prepare(&row).await,
        Some(row) => {
            let until = row.switched_ms.saturating_add(grace.as_millis() as u64);
            if now_ms() < until { Ok(Progress::Grace(until)) } else { work.finish(&row).await }
        }
    }
}

/// Gives up a rotation that is not in force yet.
pub async fn abort_rotation(reader: &Reader, audit: &Audit, hands: &[Unlock]) -> Result<(), VaultError> {
    let Some(row) = reader.rotation().await?.filter(|row| row.state == RotationState::Pending) else {
        return Err(VaultError::Changed(::store::Lost::Missing));
    };
    let slots = reader.slots().await?;
    audit.change(about(row.to, "rotation given up"), Mutation::AbortRotation { to: row.to }).await?;
    erase(hands, slots.iter().filter(|slot| slot.generation == row.to)).await;
    Ok(())
}

struct Work<'a> {
    reader: &'a Reader,
    audit: &'a Audit,
    hands: &'a [Unlock],
    slots: Vec<SlotRow>,
}

impl Work<'_> {
    async fn begin(&self) -> Result<Progress, VaultError> {
        let master = self.open(None).await?;
        let next = Key::random()?;
        let to = master.generation.checked_add(1).ok_or(VaultError::Moving)?;
        let row = RotationRow {
            from: master.generation.into(),
            to: to.into(),
            transfer: crypto::seal(&master.key, master.generation, &next_place(to), next.as_bytes())?,
            state: RotationState::Pending,
            switched_ms: 0,
        };
        let generation = row.to;
        self.audit.change(about(row.to, "rotation begun"), Mutation::BeginRotation(row)).await?;
        Ok(Progress::Begun { generation })
    }

    /// Everything between begin and switch.
    async fn prepare(&self, row: &RotationRow) -> Result<Progress, VaultError> {
        let master = self.open(Some(row.from)).await?;
        let next = master.next(row)?;
        let mut waiting = Vec::new();
        for old in self.slots.iter().filter(|slot| slot.generation == row.from) {
            if self.slots.iter().any(|slot| slot.generation == row.to && slot.follows == old.id) {
                continue;
            }
            match self.hand_for(old).await {
                Some(hand) => {
                    Master::follow(&next, self.audit, hand, &old.id).await?;
                    return Ok(Progress::Followed(hand.kind()));
                }
                None => waiting.extend(SlotInfo::of(old)),
            }
        }
        let keys = self.reader.tenant_keys().await?;
        let wraps = self.reader.pending_wraps().await?;
        let is_wrapped = |key: &&TenantKeyRow| wraps.iter().any(|wrap| wrap.tenant == key.tenant);
        let missing: Vec<&TenantKeyRow> = keys.iter().filter(|key| !is_wrapped(key)).take(TOGETHER).collect();
        if !missing.is_empty() {
            let rows: Result<Vec<_>, _> = missing.iter().map(|key| rewrap(&master, &next, key)).collect();
            let wrapped = missing.len();
            let record = about(row.to, "keys wrapped").with(Field::Count, wrapped);
            self.audit.change(record, Mutation::PutPendingWraps(rows?)).await?;
            return Ok(Progress::Wrapped(wrapped));
        }
        if !waiting.is_empty() {
            return Ok(Progress::Waits(waiting));
        }
        self.prove(&master, &next, row, &keys, &wraps).await?;
        self.audit.change(about(row.to, "new key in force"), Mutation::SwitchRotation { to: row.to }).await?;
        Ok(Progress::Switched)
    }

    /// Opens everything once more from what was stored, before anything depends on it.
    async fn prove(
        &self,
        master: &Master,
        next: &Master,
        row: &RotationRow,
        keys: &[TenantKeyRow],
        wraps: &[TenantKeyRow],
    ) -> Result<(), VaultError> {
        let new = self.slots.iter().filter(|slot| slot.generation == row.to);
        for hand in self.hands.iter().filter(|hand| new.clone().any(|slot| slot.kind == hand.kind().as_str()))
        {
            let opened = match open_any(hand, new.clone()).await {
                Ok(opened) => opened,
                // The code of a run that was interrupted; this run brings another one.
                Err(SlotError::WrongKey(SlotKind::Recovery)) => continue,
                Err(error) => return Err(error.into()),
            };
            verify_slices_are_equal(opened.key.as_bytes(), next.key.as_bytes())
                .map_err(|_| VaultError::Rotation(OpenError::Altered))?;
        }
        for key in keys {
            let wrap = wraps.iter().find(|wrap| wrap.tenant == key.tenant);
            let wrap = wrap.ok_or(VaultError::TenantKey(OpenError::Format))?;
            let (old, new) = (unwrap(master, key)?, unwrap(next, wrap)?);
            verify_slices_are_equal(old.as_bytes(), new.as_bytes())
                .map_err(|_| VaultError::TenantKey(OpenError::Altered))?;
        }
        Ok(())
    }

    /// Erases first: while the rows are there, who is killed here can do it again.
    async fn finish(&self, row: &RotationRow) -> Result<Progress, VaultError> {
        self.open(Some(row.to)).await?;
        erase(self.hands, self.slots.iter().filter(|slot| slot.generation == row.from)).await;
        self.audit.change(about(row.to, "old key removed"), Mutation::FinishRotation { to: row.to }).await?;
        Ok(Progress::Finished)
    }

    /// The master key of a generation, by the first hand that opens it.
    async fn open(&self, generation: Option<i64>) -> Result<Master, VaultError> {
        let mut last = None;
        for hand in self.hands {
            let rows = self.slots.iter().filter(|row| generation.is_none_or(|own| row.generation == own));
            match open_any(hand, rows).await {
                Ok(master) => return Ok(master),
                Err(SlotError::None(_)) => {}
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or(VaultError::NoSlot, VaultError::Slot))
    }

    /// Who can make the successor of a slot: who opens it, or brings the code that replaces its code.
    async fn hand_for(&self, old: &SlotRow) -> Option<&Unlock> {
        for hand in self.hands.iter().filter(|hand| hand.kind().as_str() == old.kind) {
            if hand.kind() == SlotKind::Recovery || hand.open(old).await.is_ok() {
                return Some(hand);
            }
        }
        None
    }
}

/// Erases the keys that slots kept on this machine. What is gone already, or lies on another machine, is
/// passed over.
async fn erase(hands: &[Unlock], slots: impl Iterator<Item = &SlotRow>) {
    for slot in slots {
        for hand in hands.iter().filter(|hand| hand.kind().as_str() == slot.kind) {
            hand.discard(slot).await;
        }
    }
}

fn rewrap(from: &Master, to: &Master, key: &TenantKeyRow) -> Result<TenantKeyRow, VaultError> {
    let opened = unwrap(from, key)?;
    let wrapped = crypto::seal(&to.key, to.generation, &tenant_key_place(&key.tenant), opened.as_bytes())?;
    Ok(TenantKeyRow { tenant: key.tenant.clone(), generation: to.generation.into(), wrapped })
}

/// A tenant's key from its wrap.
pub(crate) fn unwrap(master: &Master, row: &TenantKeyRow) -> Result<Key, VaultError> {
    let place = tenant_key_place(&row.tenant);
    let opened = crypto::open(&master.key, master.generation, &place, &row.wrapped);
    let opened = opened.map_err(VaultError::TenantKey)?;
    Key::from_slice(&opened).ok_or(VaultError::TenantKey(OpenError::Format))
}

fn about(generation: i64, state: &str) -> Record {
    Record::new(Kind::Vault, Verdict::Done)
        .with(Field::Actor, "owner")
        .with(Field::Generation, generation)
        .with(Field::State, state)
}

#[cfg(test)]
mod tests {
    use ::types::Tenant;

    use super::*;
    use crate::store::Vault;

    const TENANTS: usize = 1000;

    /// Prints what the exchange of the master key over a thousand tenants costs, syncs included.
    #[tokio::test]
    #[ignore = "a measurement: cargo test --release -p secrets --lib rotation -- --ignored --nocapture"]
    #[allow(clippy::disallowed_macros, reason = "a measurement is printed")]
    async fn cost_of_a_rotation_over_a_thousand_tenants() {
        let home = tempfile::tempdir().unwrap();
        let (reader, writer) = ::store::open(&home.path().join("data/ironclaw.db")).await.unwrap();
        let (audit, _drain) = Audit::start(writer);
        let hands = [Unlock::File(home.path().join("keys"))];
        drop(Vault::create(reader.clone(), &audit, &hands[0]).await.unwrap());
        let step = async || rotate(&reader, &audit, &hands, Duration::ZERO).await.unwrap();
        // The first exchange brings the other tenants with it.
        while step().await != Progress::Switched {
            let Some(row) = reader.rotation().await.unwrap() else { continue };
            let slots = reader.slots().await.unwrap();
            let old = slots.iter().filter(|slot| slot.generation == row.from);
            let next = open_any(&hands[0], old).await.unwrap().next(&row).unwrap();
            let rows = (1..TENANTS).map(|number| {
                let (tenant, key) = (Tenant::parse(&format!("t{number}")).unwrap(), Key::random().unwrap());
                let place = tenant_key_place(&tenant);
                let wrapped = crypto::seal(&next.key, next.generation, &place, key.as_bytes()).unwrap();
                TenantKeyRow { wrapped, generation: row.to, tenant }
            });
            audit.change(about(row.to, "tenants"), Mutation::PutPendingWraps(rows.collect())).await.unwrap();
        }
        assert_eq!(step().await, Progress::Finished);
        assert_eq!(reader.tenant_keys().await.unwrap().len(), TENANTS);
        let since = std::time::Instant::now();
        let mut steps = 1;
        while step().await != Progress::Finished {
            steps += 1;
        }
        println!("{TENANTS} tenants, {steps} steps: {} ms", since.elapsed().as_millis());
    }
}
