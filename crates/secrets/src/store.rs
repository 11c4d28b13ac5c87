//! The vault: secrets in rows, each sealed for its tenant, name and version, each change recorded.
//!
//! A vault is made once. As long as a key slot, a wrapped key or a sealed row exists no second master
//! key is made, whatever the keychain answers; two processes that start at once agree through one
//! compare-and-swap. The master key is dropped as soon as the tenant's key is open.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ::store::{Lost, Mutation, Reader, SecretRow, SecretState, SlotRow, StoreError, TenantKeyRow};
use ::types::{Field, Kind, Record, SecretName, Tenant, Verdict};
use audit::{Audit, AuditError, ChangeError, Seq, now_ms};
use safety::leak_detector::{Fingerprints, KnownValues};

use crate::crypto::{self, CryptoError, OpenError, Place, Purpose};
use crate::slot::{SlotError, SlotKind, Unlock};
use crate::types::{Key, Plain, ValueError};

/// The generation of the first master key, and of every tenant's key: rotation makes a new master
/// key and wraps the tenants' keys again, which stay what they are.
const FIRST: u32 = 1;

/// An open vault of one tenant.
pub struct Vault {
    pub(crate) reader: Reader,
    pub(crate) audit: Audit,
    pub(crate) tenant: Tenant,
    key: Key,
    pub(crate) grant_key: Key,
    fingerprint_key: Key,
    /// The highest version of each secret that this process has seen.
    seen: Mutex<HashMap<SecretName, i64>>,
}

/// Why the vault did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// A vault exists, and it has no slot of the kind that was asked for.
    #[error("a vault exists already; it opens with: {}", words(.0))]
    Exists(Vec<SlotKind>),
    /// There is no vault.
    #[error("there is no vault yet; make one with: ironclaw init")]
    None,
    /// Secrets are there and their keys are not. A new master key would make them worthless for ever.
    #[error("sealed secrets exist but the keys to them do not; restore the database from a backup")]
    KeysMissing,
    /// The key slot did not open.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// The tenant's key does not open under the master key.
    #[error("the vault's key cannot be opened: {0}")]
    TenantKey(OpenError),
    /// A row of a secret does not open.
    #[error("the row of {name}, version {version}, cannot be opened: {error}")]
    Row {
        /// The secret.
        name: SecretName,
        /// Its version.
        version: i64,
        /// Why.
        error: OpenError,
    },
    /// An older version was put back, or a version was taken out.
    #[error("{name} was rolled back: version {found} is in use, but version {newest} existed")]
    RolledBack {
        /// The secret.
        name: SecretName,
        /// The version in use.
        found: i64,
        /// The newest version.
        newest: i64,
    },
    /// The value cannot become a secret.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// There is no such secret.
    #[error("there is no secret named {0}")]
    NoSecret(SecretName),
    /// There is no such grant.
    #[error("there is no grant with that id")]
    NoGrant,
    /// A grant without a method would never cover anything.
    #[error("the grant allows no method")]
    EmptyGrant,
    /// Somebody else changed it in the meantime.
    #[error("{name}: {lost}; look again with: ironclaw secret show {name}")]
    Lost {
        /// The secret.
        name: SecretName,
        /// What happened.
        lost: Lost,
    },
    /// The database could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The change could not be recorded, and so was not made.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The generator or the library failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

fn words(kinds: &[SlotKind]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
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

/// A secret, as a person may know it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretInfo {
    /// Its name.
    pub name: SecretName,
    /// The version in use.
    pub version: i64,
    /// Whether it is injected.
    pub state: SecretState,
    /// When that version was put, in milliseconds since 1970.
    pub created_ms: u64,
}

/// The key slots of the vault, oldest first; none where there is no vault. Needs no key.
pub async fn slots(reader: &Reader) -> Result<Vec<SlotInfo>, VaultError> {
    let info = |row: SlotRow| {
        let kind = SlotKind::parse(&row.kind)?;
        Some(SlotInfo { id: row.id, kind, generation: row.generation, created_ms: row.created_ms })
    };
    Ok(reader.slots().await?.into_iter().filter_map(info).collect())
}

