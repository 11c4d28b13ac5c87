//! `ironclaw completions` and `ironclaw man`: both are made from the command line's own description.

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::exit::{Failure, Outcome};

/// Prints the completion script of a shell.
pub fn completions(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "ironclaw", &mut script);
    print(&script)
}

/// Prints the manual: one page for the program and one part for each of its commands.
pub fn man() -> Outcome {
    let mut command = Cli::command();
    command.build();
    let mut page = Vec::new();
    render(&command, true, &mut page).map_err(|error| Failure::failed(error.kind()))?;
    print(&page)
}

/// The whole page of the program, then synopsis and options of each command below it.
fn render(command: &clap::Command, whole: bool, page: &mut Vec<u8>) -> io::Result<()> {
    // What every command has is said once, above.
    let own = command.clone().mut_args(|argument| {
        let shared = argument.is_global_set() || matches!(argument.get_id().as_str(), "help" | "version");
        argument.hide(shared && !whole)
    });
    let man = clap_mangen::Man::new(own).section("1").manual("IronClaw");
    let mut text = Vec::new();
    if whole {
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
    } else {
        let name = command.get_display_name().unwrap_or(command.get_name()).replace('-', " ");
        writeln!(text, ".SH \"{}\"", name.to_uppercase())?;
    }
    let start = text.len();
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    if whole || command.get_arguments().any(|argument| !argument.is_global_set()) {
        man.render_options_section(&mut text)?;
    }
    if command.get_after_help().is_some() {
        man.render_extra_section(&mut text)?;
    }
    page.extend_from_slice(&text[..start]);
    sections(&String::from_utf8_lossy(&text[start..]), whole, page)?;
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        render(below, false, page)?;
    }
    Ok(())
}

/// Puts the sections of a command one level deeper than those of the program. What clap calls extra are the
/// examples.
fn sections(text: &str, whole: bool, page: &mut Vec<u8>) -> io::Result<()> {
    for line in text.lines().filter(|line| !line.starts_with("Example:")) {
        match line.strip_prefix(".SH ") {
            Some(title) => {
                let level = if whole { ".SH" } else { ".SS" };
                writeln!(page, "{level} {}", title.replace("EXTRA", "EXAMPLE"))?;
            }
            None => writeln!(page, "{line}")?,
        }
    }
    Ok(())
}

/// Scripts and pages are this program's own words, and go out byte for byte. A closed pipe is no failure.
fn print(bytes: &[u8]) -> Outcome {
    match io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::failed(error.kind())),
        _ => Ok(()),
    }
}
