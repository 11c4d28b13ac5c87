//! The last step before the command: the walls that a process puts around itself, then `execve`.
//!
//! The container's own profile stands already. These walls take from the command what PID 1 still needs.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::time::Duration;

use init::Invocation;
use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, Scope, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::complain;

/// What shells answer when a program is not found, and when it cannot be executed.
const NOT_FOUND: u8 = 127;
const NOT_EXECUTABLE: u8 = 126;

/// The newest Landlock whose rules were tried. Older kernels enforce as much of it as they know.
const LANDLOCK: ABI = ABI::V6;

/// How often to look whether the terminal was handed over, and how many times.
const LOOK: Duration = Duration::from_millis(1);
const LOOKS: u32 = 5000;

/// Becomes the command; returns only when it cannot.
pub fn become_command(invocation: &Invocation) -> ExitCode {
    if !has_the_terminal() {
        return complain("the terminal was not handed over");
    }
    if let Err(error) = landlock(&invocation.writable) {
        return complain(format_args!("Landlock does not hold: {error}"));
    }
    // Last, for it forbids what setting up might need.
    if let Err(error) = no_unix_sockets() {
        return complain(format_args!("the system-call filter does not hold: {error}"));
    }
    let [program, args @ ..] = &invocation.command[..] else {
        return complain("there is no command");
    };
    #[expect(clippy::disallowed_methods, reason = "this is the command that was permitted")]
    let mut command = std::process::Command::new(program);
    command
        .args(args)
        .current_dir(&invocation.dir)
        .env_clear()
        .envs(invocation.env.iter().filter_map(|pair| split(pair)));
    let error = command.exec();
    complain(format_args!("{}: {error}", program.display()));
    ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE })
}

/// Waits until PID 1 has given the terminal to this process group: whoever reads from it before is stopped. True at once
/// where there is none.
fn has_the_terminal() -> bool {
    let mine = || {
        !rustix::termios::isatty(std::io::stdin())
            || rustix::termios::tcgetpgrp(std::io::stdin()) == Ok(rustix::process::getpid())
    };
    (0..LOOKS).any(|_| {
        let handed_over = mine();
        if !handed_over {
            std::thread::sleep(LOOK);
        }
        handed_over
    })
}

fn split(pair: &OsString) -> Option<(&OsStr, &OsStr)> {
    let bytes = pair.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    Some((OsStr::from_bytes(&bytes[..at]), OsStr::from_bytes(&bytes[at + 1..])))
}

/// Writes only below the given folders, and neither signals nor abstract sockets to processes outside: PID 1
/// among them. Where the kernel has no Landlock the first wall stands alone.
fn landlock(writable: &[OsString]) -> Result<(), landlock::RulesetError> {
    let writes = AccessFs::from_write(LANDLOCK);
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(writes)?
        .scope(Scope::from_all(LANDLOCK))?
        .create()?
        .add_rules(path_beneath_rules(writable, writes))?
        .restrict_self()?;
    Ok(())
}

/// A Unix socket leads to whoever listens, so the command may not make one. `socketpair` may: both its ends are
/// the command's own.
fn no_unix_sockets() -> Result<(), seccompiler::Error> {
    let unix = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?;
    let rules = BTreeMap::from([(libc::SYS_socket, vec![SeccompRule::new(vec![unix])?])]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM as u32),
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(&program)
}
