//! `ironclaw vault backup` and `restore`: one file under a passphrase.

use std::io::Write as _;
use std::path::Path;

use secrets::VaultError;
use secrets::backup::{BackupError, MAX, Restored};
use serde_json::json;
use types::SecretName;
use types::limits::Bytes;

use super::signals::Signals;
use crate::exit::{Failure, Outcome};
use crate::files;
use crate::parts::Base;
use crate::terminal::Terminal;
use crate::unlock::passphrase;

/// How a backup is brought back.
#[derive(Clone, Copy)]
pub struct How {
    /// Only say what would be done.
    pub dry: bool,
    /// Bring back what was destroyed here, too.
    pub revive: bool,
}

/// Writes a backup into a new file that only its owner can read.
pub async fn backup(file: &Path, from: Option<&Path>, base: &Base, terminal: &Terminal) -> Outcome {
    let vault = base.vault(terminal).await?;
    let passphrase = passphrase(from, "New passphrase of the backup: ", true, terminal)?;
    let mut signals = Signals::listen()?;
    // Before the work, and before it is on record.
    let mut out = create(file)?;
    let work = async { vault.backup(&passphrase).await.map_err(refused) };
    let written = signals.unless_ended(work).await.and_then(|bytes| {
        out.write_all(&bytes).and_then(|()| out.sync_all()).map(|()| bytes.len()).map_err(|error| {
            Failure::failed(format!("{} cannot be written: {}", file.display(), error.kind()))
        })
    });
    let bytes = written.inspect_err(|_| {
        // A file that holds no whole backup would be taken for one.
        let _ = std::fs::remove_file(file);
    })?;
    terminal.done(
        json!({ "file": file.display().to_string(), "bytes": bytes }),
        format!("Written to {}. Without the passphrase nobody can read it, you neither.", file.display()),
    );
    Ok(())
}

/// Brings back from a backup what is not there.
pub async fn restore(
    file: &Path,
    from: Option<&Path>,
    how: How,
    base: &Base,
    terminal: &Terminal,
) -> Outcome {
    let bytes = files::read_start(file, Bytes(MAX))?;
    let vault = base.vault(terminal).await?;
    let passphrase = passphrase(from, "Passphrase of the backup: ", false, terminal)?;
    let restored = vault.restore(&bytes, &passphrase, how.revive, how.dry).await.map_err(refused)?;
    if terminal.is_json() {
        let names = |list: &[SecretName]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        terminal.json(&json!({
            "dry_run": how.dry, "restored": names(&restored.secrets), "kept": names(&restored.kept),
            "destroyed": names(&restored.destroyed), "grants": restored.grants,
        }));
    } else {
        say(&restored, how, terminal);
    }
    Ok(())
}

fn say(restored: &Restored, how: How, terminal: &Terminal) {
    let verb = if how.dry { "would be restored" } else { "restored" };
    for name in &restored.secrets {
        terminal.say(format!("{name:<32} {verb}"));
    }
    for name in &restored.kept {
        terminal.say(format!("{name:<32} there already, left alone"));
    }
    for name in &restored.destroyed {
        terminal.say(format!("{name:<32} was destroyed here; to bring it back: --revive"));
    }
    terminal.say(format!("{} secrets and {} grants {verb}.", restored.secrets.len(), restored.grants));
}

/// A passphrase or a file that is wrong is the person's to mend.
fn refused(error: VaultError) -> Failure {
    match error {
        VaultError::Backup(BackupError::Short) => Failure::usage(error),
        error => Failure::failed(error),
    }
}

/// Makes a new file that only its owner can read.
pub(super) fn create(file: &Path) -> Result<std::fs::File, Failure> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::usage(format!("{} exists already", file.display())),
        kind => Failure::failed(format!("{} cannot be made: {kind}", file.display())),
    })
}
