//! Sealed secrets, key slots, grants and leases: the only crate that sees a secret in clear.
//!
//! Tier 4. A key slot ([`slot`]: keychain, passphrase or file) opens the master key, the master key
//! opens a tenant's key, and that key opens one version of one secret ([`crypto`] has the format).
//! Two roads lead out of here:
//!
//! - [`Vault::lease`] and [`inject`]: a secret becomes part of one permitted request, which comes out
//!   as an [`Armed`] one that only the wire takes apart;
//! - [`Vault::known_values`]: keyed fingerprints, by which the leak detector knows every value
//!   without holding one.
//!
//! No function returns a secret; [`key_file::fingerprint_key`] opens nothing. [`store`] is the file to read first, [`lease`] the second.

pub mod crypto;
mod grants;
mod injector;
pub mod key_file;
pub mod keychain;
mod lease;
pub mod passphrase;
pub mod rules;
pub mod slot;
pub mod store;
pub mod types;

pub use self::store::{SecretInfo, SlotInfo, Vault, VaultError, slots};
pub use self::types::{Plain, ValueError};
pub use grants::GrantInfo;
pub use injector::{Armed, inject};
pub use keychain::KeychainState;
pub use lease::{LEASE_LIFETIME, Leases};
pub use slot::{SlotKind, Unlock};
