//! The two ambient powers a development tool needs, each at one site: starting a process and
//! printing a line.

use std::path::Path;
use std::process::Command;

use anyhow::Context;

/// A command that runs `program` in `folder`.
#[allow(
    clippy::disallowed_methods,
    reason = "development tools start cargo and git; nothing here is shipped"
)]
pub fn command(program: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder);
    command
}

/// Runs `command` to its end and returns what it wrote to standard output.
///
/// # Errors
/// If it cannot start, fails (with what it wrote to standard error) or prints what is not UTF-8.
pub fn output_of(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("starting {:?}", command.get_program()))?;
    anyhow::ensure!(
        output.status.success(),
        "{:?} failed: {}",
        command.get_program(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

/// Prints one line for the developer.
#[allow(
    clippy::disallowed_macros,
    reason = "a development tool speaks to the developer, not to the product's users"
)]
pub fn say(line: &str) {
    println!("{line}");
}
