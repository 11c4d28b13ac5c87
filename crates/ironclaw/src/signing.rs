//! The key that seals the audit log: 32 random bytes in a file of its own, apart from the database and
//! from the vault, so that the log is sealed while the vault is locked.
//!
//! Whoever reads the file can seal a log that was rewritten; whoever has the database alone cannot. A
//! checkpoint that is kept elsewhere holds against both. Several processes of one installation, on one
//! machine or on many, use the same file. When it is exchanged the log hands over from one key to the next, so that
//! whoever trusts either can check all of it.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use audit::checkpoint::{Signer, Verifier};
use audit::{Audit, Broken, ChangeError, Log};
use store::Reader;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::home::Home;

/// The key of an installation; made at the first start, and never a second time.
pub async fn signer(home: &Home, reader: &Reader) -> Result<Signer, Failure> {
    let log = Log::new(reader.clone());
    let in_force = log.handovers().await.map_err(unread)?.pop().map(|handover| handover.to);
    if let Some(key) = &in_force {
        finish(home, key)?;
    }
    let path = home.signing_key();
    if let Some(signer) = found(&path)? {
        return match in_force {
            Some(key) if key != *signer.verifier() => Err(Failure::environment(format!(
                "the key of the audit log was exchanged for {}, and {} is an older one\n  put the file here from the machine where it was exchanged",
                key.name(),
                path.display()
            ))),
            _ => Ok(signer),
        };
    }
    if let Some(seal) = log.last_seal().await.map_err(unread)? {
        return Err(Failure::environment(format!(
            "the audit log is sealed by the key {}, which is not at {}; a second key would look like a forgery\n  put the file back from a backup, or from another machine of this installation",
            seal.origin,
            path.display()
        )));
    }
    make(&path)?;
    found(&path)?.ok_or_else(|| Failure::environment("the key of the audit log went away while it was made"))
}

/// Exchanges the key: the new one is on the disk before the log hands over to it, and takes the old one's name
/// after. Whoever stops in between is finished at the next start. Returns both public keys.
pub async fn exchange(home: &Home, audit: &Audit) -> Result<[Verifier; 2], Failure> {
    let path = home.next_signing_key();
    let old = verifier(home)?.ok_or_else(|| Failure::not_found("the audit log has no key yet"))?;
    // One that an exchange before this left behind was never in force, or it would have been finished.
    if found(&path)?.is_some() {
        std::fs::remove_file(&path).map_err(|error| {
            Failure::environment(format!("{} cannot be removed: {}", path.display(), error.kind()))
        })?;
    }
    make(&path)?;
    let new = found(&path)?
        .ok_or_else(|| Failure::failed("somebody else exchanges the key in this very moment"))?;
    let key = new.verifier().clone();
    audit.hand_over(new).await.map_err(|error| match error {
        ChangeError::Lost(_) => Failure::failed("somebody else exchanged the key in this very moment"),
        error => Failure::failed(error),
    })?;
    finish(home, &key)?;
    Ok([old, key])
}

/// Puts the key in place to which the log has handed over, where it lies under its first name still.
fn finish(home: &Home, key: &Verifier) -> Result<(), Failure> {
    let path = home.next_signing_key();
    if !found(&path)?.is_some_and(|next| next.verifier() == key) {
        return Ok(());
    }
    let placed = || -> std::io::Result<()> {
        std::fs::rename(&path, home.signing_key())?;
        std::fs::File::open(home.key_folder())?.sync_all()
    };
    placed().map_err(|error| {
        Failure::environment(format!(
            "{} cannot take the name {}: {}",
            path.display(),
            home.signing_key().display(),
            error.kind()
        ))
    })
}

fn unread(error: Broken) -> Failure {
    match error {
        Broken::Store(error) => crate::parts::database(error),
        broken => Failure::failed(broken),
    }
}

/// The public key, where there is one.
pub fn verifier(home: &Home) -> Result<Option<Verifier>, Failure> {
    Ok(found(&home.signing_key())?.map(|signer| signer.verifier().clone()))
}

fn found(path: &Path) -> Result<Option<Signer>, Failure> {
    let unusable =
        |why: &str| Failure::environment(format!("the key of the audit log, {}, {why}", path.display()));
    let seed = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(unusable("cannot be looked at")),
        Ok(found) if !found.is_file() => return Err(unusable("is not a file")),
        Ok(found) if open_to_others(&found) => {
            return Err(unusable(&format!(
                "may be read by others; close it with: chmod 600 '{}'",
                path.display()
            )));
        }
        Ok(_) => Zeroizing::new(std::fs::read(path).map_err(|_| unusable("cannot be read"))?),
    };
    Signer::from_seed(&seed).map(Some).ok_or_else(|| unusable("is not a key"))
}

/// Written whole under another name first: of two processes that start at once one's key is kept, and no
/// half of one is ever found.
fn make(path: &Path) -> Result<(), Failure> {
    let written = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        crate::home::private_folder(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&*audit::checkpoint::seed().map_err(|_| ErrorKind::Other)?)?;
        file.as_file().sync_all()?;
        match file.persist_noclobber(path) {
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
