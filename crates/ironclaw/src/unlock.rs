//! How this program comes to the keys of the vault: by a slot that opens without a person where there is
//! one, otherwise by asking.
//!
//! The order is fixed ([`SlotKind::ALL`]). A slot that exists and does not open is never passed over in
//! silence: the person is told before another one is asked for.

use std::path::Path;
use std::sync::Arc;

use secrets::{Plain, SlotInfo, SlotKind, Unlock, Vault, VaultError};
use types::limits::Bytes;

use crate::exit::Failure;
use crate::files;
use crate::parts::{Base, locked};
use crate::signing;
use crate::terminal::Terminal;

/// The longest passphrase that is read from a file.
const MAX_PASSPHRASE: Bytes = Bytes::kib(4);

impl Base {
    /// Opens the vault, teaches the scanners its values and seals the log from then on. `None` when there is no vault yet.
    pub async fn unlock(&self, terminal: &Terminal) -> Result<Option<Arc<Vault>>, Failure> {
        let slots = secrets::slots(&self.reader).await.map_err(locked)?;
        if slots.is_empty() {
            return Ok(None);
        }
        let mut said = None;
        for kind in kinds(&slots) {
            if let Some(error) = said.take() {
                terminal.warn(format!("ironclaw: {error}; trying the {kind} slot"));
            }
            let unlock = self.hand(kind, terminal)?;
            match Vault::open(self.reader.clone(), self.audit.clone(), &unlock).await {
                Ok(vault) => {
                    self.safety.learn(vault.known_values().await.map_err(locked)?);
                    signing::adopt(self, &vault, terminal).await?;
                    return Ok(Some(Arc::new(vault)));
                }
                Err(error @ VaultError::Slot(_)) if !kind.asks() => said = Some(error),
                Err(error) => return Err(locked(error)),
            }
        }
        Err(said.map_or_else(|| Failure::environment("no slot of the vault opens"), locked))
    }

    /// The vault, or the command that makes one.
    pub async fn vault(&self, terminal: &Terminal) -> Result<Arc<Vault>, Failure> {
        let missing = || Failure::not_found("there is no vault yet\n  make one: ironclaw init");
        self.unlock(terminal).await?.ok_or_else(missing)
    }

    /// What opens slots of a kind. Asks where the kind needs a person.
    pub fn hand(&self, kind: SlotKind, terminal: &Terminal) -> Result<Unlock, Failure> {
        Ok(match kind {
            SlotKind::Keychain => Unlock::Keychain,
            SlotKind::Systemd => Unlock::Systemd(self.credentials()?),
            SlotKind::File => Unlock::File(self.home.key_folder()),
            SlotKind::Passphrase => Unlock::Passphrase(asked("Passphrase of the vault: ", terminal)?),
            SlotKind::Recovery => Unlock::Recovery(asked("Recovery code of the vault: ", terminal)?),
        })
    }

    /// What opens the vault for changes of its slots: the kind that was named, or the first that exists.
    pub async fn opener(&self, named: Option<SlotKind>, terminal: &Terminal) -> Result<Unlock, Failure> {
        let slots = secrets::slots(&self.reader).await.map_err(locked)?;
        let kind = match named {
            Some(kind) => kind,
            None => kinds(&slots)
                .next()
                .ok_or_else(|| Failure::not_found("there is no vault yet\n  make one: ironclaw init"))?,
        };
        self.hand(kind, terminal)
    }

    fn credentials(&self) -> Result<std::path::PathBuf, Failure> {
        self.home
            .credentials
            .clone()
            .ok_or_else(|| Failure::environment(secrets::credential::CredentialError::Missing))
    }
}

/// What a person types, where there is a person.
fn asked(prompt: &str, terminal: &Terminal) -> Result<Plain, Failure> {
    terminal.ask_secret(
        prompt,
        "give the vault a slot that nobody types: ironclaw vault slots add keychain, or file",
    )
}

/// The kinds that a vault has, in the order in which they are tried. A recovery code is not for every day:
/// it is asked for only by name.
fn kinds(slots: &[SlotInfo]) -> impl Iterator<Item = SlotKind> + use<> {
    let there: Vec<SlotKind> = slots.iter().map(|slot| slot.kind).collect();
    SlotKind::ALL.into_iter().filter(move |kind| *kind != SlotKind::Recovery && there.contains(kind))
}

/// A passphrase from a file that was named, without its last line break, or from the terminal: once, or
/// twice for a new one.
pub fn passphrase(
    file: Option<&Path>,
    prompt: &str,
    is_new: bool,
    terminal: &Terminal,
) -> Result<Plain, Failure> {
    let Some(file) = file else {
        let instead = "--passphrase-file FILE";
        return match is_new {
            true => terminal.ask_new_secret(prompt, instead),
            false => terminal.ask_secret(prompt, instead),
        };
    };
    let mut bytes = files::read_start(file, MAX_PASSPHRASE)?;
    while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
        bytes.pop();
    }
    Ok(Plain::new(bytes))
}
