//! What the owner configures: where the engine is, which image, which limits, which promises are given up.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use types::limits::Bytes;

/// Where Docker Engine listens unless the configuration says otherwise.
pub const DEFAULT_SOCKET: &str = "/var/run/docker.sock";

/// Everything that a sandbox is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// The socket of the engine.
    pub engine: PathBuf,
    /// An OCI runtime that the engine knows by this name; its default otherwise.
    pub runtime: Option<String>,
    /// Promises that the owner gives up.
    pub downgrades: BTreeSet<Downgrade>,
    /// What one run may use.
    pub limits: Limits,
    /// A folder of this program's own, readable by its owner alone: sockets of runs, the first process.
    pub folder: PathBuf,
}

/// A promise that the configuration gives up. Each use is recorded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Downgrade {
    /// A runtime of which it cannot be told whether known holes are closed: a distribution's runc, or none of the engine's own.
    UnverifiableRuntime,
    /// A runtime with known holes.
    VulnerableRuntime,
}

impl Downgrade {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnverifiableRuntime => "unverifiable-runtime",
            Self::VulnerableRuntime => "vulnerable-runtime",
        }
    }
}

/// What one run may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Memory, with what is written to temporary folders; there is no swap.
    pub memory: Bytes,
    /// Processors.
    pub cpus: u32,
    /// Processes and threads.
    pub pids: u32,
    /// Wall-clock time.
    pub time: Duration,
    /// Bytes printed, on both streams together.
    pub output: Bytes,
    /// Bytes in each temporary folder.
    pub temporary: Bytes,
    /// Files that one process holds open.
    pub files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: Bytes::mib(2048),
            cpus: 2,
            pids: 512,
            time: Duration::from_secs(3600),
            output: Bytes::mib(64),
            temporary: Bytes::mib(512),
            files: 4096,
        }
    }
}
