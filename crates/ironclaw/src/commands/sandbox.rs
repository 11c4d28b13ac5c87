//! `ironclaw sandbox`: the image that commands run in, and the engine that runs them.

use std::path::PathBuf;

use container::{Engine, Image, Unfit};
use serde_json::json;
use types::{Field, Kind, Record, Verdict};

use super::signals::Signals;
use crate::cli;
use crate::config::Config;
use crate::exit::{Code, Failure, Outcome};
use crate::home::Home;
use crate::parts::{self, Base};
use crate::terminal::Terminal;

/// Runs the command.
pub async fn run(args: &cli::Sandbox, base: &Base, terminal: &Terminal) -> Outcome {
    match args {
        cli::Sandbox::BuildImage { include, again } => build_image(include, *again, base, terminal).await,
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

async fn build_image(include: &[String], again: bool, base: &Base, terminal: &Terminal) -> Outcome {
    if let Some(name) = include.iter().find(|name| !is_package(name)) {
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).take(64).collect();
        return Err(Failure::usage(format!("{plain} is not the name of a Debian package")));
    }
    let engine = Engine::connect(&parts::container_config(&base.home, &base.config)).await;
    let engine = engine.map_err(|fault| unfit(&fault, &base.home))?;
    if !terminal.is_json() {
        terminal.say("making the base image from Debian packages, or finding the one that was made");
    }
    let record = |verdict| Record::new(Kind::Image, verdict).with(Field::Actor, "owner");
    let (mut signals, mut by) = (Signals::listen()?, None);
    let ended = async { by = Some(signals.ended().await) };
    let image = match Image::build(&engine, include, again, ended).await {
        Ok(image) => image,
        Err(error) => {
            let failed = record(Verdict::Failed).with(Field::Reason, error);
            base.audit.record(failed).await.map_err(Failure::environment)?;
            return Err(by.unwrap_or_else(|| Failure::environment(error)));
        }
    };
    // First the record, then the pin that commands go by.
    let done = record(Verdict::Done).with(Field::Digest, &image.id);
    base.audit.record(done).await.map_err(Failure::environment)?;
    let unwritten = |_| Failure::environment("the image's digest cannot be kept in the data folder");
    std::fs::write(pin_file(&base.home), format!("{}\n", image.id)).map_err(unwritten)?;
    terminal.done(json!({ "image": image.id }), format!("commands run in {}", image.id));
    Ok(())
}

/// Debian Policy 5.6.1: lower case letters, digits, `+`, `-` and `.`, at least two, and no option of a program.
fn is_package(name: &str) -> bool {
    let plain =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.');
    name.len() >= 2 && name.as_bytes()[0].is_ascii_alphanumeric() && name.bytes().all(plain)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_never_an_option_or_a_list() {
        for good in ["make", "g++", "libc6-dev", "python3.11"] {
            assert!(is_package(good), "{good}");
        }
        for bad in ["", "a", "-x", "--hook=x", "a,b", "a b", "A", "a;b", ".."] {
            assert!(!is_package(bad), "{bad}");
        }
    }
}
