//! A backup of the vault in one file under a passphrase: what a person can keep elsewhere and bring back on
//! any machine, whatever its key slots are.
//!
//! ```text
//! file  = "ironclaw vault backup 1\n" cost[45] sealed        cost: Argon2id's parameters and salt
//! sealed = the format of `crypto` under the key of the passphrase, bound to the cost
//! plain = item*          item = kind[1] field*               each field behind its 4-byte length
//!         's' name state value        'g' canonical bytes of a grant
//!         't' name state end value    end: when the value ends, 8 bytes of milliseconds since 1970
//! ```
//!
//! It holds the version in use of every secret and the grants that are authentic. Bringing it back puts
//! values as new versions and gives grants anew; what exists is never replaced, and what was destroyed here
//! stays destroyed unless the owner says otherwise (K18).

use ::store::SecretState;
use ::types::{Field, Grant, Kind, Record, SecretName, Verdict};
use zeroize::Zeroizing;

use crate::crypto::{self, OpenError, Place, Purpose};
use crate::error::VaultError;
use crate::passphrase::{Cost, MIN_PASSPHRASE};
use crate::store::Vault;
use crate::types::Plain;

const MAGIC: &[u8] = b"ironclaw vault backup 1\n";

/// The largest backup that is read.
pub const MAX: u64 = 64 * 1024 * 1024;

/// Why a backup was not made or read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BackupError {
    /// The passphrase is too short to be worth anything.
    #[error("the passphrase is shorter than {MIN_PASSPHRASE} bytes")]
    Short,
    /// Not a backup, or of a later version.
    #[error("this is no backup of a vault, or one that a newer version wrote")]
    Format,
    /// Another passphrase.
    #[error("the passphrase does not open this backup")]
    Passphrase,
    /// Changed or cut since it was written.
    #[error("the backup was altered")]
    Altered,
}

/// What bringing a backup back does, or would do.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Restored {
    /// Put as new versions.
    pub secrets: Vec<SecretName>,
    /// Not touched: there is one of that name.
    pub kept: Vec<SecretName>,
    /// Not touched: it was destroyed here.
    pub destroyed: Vec<SecretName>,
    /// Grants given anew.
    pub grants: usize,
}

/// One entry of a backup.
enum Item {
    Secret { name: SecretName, state: SecretState, expires_ms: Option<u64>, value: Plain },
    Grant(Grant),
}

impl Vault {
    /// The bytes of a backup under a passphrase. On record before they exist.
    pub async fn backup(&self, passphrase: &Plain) -> Result<Vec<u8>, VaultError> {
        if passphrase.len() < MIN_PASSPHRASE {
            return Err(BackupError::Short.into());
        }
        let (mut plain, mut count) = (Zeroizing::new(Vec::new()), 0);
        for info in self.list().await? {
            self.agreed(&info.name, Some((info.version, info.state)), self.head(&info.name).await?)?;
            let Some(row) = self.reader.secret(&self.tenant, &info.name).await? else { continue };
            let value = self.open_row(&row)?;
            let (name, state) = (row.name.as_str().as_bytes(), row.state.as_str().as_bytes());
            match crypto::expiry(&row.sealed) {
                None => item(&mut plain, b's', &[name, state, value.expose()]),
                Some(end) => item(&mut plain, b't', &[name, state, &end.to_be_bytes(), value.expose()]),
            }
            count += 1;
        }
        for info in self.grants().await?.iter().filter(|info| info.authentic) {
            if let Some(grant) = &info.grant {
                item(&mut plain, b'g', &[&grant.encode()]);
            }
        }
        let cost = Cost::fresh()?;
        let key = cost.key(passphrase).await.map_err(|_| BackupError::Format)?;
        let cost = cost.encode();
        let sealed = crypto::seal(&key, 0, &place(&cost), &plain)?;
        let record = Record::new(Kind::Vault, Verdict::Done)
            .with(Field::Actor, "owner")
            .with(Field::State, "backup made")
            .with(Field::Count, count);
        self.audit.record(record).await?;
        Ok([MAGIC, &cost, &sealed].concat())
    }

    /// Brings back what is not there. `revive` also brings back what was destroyed here; `dry` only says
    /// what would be done.
    pub async fn restore(
        &self,
        file: &[u8],
        passphrase: &Plain,
        revive: bool,
        dry: bool,
    ) -> Result<Restored, VaultError> {
        let mut restored = Restored::default();
        for item in read(file, passphrase).await? {
            match item {
                Item::Secret { name, .. } if self.reader.secret(&self.tenant, &name).await?.is_some() => {
                    restored.kept.push(name);
                }
                Item::Secret { name, state, expires_ms, value } => {
                    let last = self.reader.last_secret_version(&self.tenant, &name).await?;
                    if last > 0 && !revive {
                        restored.destroyed.push(name);
                        continue;
                    }
                    if !dry {
                        self.put_until(&name, value, None, expires_ms).await?;
                        if state == SecretState::Disabled {
                            self.disable(&name).await?;
                        }
                    }
                    restored.secrets.push(name);
                }
                // Grants follow their secrets, and only those that came back.
                Item::Grant(grant) if restored.secrets.contains(&grant.secret) => {
                    if !dry {
                        self.grant(&grant).await?;
                    }
                    restored.grants += 1;
                }
                Item::Grant(_) => {}
            }
        }
        Ok(restored)
    }
}

async fn read(file: &[u8], passphrase: &Plain) -> Result<Vec<Item>, VaultError> {
    let rest = file.strip_prefix(MAGIC).ok_or(BackupError::Format)?;
    let (cost, sealed) = rest.split_at_checked(Cost::ENCODED).ok_or(BackupError::Format)?;
    let key = Cost::decode(cost).map_err(|_| BackupError::Format)?.key(passphrase).await;
    let key = key.map_err(|_| BackupError::Format)?;
    let plain = crypto::open(&key, 0, &place(cost), sealed).map_err(|error| match error {
        OpenError::Binding => BackupError::Passphrase,
        _ => BackupError::Altered,
    })?;
    items(&plain).ok_or_else(|| BackupError::Format.into())
}

fn place(cost: &[u8]) -> Place<'_> {
    Place { purpose: Purpose::Backup, tenant: "", secret: "", name: cost, version: 0 }
}

fn item(plain: &mut Vec<u8>, kind: u8, fields: &[&[u8]]) {
    plain.push(kind);
    for field in fields {
        plain.extend_from_slice(&(field.len() as u32).to_be_bytes());
        plain.extend_from_slice(field);
    }
}

fn items(mut rest: &[u8]) -> Option<Vec<Item>> {
    let mut items = Vec::new();
    while let Some((kind, tail)) = rest.split_first() {
        rest = tail;
        let mut field = || {
            let (length, tail) = rest.split_first_chunk::<4>()?;
            let (field, tail) = tail.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            rest = tail;
            Some(field)
        };
        items.push(match kind {
            b's' | b't' => Item::Secret {
                name: SecretName::parse(std::str::from_utf8(field()?).ok()?).ok()?,
                state: SecretState::parse(std::str::from_utf8(field()?).ok()?)?,
                expires_ms: match kind {
                    b't' => Some(u64::from_be_bytes(field()?.try_into().ok()?)),
                    _ => None,
                },
                value: Plain::new(field()?.to_vec()),
            },
            b'g' => Item::Grant(Grant::decode(field()?).ok()?),
            _ => return None,
        });
    }
    Some(items)
}
