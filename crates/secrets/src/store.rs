//! The vault: secrets in rows, each sealed for its tenant, name and version, each change recorded.
//!
//! A vault is made once. As long as a key slot, a wrapped key or a sealed row exists no second master
//! key is made, whatever the keychain answers; two processes that start at once agree through one
//! compare-and-swap. The master key is dropped as soon as the tenant's key is open.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ::store::{Mutation, Reader, SecretRow, SecretState, StoreError, TenantKeyRow};
use ::types::{Digest, Field, Kind, Record, SecretName, Tenant, Verdict};
use audit::{Audit, Broken, ChangeError, Entry, Log, Seq, now_ms};
use safety::leak_detector::{Fingerprints, KnownValues};

use crate::crypto::{self, CryptoError, OpenError, Place, Purpose};
use crate::error::VaultError;
use crate::head::{self, Head};
use crate::key::Key;
use crate::master::{Master, in_force, open_any, slots};
use crate::rotation::unwrap;
use crate::slot::{SlotKind, Unlock};
use crate::types::{Plain, ValueError};

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
    digest_key: Key,
    /// The newest head of each secret that this process has seen.
    seen: Mutex<HashMap<SecretName, u64>>,
}

/// Records that are read at a time.
const PAGE: u32 = 512;

/// How often the vault is read again when its master key is exchanged in between.
const ATTEMPTS: u32 = 5;

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
    /// When its value ends, in milliseconds since 1970.
    pub expires_ms: Option<u64>,
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

    /// Opens the vault through a slot of the kind that `unlock` is for. Never makes a master key. While
    /// one is being exchanged, the slot that opened gets its successor.
    pub async fn open(reader: Reader, audit: Audit, unlock: &Unlock) -> Result<Self, VaultError> {
        let tenant = Tenant::local();
        for _ in 0..ATTEMPTS {
            let rows = reader.slots().await?;
            let wraps = reader.tenant_wraps(&tenant).await?;
            if wraps.is_empty() {
                let lost = !rows.is_empty() || !reader.secrets(&tenant).await?.is_empty();
                return Err(if lost { VaultError::KeysMissing } else { VaultError::None });
            }
            if rows.is_empty() {
                return Err(VaultError::KeysMissing);
            }
            let rotation = reader.rotation().await?;
            let master = open_any(unlock, in_force(&rows, rotation.as_ref())).await?;
            let of_master = |wrap: &&TenantKeyRow| wrap.generation == i64::from(master.generation);
            // Missing where the rotation ended between two of these reads.
            let Some(wrap) = wraps.iter().find(of_master) else { continue };
            let key = unwrap(&master, wrap)?;
            if let Some(row) = rotation.filter(|row| row.from == wrap.generation)
                && !rows.iter().any(|slot| slot.follows == master.slot)
            {
                // What fails here is tried again at the next opening; until then the rotation waits.
                let next = master.next(&row)?;
                let _ = Master::follow(&next, &audit, unlock, &master.slot).await;
            }
            return Self::with_key(reader, audit, tenant, key);
        }
        Err(VaultError::Moving)
    }

    fn with_key(reader: Reader, audit: Audit, tenant: Tenant, key: Key) -> Result<Self, VaultError> {
        let grant_key = crypto::derive(&key, tenant.as_str(), Purpose::GrantKey)?;
        let fingerprint_key = crypto::derive(&key, tenant.as_str(), Purpose::FingerprintKey)?;
        let digest_key = crypto::derive(&key, tenant.as_str(), Purpose::DigestKey)?;
        let seen = Mutex::default();
        Ok(Self { reader, audit, tenant, key, grant_key, fingerprint_key, digest_key, seen })
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
        self.put_until(name, value, expected, None).await
    }

    /// The same, for a value that ends at that moment, in milliseconds since 1970. Past it no lease is given.
    pub async fn put_until(
        &self,
        name: &SecretName,
        value: Plain,
        expected: Option<i64>,
        expires_ms: Option<u64>,
    ) -> Result<Seq, VaultError> {
        value.check()?;
        let fingerprints =
            Fingerprints::of(self.fingerprint_key.as_bytes(), value.expose()).map_err(ValueError::Weak)?;
        let head = self.head(name).await?;
        let version = self.reader.last_secret_version(&self.tenant, name).await? + 1;
        let row = SecretRow {
            tenant: self.tenant.clone(),
            name: name.clone(),
            version,
            state: SecretState::Current,
            sealed: self.seal(expires_ms, Purpose::Secret, name, version, value.expose())?,
            fingerprints: self.seal(None, Purpose::Fingerprints, name, version, &fingerprints.to_bytes())?,
            created_ms: now_ms(),
        };
        let record = head.next(version, SecretState::Current).record(&self.grant_key, &self.tenant, name);
        let record = record.with(Field::Value, self.digest(&value));
        self.audit
            .change(record, Mutation::PutSecret { row, expected })
            .await
            .map_err(|error| lost(name, error))
    }

    /// Whether values can be stored: of several, all are looked at before the first is stored.
    pub(crate) fn accepts<'a>(&self, values: impl IntoIterator<Item = &'a Plain>) -> Result<(), VaultError> {
        for value in values {
            value.check()?;
            Fingerprints::of(self.fingerprint_key.as_bytes(), value.expose()).map_err(ValueError::Weak)?;
        }
        Ok(())
    }

    /// What every placeholder of this vault's installation has in it, whichever run made it. No secret: each client of a proxy
    /// sees it. Nobody can guess it who has seen none, and it tells nothing of the key that it comes from.
    pub fn placeholder_mark(&self) -> Result<Digest, VaultError> {
        let mark = crypto::derive(&self.key, self.tenant.as_str(), Purpose::PlaceholderMark)?;
        Ok(Digest::of(mark.as_bytes()))
    }

    /// What stands in a record for a value: 128 bits of an HMAC under a key of this vault. Whoever has the log alone
    /// cannot test a guess against it, and whoever has the vault can ([`Vault::told_of`]).
    pub(crate) fn digest(&self, value: &Plain) -> String {
        let digest = crypto::authenticate(&self.digest_key, &[value.expose()]);
        digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }

    /// Every record in the log that tells of this value: when it was put, and each of its uses, also of a secret that
    /// was destroyed since. `each` is given one after the other, oldest first.
    pub async fn told_of(&self, candidate: &Plain, mut each: impl FnMut(Entry)) -> Result<(), VaultError> {
        let digest = self.digest(candidate);
        let (log, mut after) = (Log::new(self.reader.clone()), 0);
        loop {
            let entries = log.after(after, PAGE).await.map_err(|error| match error {
                Broken::Store(error) => VaultError::Store(error),
                _ => VaultError::Store(StoreError::Damaged("audit_record")),
            })?;
            let Some(last) = entries.last() else { return Ok(()) };
            after = last.seq;
            let of_it = |entry: &Entry| entry.record.field(Field::Value) == Some(digest.as_str());
            entries.into_iter().filter(of_it).for_each(&mut each);
        }
    }

    /// Every secret in use, by name. Says nothing of their values, not even a length.
    pub async fn list(&self) -> Result<Vec<SecretInfo>, VaultError> {
        let info = |row: SecretRow| SecretInfo {
            name: row.name,
            version: row.version,
            state: row.state,
            created_ms: row.created_ms,
            expires_ms: crypto::expiry(&row.sealed),
        };
        Ok(self.reader.secrets(&self.tenant).await?.into_iter().map(info).collect())
    }

    /// What the leak detector needs to know every value that was ever stored. Opens fingerprints
    /// only, never a secret.
    pub async fn known_values(&self) -> Result<KnownValues, VaultError> {
        let mut known = self.no_values();
        let mut versions: HashMap<SecretName, i64> = HashMap::new();
        for (name, sealed) in self.reader.fingerprints(&self.tenant).await? {
            // Versions count from 1 and rows are never taken out: the position tells the version, and
            // behind a row that is missing nothing opens.
            let version = versions.entry(name.clone()).or_default();
            *version += 1;
            let row = |error| VaultError::Row { name: name.clone(), version: *version, error };
            let fingerprints = self.open_fingerprints(&name, *version, &sealed).map_err(row)?;
            known.add_version(name, *version, fingerprints);
        }
        Ok(known)
    }

    /// What one version of a secret is known by.
    pub(crate) fn open_fingerprints(
        &self,
        name: &SecretName,
        version: i64,
        sealed: &[u8],
    ) -> Result<Fingerprints, OpenError> {
        let opened = self.unseal(Purpose::Fingerprints, name, version, sealed)?;
        Fingerprints::from_bytes(&opened).map_err(|_| OpenError::Format)
    }

    /// No values, under the key of this vault's fingerprints.
    pub(crate) fn no_values(&self) -> KnownValues {
        KnownValues::new(*self.fingerprint_key.as_bytes())
    }

    /// Opens every version of every secret that is not destroyed, and throws the values away. How many
    /// there are.
    pub async fn check(&self) -> Result<usize, VaultError> {
        let mut opened = 0;
        for info in self.list().await? {
            self.agreed(&info.name, Some((info.version, info.state)), self.head(&info.name).await?)?;
            for row in self.reader.secret_versions(&self.tenant, &info.name).await? {
                if row.state != SecretState::Destroyed {
                    self.open_row(&row)?;
                    opened += 1;
                }
            }
        }
        Ok(opened)
    }

    /// The value of a row. It goes into a lease or a backup and nowhere else.
    pub(crate) fn open_row(&self, row: &SecretRow) -> Result<Plain, VaultError> {
        let opened = self.unseal(Purpose::Secret, &row.name, row.version, &row.sealed);
        let error = |error| VaultError::Row { name: row.name.clone(), version: row.version, error };
        Ok(Plain::new(std::mem::take(&mut *opened.map_err(error)?)))
    }

    /// What the log says about a secret, never older than what this process has seen.
    pub(crate) async fn head(&self, name: &SecretName) -> Result<Head, VaultError> {
        let (low, high) = head::claims(&self.tenant, name);
        let row = self.reader.last_claim(&low, &high).await?;
        self.newest(name, Head::read(row.as_ref(), &self.grant_key, &self.tenant, name))
    }

    /// Refuses a head that is not authentic, or older than one that this process has seen.
    pub(crate) fn newest(
        &self,
        name: &SecretName,
        read: Result<Head, head::Forged>,
    ) -> Result<Head, VaultError> {
        let not = |said: &str| VaultError::RolledBack { name: name.clone(), found: 0, said: said.to_owned() };
        let head = read.map_err(|_| not("nothing that this vault wrote"))?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = seen.entry(name.clone()).or_default();
        if head.generation < *newest {
            return Err(not("less than it said before"));
        }
        *newest = head.generation;
        Ok(head)
    }

    /// Refuses rows that the log does not tell of: `in_use` is the version in use and its state.
    pub(crate) fn agreed(
        &self,
        name: &SecretName,
        in_use: Option<(i64, SecretState)>,
        head: Head,
    ) -> Result<(), VaultError> {
        let told = (head.state != SecretState::Destroyed).then_some((head.version, head.state));
        if in_use == told {
            return Ok(());
        }
        let said = match told {
            Some((version, state)) => format!("version {version}, {state}"),
            None => "that there is none".to_owned(),
        };
        let found = in_use.map_or(0, |(version, _)| version);
        Err(VaultError::RolledBack { name: name.clone(), found, said })
    }

    /// Makes a change of a secret together with its new head. `what` says more than the head does.
    pub(crate) async fn change(
        &self,
        name: &SecretName,
        head: Head,
        what: Option<String>,
        mutation: Mutation,
    ) -> Result<Seq, VaultError> {
        let mut record = head.record(&self.grant_key, &self.tenant, name);
        if let Some(what) = what {
            record = record.with(Field::Reason, what);
        }
        self.audit.change(record, mutation).await.map_err(|error| lost(name, error))
    }

    fn seal(
        &self,
        expires_ms: Option<u64>,
        purpose: Purpose,
        name: &SecretName,
        version: i64,
        plain: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        crypto::seal_until(expires_ms, &self.key, FIRST, &self.place(purpose, name, version), plain)
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

    /// Seals what is no version of a secret.
    pub(crate) fn seal_at(&self, place: &Place<'_>, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        crypto::seal(&self.key, FIRST, place, plain)
    }

    /// Opens what was sealed there.
    pub(crate) fn unseal_at(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
    ) -> Result<zeroize::Zeroizing<Vec<u8>>, OpenError> {
        crypto::open(&self.key, FIRST, place, sealed)
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
}

fn lost(name: &SecretName, error: ChangeError) -> VaultError {
    match error {
        ChangeError::Lost(lost) => VaultError::Lost { name: name.clone(), lost },
        ChangeError::Audit(error) => error.into(),
    }
}

/// True when anything exists that an old master key protects.
async fn is_there(reader: &Reader, tenant: &Tenant) -> Result<bool, StoreError> {
    Ok(!reader.slots().await?.is_empty()
        || !reader.tenant_wraps(tenant).await?.is_empty()
        || !reader.secrets(tenant).await?.is_empty())
}

/// Where a tenant's key lies, sealed under the master key.
pub(crate) fn tenant_key_place(tenant: &Tenant) -> Place<'_> {
    Place {
        purpose: Purpose::TenantKey,
        tenant: tenant.as_str(),
        secret: "",
        name: b"",
        version: FIRST.into(),
    }
}
