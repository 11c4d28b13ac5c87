//! `ironclaw init`: the database, the key slot and the first tool. Safe to run again.

use secrets::{Unlock, Vault};
use serde_json::json;

use crate::cli;
use crate::commands::vault::worth;
use crate::exit::{Failure, Outcome};
use crate::parts::{Base, database, locked};
use crate::signing;
use crate::terminal::Terminal;

/// Runs the command.
pub async fn run(args: &cli::Init, base: &Base, terminal: &Terminal) -> Outcome {
    let slots = base.reader.slots().await.map_err(database)?;
    let kind = match slots.first() {
        Some(slot) => slot.kind.clone(),
        None => create(args.slot, base, terminal).await?,
    };
    let tool = crate::commands::tool::install_first(base, terminal).await?;
    if terminal.is_json() {
        terminal.json(&json!({
            "data": base.home.data.display().to_string(),
            "config": base.home.config_file().display().to_string(),
            "slot": kind,
            "created": slots.is_empty(),
            "tool": tool.as_ref().map(|name| name.as_str()),
        }));
        return Ok(());
    }
    terminal.say(format!("data           {}", base.home.data.display()));
    terminal.say(format!("configuration  {}", base.home.config_file().display()));
    let made = if slots.is_empty() { "made" } else { "there already" };
    terminal.say(format!("key slot       {kind} ({made}): {}", worth(&kind)));
    if slots.is_empty() {
        terminal.say(
            "               a way back for the day when this slot is lost: ironclaw vault slots add recovery",
        );
    }
    match tool {
        Some(name) => terminal.say(format!("tool           {name} is installed")),
        None => terminal.say("tool           there already"),
    }
    terminal.say("Next: ironclaw doctor");
    Ok(())
}

async fn create(slot: cli::Slot, base: &Base, terminal: &Terminal) -> Result<String, Failure> {
    let unlock = match slot {
        cli::Slot::Keychain => Unlock::Keychain,
        cli::Slot::File => Unlock::File(base.home.key_folder()),
        cli::Slot::Systemd => base.hand(secrets::SlotKind::Systemd, terminal)?,
        cli::Slot::Passphrase => {
            let instead = "--slot file now, then: ironclaw vault slots add passphrase --passphrase-file FILE";
            Unlock::Passphrase(terminal.ask_new_secret("New passphrase of the vault: ", instead)?)
        }
    };
    let kind = unlock.kind();
    let made = Vault::create(base.reader.clone(), &base.audit, &unlock).await;
    let vault = made.map_err(|error| match slot {
        cli::Slot::Keychain => Failure::environment(format!(
            "{error}\n  without a keychain: ironclaw init --slot passphrase, or --slot file for a machine that nobody else uses"
        )),
        _ => locked(error),
    })?;
    signing::adopt(base, &vault, terminal).await?;
    Ok(kind.as_str().to_owned())
}