impl Vault {
    /// Makes the vault with its first slot. Where one exists already, made before or by another
    /// process at this moment, that one is opened the same way: safe to run twice.
    pub async fn create(reader: Reader, audit: &Audit, unlock: &Unlock) -> Result<Self, VaultError> {
        let tenant = Tenant::local();
        if is_there(&reader, &tenant).await? {
            return Self::open_existing(reader, audit, unlock).await;
        }
        let (master, key) = (Key::random()?, Key::random()?);
        let slot = unlock.make(&master, FIRST, now_ms()).await?;
        let wrapped = crypto::seal(&master, FIRST, &tenant_key_place(&tenant), key.as_bytes())?;
        let tenant_key = TenantKeyRow { tenant: tenant.clone(), generation: FIRST.into(), wrapped };
        let record = Record::new(Kind::Vault, Verdict::Done)
            .with(Field::Actor, "owner")
            .with(Field::Slot, unlock.kind())
            .with(Field::Generation, FIRST)
            .with(Field::State, "created");
        match audit.change(record, Mutation::InitVault { slot: slot.clone(), tenant_key }).await {
            Ok(_) => Self::with_key(reader, audit.clone(), tenant, key),
            Err(ChangeError::Lost(_)) => {
                unlock.discard(&slot).await;
                Self::open_existing(reader, audit, unlock).await
            }
            // The row may be on the disk all the same, so its key stays.
            Err(ChangeError::Audit(error)) => Err(error.into()),
        }
    }

    async fn open_existing(reader: Reader, audit: &Audit, unlock: &Unlock) -> Result<Self, VaultError> {
        let kinds: Vec<SlotKind> = slots(&reader).await?.into_iter().map(|slot| slot.kind).collect();
        if !kinds.is_empty() && !kinds.contains(&unlock.kind()) {
            return Err(VaultError::Exists(kinds));
        }
        Self::open(reader, audit.clone(), unlock).await
    }

    /// Opens the vault through a slot of the kind that `unlock` is for. Never makes a key.
    pub async fn open(reader: Reader, audit: Audit, unlock: &Unlock) -> Result<Self, VaultError> {
        let tenant = Tenant::local();
        let rows = reader.slots().await?;
        let Some(wrapped) = reader.tenant_key(&tenant).await? else {
            let lost = !rows.is_empty() || !reader.secrets(&tenant).await?.is_empty();
            return Err(if lost { VaultError::KeysMissing } else { VaultError::None });
        };
        if rows.is_empty() {
            return Err(VaultError::KeysMissing);
        }
        let (master, generation) = open_any(unlock, &rows).await?;
        let key = crypto::open(&master, generation, &tenant_key_place(&tenant), &wrapped.wrapped)
            .map_err(VaultError::TenantKey)?;
        let key = Key::from_slice(&key).ok_or(VaultError::TenantKey(OpenError::Format))?;
        Self::with_key(reader, audit, tenant, key)
    }

    fn with_key(reader: Reader, audit: Audit, tenant: Tenant, key: Key) -> Result<Self, VaultError> {
        let grant_key = crypto::derive(&key, tenant.as_str(), Purpose::GrantKey)?;
        let fingerprint_key = crypto::derive(&key, tenant.as_str(), Purpose::FingerprintKey)?;
        Ok(Self { reader, audit, tenant, key, grant_key, fingerprint_key, seen: Mutex::default() })
    }

