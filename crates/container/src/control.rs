//! Signals to a run, and its end by a rule.

use bollard::Docker;
use bollard::query_parameters::{KillContainerOptions, ResizeContainerTTYOptions};
use rustix::process::{Pid, Signal};
use tokio::sync::mpsc;
use types::Rule;

use crate::container::{Ended, Size};
use crate::door::Lifeline;

/// Signals and stops a run. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    target: Target,
    stop: mpsc::Sender<Ended>,
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// By its id, and whether its command was let start.
    Container(Docker, String, Lifeline),
    Group(Pid),
}

impl Control {
    pub(crate) fn new(target: Target, stop: mpsc::Sender<Ended>) -> Self {
        Self { target, stop }
    }

    /// Sends a signal (`SIGINT`) to the command. One that was not let start yet has nobody to hear it: it never starts,
    /// and the run ends as if the signal had ended it.
    pub async fn signal(&self, signal: Signal) {
        match &self.target {
            Target::Container(.., lifeline) if !lifeline.has_begun() => {
                let _ = self.stop.try_send(Ended::Exited(code_of(signal)));
            }
            Target::Container(docker, id, _) => {
                let options = KillContainerOptions { signal: signal.as_raw().to_string() };
                let _ = docker.kill_container(id, Some(options)).await;
            }
            Target::Group(pid) => _ = rustix::process::kill_process_group(*pid, signal),
        }
    }

    /// Gives the command's terminal another size. A run without one has nothing to resize.
    pub async fn resize(&self, size: Size) {
        if let Target::Container(docker, id, _) = &self.target {
            let options = ResizeContainerTTYOptions { h: size.rows.into(), w: size.columns.into() };
            let _ = docker.resize_container_tty(id, options).await;
        }
    }

    /// Ends the run and everything in it, for a reason.
    pub fn stop(&self, rule: &'static Rule) {
        let _ = self.stop.try_send(Ended::Stopped(rule));
    }
}

/// The exit code of a command that a signal ended, as shells give it: 128 and the signal's number.
pub fn code_of(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(u8::MAX)
}
