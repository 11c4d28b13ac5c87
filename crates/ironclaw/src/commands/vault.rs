//! `ironclaw vault`: the key slots, what they are worth, and the master key itself.

use std::path::Path;
use std::time::Duration;

use secrets::{Progress, SlotInfo, SlotKind, Unlock};
use serde_json::json;
use types::Tenant;

use crate::cli;
use crate::exit::{Code, Failure, Outcome};
use crate::parts::{Base, database, locked};
use crate::terminal::Terminal;
use crate::unlock::passphrase;

/// Runs the command.
pub async fn run(args: &cli::Vault, base: &Base, terminal: &Terminal) -> Outcome {
    match args {
        cli::Vault::Status | cli::Vault::Slots(cli::Slots::List) => status(base, terminal).await,
        cli::Vault::Check => check(base, terminal).await,
        cli::Vault::Slots(cli::Slots::Add { kind, with, passphrase_file }) => {
            add(kind_of(*kind), with.map(kind_of), passphrase_file.as_deref(), base, terminal).await
        }
        cli::Vault::Slots(cli::Slots::Remove { id, with }) => {
            remove(id, with.map(kind_of), base, terminal).await
        }
        cli::Vault::Rotate { abort: true, .. } => abort(base, terminal).await,
        cli::Vault::Rotate { grace, passphrase_file, .. } => {
            rotate(Duration::from_secs(*grace), passphrase_file.as_deref(), base, terminal).await
        }
        cli::Vault::Backup { file, passphrase_file } => {
            super::backup::backup(file, passphrase_file.as_deref(), base, terminal).await
        }
        cli::Vault::Restore { file, passphrase_file, dry_run, revive } => {
            let how = super::backup::How { dry: *dry_run, revive: *revive };
            super::backup::restore(file, passphrase_file.as_deref(), how, base, terminal).await
        }
    }
}

async fn status(base: &Base, terminal: &Terminal) -> Outcome {
    let slots = secrets::slots(&base.reader).await.map_err(locked)?;
    let secrets = base.reader.secrets(&Tenant::local()).await.map_err(database)?.len();
    let rotation = base.reader.rotation().await.map_err(database)?;
    if terminal.is_json() {
        let slots: Vec<_> = slots.iter().map(slot_json).collect();
        let rotation =
            rotation.map(|row| json!({ "from": row.from, "to": row.to, "state": row.state.as_str() }));
        terminal.json(&json!({ "slots": slots, "secrets": secrets, "rotation": rotation }));
        return Ok(());
    }
    if slots.is_empty() {
        terminal.say("There is no vault yet. To make one: ironclaw init");
        return Ok(());
    }
    for slot in &slots {
        let worth = worth(slot.kind.as_str());
        terminal.say(format!("slot {} {} (key generation {}): {worth}", slot.id, slot.kind, slot.generation));
    }
    if !slots.iter().any(|slot| slot.kind == SlotKind::Recovery) {
        terminal.say("There is no recovery code. To make one: ironclaw vault slots add recovery");
    }
    if let Some(row) = rotation {
        terminal.say(format!(
            "The master key is being exchanged: generation {} to {}, {}. To go on: ironclaw vault rotate",
            row.from, row.to, row.state
        ));
    }
    terminal.say(format!("{secrets} secrets"));
    Ok(())
}

fn slot_json(slot: &SlotInfo) -> serde_json::Value {
    json!({
        "id": slot.id, "kind": slot.kind.as_str(), "generation": slot.generation,
        "worth": worth(slot.kind.as_str()), "created_ms": slot.created_ms,
    })
}

async fn check(base: &Base, terminal: &Terminal) -> Outcome {
    let opened = base.vault(terminal).await?.check().await.map_err(Failure::failed)?;
    terminal.done(json!({ "opened": opened }), format!("All {opened} versions of all secrets open."));
    Ok(())
}

