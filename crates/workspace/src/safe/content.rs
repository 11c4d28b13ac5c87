//! What may not be in a folder that is lent: sockets, FIFOs, devices, and for whoever writes what hides a place from a look.

use std::ffi::OsStr;
use std::path::Path;

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Dir, FileTypeExt as _, ReadDir};

use super::UnsafeFolder;
use crate::path::{MAX_SEGMENTS, Quoted};

/// How many names are looked at before a folder is refused as too large to check. About one second.
pub(super) const MAX_CHECKED: usize = 200_000;

/// What is said to a mount inside a folder.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mounts {
    /// It is looked into like a folder.
    Seen,
    /// A command that writes would write below it, where nobody looks.
    Refused,
}

/// Looks at all names of a folder for what is neither file, folder nor link.
pub(super) fn check(folder: &Dir, mounts: Mounts) -> Result<(), UnsafeFolder> {
    let names = folder.entries().map_err(|_| UnsafeFolder::NotAFolder)?;
    Check { left: MAX_CHECKED, mounts }.look(names, folder, Path::new(""), MAX_SEGMENTS)
}

struct Check {
    left: usize,
    mounts: Mounts,
}

impl Check {
    fn look(&mut self, names: ReadDir, folder: &Dir, at: &Path, levels: usize) -> Result<(), UnsafeFolder> {
        for found in names {
            let found = found.map_err(|_| UnsafeFolder::NotAFolder)?;
            self.left = self.left.checked_sub(1).ok_or(UnsafeFolder::TooLarge)?;
            let kind = found.file_type().map_err(|_| UnsafeFolder::NotAFolder)?;
            let name = found.file_name();
            let quoted = || Quoted(at.join(&name));
            if self.mounts == Mounts::Refused && (kind.is_dir() || kind.is_file()) && is_mount(folder, &name)
            {
                return Err(UnsafeFolder::Mounted(quoted()));
            }
            if kind.is_dir() {
                if levels == 0 {
                    return Err(UnsafeFolder::TooLarge);
                }
                // Opening a folder takes no right to it (`O_PATH`); listing its names does. In one that keeps them to itself may be
                // anything, and a command that knows a name gets to it, or takes the right that it needs where the folder is its own.
                // One that is gone by now is none.
                if let Ok(below) = folder.open_dir_nofollow(&name) {
                    let names = below.entries().map_err(|_| UnsafeFolder::Closed(quoted()))?;
                    self.look(names, &below, &at.join(&name), levels - 1)?;
                }
            } else if kind.is_socket() || kind.is_fifo() || kind.is_block_device() || kind.is_char_device() {
                return Err(UnsafeFolder::Special(quoted()));
            }
        }
        Ok(())
    }
}

/// Whether something is mounted on a name (`STATX_ATTR_MOUNT_ROOT`, Linux 5.8). Older kernels tell it only of another file
/// system, by its device.
#[cfg(target_os = "linux")]
fn is_mount(folder: &Dir, name: &OsStr) -> bool {
    use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, statx};
    let look = |name: &OsStr| {
        statx(folder, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT, StatxFlags::BASIC_STATS)
    };
    let Ok(found) = look(name) else { return false };
    let root = StatxAttributes::MOUNT_ROOT;
    match found.stx_attributes_mask.contains(root) {
        true => found.stx_attributes.contains(root),
        false => look(OsStr::new(".")).is_ok_and(|folder| {
            (folder.stx_dev_major, folder.stx_dev_minor) != (found.stx_dev_major, found.stx_dev_minor)
        }),
    }
}

/// Whether something is mounted on a name. Commands are confined on Linux only, so nobody asks.
#[cfg(not(target_os = "linux"))]
fn is_mount(_: &Dir, _: &OsStr) -> bool {
    false
}
