//! `ironclaw sandbox prune`: away with what nothing uses any more.

use container::{Engine, Image, Litter, Pruned};
use serde_json::json;

use super::{pin_file, unfit};
use crate::commands::exec;
use crate::exit::{Failure, Outcome};
use crate::parts::{self, Base};
use crate::terminal::Terminal;

/// Shows what can go, asks, and removes it.
pub async fn run(images: bool, yes: bool, base: &Base, terminal: &Terminal) -> Outcome {
    let config = parts::container_config(&base.home, &base.config);
    let engine = Engine::connect(&config).await.map_err(|fault| unfit(&fault, &base.home))?;
    let keep = if images { Some(kept(&engine, base).await) } else { None };
    let litter = Litter::find(&engine, &config, keep.as_deref()).await.map_err(Failure::environment)?;
    if litter.is_empty() {
        tell(&Pruned::default(), terminal);
        return Ok(());
    }
    if !yes {
        lines(&litter).iter().for_each(|line| terminal.warn(line));
        if !terminal.confirm("Remove it?").await? {
            return Err(Failure::failed(
                "nothing was removed\n  without a question: ironclaw sandbox prune --yes",
            ));
        }
    }
    let around = parts::surroundings(&base.home);
    let pruned = litter.remove(&engine, &config, &around, &base.audit).await.map_err(Failure::environment)?;
    tell(&pruned, terminal);
    exec::tell_of(&pruned.recovered, base, terminal);
    Ok(())
}

/// The images that commands run in: the one that was made or taken, and the one of the configuration.
async fn kept(engine: &Engine, base: &Base) -> Vec<String> {
    let pin = std::fs::read_to_string(pin_file(&base.home)).ok().map(|pin| pin.trim().to_owned());
    let mut kept = Vec::new();
    for name in pin.iter().chain(&base.config.sandbox.image) {
        kept.extend(Image::pinned(engine, name).await.ok().map(|image| image.id));
    }
    kept
}

fn tell(Pruned { gone, .. }: &Pruned, terminal: &Terminal) {
    if terminal.is_json() {
        let images: Vec<_> =
            gone.images.iter().map(|(id, bytes)| json!({ "image": id, "bytes": bytes })).collect();
        return terminal.json(&json!({
            "containers": gone.containers,
            "workspaces": gone.workspaces,
            "files": gone.files,
            "images": images,
        }));
    }
    if gone.is_empty() {
        return terminal.say("nothing to remove");
    }
    lines(gone).iter().for_each(|line| terminal.say(format!("removed  {line}")));
}

/// A line for each thing.
fn lines(litter: &Litter) -> Vec<String> {
    let containers = litter.containers.iter().map(|name| format!("container  {name}"));
    let notes = litter
        .workspaces
        .iter()
        .map(|path| format!("note       of a command that was cut off in {}", path.display()));
    let files = litter.files.iter().map(|path| format!("file       {}", path.display()));
    let images =
        litter.images.iter().map(|(id, bytes)| format!("image      {id} ({} MB)", bytes / 1_000_000));
    containers.chain(notes).chain(files).chain(images).collect()
}
