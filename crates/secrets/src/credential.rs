//! A slot's key from a credential that systemd hands to a service: sealed to the machine (TPM 2 or its
//! own key), decrypted into memory that is never swapped, readable by the service alone (systemd.exec(5),
//! `LoadCredentialEncrypted=`).
//!
//! The credential is made by the administrator and never by this program. Any 32 bytes or more serve; the
//! key is derived from all of them, together with the slot's id, so that two slots share no key.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::crypto::{self, Purpose};
use crate::key::Key;

/// The name of the credential.
pub const NAME: &str = "ironclaw-key";

/// systemd hands out no larger one.
const MAX: u64 = 1024 * 1024;

/// Why the credential cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CredentialError {
    /// This process was not given one.
    #[error(
        "this process was given no credential {NAME}; make one with: head -c 32 /dev/urandom | systemd-creds encrypt --name={NAME} - {NAME}.cred, and name it in the unit: LoadCredentialEncrypted={NAME}:/etc/ironclaw/{NAME}.cred"
    )]
    Missing,
    /// It is there, and it is no file of ours alone.
    #[error("the credential {} is a link, is no file or is open to everyone", .0.display())]
    Exposed(PathBuf),
    /// Not what a key can be made from.
    #[error("the credential {} must hold at least {} bytes", .0.display(), Key::LEN)]
    Short(PathBuf),
}

/// The key of a slot. `folder` is what `CREDENTIALS_DIRECTORY` names.
pub(crate) fn fetch(folder: &Path, id: &str) -> Result<Key, CredentialError> {
    let path = folder.join(NAME);
    let file = open(&path)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX).read_to_end(&mut bytes).map_err(|_| CredentialError::Exposed(path.clone()))?;
    if bytes.len() < Key::LEN {
        return Err(CredentialError::Short(path));
    }
    bytes.extend_from_slice(id.as_bytes());
    crypto::stretch(&bytes, Purpose::Credential).map_err(|_| CredentialError::Short(path))
}

#[cfg(unix)]
fn open(path: &Path) -> Result<std::fs::File, CredentialError> {
    use rustix::fs::{FileType, Mode, OFlags, fstat, open};
    use rustix::io::Errno;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let exposed = || CredentialError::Exposed(path.to_owned());
    let file = open(path, flags, Mode::empty()).map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => CredentialError::Missing,
        _ => exposed(),
    })?;
    let stat = fstat(&file).map_err(|_| exposed())?;
    // The group may be shown a right that an access control list gives to the service alone.
    let ours = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o007 == 0;
    if ours { Ok(file.into()) } else { Err(exposed()) }
}

/// There is no systemd.
#[cfg(not(unix))]
fn open(_: &Path) -> Result<std::fs::File, CredentialError> {
    Err(CredentialError::Missing)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn given(bytes: &[u8], mode: u32) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(NAME);
        std::fs::write(&file, bytes).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn the_key_depends_on_every_byte_and_on_the_slot() {
        let key = |bytes: &[u8], id| *fetch(given(bytes, 0o400).path(), id).unwrap().as_bytes();
        let base = key(&[1; 40], "a");
        assert_eq!(base, key(&[1; 40], "a"));
        assert_ne!(base, key(&[1; 41], "a"));
        assert_ne!(base, key(&[1; 40], "b"));
        assert_ne!(base, key(&[2; 40], "a"));
    }

    #[test]
    fn k14_a_missing_short_linked_or_open_credential_is_refused() {
        let empty = tempfile::tempdir().unwrap();
        let refused = |folder: &Path| fetch(folder, "a").err().unwrap();
        assert_eq!(refused(empty.path()), CredentialError::Missing);
        assert_eq!(refused(&empty.path().join("absent")), CredentialError::Missing);
        assert!(matches!(refused(given(&[1; 31], 0o400).path()), CredentialError::Short(_)));
        assert!(matches!(refused(given(&[1; 32], 0o404).path()), CredentialError::Exposed(_)));
        symlink(given(&[1; 32], 0o400).path().join(NAME), empty.path().join(NAME)).unwrap();
        assert!(matches!(refused(empty.path()), CredentialError::Exposed(_)));
    }
}
