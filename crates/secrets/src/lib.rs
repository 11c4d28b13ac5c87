//! Sealed secrets, key slots, grants and leases: the only crate that sees a secret in clear.
//!
//! Tier 4. A key slot ([`slot`]: keychain, systemd credential, file, passphrase or recovery code) opens the master key, the master key
//! opens a tenant's key, and that key opens one version of one secret ([`crypto`] has the format).
//! Three roads lead out of here:
//!
//! - [`Vault::lease`] and [`inject`]: a secret becomes part of one permitted request, which comes out
//!   as an [`Armed`] one that only the wire takes apart;
//! - [`inject_renewal`] and [`Vault::capture`]: a refresh token goes to the place that gives new tokens, and
//!   what comes back goes into the vault;
//! - [`Vault::known_values`]: keyed fingerprints, by which the leak detector knows every value
//!   without holding one.
//!
//! The key that seals the audit log is kept here too (`log_key`), and comes out as what signs, not as bytes.
//! No function returns a secret; [`key_file::fingerprint_key`] opens nothing. [`store`] is the file to read first, [`lease`] the second.

pub mod backup;
pub mod credential;
pub mod crypto;
mod error;
mod grants;
mod head;
mod injector;
mod key;
pub mod key_file;
pub mod keychain;
mod lease;
mod log_key;
mod master;
pub mod passphrase;
pub mod recovery;
mod renewal;
mod rotation;
pub mod rules;
pub mod slot;
pub mod store;
mod taking;
pub mod types;
mod versions;

pub use self::store::{SecretInfo, Vault};
pub use self::types::{Plain, ValueError};
pub use error::VaultError;
pub use grants::{GrantInfo, revoke};
pub use injector::{Armed, inject, inject_renewal, inject_taking};
pub use key::can_lock;
pub use keychain::KeychainState;
pub use lease::{LEASE_LIFETIME, Leases};
pub use master::{SlotInfo, add_slot, remove_slot, slots};
pub use renewal::{Capture, Captured, Renewal, expires_ms};
pub use rotation::{Progress, abort_rotation, rotate};
pub use slot::{SlotKind, Unlock};
pub use taking::{Taken, Taking};
