//! A command with full access: no container, everything that its user has. Permitted only where the configuration
//! says so as well; what it prints is screened all the same.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use policy::Permit;
use rustix::process::{Pid, Signal};
use safety::Safety;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Child;
use tokio::sync::mpsc;
use types::{Command, Confinement, Field, Refusal, Verdict};

use crate::config::Limits;
use crate::container::{Ended, Finished, Outcome, RunError, Running, failed, screened};
use crate::control::{Control, Target};
use crate::quarantine::Quarantine;
use crate::rules;
use crate::settle::{fields_of, record};

const PIECES: usize = 16;
const PIECE: usize = 64 * 1024;

/// Starts a permitted command with full access, in a process group of its own, which ends when the command does. Any
/// other is refused: it was permitted for a container.
pub async fn start(
    permit: Permit<Command>,
    safety: &Arc<Safety>,
    limits: &Limits,
) -> Result<Running, RunError> {
    let (command, settlement) = permit.redeem()?;
    if command.confinement != Confinement::FullAccess {
        let error = RunError::from(Refusal::new(&rules::UNFIT, "it was permitted for a container"));
        settlement.settle(Verdict::Failed, fields_of(&error)).await?;
        return Err(error);
    }
    let started = Instant::now();
    let mut child = match spawn(&command) {
        Ok(child) => child,
        Err(error) => {
            let error = failed("the command does not start")(error);
            settlement.settle(Verdict::Failed, [(Field::Reason, error.to_string())]).await?;
            return Err(error);
        }
    };
    let (stop, mut stops) = mpsc::channel(1);
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    let Some(group) = group else {
        return Err(RunError::Failed("the command has no process".to_owned()));
    };
    let (out, stdout) = mpsc::channel(PIECES);
    let (err, stderr) = mpsc::channel(PIECES);
    let stdin = child.stdin.take();
    let pumps =
        (child.stdout.take().map(|from| pump(from, out)), child.stderr.take().map(|from| pump(from, err)));
    let time = limits.time;
    let outcome = Outcome::of(tokio::spawn(async move {
        let pumps = tokio::spawn(async move { tokio::join!(maybe(pumps.0), maybe(pumps.1)) });
        let ended = tokio::select! {
            status = child.wait() => Ended::Exited(exit_code(status)),
            Some(ended) = stops.recv() => ended,
            () = tokio::time::sleep(time) => Ended::Stopped(&rules::TIME),
        };
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        let _ = child.wait().await;
        let _ = pumps.await;
        let finished = Ok(Finished { ended, quarantine: Quarantine::default() });
        record(settlement, &finished, &[], started.elapsed()).await?;
        finished
    }));
    Ok(Running {
        stdout: screened(safety, stdout, limits.output),
        stderr: screened(safety, stderr, limits.output),
        stdin: match stdin {
            Some(stdin) => Box::pin(stdin),
            None => Box::pin(tokio::io::sink()),
        },
        control: Control::new(Target::Group(group), stop),
        outcome,
        recovered: Vec::new(),
    })
}

fn spawn(command: &Command) -> std::io::Result<Child> {
    let (program, args) = command.argv.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
    #[expect(clippy::disallowed_methods, reason = "the command that was permitted, with full access")]
    let mut child = tokio::process::Command::new(program);
    child.args(args).current_dir(&command.workspace).process_group(0).kill_on_drop(true);
    child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

async fn pump(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<Bytes>) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        let _ = to.send(Bytes::copy_from_slice(&piece[..length])).await;
    }
}

async fn maybe(pump: Option<impl Future<Output = ()>>) {
    if let Some(pump) = pump {
        pump.await;
    }
}

fn exit_code(status: std::io::Result<std::process::ExitStatus>) -> u8 {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => code as u8,
            (None, signal) => 128 + signal.unwrap_or_default() as u8,
        },
        Err(_) => init::FAILED,
    }
}
