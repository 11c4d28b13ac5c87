//! Why the vault did not do what was asked.

use ::store::{Lost, StoreError};
use ::types::SecretName;
use audit::{AuditError, ChangeError};

use crate::backup::BackupError;
use crate::crypto::{CryptoError, OpenError};
use crate::slot::{SlotError, SlotKind};
use crate::types::ValueError;

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
    /// The new master key of a rotation does not open under the one that it replaces.
    #[error("the rotation's new key cannot be opened: {0}; begin again with: ironclaw vault rotate --abort")]
    Rotation(OpenError),
    /// The master key was changed by another process in this very moment.
    #[error("the master key is being changed by another process; try again")]
    Moving,
    /// A sealed key of the audit log does not open.
    #[error("the key of the audit log in the vault cannot be opened: {0}")]
    LogKey(OpenError),
    /// What the log says of its keys cannot be read.
    #[error(transparent)]
    Log(#[from] audit::Broken),
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
    /// The row in use is not the one that the log tells of.
    #[error("{name} was changed outside of this program: version {found} is in use, and the log says {said}")]
    RolledBack {
        /// The secret.
        name: SecretName,
        /// The version in use; 0 for none.
        found: i64,
        /// What the log says.
        said: String,
    },
    /// The value cannot become a secret.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// There is no such secret.
    #[error("there is no secret named {0}")]
    NoSecret(SecretName),
    /// The secret has no such version, or none to go back to.
    #[error("{0} has no such version; its versions: ironclaw secret versions {0}")]
    NoVersion(SecretName),
    /// The version in use is not destroyed alone.
    #[error(
        "version {version} of {name} is in use; set or roll back to another one first, or: ironclaw secret delete {name}"
    )]
    InUse {
        /// The secret.
        name: SecretName,
        /// The version.
        version: i64,
    },
    /// No grant to the vault says how to get a new one.
    #[error(
        "nothing says where a new {0} comes from; grant its refresh token: ironclaw secret grant REFRESH_TOKEN --tool vault --host HOST --path /token --method POST --inject refresh:{0}:CLIENT_ID"
    )]
    NotRenewable(SecretName),
    /// There is no such slot.
    #[error("there is no key slot with that id")]
    NoSlot,
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
    /// A change of slots or keys came too late.
    #[error("the vault was changed by someone else meanwhile: {0}")]
    Changed(Lost),
    /// A backup could not be made or read.
    #[error(transparent)]
    Backup(#[from] BackupError),
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

impl From<ChangeError> for VaultError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::Lost(lost) => Self::Changed(lost),
            ChangeError::Audit(error) => error.into(),
        }
    }
}

fn words(kinds: &[SlotKind]) -> String {
    kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
}
