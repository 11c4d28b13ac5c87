//! The binary: read the command line and the configuration, build each part once, run, drain.

#![allow(unreachable_pub, reason = "a binary has no reachable items; pub marks what other modules use")]

mod cli;
mod commands;
mod config;
mod config_keys;
mod exit;
mod home;
mod line_editor;
mod logging;
mod parts;
mod terminal;
mod trace_view;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::cli::Cli;
use crate::exit::{Failure, Outcome};
use crate::home::Environment;
use crate::terminal::{Format, Terminal};

fn main() -> ExitCode {
    let arguments: Vec<String> =
        std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    if arguments.get(1).is_some_and(|word| word == wasm::SUBCOMMAND) {
        return wasm::compile_from_stdin(&arguments[2..]);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are what was asked for; everything else is a usage error.
            let _ = error.print();
            let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return ExitCode::from(if asked { 0 } else { 2 });
        }
    };
    let environment = Environment::read();
    let format = if cli.json { Format::Json } else { Format::Text };
    let terminal = Terminal::new(format, environment.no_color);
    match start(cli, &environment, &terminal) {
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
