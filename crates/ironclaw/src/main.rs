//! The binary: read the command line and the configuration, build each part once, run, drain.

#![allow(unreachable_pub, reason = "a binary has no reachable items; pub marks what other modules use")]

mod cli;
mod collector;
mod commands;
mod config;
mod config_keys;
mod exit;
mod fault;
mod files;
mod hardening;
mod home;
mod line_editor;
mod logging;
mod parts;
mod renewal;
mod shell;
mod signing;
mod terminal;
mod trace_view;
mod unlock;
mod usage;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;
use crate::exit::{Code, Failure, Outcome};
use crate::home::Environment;
use crate::terminal::{Format, Terminal};

/// Whatever any library frees is wiped first: buffers of TLS and HTTP hold values for a moment too.
#[global_allocator]
static WIPING: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> ExitCode {
    let hardened = hardening::harden();
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if arguments.get(1).is_some_and(|word| word == wasm::SUBCOMMAND) {
        return wasm::compile_from_stdin(&arguments[2..]);
    }
    std::panic::set_hook(Box::new(fault::report));
    let environment = Environment::read();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &arguments, environment.no_color),
    };
    let format = if cli.json { Format::Json } else { Format::Text };
    let terminal = Terminal::new(format, environment.no_color);
    let run = || hardened.and_then(|()| start(cli, &environment, &terminal));
    // The hook has said that and where; a fault ends like any other failure.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    match outcome.unwrap_or(Err(Failure::Said(Code::Failed))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let code = failure.exit_code();
            terminal.failure(failure);
            ExitCode::from(code)
        }
    }
}

/// Runs a command to its end on a small runtime.
fn start(cli: Cli, environment: &Environment, terminal: &Terminal) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::environment(format!("the runtime does not start: {}", error.kind())))?;
    let outcome = runtime.block_on(commands::run(cli, environment, terminal));
    // A blocked read of the terminal must not keep the process.
    runtime.shutdown_background();
    outcome
}
