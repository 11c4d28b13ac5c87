//! The key that seals the audit log. It is kept in the vault ([`Vault::log_signer`]) and lies nowhere in clear: whoever
//! opens the vault seals, what was recorded before included. A process that does not open it records as ever, unsealed until
//! then. So that anybody can check the log without the vault, the public key lies in a file beside the configuration.
//!
//! Installations that were made before the vault kept it have the key itself in a file. With that they seal at every
//! start, until the vault is opened the next time: then the key moves in and the file goes.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use audit::checkpoint::{Signer, Verifier};
use audit::{Broken, ChangeError, Log};
use secrets::Vault;
use store::Reader;
use zeroize::Zeroizing;

use crate::exit::Failure;
use crate::home::Home;
use crate::parts::{Base, locked};
use crate::terminal::Terminal;

/// The longest file of a public key.
const LONGEST: u64 = 4096;

/// The key in a file, where there is one still and it is the one in force.
pub async fn in_file(home: &Home, reader: &Reader) -> Result<Option<Signer>, Failure> {
    Ok(found(home, &Log::new(reader.clone())).await?.map(|(_, signer)| signer))
}

/// The bytes of the key in force and what it is, if a file holds it: under its own name, or under that of a successor whose
/// exchange was interrupted after the log had handed over.
async fn found(home: &Home, log: &Log) -> Result<Option<(Zeroizing<Vec<u8>>, Signer)>, Failure> {
    let in_force = log.handovers().await.map_err(unread)?.pop().map(|handover| handover.to);
    for (path, is_first) in [(home.signing_key(), true), (home.next_signing_key(), false)] {
        if let Some(seed) = seed(&path)? {
            let signer = signer(&seed, &path)?;
            if in_force.as_ref().map_or(is_first, |key| key == signer.verifier()) {
                return Ok(Some((seed, signer)));
            }
        }
    }
    Ok(None)
}

/// Seals the log from here on with the key in the vault. Moves one that lies in a file in, or makes the first.
pub async fn adopt(base: &Base, vault: &Vault, terminal: &Terminal) -> Result<(), Failure> {
    let (home, log) = (&base.home, Log::new(base.reader.clone()));
    let signer = match vault.log_signer().await.map_err(locked)? {
        Some(signer) => signer,
        None => match found(home, &log).await? {
            Some((seed, signer)) => move_in(&seed, &signer, vault).await?,
            None => first(&log, vault).await?,
        },
    };
    let key = signer.verifier().clone();
    publish(home, &key, &log).await?;
    if retire(&home.signing_key())? | retire(&home.next_signing_key())? {
        terminal.warn(format!(
            "ironclaw: the key of the audit log, {}, is kept in the vault now, and its file is removed\n  where copies of the file may be left, as in backups: ironclaw audit rotate-key",
            key.name()
        ));
    }
    base.audit.seal_with(signer).await.map_err(Failure::failed)
}

/// The key that an older version of this program kept in a file.
async fn move_in(seed: &[u8], signer: &Signer, vault: &Vault) -> Result<Signer, Failure> {
    vault.keep_log_key(seed).await.map_err(locked)?;
    // The file goes only where what was kept opens again and is the same.
    let kept = vault.log_signer().await.map_err(locked)?;
    kept.filter(|kept| kept.verifier() == signer.verifier()).ok_or_else(|| {
        Failure::environment("the key of the audit log did not arrive in the vault; its file stays")
    })
}

async fn first(log: &Log, vault: &Vault) -> Result<Signer, Failure> {
    let in_force = log.handovers().await.map_err(unread)?.pop().map(|handover| handover.to.name().to_owned());
    let sealed = log.last_seal().await.map_err(unread)?.map(|seal| seal.origin);
    if let Some(key) = in_force.or(sealed) {
        return Err(Failure::environment(format!(
            "the audit log is sealed by the key {key}, which is not in the vault; a second key would look like a forgery\n  put its file, keys/audit-signing, back from a backup, or open the vault once on the machine that has it"
        )));
    }
    vault.first_log_key().await.map_err(locked)
}

