//! The life of the first process: prepare, start the command, carry and forward, and end with it.
//!
//! When this process ends, the kernel ends every other in the container. So the run is over when the command
//! is, whatever it left behind, and when the host is, whatever the command still does.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;

use init::{FAILED, Invocation, Mounted, OUT_OF_MEMORY, Preface, START};
use rustix::process::{DumpableBehavior, Pid, Signal, WaitOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::complain;
use crate::look::look;
use crate::relay::{self, Relay};

/// Runs the command to its end; the exit code is its own, or 128 and the signal that ended it.
pub fn run(invocation: &Invocation) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome =
        runtime.and_then(|runtime| tokio::task::LocalSet::new().block_on(&runtime, live(invocation)));
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => complain(format_args!("the run cannot be prepared: {error}")),
    }
}

async fn live(invocation: &Invocation) -> io::Result<u8> {
    // The command runs as the same user: it may not read this process's memory, or write it and so become it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let mut ended = signal(SignalKind::child())?;
    let mut forwarded = Forwarded::listen()?;
    tokio::task::spawn_local(Relay::listen().await?.serve());
    let mut lifeline = permission(invocation).await?;
    let command = start(invocation)?;
    let mut word = [0];
    loop {
        tokio::select! {
            _ = ended.recv() => {
                if let Some(code) = reap(command)? {
                    if memory_ran_out() {
                        let _ = lifeline.write_all(OUT_OF_MEMORY).await;
                    }
                    return Ok(code);
                }
            }
            number = forwarded.next() => forward(command, number),
            // The host says no more than the start; what is read here is its end.
            _ = lifeline.read(&mut word) => return Ok(FAILED),
        }
    }
}

/// Tells the host what was mounted for the command, and waits for its word.
async fn permission(invocation: &Invocation) -> io::Result<UnixStream> {
    let mut lifeline = relay::connect(&Preface::Lifeline).await?;
    let lines = invocation.mounts.iter().map(|place| Mounted::line(look(place)) + "\n");
    lifeline.write_all(lines.collect::<String>().as_bytes()).await?;
    let mut word = [0; START.len()];
    lifeline.read_exact(&mut word).await?;
    if word == *START { Ok(lifeline) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// Starts this program again, which puts the walls around itself and becomes the command. The command leads a
/// process group, so that a signal reaches all of it, as it would from a terminal.
fn start(invocation: &Invocation) -> io::Result<Pid> {
    #[expect(clippy::disallowed_methods, reason = "this program's own second step")]
    let mut command = std::process::Command::new("/proc/self/exe");
    let invocation = Invocation { mounts: Vec::new(), ..invocation.clone() };
    command.arg("child").args(invocation.to_args()).env_clear().process_group(0);
    let command = Pid::from_child(&command.spawn()?);
    // What is typed is the command's to read, and Ctrl-C is for it.
    if rustix::termios::isatty(io::stdin()) {
        rustix::termios::tcsetpgrp(io::stdin(), command)?;
    }
    Ok(command)
}

/// Collects every process that ended; the command's own exit code once it is among them.
fn reap(command: Pid) -> io::Result<Option<u8>> {
    let mut code = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => {
                let exited = status.exit_status().map(|code| code as u8);
                code = code.or(exited).or(status.terminating_signal().map(|signal| 128 + signal as u8));
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(code),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The signals that a person or the host may mean for the command.
struct Forwarded {
    hangup: Stream,
    interrupt: Stream,
    quit: Stream,
    terminate: Stream,
    user1: Stream,
    user2: Stream,
}

impl Forwarded {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            terminate: signal(SignalKind::terminate())?,
            user1: signal(SignalKind::user_defined1())?,
            user2: signal(SignalKind::user_defined2())?,
        })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.terminate.recv() => Signal::TERM,
            _ = self.user1.recv() => Signal::USR1,
            _ = self.user2.recv() => Signal::USR2,
        }
    }
}

/// A command that has just ended needs no signal.
fn forward(command: Pid, signal: Signal) {
    let _ = rustix::process::kill_process_group(command, signal);
}

/// Whether the kernel ended a process of this container for want of memory (cgroup v2, then v1).
fn memory_ran_out() -> bool {
    let counters = ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];
    let killed = |text: String| {
        text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
    };
    counters.iter().filter_map(|path| std::fs::read_to_string(path).ok()).any(killed)
}