async fn add(
    kind: SlotKind,
    with: Option<SlotKind>,
    file: Option<&Path>,
    base: &Base,
    terminal: &Terminal,
) -> Outcome {
    let opener = base.opener(with, terminal).await?;
    let code = match kind {
        SlotKind::Recovery => Some(secrets::recovery::fresh().map_err(Failure::failed)?),
        _ => None,
    };
    let new = match (&code, kind) {
        (Some(code), _) => Unlock::Recovery(secrets::Plain::new(code.as_bytes().to_vec())),
        (None, SlotKind::Passphrase) => {
            Unlock::Passphrase(passphrase(file, "New passphrase of the vault: ", true, terminal)?)
        }
        (None, kind) => base.hand(kind, terminal)?,
    };
    let slot = secrets::add_slot(&base.reader, &base.audit, &opener, &new).await.map_err(locked)?;
    let code = code.as_ref().map(|code| code.as_str());
    if terminal.is_json() {
        terminal.json(&json!({ "slot": slot_json(&slot), "recovery_code": code }));
        return Ok(());
    }
    terminal.say(format!("slot {} {}: {}", slot.id, slot.kind, worth(slot.kind.as_str())));
    if let Some(code) = code {
        show_code(code, terminal);
    }
    Ok(())
}

fn show_code(code: &str, terminal: &Terminal) {
    terminal.say(format!("\n    {code}\n"));
    terminal.say(
        "Write it down and keep it away from this machine: it opens the vault, and it is not shown again.",
    );
    terminal.say("To use it: ironclaw vault slots add keychain --with recovery");
}

async fn remove(id: &str, with: Option<SlotKind>, base: &Base, terminal: &Terminal) -> Outcome {
    let slots = secrets::slots(&base.reader).await.map_err(locked)?;
    let Some(slot) = slots.iter().find(|slot| slot.id == id) else {
        return Err(Failure::not_found("there is no such slot\n  all of them: ironclaw vault slots list"));
    };
    let with = with.or_else(|| {
        let others = || slots.iter().filter(|other| other.id != id);
        SlotKind::ALL.into_iter().find(|kind| others().any(|other| other.kind == *kind))
    });
    let Some(with) = with else {
        return Err(Failure::usage("it is the last key slot; without one every secret would be lost"));
    };
    let opener = base.hand(with, terminal)?;
    let keeper = if slot.kind.asks() { None } else { base.hand(slot.kind, terminal).ok() };
    let removed = secrets::remove_slot(&base.reader, &base.audit, &opener, id, keeper.as_ref()).await;
    removed.map_err(locked)?;
    terminal.done(json!({ "removed": id }), format!("The {} slot is removed.", slot.kind));
    Ok(())
}

/// What opens the slots that are at hand. A new recovery code is shown before its slot exists: who is
/// interrupted in between has a code too many, not one too few.
async fn hands(file: Option<&Path>, base: &Base, terminal: &Terminal) -> Result<Vec<Unlock>, Failure> {
    let slots = secrets::slots(&base.reader).await.map_err(locked)?;
    let mut hands = Vec::new();
    for kind in SlotKind::ALL.into_iter().filter(|kind| slots.iter().any(|slot| slot.kind == *kind)) {
        match kind {
            SlotKind::Passphrase => {
                let phrase = passphrase(file, "Passphrase of the vault: ", false, terminal)?;
                hands.push(Unlock::Passphrase(phrase));
            }
            SlotKind::Recovery if has_new_code(base).await? => {}
            SlotKind::Recovery => {
                let code = secrets::recovery::fresh().map_err(Failure::failed)?;
                match terminal.is_json() {
                    true => terminal.json(&json!({ "state": "new code", "recovery_code": code.as_str() })),
                    false => show_code(&code, terminal),
                }
                hands.push(Unlock::Recovery(secrets::Plain::new(code.as_bytes().to_vec())));
            }
            // A credential that this process was not given lets its slot wait.
            kind => hands.extend(base.hand(kind, terminal).ok()),
        }
    }
    Ok(hands)
}

