//! Builds and runs one test in the copy.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context;
use cargo_metadata::Message;

use super::patch::TestName;
use crate::ambient;

/// A test binary that runs longer has been caught by the attack it should have stopped.
const TEST_LIMIT: Duration = Duration::from_secs(180);

/// What building and running a test came to.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// With what the compiler said.
    BuildFailed(String),
    Passed,
    Failed,
    TimedOut,
    NoSuchTest,
}

/// Runs tests of the copy in `tree`, built in `target`.
pub(super) struct Runner {
    tree: PathBuf,
    target: PathBuf,
}

impl Runner {
    pub(super) fn new(tree: &Path, target: &Path) -> Self {
        Self { tree: tree.to_owned(), target: target.to_owned() }
    }

    /// The first time, begins with what stands in the folder `built`: the foreign packages are the
    /// same in every copy, and building them takes minutes.
    pub(super) fn begin_with(&self, built: &Path) -> anyhow::Result<()> {
        if self.target.exists() || !built.join("debug").exists() {
            return Ok(());
        }
        std::fs::create_dir_all(&self.target)?;
        let mut copy = ambient::command("cp", built);
        copy.args(["-a", "debug"]).arg(&self.target);
        ambient::output_of(copy)?;
        Ok(())
    }

    /// Builds and runs `test`.
    pub(super) fn outcome(&self, test: &TestName) -> anyhow::Result<Outcome> {
        let output = self.build(test).output()?;
        if !output.status.success() {
            return Ok(Outcome::BuildFailed(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        for message in Message::parse_stream(output.stdout.as_slice()) {
            if let Message::CompilerArtifact(artifact) = message?
                && let Some(binary) = artifact.executable.filter(|_| artifact.profile.test)
            {
                let folder = artifact.manifest_path.parent().context("a manifest stands in a folder")?;
                return run_binary(binary.as_std_path(), folder.as_std_path(), &test.filter, TEST_LIMIT);
            }
        }
        anyhow::bail!("cargo built no test binary for {}", test.target)
    }

    /// `--workspace`, although one target is wanted: the foreign packages get the features that the
    /// whole workspace asks of them, and are those that the tests were built with.
    fn build(&self, test: &TestName) -> Command {
        let mut cargo = ambient::command("cargo", &self.tree);
        cargo.args(["test", "--quiet", "--offline", "--workspace", "--test", &test.target]);
        cargo.args(["--no-run", "--message-format=json-render-diagnostics"]);
        cargo.env("CARGO_TARGET_DIR", &self.target);
        cargo
    }
}

/// Runs one test binary with `filter`, at most `limit` long.
fn run_binary(binary: &Path, folder: &Path, filter: &str, limit: Duration) -> anyhow::Result<Outcome> {
    let mut command = ambient::command(&binary.to_string_lossy(), folder);
    command.arg(filter).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("starting {}", binary.display()))?;
    let mut stdout = child.stdout.take().context("standard output is piped")?;
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut said = Vec::new();
        // A pipe that breaks ends the text as the end of the process does.
        let _ = stdout.read_to_end(&mut said);
        let _ = sender.send(said);
    });
    let Ok(said) = receiver.recv_timeout(limit) else {
        child.kill()?;
        child.wait()?;
        return Ok(Outcome::TimedOut);
    };
    let succeeded = child.wait()?.success();
    Ok(counts(&String::from_utf8_lossy(&said)).unwrap_or_default().outcome(succeeded))
}

/// The sums of libtest's closing lines.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Counts {
    passed: u64,
    failed: u64,
}

impl Counts {
    /// A process that crashed before its closing line has failed.
    fn outcome(self, succeeded: bool) -> Outcome {
        match self {
            _ if !succeeded => Outcome::Failed,
            Self { passed: 0, failed: 0 } => Outcome::NoSuchTest,
            _ => Outcome::Passed,
        }
    }
}

/// Reads `test result: ok. 3 passed; 0 failed; ...` lines; none where nothing ran.
fn counts(said: &str) -> Option<Counts> {
    let before = |line: &str, word: &str| -> u64 {
        let words: Vec<_> = line.split_whitespace().collect();
        words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
    };
    said.lines().filter(|line| line.starts_with("test result:")).fold(None, |sum: Option<Counts>, line| {
        let Counts { passed, failed } = sum.unwrap_or_default();
        Some(Counts { passed: passed + before(line, "passed;"), failed: failed + before(line, "failed;") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed() {
        let said = "x\ntest result: ok. 2 passed; 0 failed; 1 ignored\ntest result: FAILED. 0 passed; 3 failed; 0 ignored\n";
        assert_eq!(counts(said), Some(Counts { passed: 2, failed: 3 }));
        assert_eq!(counts("error: could not compile"), None);
    }

    #[test]
    fn a_test_that_does_not_end_is_ended() {
        let limit = Duration::from_millis(20);
        let outcome = run_binary(Path::new("sleep"), Path::new("/"), "600", limit).unwrap();
        assert_eq!(outcome, Outcome::TimedOut);
    }

    #[test]
    fn a_crash_is_a_failure_and_nothing_run_is_no_test() {
        assert_eq!(Counts::default().outcome(false), Outcome::Failed);
        assert_eq!(Counts::default().outcome(true), Outcome::NoSuchTest);
    }
}