    /// Stores a value as the next version of a secret. `expected` is the version in use now, `None`
    /// for a secret that must not exist; whoever was faster wins. The version before stays for one
    /// rotation, unused.
    pub async fn put(
        &self,
        name: &SecretName,
        value: Plain,
        expected: Option<i64>,
    ) -> Result<Seq, VaultError> {
        value.check()?;
        let fingerprints =
            Fingerprints::of(self.fingerprint_key.as_bytes(), value.expose()).map_err(ValueError::Weak)?;
        let version = self.reader.last_secret_version(&self.tenant, name).await? + 1;
        let row = SecretRow {
            tenant: self.tenant.clone(),
            name: name.clone(),
            version,
            state: SecretState::Current,
            sealed: self.seal(Purpose::Secret, name, version, value.expose())?,
            fingerprints: self.seal(Purpose::Fingerprints, name, version, &fingerprints.to_bytes())?,
            created_ms: now_ms(),
        };
        let record = changed(name, version, "current");
        let seq = self.audit.change(record, Mutation::PutSecret { row, expected }).await;
        let seq = seq.map_err(lost(name))?;
        self.remember(name, version);
        Ok(seq)
    }

    /// Every secret in use, by name. Says nothing of their values, not even a length.
    pub async fn list(&self) -> Result<Vec<SecretInfo>, VaultError> {
        let info = |row: SecretRow| SecretInfo {
            name: row.name,
            version: row.version,
            state: row.state,
            created_ms: row.created_ms,
        };
        Ok(self.reader.secrets(&self.tenant).await?.into_iter().map(info).collect())
    }

    /// Destroys every version of a secret and removes its grants. `expected` is the version in use.
    pub async fn delete(&self, name: &SecretName, expected: i64) -> Result<Seq, VaultError> {
        let tenant = self.tenant.clone();
        let change = Mutation::DeleteSecret { tenant, name: name.clone(), expected };
        let seq = self.audit.change(changed(name, expected, "destroyed"), change).await;
        seq.map_err(|error| match error {
            ChangeError::Lost(Lost::Missing) => VaultError::NoSecret(name.clone()),
            other => lost(name)(other),
        })
    }

    /// What the leak detector needs to know every value that was ever stored. Opens fingerprints
    /// only, never a secret.
    pub async fn known_values(&self) -> Result<KnownValues, VaultError> {
        let mut known = KnownValues::new(*self.fingerprint_key.as_bytes());
        let mut versions: HashMap<SecretName, i64> = HashMap::new();
        for (name, sealed) in self.reader.fingerprints(&self.tenant).await? {
            // Versions count from 1 and rows are never taken out: the position tells the version, and
            // behind a row that is missing nothing opens.
            let version = versions.entry(name.clone()).or_default();
            *version += 1;
            let row = |error| VaultError::Row { name: name.clone(), version: *version, error };
            let opened = self.unseal(Purpose::Fingerprints, &name, *version, &sealed).map_err(row)?;
            let fingerprints = Fingerprints::from_bytes(&opened).map_err(|_| row(OpenError::Format))?;
            known.add(name, fingerprints);
        }
        Ok(known)
    }

    /// Opens the version in use of a secret. The value goes into a lease and nowhere else.
    pub(crate) async fn reveal(&self, name: &SecretName) -> Result<(Plain, i64), VaultError> {
        let versions = self.reader.secret_versions(&self.tenant, name).await?;
        let row = in_use(name, &versions, self.newest_seen(name))?;
        let mut value = self
            .unseal(Purpose::Secret, name, row.version, &row.sealed)
            .map_err(|error| VaultError::Row { name: name.clone(), version: row.version, error })?;
        self.remember(name, row.version);
        Ok((Plain::new(std::mem::take(&mut *value)), row.version))
    }

    fn seal(
        &self,
        purpose: Purpose,
        name: &SecretName,
        version: i64,
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        crypto::seal(&self.key, FIRST, &self.place(purpose, name, version), plain)
    }

