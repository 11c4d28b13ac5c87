//! What is said about a command line that does not make sense.
//!
//! It is a text from outside: a script may have put anything there. So it is screened before it is repeated, and a
//! word too many, which may be a secret that was typed where none belongs, is not repeated at all.

use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use safety::Untrusted;
use types::Source;

use crate::exit::{Code, Failure};
use crate::terminal::{Format, Terminal};

/// Prints help where help was asked for, and what is wrong everywhere else.
pub fn report(error: &clap::Error, arguments: &[String], no_color: bool) -> ExitCode {
    match error.kind() {
        // All of it is this program's own words.
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if !is_json(arguments) => {
            let _ = error.print();
            ExitCode::from(Code::Usage as u8)
        }
        _ => {
            let format = if is_json(arguments) { Format::Json } else { Format::Text };
            Terminal::new(format, no_color).failure(failure(error));
            ExitCode::from(Code::Usage as u8)
        }
    }
}

/// The line did not parse, so what it asked for is looked for in its words.
fn is_json(arguments: &[String]) -> bool {
    arguments.iter().take_while(|word| *word != "--").any(|word| word == "--json")
}

fn failure(error: &clap::Error) -> Failure {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Failure::usage("a command is missing; which there are: --help");
    }
    if is_surplus(error) {
        return Failure::usage(
            "there is a word too many, not repeated here since it may be a secret\n  \
             a value of the vault is typed at a prompt, piped in or read with --from-file\n  \
             a text of several words stands in quotation marks; more: --help",
        );
    }
    let said = error.render().to_string();
    let said = said.strip_prefix("error: ").unwrap_or(&said).trim_end().to_owned();
    Failure::Quoting(
        Code::Usage,
        "this command line does not make sense".to_owned(),
        Untrusted::new(Source::Owner, said),
    )
}

/// A word that is no option, where the command takes none.
fn is_surplus(error: &clap::Error) -> bool {
    let word = error.get(ContextKind::InvalidArg);
    error.kind() == ErrorKind::UnknownArgument
        && matches!(word, Some(ContextValue::String(word)) if !word.starts_with('-'))
}
