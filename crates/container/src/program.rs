//! The container's first process, as a file that the engine can mount.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use types::Digest;

/// Built by this crate's build script.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// Writes the program into a folder of this program's own, unless the very same bytes stand there.
pub(crate) fn place(folder: &Path) -> io::Result<PathBuf> {
    let path = folder.join(format!("init-{}", Digest::of(PROGRAM).short()));
    if std::fs::read(&path).is_ok_and(|bytes| bytes == PROGRAM) {
        return Ok(path);
    }
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let partial = folder.join(format!("init-{process}-{number}.partial"));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o555);
    options.open(&partial)?.write_all(PROGRAM)?;
    std::fs::rename(&partial, &path)?;
    Ok(path)
}