    fn unseal(
        &self,
        purpose: Purpose,
        name: &SecretName,
        version: i64,
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, OpenError> {
        crypto::open(&self.key, FIRST, &self.place(purpose, name, version), sealed)
    }

    fn place<'a>(&'a self, purpose: Purpose, name: &'a SecretName, version: i64) -> Place<'a> {
        Place {
            purpose,
            tenant: self.tenant.as_str(),
            secret: name.as_str(),
            name: b"value",
            version: version.unsigned_abs(),
        }
    }

    fn remember(&self, name: &SecretName, version: i64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = seen.entry(name.clone()).or_default();
        *newest = version.max(*newest);
    }

    fn newest_seen(&self, name: &SecretName) -> i64 {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(name).copied().unwrap_or(0)
    }
}

/// The version to inject: the newest one that there ever was, or none.
fn in_use<'a>(name: &SecretName, versions: &'a [SecretRow], seen: i64) -> Result<&'a SecretRow, VaultError> {
    let newest = versions.iter().map(|row| row.version).max().unwrap_or(0).max(seen);
    let used = |row: &&SecretRow| matches!(row.state, SecretState::Current | SecretState::Disabled);
    match versions.iter().find(used) {
        Some(row) if row.version != newest => {
            Err(VaultError::RolledBack { name: name.clone(), found: row.version, newest })
        }
        Some(row) if row.state == SecretState::Current => Ok(row),
        _ => Err(VaultError::NoSecret(name.clone())),
    }
}

/// True when anything exists that an old master key protects.
async fn is_there(reader: &Reader, tenant: &Tenant) -> Result<bool, StoreError> {
    Ok(!reader.slots().await?.is_empty()
        || reader.tenant_key(tenant).await?.is_some()
        || !reader.secrets(tenant).await?.is_empty())
}

/// Opens the first slot of the right kind that opens; otherwise the last one's error.
async fn open_any(unlock: &Unlock, rows: &[SlotRow]) -> Result<(Key, u32), SlotError> {
    let kind = unlock.kind();
    let mut last = SlotError::None(kind);
    for row in rows.iter().filter(|row| row.kind == kind.as_str()) {
        match unlock.open(row).await {
            Ok(opened) => return Ok(opened),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn tenant_key_place(tenant: &Tenant) -> Place<'_> {
    Place {
        purpose: Purpose::TenantKey,
        tenant: tenant.as_str(),
        secret: "",
        name: b"",
        version: FIRST.into(),
    }
}

fn changed(name: &SecretName, version: i64, state: &str) -> Record {
    Record::new(Kind::Secret, Verdict::Done)
        .with(Field::Actor, "owner")
        .with(Field::Secret, name)
        .with(Field::Version, version)
        .with(Field::State, state)
}

fn lost(name: &SecretName) -> impl Fn(ChangeError) -> VaultError {
    move |error| match error {
        ChangeError::Lost(lost) => VaultError::Lost { name: name.clone(), lost },
        ChangeError::Audit(error) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(version: i64, state: SecretState) -> SecretRow {
        SecretRow {
            tenant: Tenant::local(),
            name: SecretName::parse("A_KEY").unwrap(),
            version,
            state,
            sealed: Vec::new(),
            fingerprints: Vec::new(),
            created_ms: 0,
        }
    }

    #[test]
    fn k02_an_old_version_that_was_put_back_is_found() {
        use SecretState::{Current, Destroyed, Disabled, Previous};
        let name = SecretName::parse("A_KEY").unwrap();
        let version = |rows: &[SecretRow], seen| in_use(&name, rows, seen).map(|row| row.version);
        let rolled_back = |rows: &[SecretRow], seen| {
            matches!(version(rows, seen), Err(VaultError::RolledBack { found: 1, newest: 2, .. }))
        };
        assert_eq!(version(&[row(1, Previous), row(2, Current)], 2).unwrap(), 2);
        assert!(rolled_back(&[row(1, Current), row(2, Previous)], 0));
        assert!(rolled_back(&[row(1, Disabled), row(2, Current)], 0));
        assert!(rolled_back(&[row(1, Current), row(2, Destroyed)], 0));
        assert!(rolled_back(&[row(1, Current)], 2));
        for none in [vec![], vec![row(1, Destroyed)], vec![row(1, Previous), row(2, Disabled)]] {
            assert!(matches!(version(&none, 0), Err(VaultError::NoSecret(_))));
        }
    }
}