/// Whether an exchange that was interrupted has come past the recovery code.
async fn has_new_code(base: &Base) -> Result<bool, Failure> {
    let Some(rotation) = base.reader.rotation().await.map_err(database)? else { return Ok(false) };
    let slots = base.reader.slots().await.map_err(database)?;
    let is_new = |slot: &store::SlotRow| slot.generation == rotation.to && slot.kind == "recovery";
    Ok(slots.iter().any(is_new))
}

async fn rotate(grace: Duration, file: Option<&Path>, base: &Base, terminal: &Terminal) -> Outcome {
    let hands = hands(file, base, terminal).await?;
    loop {
        let progress = secrets::rotate(&base.reader, &base.audit, &hands, grace).await.map_err(locked)?;
        match progress {
            Progress::Finished => {
                terminal.done(
                    json!({ "state": "finished" }),
                    "The master key is exchanged, and the old one is gone.",
                );
                return Ok(());
            }
            Progress::Grace(until) => {
                terminal.done(
                    json!({ "state": "switched", "until_ms": until }),
                    "The new master key is in force. To remove the old one after the time of grace: ironclaw vault rotate",
                );
                return Ok(());
            }
            Progress::Waits(slots) => return waits(&slots, terminal),
            step => {
                let words = words(&step);
                terminal.done(json!({ "state": words }), words);
            }
        }
    }
}

fn words(step: &Progress) -> String {
    match step {
        Progress::Begun { generation } => format!("begun: generation {generation} of the master key"),
        Progress::Followed(kind) => format!("followed: the {kind} slot opens the new key"),
        Progress::Wrapped(count) => format!("wrapped: {count} keys under the new key, each opened again"),
        Progress::Switched => "switched: the new key is in force".to_owned(),
        Progress::Finished | Progress::Waits(_) | Progress::Grace(_) => String::new(),
    }
}

fn waits(slots: &[SlotInfo], terminal: &Terminal) -> Outcome {
    for slot in slots {
        terminal.warn(format!(
            "ironclaw: the {} slot {} does not open here, so the old key stays in force; open the vault once where it does, or: ironclaw vault slots remove {}",
            slot.kind, slot.id, slot.id
        ));
    }
    terminal.warn("ironclaw: then go on with: ironclaw vault rotate");
    Err(Failure::Said(Code::Environment))
}

async fn abort(base: &Base, terminal: &Terminal) -> Outcome {
    let hands = [Unlock::Keychain, Unlock::File(base.home.key_folder())];
    secrets::abort_rotation(&base.reader, &base.audit, &hands).await.map_err(Failure::failed)?;
    terminal.done(json!({ "state": "given up" }), "The exchange is given up; the old master key stays.");
    Ok(())
}

fn kind_of(kind: cli::SlotKind) -> SlotKind {
    match kind {
        cli::SlotKind::Keychain => SlotKind::Keychain,
        cli::SlotKind::Systemd => SlotKind::Systemd,
        cli::SlotKind::File => SlotKind::File,
        cli::SlotKind::Passphrase => SlotKind::Passphrase,
        cli::SlotKind::Recovery => SlotKind::Recovery,
    }
}

/// What a slot protects against, in one sentence.
pub fn worth(kind: &str) -> &'static str {
    match SlotKind::parse(kind) {
        Some(SlotKind::Keychain) => {
            "the master key is in the system's keychain; a copy of the disk does not open the vault"
        }
        Some(SlotKind::Systemd) => {
            "the master key is sealed to this machine by systemd; a copy of the disk does not open the vault, root here does"
        }
        Some(SlotKind::Passphrase) => {
            "the master key is derived from your passphrase; a copy of the disk is worth a guess at it"
        }
        Some(SlotKind::Recovery) => {
            "the master key opens by the code that was printed once; it is worth as much as the place where it lies"
        }
        Some(SlotKind::File) => {
            "the master key is in a file; whoever reads your configuration and data folders has every secret"
        }
        None => "this program does not know this kind of slot",
    }
}
