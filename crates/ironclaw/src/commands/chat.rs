//! `ironclaw chat`: turn after turn, with what was typed and what was pasted told apart.

use std::io::IsTerminal as _;

use agent::{Conversation, Input};
use safety::Untrusted;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use types::limits::MAX_INPUT;
use types::{Source, Trace};

use super::ask::report;
use crate::cli;
use crate::exit::{Failure, Outcome};
use crate::line_editor::tty::{Line, read_line};
use crate::line_editor::{Editor, Entry};
use crate::parts::{Base, Parts};
use crate::terminal::{Interrupted, Terminal, Tone};

/// What stands before the line.
const PROMPT: &str = "> ";

const HELP: &str = "/trace on|off  show or hide every layer with its verdict, reason and time
/quit          end the conversation, as Ctrl-D does
What you type is your word. What you paste is untrusted material and is shown as [pasted N bytes].
Ctrl-C throws a line away, or abandons the turn that is running.";

/// Runs the command.
pub async fn run(args: &cli::Chat, base: &Base, terminal: &Terminal) -> Outcome {
    let parts = Parts::build(base, terminal, args.workspace.as_deref()).await?;
    let mut chat = Chat { parts, conversation: Conversation::default(), trace: args.trace, terminal };
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        chat.at_terminal().await
    } else {
        chat.pipe_lines().await
    }
}

/// One conversation.
struct Chat<'a> {
    parts: Parts,
    conversation: Conversation,
    trace: bool,
    terminal: &'a Terminal,
}

/// Whether the conversation goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    Go,
    End,
}

/// What the owner types to the program instead of the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Command {
    Help,
    Trace(bool),
    Quit,
    Unknown,
}

impl Chat<'_> {
    async fn at_terminal(&mut self) -> Outcome {
        if !self.terminal.is_json() {
            self.terminal.painted(&self.terminal.paint(Tone::Dim, "/help for help, Ctrl-D to end"));
        }
        let mut editor = Editor::new();
        loop {
            let line = read_line(&mut editor, std::io::stderr(), PROMPT).await;
            let line = line.map_err(|error| {
                Failure::environment(format!("the terminal cannot be read: {}", error.kind()))
            })?;
            let next = match line {
                Line::Ended => Next::End,
                Line::Cancelled => Next::Go,
                Line::Entered(entry) if entry.is_empty() => Next::Go,
                Line::Entered(entry) => match Command::of(&entry) {
                    Some(command) => self.obey(command),
                    None => self.turn(input(entry)).await,
                },
            };
            if next == Next::End {
                return Ok(());
            }
        }
    }

    /// Nobody types here: every line is a piped text of its own, and no line is a command. Failures are
    /// reported as they come; the last one is how the program ends.
    async fn pipe_lines(&mut self) -> Outcome {
        let mut lines = BufReader::new(tokio::io::stdin());
        let mut last = Ok(());
        loop {
            let mut bytes = Vec::new();
            let read = (&mut lines).take(MAX_INPUT.0 + 1).read_until(b'\n', &mut bytes).await;
            match read.map_err(|_| Failure::failed("standard input cannot be read"))? {
                0 => return last,
                n if n as u64 > MAX_INPUT.0 => {
                    return Err(Failure::usage(format!(
                        "a line of standard input is longer than {MAX_INPUT}"
                    )));
                }
                _ => {}
            }
            if bytes.trim_ascii().is_empty() {
                continue;
            }
            let line = Untrusted::new(Source::Pipe, bytes.trim_ascii_end().to_vec()).into_text();
            let input = Input { typed: line, attached: Vec::new() };
            if let Err(failure) = std::mem::replace(&mut last, self.ask(input).await) {
                self.terminal.failure(failure);
            }
        }
    }

    /// A turn that the owner may abandon.
    async fn turn(&mut self, input: Input) -> Next {
        let terminal = self.terminal;
        match terminal.unless_interrupted(self.ask(input)).await {
            Ok(Ok(())) => Next::Go,
            Ok(Err(failure)) => {
                terminal.failure(failure);
                Next::Go
            }
            Err(Interrupted::Cancelled) => {
                terminal.warn("\nabandoned");
                Next::Go
            }
            Err(Interrupted::Ended) => Next::End,
        }
    }

    async fn ask(&mut self, input: Input) -> Outcome {
        let terminal = self.terminal;
        let trace = if self.trace { Trace::collecting() } else { Trace::off() };
        let ask = |card: &policy::Card| terminal.ask_card(card);
        let outcome = self.parts.agent.turn(&mut self.conversation, input, trace, &ask).await;
        report(&outcome, terminal)
    }

    fn obey(&mut self, command: Command) -> Next {
        match command {
            Command::Help => self.terminal.warn(HELP),
            Command::Trace(on) => {
                self.trace = on;
                self.terminal.warn(if on { "Every layer is shown." } else { "The layers are not shown." });
            }
            Command::Unknown => self.terminal.warn("There is no such command; /help lists them."),
            Command::Quit => return Next::End,
        }
        Next::Go
    }
}

impl Command {
    /// The command of a line; a line with a paste in it is none.
    fn of(entry: &Entry) -> Option<Self> {
        let line = entry.typed.trim();
        if !entry.pasted.is_empty() || !line.starts_with('/') {
            return None;
        }
        Some(match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["/help"] => Self::Help,
            ["/trace", "on"] => Self::Trace(true),
            ["/trace", "off"] => Self::Trace(false),
            ["/quit" | "/exit"] => Self::Quit,
            _ => Self::Unknown,
        })
    }
}

/// The owner's word, and beside it what is not.
fn input(entry: Entry) -> Input {
    let pasted = entry.pasted.into_iter().map(|text| Untrusted::new(Source::Paste, text));
    pasted.fold(Input::typed(entry.typed), Input::with)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> Entry {
        Entry { typed: text.to_owned(), pasted: Vec::new() }
    }

    #[test]
    fn commands_are_typed_and_exact() {
        assert_eq!(Command::of(&typed(" /quit ")), Some(Command::Quit));
        assert_eq!(Command::of(&typed("/trace  on")), Some(Command::Trace(true)));
        assert_eq!(Command::of(&typed("/trace")), Some(Command::Unknown));
        assert_eq!(Command::of(&typed("what is /quit?")), None);
        let pasted = Entry { typed: "/quit [pasted text 1]".into(), pasted: vec!["x".into()] };
        assert_eq!(Command::of(&pasted), None);
    }

    #[test]
    fn a_paste_is_attached_as_a_paste() {
        let input = input(Entry { typed: "sum up [pasted text 1]".into(), pasted: vec!["x".into()] });
        assert_eq!(*input.typed.source(), Source::Owner);
        assert_eq!(input.attached.iter().map(|text| text.source().kind()).collect::<Vec<_>>(), ["paste"]);
    }
}
