//! What of a workspace is to be a mount of its own, held open.
//!
//! An engine mounts by name, and whoever may write the folder above a name decides what it leads to. So each part is
//! opened beforehand from the handle of the workspace, one name at a time and never through a link, and its numbers are
//! compared with those of what was mounted. As long as a handle is open no other file can be given its numbers.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};

use crate::{Part, SafeFolder, Survey, UnsafeFolder};

/// A handle that neither reads nor writes, where the system has such.
#[cfg(target_os = "linux")]
const HANDLE: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const HANDLE: OFlags = OFlags::RDONLY;

/// A workspace and each of its parts, outermost first.
#[derive(Debug)]
pub struct Held {
    parts: Vec<HeldPart>,
}

/// One of them, held open.
#[derive(Debug)]
pub struct HeldPart {
    part: Part,
    handle: OwnedFd,
    identity: (u64, u64),
}

impl Held {
    /// Opens a workspace and its parts. Without a survey it has none and can only be read.
    pub fn open(folder: &SafeFolder, survey: Option<&Survey>) -> Result<Self, UnsafeFolder> {
        let whole = Part { path: PathBuf::new(), read_only: survey.is_none() };
        let mut held = Self { parts: vec![HeldPart::open(&folder.dir, Path::new("."), whole)?] };
        for part in survey.map(Survey::parts).unwrap_or_default() {
            // Every folder above a part is a part itself, and stands before it.
            let above = part.path.parent().and_then(|above| held.find(above)).ok_or(UnsafeFolder::Changed)?;
            let name = part.path.file_name().map(PathBuf::from).ok_or(UnsafeFolder::Changed)?;
            held.parts.push(HeldPart::open(&above.handle, &name, part)?);
        }
        Ok(held)
    }

    /// The workspace itself, then its parts.
    pub fn parts(&self) -> &[HeldPart] {
        &self.parts
    }

    fn find(&self, path: &Path) -> Option<&HeldPart> {
        self.parts.iter().find(|held| held.part.path == path)
    }
}

impl HeldPart {
    fn open(above: impl std::os::fd::AsFd, name: &Path, part: Part) -> Result<Self, UnsafeFolder> {
        let open = || -> io::Result<Self> {
            let flags = HANDLE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = rustix::fs::openat(above, name, flags, Mode::empty())?;
            let found = rustix::fs::fstat(&handle)?;
            // A link is opened as itself, and is none of these.
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory | FileType::RegularFile => {}
                _ => return Err(io::ErrorKind::InvalidInput.into()),
            }
            Ok(Self { part, handle, identity: (found.st_dev as u64, found.st_ino as u64) })
        };
        open().map_err(|_| UnsafeFolder::Changed)
    }

    /// Its path inside the workspace, which is empty for the workspace itself, and how it is to be mounted.
    pub fn part(&self) -> &Part {
        &self.part
    }

    /// What tells it from any other file of this machine for as long as it is held: the device of its file system, and its
    /// number there.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use super::*;
    use crate::Surroundings;

    #[test]
    fn f01_parts_are_held_by_handle_and_never_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("pkg")).unwrap();
        fs::create_dir_all(dir.path().join("g")).unwrap();
        fs::write(dir.path().join("pkg/pulse"), "inside").unwrap();
        fs::write(outside.path().join("pulse"), "outside").unwrap();
        symlink("../pkg/pulse", dir.path().join("g/AGENTS.md")).unwrap();
        let safe = SafeFolder::check(dir.path(), &Surroundings::default()).unwrap();
        let survey = Survey::of(&safe).unwrap();

        let held = Held::open(&safe, Some(&survey)).unwrap();
        let told: Vec<_> = held.parts().iter().map(|held| (held.part().clone(), held.identity())).collect();
        let expected =
            [("", false), ("g", false), ("pkg", false), ("pkg/pulse", true)].map(|(path, read_only)| {
                let found = dir.path().join(path).symlink_metadata().unwrap();
                (Part { path: path.into(), read_only }, (found.dev(), found.ino()))
            });
        assert_eq!(told, expected);
        let whole = Held::open(&safe, None).unwrap();
        assert!(whole.parts().len() == 1 && whole.parts()[0].part().read_only);

        // What was there when it was surveyed and is a link when it is opened.
        fs::rename(dir.path().join("pkg/pulse"), dir.path().join("pulse")).unwrap();
        symlink(outside.path().join("pulse"), dir.path().join("pkg/pulse")).unwrap();
        assert_eq!(Held::open(&safe, Some(&survey)).unwrap_err(), UnsafeFolder::Changed);
        fs::rename(dir.path().join("pulse"), dir.path().join("pkg/pulse")).unwrap();
        Held::open(&safe, Some(&survey)).unwrap();
        fs::rename(dir.path().join("pkg"), dir.path().join("was")).unwrap();
        symlink(outside.path(), dir.path().join("pkg")).unwrap();
        assert_eq!(Held::open(&safe, Some(&survey)).unwrap_err(), UnsafeFolder::Changed);
        fs::remove_file(dir.path().join("pkg")).unwrap();
        assert_eq!(Held::open(&safe, Some(&survey)).unwrap_err(), UnsafeFolder::Changed);
    }
}
