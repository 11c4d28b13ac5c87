//! Signals to this program: they end the preparation of a command or of an image and the proxy, and are passed on to a
//! command that runs.

use std::time::Duration;

use container::Control;
use rustix::process::Signal;
use tokio::signal::unix::{Signal as Stream, SignalKind, signal};

use crate::exit::Failure;

/// How long a command may take to end once it was told to.
const GRACE: Duration = Duration::from_secs(10);

/// The signals that mean the end, heard from when this was made: none is lost between one step and the next, and none
/// ends this program before it has put away what it made.
pub struct Signals {
    hangup: Stream,
    interrupt: Stream,
    quit: Stream,
    terminate: Stream,
    /// One that came while something was made that cannot be left half made.
    waits: Option<Signal>,
}

impl Signals {
    /// Hears them from now on.
    pub fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                Failure::environment(format!("signals to this program cannot be heard: {}", error.kind()))
            })
        };
        Ok(Self {
            hangup: listen(SignalKind::hangup())?,
            interrupt: listen(SignalKind::interrupt())?,
            quit: listen(SignalKind::quit())?,
            terminate: listen(SignalKind::terminate())?,
            waits: None,
        })
    }

    /// Waits for one, as the end of a program that it ended.
    pub async fn ended(&mut self) -> Failure {
        ended_by(self.next().await)
    }

    /// Works as long as there is none. What is dropped on a signal must leave nothing behind.
    pub async fn unless_ended<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            biased;
            signal = self.next() => Err(ended_by(signal)),
            done = work => done,
        }
    }

    /// Works to the end, with the first signal kept for [`Signals::forward`]: what is made then can be put away by
    /// whoever has it. The second is for those who do not want to wait for that.
    pub async fn kept_during<T>(
        &mut self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                signal = self.next() => match self.waits.replace(signal) {
                    None => {}
                    Some(first) => return Err(ended_by(first)),
                },
            }
        }
    }

    /// Passes signals on. The first gives the command a while; the second, or the end of the while, ends the run and
    /// everything in it.
    pub async fn forward(mut self, control: Control) {
        let mut ending = false;
        loop {
            let signal = match self.waits.take() {
                Some(signal) => signal,
                None => tokio::select! {
                    signal = self.next() => signal,
                    () = tokio::time::sleep(GRACE), if ending => Signal::KILL,
                },
            };
            let signal = if ending { Signal::KILL } else { signal };
            control.signal(signal).await;
            ending = true;
        }
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hangup.recv() => Signal::HUP,
            _ = self.interrupt.recv() => Signal::INT,
            _ = self.quit.recv() => Signal::QUIT,
            _ = self.terminate.recv() => Signal::TERM,
        }
    }
}

/// As a shell tells of a program that a signal ended.
fn ended_by(signal: Signal) -> Failure {
    Failure::Passed(container::code_of(signal))
}
