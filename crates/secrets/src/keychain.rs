//! The keychain of the operating system: one entry a key slot.
//!
//! On Linux the Secret Service (GNOME Keyring, KWallet and others) over the session bus. On macOS the
//! user's keychain and on Windows the Credential Manager: both are UNTESTED, nobody has run them.
//!
//! Nothing here makes a prompt appear. A locked keychain answers "no entry" for what it does hold,
//! so its state is asked for first, and "no entry" is an error of its own that no caller may read as
//! "there never was one". The libraries block, so every call runs on a thread for blocking work and
//! is given up after [`PATIENCE`].

use std::sync::Arc;
use std::time::Duration;

use keyring_core::{CredentialStore, Entry, Error};
use zeroize::Zeroizing;

use crate::key::Key;

/// How long the keychain may take. An unlocked one answers in milliseconds; one that waits for a
/// person would hang every start.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The service under which all entries stand; the account is the slot's id.
const SERVICE: &str = "ironclaw";

/// What the keychain can do for us, found out without a prompt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeychainState {
    /// Unlocked; entries can be read and written.
    Ready,
    /// There, and locked.
    Locked,
    /// It runs, and has no default collection: it was never used by this user.
    Unused,
    /// Nothing answers.
    Absent,
}

/// Why the keychain did not give or take a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeychainError {
    /// Nothing answers.
    #[error(
        "no keychain answers; log in to a desktop session or start a Secret Service such as gnome-keyring-daemon"
    )]
    Absent,
    /// It is locked, so what it holds cannot be known.
    #[error("the keychain is locked; unlock it (log in, or open Passwords and Keys) and try again")]
    Locked,
    /// There is no place for an entry.
    #[error("the keychain has no default collection; open Passwords and Keys and create one named Login")]
    Unused,
    /// It holds nothing for the slot: another user's keychain, a fresh one, or one whose entry was deleted.
    #[error(
        "the keychain holds no entry for this key slot; no new master key is made while the old one is in use"
    )]
    NoEntry,
    /// It waited for something, perhaps for a person.
    #[error("the keychain did not answer in {} s", PATIENCE.as_secs())]
    Silent,
    /// It holds something else under our name, or failed.
    #[error("the keychain failed")]
    Failed,
}

/// Looks at the keychain without changing it and without a prompt.
pub async fn probe() -> KeychainState {
    match on_a_thread(|| Ok(platform::state())).await {
        Ok(state) => state,
        Err(_) => KeychainState::Absent,
    }
}

/// Stores a slot's key under the slot's id and reads it back, so that what is promised is there.
pub(crate) async fn keep(id: &str, key: &Key) -> Result<(), KeychainError> {
    let id = id.to_owned();
    let bytes = Zeroizing::new(key.as_bytes().to_vec());
    on_a_thread(move || {
        let entry = entry(&id)?;
        entry.set_secret(&bytes).map_err(|error| sort(&error))?;
        let kept = Zeroizing::new(entry.get_secret().map_err(|error| sort(&error))?);
        if *kept == *bytes { Ok(()) } else { Err(KeychainError::Failed) }
    })
    .await
}

/// The key of a slot.
pub(crate) async fn fetch(id: &str) -> Result<Key, KeychainError> {
    let id = id.to_owned();
    on_a_thread(move || {
        let bytes = Zeroizing::new(entry(&id)?.get_secret().map_err(|error| sort(&error))?);
        Key::from_slice(&bytes).ok_or(KeychainError::Failed)
    })
    .await
}

/// Deletes the entry of a slot.
pub(crate) async fn forget(id: &str) -> Result<(), KeychainError> {
    let id = id.to_owned();
    on_a_thread(move || entry(&id)?.delete_credential().map_err(|error| sort(&error))).await
}

/// A handle for one entry of a keychain that is ready.
fn entry(id: &str) -> Result<Entry, KeychainError> {
    match platform::state() {
        KeychainState::Ready => {}
        KeychainState::Locked => return Err(KeychainError::Locked),
        KeychainState::Unused => return Err(KeychainError::Unused),
        KeychainState::Absent => return Err(KeychainError::Absent),
    }
    let store: Arc<CredentialStore> = platform::store().map_err(|error| sort(&error))?;
    store.build(SERVICE, id, None).map_err(|error| sort(&error))
}

/// The libraries' errors may quote what they hold; ours are words.
fn sort(error: &Error) -> KeychainError {
    match error {
        Error::NoEntry => KeychainError::NoEntry,
        Error::NoStorageAccess(_) => KeychainError::Locked,
        _ => KeychainError::Failed,
    }
}

async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeychainError> + Send + 'static,
) -> Result<T, KeychainError> {
    match tokio::time::timeout(PATIENCE, tokio::task::spawn_blocking(work)).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(KeychainError::Failed),
        Err(_) => Err(KeychainError::Silent),
    }
}

#[cfg(target_os = "linux")]
mod platform {
    use secret_service::blocking::SecretService;
    use secret_service::{EncryptionType, Error};
    use zbus_secret_service_keyring_store::Store;

    use super::{Arc, CredentialStore, KeychainState};

    pub(super) fn store() -> keyring_core::Result<Arc<CredentialStore>> {
        Ok(Store::new()?)
    }

    /// Asks for the alias and the lock of the default collection; neither makes a prompt.
    pub(super) fn state() -> KeychainState {
        let Ok(service) = SecretService::connect(EncryptionType::Plain) else {
            return KeychainState::Absent;
        };
        match service.get_default_collection().and_then(|collection| collection.is_locked()) {
            Ok(false) => KeychainState::Ready,
            Ok(true) | Err(Error::Locked) => KeychainState::Locked,
            Err(Error::NoResult) => KeychainState::Unused,
            Err(_) => KeychainState::Absent,
        }
    }
}

#[cfg(any(target_os = "macos", windows))]
mod platform {
    #[cfg(target_os = "macos")]
    use apple_native_keyring_store::keychain::Store;
    #[cfg(windows)]
    use windows_native_keyring_store::Store;

    use super::{Arc, CredentialStore, KeychainState};

    pub(super) fn store() -> keyring_core::Result<Arc<CredentialStore>> {
        Ok(Store::new()?)
    }

    /// These stores are unlocked with the session and offer no way to ask without a prompt.
    pub(super) fn state() -> KeychainState {
        if store().is_ok() { KeychainState::Ready } else { KeychainState::Absent }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "macos", windows)))]
mod platform {
    use super::{Arc, CredentialStore, KeychainState};

    pub(super) fn store() -> keyring_core::Result<Arc<CredentialStore>> {
        Err(keyring_core::Error::NoDefaultStore)
    }

    pub(super) fn state() -> KeychainState {
        KeychainState::Absent
    }
}