/// Exchanges the key: the new one is in the vault before the log hands over to it. Returns both public keys.
pub async fn exchange(base: &Base, terminal: &Terminal) -> Result<[Verifier; 2], Failure> {
    let vault = base.vault(terminal).await?;
    let old = vault.log_signer().await.map_err(locked)?;
    let old = old.ok_or_else(|| Failure::not_found("the audit log has no key yet"))?.verifier().clone();
    let new = vault.next_log_key().await.map_err(locked)?;
    let key = new.verifier().clone();
    base.audit.hand_over(new).await.map_err(|error| match error {
        ChangeError::Lost(_) => Failure::failed("somebody else exchanged the key in this very moment"),
        error => Failure::failed(error),
    })?;
    publish(&base.home, &key, &Log::new(base.reader.clone())).await?;
    Ok([old, key])
}

/// The public key that this machine knows the log by, where it does.
pub fn verifier(home: &Home) -> Result<Option<Verifier>, Failure> {
    if let Some(key) = published(home)? {
        return Ok(Some(key));
    }
    let path = home.signing_key();
    seed(&path)?.map(|seed| Ok(signer(&seed, &path)?.verifier().clone())).transpose()
}

/// Writes the public key down. Another one than was known here has to have followed it in the log.
async fn publish(home: &Home, key: &Verifier, log: &Log) -> Result<(), Failure> {
    let path = home.verifying_key();
    match published(home)? {
        Some(known) if known == *key => return Ok(()),
        Some(known) => {
            let handovers = log.handovers().await.map_err(unread)?;
            if !handovers.iter().any(|handover| handover.from == known || handover.to == known) {
                return Err(Failure::environment(format!(
                    "the key of the audit log is {}, and this machine knows the log by {}, of which the log knows nothing: it is another log\n  if you put it there yourself: rm '{}'",
                    key.name(),
                    known.name(),
                    path.display()
                )));
            }
        }
        None => {}
    }
    let written = || -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        crate::home::private_folder(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(file, "{key}")?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|error| error.error)?;
        std::fs::File::open(folder)?.sync_all()
    };
    written().map_err(|error| {
        Failure::environment(format!("{} cannot be written: {}", path.display(), error.kind()))
    })
}

fn published(home: &Home) -> Result<Option<Verifier>, Failure> {
    use std::io::Read as _;
    let path = home.verifying_key();
    let unusable = |why: &str| {
        Failure::environment(format!("the public key of the audit log, {}, {why}", path.display()))
    };
    let mut text = String::new();
    match std::fs::File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(unusable("cannot be read")),
        Ok(file) => file.take(LONGEST).read_to_string(&mut text).map_err(|_| unusable("cannot be read"))?,
    };
    Verifier::parse(text.trim_end()).map(Some).map_err(|_| unusable("is not a key"))
}

/// Removes a file of a key; whether there was one.
fn retire(path: &Path) -> Result<bool, Failure> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => {
            Err(Failure::environment(format!("{} cannot be removed: {}", path.display(), error.kind())))
        }
    }
}

fn unread(error: Broken) -> Failure {
    match error {
        Broken::Store(error) => crate::parts::database(error),
        broken => Failure::failed(broken),
    }
}

fn signer(seed: &[u8], path: &Path) -> Result<Signer, Failure> {
    Signer::from_seed(seed).ok_or_else(|| unusable(path, "is not a key"))
}

fn unusable(path: &Path, why: &str) -> Failure {
    Failure::environment(format!("the key of the audit log, {}, {why}", path.display()))
}

/// What is in a file of a key.
fn seed(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(_) => return Err(unusable(path, "cannot be looked at")),
        Ok(found) if !found.is_file() => return Err(unusable(path, "is not a file")),
        Ok(found) if open_to_others(&found) => {
            let why = format!("may be read by others; close it with: chmod 600 '{}'", path.display());
            return Err(unusable(path, &why));
        }
        Ok(_) => {}
    }
    std::fs::read(path).map(|seed| Some(Zeroizing::new(seed))).map_err(|_| unusable(path, "cannot be read"))
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
