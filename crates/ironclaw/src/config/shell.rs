//! `[shell]`: what the commands of the agent may do.

use std::collections::BTreeMap;
use std::time::Duration;

use policy::Reach;
use policy::reach::ReachError;
use serde::Deserialize;
use types::SecretName;

use super::wrong;
use crate::exit::{Code, Failure};

/// Settings of the agent's shell. There is none without them.
#[derive(Clone, Debug)]
pub struct ShellConfig {
    /// Whether commands may change the workspace.
    pub writes: bool,
    /// Where they may go.
    pub reach: Reach,
    /// The secrets that they hold placeholders of, with what each begins with.
    pub secrets: BTreeMap<SecretName, String>,
    /// The time of one command.
    pub time: Duration,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WrittenShell {
    policy: WrittenPolicy,
    allow: Vec<String>,
    secrets: Vec<String>,
    seconds: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum WrittenPolicy {
    ReadOnly,
    WorkspaceWrite,
}

impl Default for WrittenShell {
    fn default() -> Self {
        Self { policy: WrittenPolicy::ReadOnly, allow: Vec::new(), secrets: Vec::new(), seconds: 120 }
    }
}

impl WrittenShell {
    pub(super) fn mean(self) -> Result<ShellConfig, Failure> {
        let reach = Reach::of_words(self.allow.iter().map(String::as_str)).map_err(|error| match error {
            ReachError::Toml(quoted) => Failure::Quoting(Code::Usage, "shell.allow".to_owned(), quoted),
            other => wrong("shell.allow", other),
        })?;
        if reach.rules().iter().any(|rule| rule.as_host_rule().is_none()) {
            return Err(wrong(
                "shell.allow",
                "hosts are written in full here, without * and not as addresses",
            ));
        }
        let mut secrets = BTreeMap::new();
        for text in &self.secrets {
            let (name, prefix) = text.split_once('=').unwrap_or((text, ""));
            let name = SecretName::parse(name).map_err(|error| wrong("shell.secrets", error))?;
            secrets.insert(name, prefix.to_owned());
        }
        if self.seconds == 0 {
            return Err(wrong("shell.seconds", "must be more than 0"));
        }
        Ok(ShellConfig {
            writes: self.policy == WrittenPolicy::WorkspaceWrite,
            reach,
            secrets,
            time: Duration::from_secs(self.seconds),
        })
    }
}
