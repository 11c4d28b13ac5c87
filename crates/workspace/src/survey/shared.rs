//! Files with more than one name: a change under one is a change under all of them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use cap_fs_ext::{DirExt as _, MetadataExt as _};
use cap_std::fs::Dir;

use crate::UnsafeFolder;
use crate::path::MAX_SEGMENTS;

/// A regular file that has another name somewhere: the device of its file system, and its number there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct File(u64, u64);

impl File {
    /// The one of this name, if it is such a file.
    pub(super) fn of(folder: &Dir, name: impl AsRef<Path>) -> Option<Self> {
        let found = folder.symlink_metadata(name).ok()?;
        (found.is_file() && found.nlink() > 1).then(|| Self(found.dev(), found.ino()))
    }
}

/// Those at these paths and below. `most` names are looked at.
pub(super) fn files<'a>(
    root: &Dir,
    paths: impl Iterator<Item = &'a PathBuf>,
    most: usize,
) -> Result<BTreeSet<File>, UnsafeFolder> {
    let (mut files, mut left) = (BTreeSet::new(), most);
    for path in paths {
        files.extend(File::of(root, path));
        // A link is none of these, and what it leads to is a path of its own.
        if root.symlink_metadata(path).is_ok_and(|found| found.is_dir())
            && let Ok(folder) = root.open_dir(path)
        {
            below(&folder, MAX_SEGMENTS, &mut left, &mut files)?;
        }
    }
    Ok(files)
}

fn below(
    folder: &Dir,
    levels: usize,
    left: &mut usize,
    files: &mut BTreeSet<File>,
) -> Result<(), UnsafeFolder> {
    for entry in folder.entries().map_err(|_| UnsafeFolder::Changed)?.flatten() {
        *left = left.checked_sub(1).ok_or(UnsafeFolder::TooLarge)?;
        let (name, kind) = (entry.file_name(), entry.file_type());
        files.extend(File::of(folder, AsRef::<OsStr>::as_ref(&name)));
        if kind.is_ok_and(|kind| kind.is_dir())
            && levels > 0
            && let Ok(inner) = folder.open_dir_nofollow(&name)
        {
            below(&inner, levels - 1, left, files)?;
        }
    }
    Ok(())
}
