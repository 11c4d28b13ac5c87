//! `ironclaw vault`: which slot holds the master key, and what it is worth.

use secrets::SlotKind;
use serde_json::json;
use types::Tenant;

use crate::cli;
use crate::exit::Outcome;
use crate::parts::{Base, database};
use crate::terminal::Terminal;

/// Runs the command.
pub async fn run(args: &cli::Vault, base: &Base, terminal: &Terminal) -> Outcome {
    match args {
        cli::Vault::Status => status(base, terminal).await,
    }
}

async fn status(base: &Base, terminal: &Terminal) -> Outcome {
    let slots = base.reader.slots().await.map_err(database)?;
    let secrets = base.reader.secrets(&Tenant::local()).await.map_err(database)?.len();
    if terminal.is_json() {
        let slots: Vec<_> = slots
            .iter()
            .map(|slot| json!({ "kind": slot.kind, "generation": slot.generation, "worth": worth(&slot.kind), "created_ms": slot.created_ms }))
            .collect();
        terminal.json(&json!({ "slots": slots, "secrets": secrets }));
        return Ok(());
    }
    if slots.is_empty() {
        terminal.say("There is no vault yet. To make one: ironclaw init");
        return Ok(());
    }
    for slot in &slots {
        terminal.say(format!(
            "slot {} (key generation {}): {}",
            slot.kind,
            slot.generation,
            worth(&slot.kind)
        ));
    }
    terminal.say(format!("{secrets} secrets"));
    Ok(())
}

/// What a slot protects against, in one sentence.
pub fn worth(kind: &str) -> &'static str {
    match SlotKind::parse(kind) {
        Some(SlotKind::Keychain) => {
            "the master key is in the system's keychain; a copy of the disk does not open the vault"
        }
        Some(SlotKind::Passphrase) => {
            "the master key is derived from your passphrase; a copy of the disk is worth a guess at it"
        }
        Some(SlotKind::File) => {
            "the master key is in a file; whoever reads your configuration and data folders has every secret"
        }
        None => "this program does not know this kind of slot",
    }
}
