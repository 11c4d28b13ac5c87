//! The compiler's child by itself, for this crate's tests: the shipped binary does the same as a hidden subcommand.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, rest)) if command == wasm::SUBCOMMAND => wasm::compile_from_stdin(rest),
        _ => ExitCode::from(2),
    }
}
