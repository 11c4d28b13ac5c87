//! The one sink toward people.
//!
//! Foreign text arrives as [`Screened`] only. This program's own words are `Display` values, and
//! neither `Untrusted` nor `Screened` is one, so foreign text cannot be formatted into them by
//! accident. As a second line of defence, controls that would move or hide text never leave here.

use std::fmt::Display;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, IsTerminal as _, Read as _, Write as _};

use policy::{Answer, Card};
use safety::{Channel, Safety, Screened};
use secrets::Plain;
use serde_json::Value;
use types::{Refusal, Trace};

use crate::exit::Failure;

/// Keys and pastes that are dropped before a question; more than a terminal's buffer holds.
const MAX_TYPED_AHEAD: usize = 65_536;

/// The longest answer that is read.
const MAX_ANSWER: u64 = 64;

/// How results are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// For a person.
    Text,
    /// For a program: one object, or one a line.
    Json,
}

/// Standard output and standard error.
#[derive(Clone, Debug)]
pub struct Terminal {
    format: Format,
    colour: bool,
}

/// The few colours there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    /// Passed.
    Good,
    /// Look here.
    Warn,
    /// Stopped.
    Bad,
    /// Less important.
    Dim,
    /// A heading.
    Strong,
}

impl Terminal {
    /// A terminal that prints in that format; colour only on a terminal and never under NO_COLOR.
    pub fn new(format: Format, no_color: bool) -> Self {
        let colour = format == Format::Text && !no_color && std::io::stdout().is_terminal();
        Self { format, colour }
    }

    /// True when results are JSON.
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Prints a line of this program's own words.
    pub fn say(&self, words: impl Display) {
        self.out(&visible(&words.to_string()));
    }

    /// Prints text that passed the output layer.
    pub fn show(&self, text: &Screened<String>) {
        self.out(&visible(text.as_str()));
    }

    /// Passes on bytes of a screened stream, to standard error or output.
    pub fn pass(&self, to_stderr: bool, bytes: &[u8]) {
        let write = |stream: &mut dyn std::io::Write| stream.write_all(bytes).and_then(|()| stream.flush());
        let _ = if to_stderr {
            write(&mut std::io::stderr().lock())
        } else {
            write(&mut std::io::stdout().lock())
        };
    }

    /// Prints one JSON object on one line.
    pub fn json(&self, value: &Value) {
        self.out(&value.to_string());
    }

    /// Prints to standard error.
    pub fn warn(&self, words: impl Display) {
        self.err(&visible(&words.to_string()));
    }

    /// Prints a line that cannot be missed to standard error.
    pub fn alert(&self, words: impl Display) {
        let line = format!("!!! ALERT: {}", visible(&words.to_string()));
        if self.colour && std::io::stderr().is_terminal() {
            self.err(&format!("\u{1b}[1;97;41m {line} \u{1b}[0m"));
        } else {
            self.err(&line);
        }
    }

    /// Prints that something was done: an object for programs, a sentence for people.
    pub fn done(&self, object: Value, words: impl Display) {
        if self.is_json() {
            self.json(&object);
        } else {
            self.say(words);
        }
    }

    /// Asks for a secret value without echo.
    pub fn ask_secret(&self, prompt: &str) -> Result<Plain, Failure> {
        let typed = rpassword::prompt_password(prompt).map_err(|_| {
            Failure::environment(
                "there is no terminal to ask on; give the value on standard input or with --from-file",
            )
        })?;
        Ok(Plain::new(typed.into_bytes()))
    }

    /// Asks for a new secret value twice.
    pub fn ask_new_secret(&self, prompt: &str) -> Result<Plain, Failure> {
        let no_terminal = |_| Failure::environment("there is no terminal to ask on");
        let first = zeroize::Zeroizing::new(rpassword::prompt_password(prompt).map_err(no_terminal)?);
        let again = zeroize::Zeroizing::new(rpassword::prompt_password("Once more: ").map_err(no_terminal)?);
        if *first != *again {
            return Err(Failure::usage("the two entries differ"));
        }
        Ok(Plain::new(first.as_bytes().to_vec()))
    }

