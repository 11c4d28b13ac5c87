//! A slot's key in a file: for machines without a keychain and without a person, by explicit choice.
//!
//! The folder must be a real one, ours, and closed to others (0700); the file a regular one with one
//! name, ours, and closed to others (0600). Folder and file are opened without following links, what
//! was opened is what is checked, and the file is reached through the opened folder, so that nothing
//! can be exchanged between check and use. Whoever can read the file can open the vault.

use std::path::{Path, PathBuf};

use crate::key::Key;

/// What is wrong with a key folder or key file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FileFault {
    /// A symbolic link, or not a folder or file at all.
    #[error("is a symbolic link or not of the expected kind")]
    Kind,
    /// Owned by another user.
    #[error("belongs to another user")]
    Owner,
    /// Others may read or write it.
    #[error("may be read or written by others")]
    Mode,
    /// A second name leads to it.
    #[error("has a second hard link")]
    Links,
    /// Not the 32 bytes of a key.
    #[error("does not hold a key of {} bytes", Key::LEN)]
    Content,
    /// Not there.
    #[error("does not exist")]
    Missing,
    /// It cannot be read or written.
    #[error("cannot be read or written")]
    Access,
}

/// Why a key file was refused, and the command that repairs it. The path is the owner's own.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{path} {fault}; {repair}", path = path.display())]
pub struct KeyFileError {
    /// The folder or file.
    pub path: PathBuf,
    /// What is wrong.
    pub fault: FileFault,
    /// What mends it.
    pub repair: String,
}

impl KeyFileError {
    fn new(path: &Path, fault: FileFault, folder: bool) -> Self {
        let name = quoted(path);
        let repair = match fault {
            FileFault::Kind if folder => "give a real folder".to_owned(),
            FileFault::Kind => format!("restore the key file from a backup: cp -P BACKUP {name}"),
            FileFault::Owner => format!("repair it with: sudo chown \"$(id -u)\" {name}"),
            FileFault::Mode => format!("repair it with: chmod {} {name}", if folder { "700" } else { "600" }),
            FileFault::Links => format!("repair it with: cp -p {name} {name}.new && mv {name}.new {name}"),
            FileFault::Content | FileFault::Missing => "restore it from a backup".to_owned(),
            FileFault::Access => format!("look at it with: ls -la {name}"),
        };
        Self { path: path.to_owned(), fault, repair }
    }
}

/// Writes the key of a slot into a new file and waits until it is on the disk.
pub(crate) fn keep(folder: &Path, id: &str, key: &Key) -> Result<(), KeyFileError> {
    platform::keep(folder, &name(id), key)
}

/// Reads the key of a slot.
pub(crate) fn fetch(folder: &Path, id: &str) -> Result<Key, KeyFileError> {
    platform::fetch(folder, &name(id))
}

/// The key under which an installation makes the fingerprints of findings, made where there is none. It opens nothing:
/// whoever has it can try passwords against the fingerprints of a log, so it is kept as a key is. `None` where files
/// cannot be kept from others.
///
/// Processes that start together agree on one key, and one that was cut short is made anew.
pub fn fingerprint_key(folder: &Path) -> Result<Option<[u8; 32]>, KeyFileError> {
    platform::fingerprint_key(folder, &name("fingerprint"))
}

/// Deletes the key file of a slot.
pub(crate) fn forget(folder: &Path, id: &str) -> Result<(), KeyFileError> {
    let path = folder.join(name(id));
    std::fs::remove_file(&path).map_err(|_| KeyFileError::new(&path, FileFault::Access, false))
}

fn name(id: &str) -> String {
    format!("{id}.key")
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(unix)]
mod platform {
    use std::fs::{DirBuilder, File};
    use std::io::{Read as _, Write as _};
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::DirBuilderExt as _;
    use std::path::Path;

    use rustix::fs::{
        AtFlags, CWD, FileType, FlockOperation, Mode, OFlags, Stat, flock, fstat, fsync, openat, unlinkat,
    };
    use rustix::io::Errno;
    use zeroize::Zeroizing;

    use super::{FileFault, KeyFileError};
    use crate::key::Key;

