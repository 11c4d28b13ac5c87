//! Signals to a run, and its end by a rule.

use bollard::Docker;
use bollard::query_parameters::{KillContainerOptions, ResizeContainerTTYOptions};
use rustix::process::{Pid, Signal};
use tokio::sync::mpsc;
use types::Rule;

use crate::container::Size;

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

    /// Gives the command's terminal another size. A run without one has nothing to resize.
    pub async fn resize(&self, size: Size) {
        if let Target::Container(docker, id) = &self.target {
            let options = ResizeContainerTTYOptions { h: size.rows.into(), w: size.columns.into() };
            let _ = docker.resize_container_tty(id, options).await;
        }
    }

    /// Ends the run and everything in it, for a reason.
    pub fn stop(&self, rule: &'static Rule) {
        let _ = self.stop.try_send(rule);
    }
}
