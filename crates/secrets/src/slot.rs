//! Key slots: the ways to the one master key, as LUKS has them.
//!
//! Every slot has a key of its own (in the keychain, from the service manager, in a file, from a passphrase
//! or a printed code), and its row holds
//! the master key sealed under that key, bound to the slot's id, kind and parameters. So a slot's
//! key never is the master key, a slot can be added or removed without touching a secret, and a
//! wrong slot key is told from a right one before anything is decrypted.

use std::path::PathBuf;

use ::store::SlotRow;

use crate::credential::{self, CredentialError};
use crate::crypto::{self, CryptoError, OpenError, Place, Purpose};
use crate::key::Key;
use crate::key_file::{self, KeyFileError};
use crate::keychain::{self, KeychainError};
use crate::passphrase::{Cost, CostError, MIN_PASSPHRASE};
use crate::recovery::{self, CodeError};
use crate::types::Plain;

/// The kind of a slot, as its row and a person name it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SlotKind {
    /// The keychain of the operating system.
    Keychain,
    /// A credential that systemd hands to the service.
    Systemd,
    /// A file in a folder of its own. Worth as much as the permissions of that file.
    File,
    /// A passphrase that a person types.
    Passphrase,
    /// A code that was printed once.
    Recovery,
}

impl SlotKind {
    /// Every kind: first those that open without a person, in the order in which they are tried.
    pub const ALL: [Self; 5] = [Self::Keychain, Self::Systemd, Self::File, Self::Passphrase, Self::Recovery];

    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keychain => "keychain",
            Self::Systemd => "systemd",
            Self::File => "file",
            Self::Passphrase => "passphrase",
            Self::Recovery => "recovery",
        }
    }

    /// The kind of a word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether a person has to type something.
    pub fn asks(self) -> bool {
        matches!(self, Self::Passphrase | Self::Recovery)
    }
}

impl std::fmt::Display for SlotKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What opens a slot, or makes a new one. Without Debug: it can hold a passphrase.
///
/// ```compile_fail
/// fn show(unlock: secrets::Unlock) -> String { format!("{unlock:?}") }
/// ```
///
/// ```
/// fn show(unlock: secrets::Unlock) -> String { format!("{:?}", unlock.kind()) }
/// ```
pub enum Unlock {
    /// The keychain of the user's session.
    Keychain,
    /// The folder of the credentials that systemd gave to this process.
    Systemd(PathBuf),
    /// The folder of the key file.
    File(PathBuf),
    /// The passphrase. Its bytes count as they were typed.
    Passphrase(Plain),
    /// The recovery code, as it was typed.
    Recovery(Plain),
}

