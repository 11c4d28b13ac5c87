//! Signals to this program, passed on to the command.

use std::time::Duration;

use container::Control;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// How long a command may take to end once it was told to.
const GRACE: Duration = Duration::from_secs(10);

/// Passes signals on. One that means the end gives the command a while; the second, or the end of the while, ends
/// the run and everything in it.
pub async fn forward(control: Control) {
    let listen = |kind| signal(kind).ok();
    let (Some(mut hangup), Some(mut interrupt), Some(mut quit), Some(mut terminate)) = (
        listen(SignalKind::hangup()),
        listen(SignalKind::interrupt()),
        listen(SignalKind::quit()),
        listen(SignalKind::terminate()),
    ) else {
        return;
    };
    let mut ending = false;
    loop {
        let signal = tokio::select! {
            _ = hangup.recv() => Signal::HUP,
            _ = interrupt.recv() => Signal::INT,
            _ = quit.recv() => Signal::QUIT,
            _ = terminate.recv() => Signal::TERM,
            () = tokio::time::sleep(GRACE), if ending => Signal::KILL,
        };
        let signal = if ending { Signal::KILL } else { signal };
        control.signal(signal).await;
        ending = true;
    }
}