    /// Shows a question to the owner on the controlling terminal and reads y or N. `None` when there is
    /// no such terminal. A card is drawn from parsed names and screened text only.
    pub fn ask_card(&self, card: &Card) -> Option<Answer> {
        let mut tty = open_tty().ok()?;
        let hosts = if card.hosts.is_empty() { "none".to_owned() } else { card.hosts.join(", ") };
        let question = format!(
            "\n  May {} run?  ({})\n    why        {} {}\n    arguments  {}\n    network    {hosts}\n  [y/N] ",
            card.tool,
            card.digest.short(),
            card.rule.says,
            card.policy,
            card.arguments.get(),
        );
        tty.write_all(visible(&question).as_bytes()).ok()?;
        Some(if read_yes(tty).ok()? { Answer::Yes } else { Answer::No })
    }

    /// Asks y or N on the controlling terminal; no terminal means no.
    pub fn confirm(&self, question: impl Display) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut tty = open_tty()?;
            tty.write_all(visible(&format!("{question} [y/N] ")).as_bytes())?;
            read_yes(tty)
        };
        ask().unwrap_or(false)
    }

    /// Prints why a command did not end well, to standard error.
    pub fn failure(&self, failure: Failure) {
        match failure {
            Failure::Said(_) | Failure::Passed(_) => {}
            Failure::Refused(refusals) => self.refusals(&refusals),
            Failure::Plain(code, words) if self.is_json() => {
                self.err(&serde_json::json!({ "error": words, "code": code as u8 }).to_string());
            }
            Failure::Plain(_, words) => self.err(&visible(&format!("ironclaw: {words}"))),
            Failure::Quoting(code, words, quoted) => {
                let shown = match Safety::new(Default::default()) {
                    Ok(safety) => safety.screen(quoted, Channel::Log, &Trace::off()).ok(),
                    Err(_) => None,
                };
                let shown = shown.as_ref().map_or("(not shown)", |text| text.as_str());
                self.failure(Failure::Plain(code, format!("{words}\n{shown}")));
            }
        }
    }

    /// Prints refusals to standard error, each with its rule and the command that would widen it.
    pub fn refusals(&self, refusals: &[Refusal]) {
        for refusal in refusals {
            if self.is_json() {
                self.err(&refusal_json(refusal).to_string());
            } else {
                self.err(&visible(&refusal.to_string()));
                self.err(&format!("  more: ironclaw policy explain {}", refusal.id));
            }
        }
    }

    /// Words in a colour, where there is colour.
    pub fn paint(&self, tone: Tone, words: impl Display) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "1;31",
            Tone::Dim => "2",
            Tone::Strong => "1",
        };
        let words = visible(&words.to_string());
        if self.colour { format!("\u{1b}[{code}m{words}\u{1b}[0m") } else { words }
    }

    /// Prints a line that was put together from [`Terminal::paint`]ed parts.
    pub fn painted(&self, line: &str) {
        self.out(line);
    }

    // A closed pipe is no reason to panic; there is nobody left to tell.
    fn out(&self, line: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    fn err(&self, line: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// The controlling terminal, without what was typed or pasted before the question stood there: an answer
/// is to this question.
fn open_tty() -> std::io::Result<File> {
    let tty = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    crossterm::terminal::enable_raw_mode()?;
    let drained = drain();
    crossterm::terminal::disable_raw_mode()?;
    drained?;
    Ok(tty)
}

/// Drops what waits to be read, as much as a person or a paste can have put there.
fn drain() -> std::io::Result<()> {
    for _ in 0..MAX_TYPED_AHEAD {
        if !crossterm::event::poll(std::time::Duration::ZERO)? {
            break;
        }
        crossterm::event::read()?;
    }
    Ok(())
}

/// Reads one line; anything but yes is no.
fn read_yes(tty: File) -> std::io::Result<bool> {
    let mut line = String::new();
    std::io::BufReader::new(tty.take(MAX_ANSWER)).read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// A refusal as an object with stable keys.
pub fn refusal_json(refusal: &Refusal) -> Value {
    serde_json::json!({
        "refused": refusal.rule.id,
        "layer": refusal.rule.layer.as_str(),
        "reason": refusal.rule.says,
        "detail": refusal.detail,
        "widen": refusal.widen,
        "id": refusal.id.to_string(),
    })
}

/// Characters that reorder or hide text.
pub fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{e0000}'..='\u{e007f}')
}

/// Replaces every control but newline and tab, and every character that reorders or hides text.
fn visible(text: &str) -> String {
    let hidden = |c: char| (c.is_control() && c != '\n' && c != '\t') || reorders(c);
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m12_controls_do_not_reach_a_person() {
        assert_eq!(
            visible("a\u{1b}]52;c;x\u{7}b\r\u{202e}c\n"),
            "a\u{fffd}]52;c;x\u{fffd}b\u{fffd}\u{fffd}c\n"
        );
    }
}
