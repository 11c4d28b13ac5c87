//! The folder that names are moved into which some program would obey, and the way back.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use cap_fs_ext::{DirExt as _, FollowSymlinks, OpenOptionsFollowExt as _};
use cap_std::fs::{Dir, MetadataExt as _, OpenOptions, PermissionsExt as _};
use rustix::fs::{AtFlags, Gid, Uid};

/// The longest name that file systems take, in bytes.
const LONGEST_NAME: usize = 255;

/// What came from where: one command for a shell a line, which moves it back from the workspace's folder. What is moved
/// away has a number before its name, so nothing else is called so.
const ORIGINS: &str = "origins";

/// A folder of the workspace, made once there is something to move into it.
pub(super) struct Quarantine<'a> {
    root: &'a Dir,
    name: &'a str,
}

impl<'a> Quarantine<'a> {
    /// One of this name in this workspace.
    pub(super) fn new(root: &'a Dir, name: &'a str) -> Self {
        Self { root, name }
    }

    /// Renames one name into it, under a number that keeps names apart and makes none of them guarded, and writes down
    /// where it was.
    pub(super) fn put(&self, number: usize, parent: &Dir, name: &OsStr, path: &Path) -> io::Result<()> {
        let number = format!("{number}-");
        let kept = &name.as_bytes()[..name.len().min(LONGEST_NAME - number.len())];
        let away = [number.as_bytes(), kept].concat();
        let put = || {
            self.make()?;
            let folder = self.root.open_dir_nofollow(self.name)?;
            parent.rename(name, &folder, OsStr::from_bytes(&away))?;
            self.note(&folder, &away, path)
        };
        match put() {
            // Whoever makes a folder can take the right to change it away, so that nothing in it can be moved.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                give_back(self.root, Path::new("."))?;
                give_back(parent, Path::new("."))?;
                if parent.symlink_metadata(name)?.is_dir() {
                    give_back(parent, Path::new(name))?;
                }
                put()
            }
            outcome => outcome,
        }
    }

    /// Makes the folder, which is its owner's as the workspace is.
    fn make(&self) -> io::Result<()> {
        match self.root.create_dir(self.name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
            Ok(()) => self.give(self.root, self.name),
        }
    }

    fn note(&self, folder: &Dir, away: &[u8], path: &Path) -> io::Result<()> {
        let there = [self.name.as_bytes(), b"/", away].concat();
        let (there, back) = (for_a_shell(&there), for_a_shell(path.as_os_str().as_bytes()));
        let is_new = folder.symlink_metadata(ORIGINS).is_err();
        let mut options = OpenOptions::new();
        options.append(true).create(true).follow(FollowSymlinks::No);
        let mut origins = folder.open_with(ORIGINS, &options)?;
        if is_new {
            self.give(folder, ORIGINS)?;
            origins.write_all(
                b"# For bash, in the folder of the workspace, and each only once you know what it is.\n",
            )?;
        }
        origins.write_all(format!("mv -nT -- {there} {back}\n").as_bytes())
    }

    /// Gives what root made to the owner of the workspace.
    fn give(&self, folder: &Dir, name: &str) -> io::Result<()> {
        if !rustix::process::geteuid().is_root() {
            return Ok(());
        }
        let owner = self.root.dir_metadata()?;
        let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        Ok(rustix::fs::chownat(folder, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
    }
}

/// A word that bash takes for these bytes, of plain characters alone.
fn for_a_shell(bytes: &[u8]) -> String {
    let plain = |byte: &u8| (b' '..=b'~').contains(byte) && !matches!(byte, b'\'' | b'\\');
    let word: String = bytes
        .iter()
        .map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("\\x{byte:02x}") })
        .collect();
    let mark = if bytes.iter().all(plain) { "" } else { "$" };
    format!("{mark}'{word}'")
}

/// Gives the owner of a folder every right to it.
pub(super) fn give_back(parent: &Dir, folder: &Path) -> io::Result<()> {
    let mut permissions = parent.symlink_metadata(folder)?.permissions();
    permissions.set_mode(permissions.mode() | 0o700);
    parent.set_permissions(folder, permissions)
}
