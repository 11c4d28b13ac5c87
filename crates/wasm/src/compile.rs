//! Compiling a component, once, when it is installed, in a process of its own.
//!
//! A compiler is a large program that reads hostile input; some inputs make it take minutes or gigabytes. So it runs in
//! a child that has no environment, no files and no network to speak of, only its standard input and output, a bound on
//! memory and time, and that is killed when the parent goes away. A compiled artifact is accepted from this child and
//! from nobody else: it is machine code.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use safety::Untrusted;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use types::Source;
use types::limits::{Bytes, MAX_COMPONENT};

use crate::runtime::compiling_engine;

/// The hidden subcommand by which the binary becomes the compiler.
pub const SUBCOMMAND: &str = "__compile";

/// The longest machine code. Ours is about four times its component.
const MAX_COMPILED: Bytes = Bytes::mib(512);
/// The longest complaint that is read from the child.
const MAX_COMPLAINT: u64 = 4096;
/// Exit status of a component that does not compile.
const STATUS_MALFORMED: u8 = 3;

/// What the compiler may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// Address space of the child, its program text included.
    pub memory: Bytes,
    /// Time from start to end.
    pub time: Duration,
}

impl Default for Budget {
    /// Componentised CPython (18 MB), the largest honest guest we know, takes 40 s and 900 MB in a debug build.
    fn default() -> Self {
        Self { memory: Bytes::mib(2048), time: Duration::from_secs(90) }
    }
}

/// Why a component was not compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// Larger than [`MAX_COMPONENT`].
    #[error("the component is larger than {MAX_COMPONENT}")]
    TooLarge,
    /// Not a component, or one that uses a proposal that is off. The compiler's words quote it, so they are foreign.
    #[error("the bytes are not a component that this program accepts")]
    Malformed(Untrusted<String>),
    /// It took more time or memory than the budget.
    #[error("the component takes too much time or memory to compile")]
    Budget,
    /// The compiler could not be started, or broke.
    #[error("the compiler did not run")]
    Broken,
}

/// The program that compiles, and its arguments.
#[derive(Clone, Debug)]
pub struct Compiler {
    program: PathBuf,
    budget: Budget,
}

impl Compiler {
    /// `program` is started with [`SUBCOMMAND`] and must call [`compile_from_stdin`].
    pub fn new(program: &Path, budget: Budget) -> Self {
        Self { program: program.to_owned(), budget }
    }

    /// The machine code of a component.
    pub async fn compile(&self, component: &[u8]) -> Result<Vec<u8>, CompileError> {
        if component.len() as u64 > MAX_COMPONENT.0 {
            return Err(CompileError::TooLarge);
        }
        match tokio::time::timeout(self.budget.time, self.run(component)).await {
            Ok(result) => result,
            Err(_) => Err(CompileError::Budget),
        }
    }

    async fn run(&self, component: &[u8]) -> Result<Vec<u8>, CompileError> {
        let broken = |_| CompileError::Broken;
        let mut child = self.command().spawn().map_err(broken)?;
        let (Some(mut input), Some(output), Some(complaint)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(CompileError::Broken);
        };
        let (mut compiled, mut words) = (Vec::new(), Vec::new());
        let give = async {
            // A child that stops reading says why with its exit status.
            let _ = input.write_all(component).await;
            drop(input);
        };
        let take = async { output.take(MAX_COMPILED.0 + 1).read_to_end(&mut compiled).await };
        let hear = async { complaint.take(MAX_COMPLAINT).read_to_end(&mut words).await };
        let ((), taken, _) = tokio::join!(give, take, hear);
        taken.map_err(broken)?;
        if compiled.len() as u64 > MAX_COMPILED.0 {
            return Err(CompileError::Budget);
        }
        let status = child.wait().await.map_err(broken)?;
        match status.code() {
            Some(0) => Ok(compiled),
            Some(code) if code == i32::from(STATUS_MALFORMED) => {
                Err(CompileError::Malformed(Untrusted::new(Source::File, words).into_text()))
            }
            // Killed by a limit: the kernel's signal for processor time, or abort when memory ran out.
            None => Err(CompileError::Budget),
            Some(_) => Err(CompileError::Broken),
        }
    }

    #[allow(clippy::disallowed_methods, reason = "the compiler's child is started here and nowhere else")]
    fn command(&self) -> tokio::process::Command {
        let mut command = tokio::process::Command::new(&self.program);
        command
            .arg(SUBCOMMAND)
            .arg(self.budget.memory.0.to_string())
            .arg(self.budget.time.as_secs().to_string())
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }
}

/// The whole life of the child: limits itself, reads a component from standard input, writes machine code to standard
/// output. `arguments` are those after [`SUBCOMMAND`].
pub fn compile_from_stdin(arguments: &[String]) -> ExitCode {
    let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let [memory, seconds] = numbers[..] else {
        return ExitCode::FAILURE;
    };
    if limit_this_process(memory, seconds).is_err() {
        return ExitCode::FAILURE;
    }
    let mut component = Vec::new();
    let read = std::io::stdin().lock().take(MAX_COMPONENT.0 + 1).read_to_end(&mut component);
    if read.is_err() || component.len() as u64 > MAX_COMPONENT.0 {
        return ExitCode::FAILURE;
    }
    match compile_in_this_process(&component) {
        Ok(compiled) => match std::io::stdout().lock().write_all(&compiled) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            // The parent reads this as untrusted text; if it cannot be written, the status still says enough.
            let _ = std::io::stderr().lock().write_all(format!("{error:#}").as_bytes());
            ExitCode::from(STATUS_MALFORMED)
        }
    }
}

/// Machine code for [`crate::Sandbox`], without a child's bounds: for benchmarks and tests.
pub fn compile_in_this_process(component: &[u8]) -> wasmtime::Result<Vec<u8>> {
    compiling_engine()?.precompile_component(component)
}

/// No more memory, processor time or files than a compiler needs, and no core dump of what it read.
fn limit_this_process(memory: u64, seconds: u64) -> Result<(), rustix::io::Errno> {
    let limit = |resource, most: u64| {
        // What this process was started under may be less, and cannot be raised.
        let most = getrlimit(resource).maximum.map_or(most, |inherited| inherited.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    limit(Resource::As, memory)?;
    limit(Resource::Cpu, seconds)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::Nofile, 16)
}