    pub(super) fn keep(folder: &Path, name: &str, key: &Key) -> Result<(), KeyFileError> {
        let path = folder.join(name);
        let fault = |fault| KeyFileError::new(&path, fault, false);
        if !folder.exists() {
            // A race or a failure shows in the check that follows.
            let _ = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        }
        let directory = open_folder(folder)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            openat(&directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(|_| fault(FileFault::Access))?;
        let mut file = File::from(file);
        file.write_all(key.as_bytes())
            .and_then(|()| file.sync_all())
            .map_err(|_| fault(FileFault::Access))?;
        fsync(&directory).map_err(|_| fault(FileFault::Access))
    }

    pub(super) fn fingerprint_key(folder: &Path, name: &str) -> Result<Option<[u8; 32]>, KeyFileError> {
        let fault = |fault| KeyFileError::new(folder, fault, true);
        if !folder.exists() {
            // A race or a failure shows in the check that follows.
            let _ = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        }
        let directory = open_folder(folder)?;
        flock(&directory, FlockOperation::LockExclusive).map_err(|_| fault(FileFault::Access))?;
        let key = match fetch(folder, name) {
            Err(error) if matches!(error.fault, FileFault::Missing | FileFault::Content) => {
                // What is too short is no key that anything was made with.
                let _ = unlinkat(&directory, name, AtFlags::empty());
                let key = Key::random().map_err(|_| fault(FileFault::Access))?;
                keep(folder, name, &key)?;
                key
            }
            found => found?,
        };
        Ok(Some(*key.as_bytes()))
    }

    pub(super) fn fetch(folder: &Path, name: &str) -> Result<Key, KeyFileError> {
        let path = folder.join(name);
        let fault = |fault| KeyFileError::new(&path, fault, false);
        let directory = open_folder(folder)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&directory, name, flags, Mode::empty()).map_err(|errno| fault(opening(errno)))?;
        let stat = fstat(&file).map_err(|_| fault(FileFault::Access))?;
        private(&stat, FileType::RegularFile).map_err(fault)?;
        if stat.st_nlink != 1 {
            return Err(fault(FileFault::Links));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(Key::LEN + 1));
        let longest = Key::LEN as u64 + 1;
        File::from(file).take(longest).read_to_end(&mut bytes).map_err(|_| fault(FileFault::Access))?;
        Key::from_slice(&bytes).ok_or_else(|| fault(FileFault::Content))
    }

    fn open_folder(folder: &Path) -> Result<OwnedFd, KeyFileError> {
        let fault = |fault| KeyFileError::new(folder, fault, true);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(CWD, folder, flags, Mode::empty()).map_err(|errno| fault(opening(errno)))?;
        let stat = fstat(&directory).map_err(|_| fault(FileFault::Access))?;
        private(&stat, FileType::Directory).map_err(fault)?;
        Ok(directory)
    }

    fn private(stat: &Stat, kind: FileType) -> Result<(), FileFault> {
        if FileType::from_raw_mode(stat.st_mode) != kind {
            return Err(FileFault::Kind);
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(FileFault::Owner);
        }
        if stat.st_mode & 0o077 != 0 {
            return Err(FileFault::Mode);
        }
        Ok(())
    }

