//! PID 1 of a container. Usage: `init run INVOCATION`; it starts itself again as `init child INVOCATION` to put
//! the walls around the command and become it.

#![allow(unreachable_pub, reason = "a binary has no reachable items; pub marks what other modules use")]

#[cfg(target_os = "linux")]
mod child;
#[cfg(target_os = "linux")]
mod look;
#[cfg(target_os = "linux")]
mod names;
#[cfg(target_os = "linux")]
mod pid1;
#[cfg(target_os = "linux")]
mod relay;

use std::process::ExitCode;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let role = args.next();
    let Ok(invocation) = init::Invocation::parse(args) else {
        return complain("this program is started by ironclaw alone");
    };
    match role.as_deref().and_then(std::ffi::OsStr::to_str) {
        Some("run") => pid1::run(&invocation),
        Some("child") => child::become_command(&invocation),
        _ => complain("this program is started by ironclaw alone"),
    }
}

/// A container is Linux, whatever runs the engine.
#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    ExitCode::from(init::FAILED)
}

/// Says why there is no run, to the only one who can hear: the run's standard error.
#[cfg(target_os = "linux")]
fn complain(words: impl std::fmt::Display) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "init: {words}");
    ExitCode::from(init::FAILED)
}
