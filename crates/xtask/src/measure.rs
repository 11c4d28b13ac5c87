//! `cargo xtask measure`: the size of the program, its start, and the memory of an idle conversation.
//!
//! Measures a binary from outside, as a person would meet it. Every figure stands beside its floor and
//! the number of samples; starts of the program and of `true` alternate, so that both see the same machine.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::ambient::{command, output_of, say};

/// Starts that are timed.
const STARTS: usize = 101;

/// Measures the program at `path`, or the release build of this workspace.
///
/// # Errors
/// If the program is missing or does not do what is asked of it.
pub fn run(root: &Path, path: Option<&String>) -> anyhow::Result<()> {
    let path = path.map_or_else(|| root.join("target/release/ironclaw"), PathBuf::from);
    let program = path.canonicalize().with_context(|| {
        format!("{} is missing; build it: cargo build --release -p ironclaw", path.display())
    })?;
    let bytes = program.metadata()?.len();
    say(&format!("size of the program         {:.1} MB", bytes as f64 / 1e6));
    let (floor, ours) = starts(&program)?;
    say(&format!(
        "start (--help)              {:.2} ms; floor: true {:.2} ms; ratio {:.1}; {STARTS} samples each",
        millis(ours),
        millis(floor),
        millis(ours) / millis(floor)
    ));
    say(&format!(
        "resident memory, idle chat  {:.1} MB after one turn; 1 sample",
        idle_chat(&program)? / 1e3
    ));
    Ok(())
}

/// Medians of starting `true` and of starting the program for its help.
fn starts(program: &Path) -> anyhow::Result<(Duration, Duration)> {
    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        floor.push(timed(Path::new("true"), &[])?);
        ours.push(timed(program, &["--help"])?);
    }
    Ok((median(floor), median(ours)))
}

fn timed(program: &Path, arguments: &[&str]) -> anyhow::Result<Duration> {
    let mut started = command(&program.to_string_lossy(), Path::new("/"));
    started.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
    let since = Instant::now();
    let status = started.status()?;
    let took = since.elapsed();
    anyhow::ensure!(status.success(), "{} failed", program.display());
    Ok(took)
}

/// Kilobytes that a conversation holds after its vault was opened and its first turn answered.
fn idle_chat(program: &Path) -> anyhow::Result<f64> {
    let home = tempfile::tempdir()?;
    let ironclaw = || {
        let mut ironclaw = command(&program.to_string_lossy(), home.path());
        ironclaw.arg("--home").arg(home.path().join("home"));
        ironclaw
    };
    let mut init = ironclaw();
    init.args(["init", "--slot", "file"]);
    output_of(init)?;
    let chat =
        ironclaw().arg("chat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut chat = Ended(chat);
    let mut typed = chat.0.stdin.take().context("a pipe to the conversation")?;
    let mut said = BufReader::new(chat.0.stdout.take().context("a pipe from the conversation")?);
    typed.write_all(b"what can you do?\n")?;
    typed.flush()?;
    let mut line = String::new();
    anyhow::ensure!(said.read_line(&mut line)? > 0, "the conversation said nothing");
    let status = std::fs::read_to_string(format!("/proc/{}/status", chat.0.id()))?;
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = resident.and_then(|rest| rest.split_whitespace().next()).context("no VmRSS")?;
    Ok(kilobytes.parse()?)
}

/// A child that does not outlive its measurement.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}
