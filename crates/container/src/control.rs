//! Signals to a run, and its end by a rule.

use bollard::Docker;
use bollard::query_parameters::KillContainerOptions;
use rustix::process::{Pid, Signal};
use tokio::sync::mpsc;
use types::Rule;

/// Signals and stops a run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    target: Target,
    stop: mpsc::Sender<&'static Rule>,
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    Container(Docker, String),
    Group(Pid),
}

impl Control {
    pub(crate) fn new(target: Target, stop: mpsc::Sender<&'static Rule>) -> Self {
        Self { target, stop }
    }

    /// Sends a signal (`SIGINT`) to the command.
    pub async fn signal(&self, signal: Signal) {
        match &self.target {
            Target::Container(docker, id) => {
                let options = KillContainerOptions { signal: signal.as_raw().to_string() };
                let _ = docker.kill_container(id, Some(options)).await;
            }
            Target::Group(pid) => _ = rustix::process::kill_process_group(*pid, signal),
        }
    }

    /// Ends the run and everything in it, for a reason.
    pub fn stop(&self, rule: &'static Rule) {
        let _ = self.stop.try_send(rule);
    }
}
