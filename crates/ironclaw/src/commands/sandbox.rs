//! `ironclaw sandbox`: the image that commands run in, and the engine that runs them.

mod image;
mod prune;

use std::path::PathBuf;

use container::{Engine, Image, Unfit};
use serde_json::json;

use crate::cli;
use crate::config::Config;
use crate::exit::{Code, Failure, Outcome};
use crate::home::Home;
use crate::parts::{self, Base};
use crate::terminal::Terminal;

/// Runs the command.
pub async fn run(args: &cli::Sandbox, base: &Base, terminal: &Terminal) -> Outcome {
    match args {
        cli::Sandbox::BuildImage(args) => image::choose(args, base, terminal).await,
        cli::Sandbox::Prune { images, yes } => prune::run(*images, *yes, base, terminal).await,
        cli::Sandbox::Status => status(base, terminal).await,
    }
}

/// A fit engine with the image that commands run in.
pub async fn ready(home: &Home, config: &Config) -> Result<(Engine, Image), Unfit> {
    let engine = Engine::connect(&parts::container_config(home, config)).await?;
    let pin = match &config.sandbox.image {
        Some(pin) => pin.clone(),
        None => std::fs::read_to_string(pin_file(home)).map_err(|_| Unfit::NoImage)?,
    };
    let image = Image::pinned(&engine, pin.trim()).await?;
    Ok((engine, image))
}

/// An engine that is not fit, as this program's own words.
pub fn unfit(unfit: &Unfit, home: &Home) -> Failure {
    Failure::environment(format!("{unfit}\n  mend it: {}", unfit.mend(&home.config_file())))
}

/// Where the digest of the image that was built is kept.
fn pin_file(home: &Home) -> PathBuf {
    home.sandbox().join("image")
}

async fn status(base: &Base, terminal: &Terminal) -> Outcome {
    match ready(&base.home, &base.config).await {
        Ok((engine, image)) => {
            let standing = engine.standing();
            let accepted = standing.accepted.iter();
            let accepted: Vec<_> =
                accepted.map(|(downgrade, fault)| json!({ "downgrade": downgrade.as_str(), "fault": fault.to_string() })).collect();
            if terminal.is_json() {
                terminal.json(&json!({
                    "ready": true,
                    "engine": standing.version,
                    "runtime": standing.runtime,
                    "runtime_version": standing.runtime_version,
                    "image": image.id,
                    "accepted": accepted,
                }));
                return Ok(());
            }
            let version = standing.runtime_version.as_deref().unwrap_or("of its own version");
            terminal.say(format!("engine   Docker {}", standing.version));
            terminal.say(format!("runtime  {} {version}", standing.runtime));
            terminal.say(format!("image    {}", image.id));
            for (downgrade, fault) in &standing.accepted {
                terminal.say(format!("accepted {}: {fault}", downgrade.as_str()));
            }
            Ok(())
        }
        Err(fault) if terminal.is_json() => {
            terminal.json(&json!({ "ready": false, "fault": fault.to_string(), "mend": fault.mend(&base.home.config_file()) }));
            Err(Failure::Said(Code::Environment))
        }
        Err(fault) => Err(unfit(&fault, &base.home)),
    }
}
