//! The agent's shell, made from the configuration and the machine: there is none unless both can hold it.

use std::path::Path;

use agent::shell::May;
use container::{Engine, Image, Sandbox};

use crate::commands::sandbox;
use crate::config::ShellConfig;
use crate::exit::Failure;
use crate::parts::{self, Base};
use crate::terminal::Terminal;

/// What the owner's shell may do in this folder; none where no shell is configured.
pub fn may(base: &Base, workspace: Option<&Path>) -> Result<Option<May>, Failure> {
    let (Some(shell), Some(folder)) = (&base.config.shell, workspace) else { return Ok(None) };
    let ShellConfig { writes, reach, secrets, .. } = shell.clone();
    let workspace = folder.canonicalize().map_err(|error| {
        Failure::not_found(format!("the workspace {} cannot be found: {}", folder.display(), error.kind()))
    })?;
    Ok(Some(May { workspace, writes, reach, secrets }))
}

/// Where its commands run, within their own time. Where this machine cannot confine commands the owner is told, and
/// the agent has no shell.
pub async fn sandbox(base: &Base, terminal: &Terminal) -> Option<Sandbox> {
    let shell = base.config.shell.as_ref()?;
    let (engine, image): (Engine, Image) = match sandbox::ready(&base.home, &base.config).await {
        Ok(ready) => ready,
        Err(unfit) => {
            terminal.warn(format!(
                "ironclaw: the agent has no shell: {unfit}\n  mend it: {}",
                unfit.mend(&base.home.config_file())
            ));
            return None;
        }
    };
    let mut config = parts::container_config(&base.home, &base.config);
    config.limits.time = config.limits.time.min(shell.time);
    Some(Sandbox::new(engine, image, config, parts::surroundings(&base.home), base.safety.clone()))
}
