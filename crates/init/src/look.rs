//! Looks at what was mounted, before anything else runs.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use init::Mounted;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, StatxAttributes, StatxFlags};

/// What mount has its root at a place; none where there is no such place, where a link leads there, or where it is just
/// a file or folder of some mount. Also none on a kernel before Linux 5.8, which does not tell mounts apart.
pub fn look(place: &OsStr) -> Option<Mounted> {
    let handle = open(Path::new(place)).ok()?;
    // All that is asked is asked of one handle, so that it is told of one file, whatever happens to its name meanwhile.
    let found = rustix::fs::fstat(&handle).ok()?;
    let more = rustix::fs::statx(&handle, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    let flags = rustix::fs::fstatvfs(&handle).ok()?.f_flag;
    let told = StatxFlags::from_bits_retain(more.stx_mask).contains(StatxFlags::MNT_ID);
    let is_root = more.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
    (told && is_root).then_some(Mounted {
        device: found.st_dev,
        inode: found.st_ino,
        mount: more.stx_mnt_id,
        read_only: flags.contains(StatVfsMountFlags::RDONLY),
    })
}

/// Opens an absolute path one name at a time, through no link.
fn open(place: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = rustix::fs::openat(CWD, "/", flags, Mode::empty())?;
    for part in place.components() {
        match part {
            Component::RootDir => {}
            Component::Normal(name) => at = rustix::fs::openat(&at, name, flags, Mode::empty())?,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(at)
}
