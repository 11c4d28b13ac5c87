//! `cargo xtask tidy | break | guests | measure | train-injection`: the command line of the development tools.

use std::process::ExitCode;

use xtask::{ambient, breaks, guests, injection, measure, tidy, workspace_root};

const USAGE: &str = "\
cargo xtask tidy            check the shape of the tree: tiers, owners, sizes, promises
cargo xtask break [NAME]..  take each layer away in a copy and see its test notice
cargo xtask guests check    are the committed components made from the committed sources?
cargo xtask guests build [--verify]  make them anew, or compare byte by byte
cargo xtask measure [PROGRAM]  size, start and idle memory of the release build
cargo xtask train-injection FOLDER   make the weights of the sanitizer's model from labelled files";

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let passed = match arguments.split_first() {
        Some((command, [])) if command == "tidy" => tidy_tree()?,
        Some((command, arguments)) if command == "guests" => guests::run(arguments).map(|()| true)?,
        Some((command, program)) if command == "measure" => {
            measure::run(&workspace_root(), program.first()).map(|()| true)?
        }
        Some((command, folder)) if command == "train-injection" => {
            injection::run(&workspace_root(), folder).map(|()| true)?
        }
        Some((command, names)) if command == "break" => breaks::run(&workspace_root(), names)?,
        _ => {
            ambient::say(USAGE);
            return Ok(ExitCode::from(2));
        }
    };
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints every finding; true when there is none.
fn tidy_tree() -> anyhow::Result<bool> {
    let findings = tidy::run(&workspace_root())?;
    for finding in &findings {
        ambient::say(&finding.to_string());
    }
    if findings.is_empty() {
        ambient::say("tidy");
    }
    Ok(findings.is_empty())
}
