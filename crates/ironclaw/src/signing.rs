//! The key that seals the audit log: 32 random bytes in a file of its own, apart from the database and
//! from the vault, so that the log is sealed while the vault is locked.
//!
//! Whoever reads the file can seal a log that was rewritten; whoever has the database alone cannot. A
//! checkpoint that is kept elsewhere holds against both. Several processes of one installation, on one
//! machine or on many, use the same file.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use audit::checkpoint::{Signer, Verifier};
use audit::{Broken, Log};
use store::Reader;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::home::Home;

/// The key of an installation; made at the first start, and never a second time.
pub async fn signer(home: &Home, reader: &Reader) -> Result<Signer, Failure> {
    if let Some(signer) = found(home)? {
        return Ok(signer);
    }
    let log = Log::new(reader.clone());
    let sealed = log.last_seal().await.map_err(|error| match error {
        Broken::Store(error) => crate::parts::database(error),
        broken => Failure::failed(broken),
    })?;
    if let Some(seal) = sealed {
        return Err(Failure::environment(format!(
            "the audit log is sealed by the key {}, which is not at {}; a second key would look like a forgery\n  put the file back from a backup, or from another machine of this installation",
            seal.origin,
            home.signing_key().display()
        )));
    }
    make(home)?;
    found(home)?.ok_or_else(|| Failure::environment("the key of the audit log went away while it was made"))
}

/// The public key, where there is one.
pub fn verifier(home: &Home) -> Result<Option<Verifier>, Failure> {
    Ok(found(home)?.map(|signer| signer.verifier().clone()))
}

fn found(home: &Home) -> Result<Option<Signer>, Failure> {
    let path = home.signing_key();
    let unusable =
        |why: &str| Failure::environment(format!("the key of the audit log, {}, {why}", path.display()));
    let seed = match std::fs::symlink_metadata(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(unusable("cannot be looked at")),
        Ok(found) if !found.is_file() => return Err(unusable("is not a file")),
        Ok(found) if open_to_others(&found) => {
            return Err(unusable(&format!(
                "may be read by others; close it with: chmod 600 '{}'",
                path.display()
            )));
        }
        Ok(_) => Zeroizing::new(std::fs::read(&path).map_err(|_| unusable("cannot be read"))?),
    };
    Signer::from_seed(&seed).map(Some).ok_or_else(|| unusable("is not a key"))
}

/// Written whole under another name first: of two processes that start at once one's key is kept, and no
/// half of one is ever found.
fn make(home: &Home) -> Result<(), Failure> {
    let path = home.signing_key();
    let written = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        crate::home::private_folder(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&*audit::checkpoint::seed().map_err(|_| ErrorKind::Other)?)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(&path) {
            Err(error) if error.error.kind() != ErrorKind::AlreadyExists => Err(error.error),
            _ => Ok(()),
        }
    };
    written().map_err(|error| {
        Failure::environment(format!(
            "the key of the audit log cannot be made at {}: {}",
            path.display(),
            error.kind()
        ))
    })
}

#[cfg(unix)]
fn open_to_others(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    found.mode() & 0o077 != 0
}

#[cfg(not(unix))]
fn open_to_others(_: &std::fs::Metadata) -> bool {
    false
}
