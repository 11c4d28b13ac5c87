//! The certificate of the one authority that programs inside trust, as a file that the engine can mount.

use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use egress::java;

use crate::mounts::Bind;

/// Where it stands in the container.
pub(crate) const TRUSTED: &str = "/.ironclaw/ca.pem";

/// Where programs look whose environment does not say: Debian, Alpine and Arch Linux, and OpenSSL, GnuTLS and Go on them.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// The files of one run. Dropped, they are gone from the disk.
#[derive(Debug)]
pub(crate) struct Authority {
    path: PathBuf,
    /// The same for Java.
    store: PathBuf,
}

impl Authority {
    pub(crate) fn write(folder: &Path, run: &str, pem: &str) -> io::Result<Self> {
        let path = folder.join(format!("{run}.pem"));
        let store = java::beside(&path.to_string_lossy()).into();
        let authority = Self { path, store };
        let write = |path: &Path, bytes: &[u8]| {
            let mut options = std::fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o444).open(path)?;
            io::Write::write_all(&mut file, bytes)
        };
        write(&authority.path, pem.as_bytes())?;
        write(&authority.store, &java::trust_store(pem).map_err(io::Error::other)?)?;
        Ok(authority)
    }

    /// It takes the place of the system's list: every TLS of a container ends at the proxy, so nobody else has anything
    /// to prove there.
    pub(crate) fn binds(&self) -> [Bind; 3] {
        let store = java::beside(TRUSTED);
        [(&self.path, TRUSTED), (&self.path, SYSTEM), (&self.store, &store)]
            .map(|(path, target)| Bind::new(path.clone(), target, true))
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = (std::fs::remove_file(&self.path), std::fs::remove_file(&self.store));
    }
}
