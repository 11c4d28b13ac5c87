//! The task that answers for a run, from the start of its container to its settlement.

use std::pin::Pin;
use std::time::Instant;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::{StartContainerOptions, WaitContainerOptions};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use policy::Settlement;
use tokio::sync::mpsc;

use crate::authority::Authority;
use crate::config::{Config, Downgrade};
use crate::container::{Ended, Finished, RunError, Size, undone};
use crate::control::Control;
use crate::door::{Connection, Door, Lifeline};
use crate::ground::Ground;
use crate::note::Notes;
use crate::proof::Expected;
use crate::rules;
use crate::settle::record;
use crate::sweep::{remove, sweep};
use crate::unfit::Unfit;

/// What the engine's exit code is when a signal ended the command: 128 and the signal's number.
const KILLED: i64 = 128 + 9;

/// What becomes of a workspace that nobody could put in order.
const LEFT: &str = "what the command left in its workspace is put in order before the next command starts, and until then it stays as it is";

/// Who ended a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    /// The command came to its end.
    Itself,
    /// A rule or a person stopped it.
    Others,
}

/// What was made for one run and goes with it.
pub(crate) struct Run {
    pub(crate) docker: Docker,
    pub(crate) id: String,
    pub(crate) door: Door,
    pub(crate) lifeline: Lifeline,
    /// What was made for this run alone; held until its end.
    pub(crate) _authority: Option<Authority>,
    pub(crate) ground: Ground,
    pub(crate) notes: Notes,
    pub(crate) installation: String,
    pub(crate) config: Config,
    pub(crate) accepted: Vec<(Downgrade, Unfit)>,
    pub(crate) terminal: Option<Size>,
}

impl Run {
    /// Answers for the run until everything about it is done.
    pub(crate) async fn live(
        self,
        expected: Expected,
        settlement: Settlement,
        pump: impl Future<Output = ()> + Send + 'static,
        stops: mpsc::Receiver<Ended>,
        outlet: mpsc::Sender<Connection>,
        control: Control,
    ) -> Result<Finished, RunError> {
        let started = Instant::now();
        let mut pump = tokio::spawn(pump);
        let ended = self.ended(expected, stops, &outlet, &control).await;
        if matches!(ended, Ok((_, By::Itself))) {
            // What was printed is carried to the last byte, however slowly it is read.
            let _ = (&mut pump).await;
        }
        // Removing by force ends whatever still runs. Only then is the workspace at rest: of a container that may live on
        // the note stays, for the next command.
        let settled = match remove(&self.docker, &self.id).await {
            Ok(()) => self.ground.settled().await,
            Err(error) => Err(error),
        };
        let ended = ended.map_err(|error| match &settled {
            // Both failed: what it means for the workspace is told with the first reason.
            Err(RunError::Failed(_)) => RunError::Failed(format!("{error}; {LEFT}")),
            _ => error,
        });
        let settled = settled.map_err(|error| match error {
            RunError::Failed(why) => RunError::Failed(format!("{why}; {LEFT}")),
            other => other,
        });
        pump.abort();
        let (quarantine, ground) = settled.map_or_else(|error| (Err(error), None), |(q, g)| (Ok(q), Some(g)));
        let finished =
            ended.and_then(|(ended, _)| quarantine.map(|quarantine| Finished { ended, quarantine }));
        record(settlement, &finished, &self.accepted, started.elapsed()).await?;
        if let Some(ground) = ground {
            ground.forget()?;
        }
        finished
    }

    /// Starts the container and waits for whatever ends the run.
    async fn ended(
        &self,
        expected: Expected,
        mut stops: mpsc::Receiver<Ended>,
        outlet: &mpsc::Sender<Connection>,
        control: &Control,
    ) -> Result<(Ended, By), RunError> {
        if let Ok(ended) = stops.try_recv() {
            return Ok((ended, By::Others));
        }
        let started = self.docker.start_container(&self.id, None::<StartContainerOptions>).await;
        started.map_err(undone("Docker Engine does not start the container"))?;
        // Beside the command, which has to wait for nothing of it.
        tokio::spawn(sweep(self.docker.clone(), self.notes.clone(), self.installation.clone()));
        // Before the door lets the command start.
        if let Some(size) = self.terminal {
            control.resize(size).await;
        }
        let (ended, by) = tokio::select! {
            // First of all: what was stopped before it began is not begun.
            biased;
            Some(ended) = stops.recv() => (ended, By::Others),
            code = self.exit_code() => (code?, By::Itself),
            rule = self.door.serve(expected, outlet, self.lifeline.clone()) => (Ended::Stopped(rule), By::Others),
            () = tokio::time::sleep(self.config.limits.time) => (Ended::Stopped(&rules::TIME), By::Others),
        };
        match ended {
            Ended::Exited(code) if i64::from(code) == KILLED && self.lifeline.out_of_memory() => {
                Ok((Ended::Stopped(&rules::MEMORY), By::Others))
            }
            ended => Ok((ended, by)),
        }
    }

    /// The command's own end.
    async fn exit_code(&self) -> Result<Ended, RunError> {
        let options = WaitContainerOptions { condition: "not-running".to_owned() };
        let code = match self.docker.wait_container(&self.id, Some(options)).next().await {
            Some(Ok(answer)) => answer.status_code,
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => code,
            _ => return Err(RunError::Failed("Docker Engine lost the container".to_owned())),
        };
        Ok(Ended::Exited(u8::try_from(code).unwrap_or(u8::MAX)))
    }
}

/// Carries the output on, and stops the run when there is more than there may be.
pub(crate) async fn pump(
    mut output: Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>,
    out: mpsc::Sender<Bytes>,
    err: mpsc::Sender<Bytes>,
    limit: u64,
    control: Control,
) {
    let mut printed = 0;
    while let Some(Ok(piece)) = output.next().await {
        let (to, bytes) = match piece {
            LogOutput::StdErr { message } => (&err, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => (&out, message),
            LogOutput::StdIn { .. } => continue,
        };
        printed += bytes.len() as u64;
        if printed > limit {
            return control.stop(&rules::OUTPUT);
        }
        // Whoever stopped reading is not waited for.
        let _ = to.send(bytes).await;
    }
}
