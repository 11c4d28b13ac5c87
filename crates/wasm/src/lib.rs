//! One permitted tool call in a fresh sandbox.
//!
//! Tier 6. A tool is a WebAssembly component with the one function of `wit/tool.wit`. It is admitted once: compiled in
//! a child process, its imports held against a closed list ([`Installer`]). It is then called any number of times, each
//! time in an instance of its own that shares nothing with the last ([`Sandbox::call`]), and that ends with the call:
//!
//! - `run`: one instance from its first instruction to its last; fuel, time and stack hold from the start.
//! - `limits`: what it may use, summed over all its memories, tables and calls into the host.
//! - `host`, `log`, `clock`, `workspace`: what it finds there.
//! - `http`: its only way out, every request of which is decided by policy and sent by egress.
//! - `runtime`: the engine; [`allowlist`], `compile`, `cache`: the way in.
//!
//! What comes out is untrusted text, or the refusal that stopped the call.

pub mod allowlist;
mod cache;
mod clock;
mod compile;
mod host;
mod http;
mod install;
mod limits;
mod log;
pub mod rules;
mod run;
mod runtime;
mod sandbox;

pub use cache::{Cache, LoadError};
pub use compile::{Budget, CompileError, Compiler, SUBCOMMAND, compile_from_stdin, compile_in_this_process};
pub use install::{Admitted, InstallError, Installer};
pub use log::{Level, LogLine};
pub use runtime::Slots;
pub use sandbox::{CallError, Config, Sandbox, StartError};
