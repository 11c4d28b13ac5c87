//! The place of the database: a folder that nobody else can enter, holding files that nobody else
//! can read.
//!
//! The checks look at links themselves, never through them, and at the folder before what is in
//! it: once the folder is a real one, ours and closed to others, nobody else can change what the
//! later checks see. On systems without Unix permissions nothing is checked.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Exposure, StoreError};

/// A database file at a checked place.
#[derive(Clone, Debug)]
pub(crate) struct File {
    path: PathBuf,
    identity: Identity,
}

impl File {
    /// Makes what is missing (folder 0700, file 0600) and refuses what others could touch.
    pub(crate) fn prepare(path: &Path) -> Result<Self, StoreError> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        make_folder(folder)?;
        private(folder, Expect::Folder)?;
        make_file(path)?;
        let identity = private(path, Expect::File)?;
        for suffix in ["-wal", "-shm", "-journal"] {
            let mut beside = path.as_os_str().to_owned();
            beside.push(suffix);
            let beside = PathBuf::from(beside);
            // Another process may remove them at any moment; what is gone exposes nothing.
            if let Ok(found) = fs::symlink_metadata(&beside) {
                judge(&beside, &found, Expect::File)?;
            }
        }
        Ok(Self { path: path.to_owned(), identity })
    }

    /// The database file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the path still leads to the very file that was checked. SQLite goes on writing to a
    /// deleted or replaced file, and what it then calls durable nobody will ever read.
    pub(crate) fn still_there(&self) -> Result<(), StoreError> {
        match private(&self.path, Expect::File) {
            Ok(identity) if identity == self.identity => Ok(()),
            Err(exposed @ StoreError::Exposed { .. }) => Err(exposed),
            _ => Err(StoreError::Gone { path: self.path.clone() }),
        }
    }
}

/// Creates the folder and those above it that are missing, each for its owner alone. The folder above
/// is synced, so that a power failure cannot take back the way to what was called durable; inside the
/// folder itself SQLite does so.
fn make_folder(folder: &Path) -> Result<(), StoreError> {
    const WHAT: &str = "create the data folder";
    if folder.as_os_str().is_empty() || fs::symlink_metadata(folder).is_ok() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new(""));
    make_folder(above)?;
    #[allow(unused_mut, reason = "there is a mode to set on Unix only")]
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    match builder.create(folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(failed(WHAT)),
        _ => sync_folder(above).map_err(|_| failed(WHAT)),
    }
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> std::io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    fs::File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Creates the file only where there is none. An existing file is never opened here: closing it
/// again would drop the locks that SQLite holds on it elsewhere in this process
/// (sqlite.org/howtocorrupt.html, section 2.2).
fn make_file(path: &Path) -> Result<(), StoreError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::StorageFull => Err(StoreError::Full),
        Err(_) => Err(failed("create the database file")),
    }
}

fn failed(what: &'static str) -> StoreError {
    StoreError::failed(what)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expect {
    Folder,
    File,
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Identity {
    #[cfg(unix)]
    device: u64,
    #[cfg(unix)]
    inode: u64,
}

fn private(path: &Path, expect: Expect) -> Result<Identity, StoreError> {
    let found = fs::symlink_metadata(path).map_err(|_| failed("look at the data folder"))?;
    judge(path, &found, expect)
}

/// Refuses what is not plainly ours alone.
fn judge(path: &Path, found: &fs::Metadata, expect: Expect) -> Result<Identity, StoreError> {
    let exposed = |fault, repair| Err(StoreError::Exposed { path: path.to_owned(), fault, repair });
    let name = quoted(path);
    if found.is_symlink() {
        let repair = format!("real=$(readlink -f {name}) && rm {name} && mv \"$real\" {name}");
        return exposed(Exposure::Link, repair);
    }
    let expected = match expect {
        Expect::Folder => found.is_dir(),
        Expect::File => found.is_file(),
    };
    if !expected {
        return exposed(Exposure::Kind, format!("mv {name} {}", quoted(&path.with_extension("aside"))));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let user = rustix::process::geteuid().as_raw();
        if found.uid() != user {
            return exposed(Exposure::Owner, format!("sudo chown {user} {name}"));
        }
        if found.mode() & 0o077 != 0 {
            let mode = if expect == Expect::Folder { "700" } else { "600" };
            return exposed(Exposure::Mode, format!("chmod {mode} {name}"));
        }
        Ok(Identity { device: found.dev(), inode: found.ino() })
    }
    #[cfg(not(unix))]
    Ok(Identity {})
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repair_command_is_one_command_whatever_the_path() {
        assert_eq!(quoted(Path::new("/home/a/.local/ironclaw.db")), "/home/a/.local/ironclaw.db");
        assert_eq!(quoted(Path::new("/home/a b/$(id)'; rm x")), r"'/home/a b/$(id)'\''; rm x'");
    }
}