/// Why a slot could not be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// The keychain did not give or take the key.
    #[error(transparent)]
    Keychain(#[from] KeychainError),
    /// The key file was refused.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// The credential was refused.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// What was typed is no recovery code.
    #[error(transparent)]
    Code(#[from] CodeError),
    /// The stored parameters of a passphrase were refused.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The passphrase is too short to be worth anything.
    #[error("the passphrase is shorter than {MIN_PASSPHRASE} bytes")]
    Short,
    /// The slot's key is not the one that the row was made with.
    #[error("the {0} does not open this vault: it is the wrong one, or the slot's row was altered")]
    WrongKey(SlotKind),
    /// The slot's key is right and its row is not what was written.
    #[error("the row of the {0} slot was altered")]
    Altered(SlotKind),
    /// No slot of that kind exists.
    #[error("this vault has no {0} slot")]
    None(SlotKind),
    /// The generator or the library failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl Unlock {
    /// The kind of slot that it opens.
    pub fn kind(&self) -> SlotKind {
        match self {
            Self::Keychain => SlotKind::Keychain,
            Self::Systemd(_) => SlotKind::Systemd,
            Self::File(_) => SlotKind::File,
            Self::Passphrase(_) => SlotKind::Passphrase,
            Self::Recovery(_) => SlotKind::Recovery,
        }
    }

    /// Makes a slot of its kind for a master key: keeps the slot's key, then returns the row. The key
    /// is kept under an id that no other process can have chosen.
    pub(crate) async fn make(
        &self,
        master: &Key,
        generation: u32,
        created_ms: u64,
    ) -> Result<SlotRow, SlotError> {
        let id = crypto::random_id()?;
        let (key, params) = match self {
            Self::Keychain => {
                let key = Key::random()?;
                keychain::keep(&id, &key).await?;
                (key, Vec::new())
            }
            Self::File(folder) => {
                let key = Key::random()?;
                key_file::keep(folder, &id, &key)?;
                (key, Vec::new())
            }
            Self::Systemd(folder) => (credential::fetch(folder, &id)?, Vec::new()),
            Self::Recovery(code) => (recovery::key(code)?, Vec::new()),
            Self::Passphrase(passphrase) if passphrase.len() < MIN_PASSPHRASE => {
                return Err(SlotError::Short);
            }
            Self::Passphrase(passphrase) => {
                let cost = Cost::fresh()?;
                (cost.key(passphrase).await?, cost.encode())
            }
        };
        let name = bound(self.kind(), &params);
        let wrapped = crypto::seal(&key, generation, &place(&id, &name, generation), master.as_bytes())?;
        let kind = self.kind().as_str().to_owned();
        let follows = String::new();
        Ok(SlotRow { id, kind, params, wrapped, generation: generation.into(), created_ms, follows })
    }

    /// Opens a row of its kind and returns the master key with its generation.
    pub(crate) async fn open(&self, row: &SlotRow) -> Result<(Key, u32), SlotError> {
        let kind = self.kind();
        if row.kind != kind.as_str() || !is_id(&row.id) {
            return Err(SlotError::Altered(kind));
        }
        let key = match self {
            Self::Keychain => keychain::fetch(&row.id).await?,
            Self::Systemd(folder) => credential::fetch(folder, &row.id)?,
            Self::File(folder) => key_file::fetch(folder, &row.id)?,
            Self::Recovery(code) => recovery::key(code)?,
            Self::Passphrase(passphrase) => Cost::decode(&row.params)?.key(passphrase).await?,
        };
        let generation = u32::try_from(row.generation).map_err(|_| SlotError::Altered(kind))?;
        let name = bound(kind, &row.params);
        let opened = crypto::open(&key, generation, &place(&row.id, &name, generation), &row.wrapped);
        let master = opened.map_err(|error| match error {
            OpenError::Binding => SlotError::WrongKey(kind),
            _ => SlotError::Altered(kind),
        })?;
        Ok((Key::from_slice(&master).ok_or(SlotError::Altered(kind))?, generation))
    }

    /// Undoes what [`Unlock::make`] kept, for a row that was never written. A key that stays behind
    /// opens nothing.
    pub(crate) async fn discard(&self, row: &SlotRow) {
        match self {
            Self::Keychain => drop(keychain::forget(&row.id).await),
            Self::File(folder) => drop(key_file::forget(folder, &row.id)),
            Self::Systemd(_) | Self::Passphrase(_) | Self::Recovery(_) => {}
        }
    }
}

fn place<'a>(id: &'a str, name: &'a [u8], generation: u32) -> Place<'a> {
    Place { purpose: Purpose::MasterKey, tenant: "", secret: id, name, version: generation.into() }
}

/// What the seal binds beside the slot's id.
fn bound(kind: SlotKind, params: &[u8]) -> Vec<u8> {
    [kind.as_str().as_bytes(), b":", params].concat()
}

/// A row's id names a file and an entry, so it is read as strictly as it was made.
fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn master() -> Key {
        Key::from_slice(&[9; 32]).unwrap()
    }

    fn file_unlock() -> (tempfile::TempDir, Unlock) {
        let home = tempfile::tempdir().unwrap();
        let unlock = Unlock::File(home.path().join("keys"));
        (home, unlock)
    }

    #[tokio::test]
    async fn k06_a_wrong_or_missing_key_is_told_from_an_altered_row() {
        let (_home, unlock) = file_unlock();
        let row = unlock.make(&master(), 1, 0).await.unwrap();
        let (key, generation) = unlock.open(&row).await.unwrap();
        assert_eq!((key.as_bytes(), generation), (&[9; 32], 1));

        let Unlock::File(folder) = &unlock else { unreachable!() };
        let file = folder.join(format!("{}.key", row.id));
        std::fs::write(&file, [1; 32]).unwrap();
        assert!(matches!(unlock.open(&row).await, Err(SlotError::WrongKey(SlotKind::File))));
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(unlock.open(&row).await, Err(SlotError::File(_))));
    }

    #[tokio::test]
    async fn k03_a_changed_column_of_a_slot_is_found() {
        let (_home, unlock) = file_unlock();
        let row = unlock.make(&master(), 1, 0).await.unwrap();
        let mut changed = vec![
            SlotRow { kind: "keychain".into(), ..row.clone() },
            SlotRow { params: vec![0], ..row.clone() },
            SlotRow { generation: 2, ..row.clone() },
            SlotRow { generation: -1, ..row.clone() },
            SlotRow { id: "../../../../etc/passwd".into(), ..row.clone() },
            SlotRow { id: row.id.to_uppercase() + "x", ..row.clone() },
        ];
        for index in 0..row.wrapped.len() {
            let mut wrapped = row.wrapped.clone();
            wrapped[index] ^= 1;
            changed.push(SlotRow { wrapped, ..row.clone() });
        }
        for row in changed {
            assert!(unlock.open(&row).await.is_err(), "{row:?}");
        }
    }

    #[tokio::test]
    async fn a_recovery_code_and_a_credential_open_their_slots_and_others_do_not() {
        let code = recovery::fresh().unwrap();
        let unlock = |code: &str| Unlock::Recovery(Plain::new(code.into()));
        let row = unlock(&code).make(&master(), 1, 0).await.unwrap();
        assert_eq!(unlock(&code.to_lowercase()).open(&row).await.unwrap().0.as_bytes(), &[9; 32]);
        let other = unlock(&recovery::fresh().unwrap());
        assert!(matches!(other.open(&row).await, Err(SlotError::WrongKey(SlotKind::Recovery))));
        assert!(matches!(unlock("a guess").open(&row).await, Err(SlotError::Code(_))));

        let given = tempfile::tempdir().unwrap();
        let file = given.path().join(credential::NAME);
        std::fs::write(&file, [3; 32]).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        let unlock = Unlock::Systemd(given.path().to_owned());
        let row = unlock.make(&master(), 1, 0).await.unwrap();
        assert_eq!(unlock.open(&row).await.unwrap().0.as_bytes(), &[9; 32]);
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(unlock.open(&row).await, Err(SlotError::Credential(CredentialError::Missing))));
    }

    #[tokio::test]
    async fn a_passphrase_opens_its_slot_and_another_does_not() {
        let unlock = Unlock::Passphrase(Plain::new(b"correct horse battery".to_vec()));
        let row = unlock.make(&master(), 1, 0).await.unwrap();
        assert_eq!(unlock.open(&row).await.unwrap().0.as_bytes(), &[9; 32]);
        let wrong = Unlock::Passphrase(Plain::new(b"correct horse batterz".to_vec()));
        assert!(matches!(wrong.open(&row).await, Err(SlotError::WrongKey(SlotKind::Passphrase))));
        let short = Unlock::Passphrase(Plain::new(b"elevenbytes".to_vec()));
        assert!(matches!(short.make(&master(), 1, 0).await, Err(SlotError::Short)));
    }
}