    fn opening(errno: Errno) -> FileFault {
        match errno {
            Errno::LOOP | Errno::NOTDIR | Errno::NXIO => FileFault::Kind,
            Errno::NOENT => FileFault::Missing,
            _ => FileFault::Access,
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::path::Path;

    use super::{FileFault, KeyFileError};
    use crate::key::Key;

    /// Without Unix permissions there is no way to tell who else can read the file.
    pub(super) fn keep(folder: &Path, _: &str, _: &Key) -> Result<(), KeyFileError> {
        Err(KeyFileError::new(folder, FileFault::Access, true))
    }

    pub(super) fn fingerprint_key(_: &Path, _: &str) -> Result<Option<[u8; 32]>, KeyFileError> {
        Ok(None)
    }

    pub(super) fn fetch(folder: &Path, _: &str) -> Result<Key, KeyFileError> {
        Err(KeyFileError::new(folder, FileFault::Access, true))
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A folder with a key in it, as `keep` leaves them.
    fn kept() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("keys");
        keep(&folder, ID, &Key::from_slice(&[5; 32]).unwrap()).unwrap();
        let file = folder.join(format!("{ID}.key"));
        (home, folder, file)
    }

    fn refusal(folder: &Path) -> KeyFileError {
        fetch(folder, ID).err().expect("the key file was accepted")
    }

    #[test]
    fn what_was_kept_is_private_and_is_not_overwritten() {
        let (_home, folder, file) = kept();
        assert_eq!(fetch(&folder, ID).unwrap().as_bytes(), &[5; 32]);
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(keep(&folder, ID, &Key::from_slice(&[6; 32]).unwrap()).is_err());
        assert_eq!(fetch(&folder, ID).unwrap().as_bytes(), &[5; 32]);
    }

    #[test]
    fn processes_that_start_together_agree_on_a_fingerprint_key_and_keep_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("fingerprints");
        let key = || fingerprint_key(&folder).unwrap().unwrap();
        let keys: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(key)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|other| *other == keys[0]) && keys[0] != [0; 32]);
        fs::write(folder.join("fingerprint.key"), b"cut short").unwrap();
        assert_ne!(key(), keys[0]);
        assert_eq!(key(), key());
        mode(&folder, 0o755);
        assert_eq!(fingerprint_key(&folder).unwrap_err().fault, FileFault::Mode);
    }

    #[test]
    fn k14_loose_permissions_are_refused_with_the_command_that_repairs_them() {
        let (_home, folder, file) = kept();
        for loose in [0o640, 0o604, 0o620, 0o666] {
            mode(&file, loose);
            let error = refusal(&folder);
            assert_eq!(error.fault, FileFault::Mode);
            assert!(error.to_string().contains(&format!("chmod 600 '{}'", file.display())), "{error}");
        }
        mode(&file, 0o600);
        for loose in [0o750, 0o705, 0o777] {
            mode(&folder, loose);
            let error = refusal(&folder);
            assert_eq!((error.fault, error.path.as_path()), (FileFault::Mode, folder.as_path()));
            assert!(error.to_string().contains("chmod 700"), "{error}");
            assert!(keep(&folder, "new", &Key::random().unwrap()).is_err());
        }
    }

    #[test]
    fn k14_links_are_refused() {
        let (home, folder, file) = kept();
        let aside = home.path().join("aside");
        fs::rename(&file, &aside).unwrap();
        symlink(&aside, &file).unwrap();
        assert_eq!(refusal(&folder).fault, FileFault::Kind);
        fs::remove_file(&file).unwrap();
        fs::hard_link(&aside, &file).unwrap();
        assert_eq!(refusal(&folder).fault, FileFault::Links);
        let link = home.path().join("link");
        symlink(&folder, &link).unwrap();
        assert_eq!(refusal(&link).fault, FileFault::Kind);
    }

    #[test]
    fn k14_other_owners_and_other_kinds_are_refused() {
        let (_home, folder, file) = kept();
        if chown(&file, Some(65534), None).is_ok() {
            assert_eq!(refusal(&folder).fault, FileFault::Owner);
            chown(&folder, Some(65534), None).unwrap();
            assert_eq!(refusal(&folder).fault, FileFault::Owner);
        } else {
            // Not root: the root folder then belongs to somebody else.
            assert_eq!(refusal(Path::new("/")).fault, FileFault::Owner);
        }
        let (_home, folder, file) = kept();
        fs::remove_file(&file).unwrap();
        assert_eq!(refusal(&folder).fault, FileFault::Missing);
        fs::create_dir(&file).unwrap();
        assert_eq!(refusal(&folder).fault, FileFault::Kind);
    }

    #[test]
    fn a_file_of_another_length_is_no_key() {
        let (_home, folder, file) = kept();
        for length in [0, 31, 33, 4096] {
            fs::write(&file, vec![1; length]).unwrap();
            assert_eq!(refusal(&folder).fault, FileFault::Content);
        }
    }
}
