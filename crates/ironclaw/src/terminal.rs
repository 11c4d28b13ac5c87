//! The one sink toward people.
//!
//! Foreign text arrives as [`Screened`] only. This program's own words are `Display` values, and
//! neither `Untrusted` nor `Screened` is one, so foreign text cannot be formatted into them by
//! accident. As a second line of defence, controls that would move or hide text never leave here.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use policy::{Answer, Card};
use safety::{Channel, Safety, Screened};
use secrets::Plain;
use serde_json::Value;
use tokio::sync::Notify;
use types::{Refusal, Trace};

use crate::exit::Failure;
use crate::line_editor::Editor;
use crate::line_editor::tty::{Line, end_signal, read_hidden, read_line};

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
    /// Ctrl-C at a question, where it is a key and not a signal.
    interrupted: Arc<Notify>,
}

/// How the owner ended something before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interrupted {
    /// Ctrl-C: this work.
    Cancelled,
    /// A signal: the program.
    Ended,
}

impl Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("abandoned")
    }
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
        Self { format, colour, interrupted: Arc::default() }
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
        self.out(&json_line(value));
    }

    /// The same; false once nobody reads standard output any more.
    pub fn json_while_read(&self, value: &Value) -> bool {
        writeln!(std::io::stdout().lock(), "{}", json_line(value)).is_ok()
    }

    /// Prints to standard error.
    pub fn warn(&self, words: impl Display) {
        self.err(&visible(&words.to_string()));
    }

    /// Prints a line that cannot be missed to standard error.
    pub fn alert(&self, words: impl Display) {
        let line = format!("!!! {}", visible(&words.to_string()));
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

    /// Asks for a secret value without echo. `instead` says how to give it where there is no terminal. A paste is one
    /// value with all of its lines, but for the ends of lines after it.
    pub fn ask_secret(&self, prompt: &str, instead: &str) -> Result<Plain, Failure> {
        ask_hidden(prompt, instead).map(|typed| Plain::new(typed.into_bytes()))
    }

    /// The same for a new secret value, twice.
    pub fn ask_new_secret(&self, prompt: &str, instead: &str) -> Result<Plain, Failure> {
        let first = zeroize::Zeroizing::new(ask_hidden(prompt, instead)?);
        let again = zeroize::Zeroizing::new(ask_hidden("Once more: ", instead)?);
        if *first != *again {
            return Err(Failure::usage("the two entries differ"));
        }
        Ok(Plain::new(first.as_bytes().to_vec()))
    }

    /// Shows a question to the owner on the controlling terminal and reads y or N. `None` when there is
    /// no such terminal. A card is drawn from parsed names and screened text only. After Ctrl-C there is no
    /// answer: [`Terminal::unless_interrupted`] drops whoever waits for it.
    pub fn ask_card<'a>(&'a self, card: &Card) -> BoxFuture<'a, Option<Answer>> {
        let hosts = if card.hosts.is_empty() { "none".to_owned() } else { card.hosts.join(", ") };
        let arguments = card.arguments.get().to_string();
        let folder = card.folder.as_ref().map(|folder| format!("    folder     {folder}\n"));
        let folder = folder.unwrap_or_default();
        let warning = match card.arguments.is_flagged() {
            true => "\n    Its words look like an attack: approve only what you understand.",
            false => "",
        };
        let question = format!(
            "\n  May {tool} run?  ({digest})\n    why        {why} {policy}\n    network    {hosts}\n{folder}    arguments  {arguments}{warning}\n  \
             Run {tool} with these {length} bytes of arguments? [y/N] ",
            tool = card.tool,
            digest = card.digest.short(),
            why = card.rule.says,
            policy = card.policy,
            length = arguments.len(),
        );
        let answer = async move {
            match ask_yes(&question).await.ok()? {
                Line::Cancelled => {
                    self.interrupted.notify_one();
                    std::future::pending().await
                }
                Line::Entered(entry) if entry.is_yes() => Some(Answer::Yes),
                Line::Entered(_) | Line::Ended => Some(Answer::No),
            }
        };
        answer.boxed()
    }

    /// Asks y or N on the controlling terminal; no terminal means no.
    pub async fn confirm(&self, question: impl Display) -> Result<bool, Failure> {
        match ask_yes(&format!("{question} [y/N] ")).await {
            Ok(Line::Cancelled) => Err(Failure::failed(Interrupted::Cancelled)),
            Ok(Line::Entered(entry)) => Ok(entry.is_yes()),
            Ok(Line::Ended) | Err(_) => Ok(false),
        }
    }

    /// Works until the end, or until the owner ends it: with Ctrl-C, also at a question, or by a signal. Work
    /// that is dropped drops its permits, and each of those is recorded as abandoned.
    pub async fn unless_interrupted<T>(&self, work: impl Future<Output = T>) -> Result<T, Interrupted> {
        tokio::select! {
            // Signals are heard before the work begins: none can end the program in its midst.
            biased;
            _ = tokio::signal::ctrl_c() => Err(Interrupted::Cancelled),
            () = end_signal() => Err(Interrupted::Ended),
            () = self.interrupted.notified() => Err(Interrupted::Cancelled),
            done = work => Ok(done),
        }
    }

    /// Prints why a command did not end well, to standard error.
    pub fn failure(&self, failure: Failure) {
        match failure {
            Failure::Said(_) | Failure::Passed(_) => {}
            Failure::Refused(refusals) => self.refusals(&refusals),
            Failure::Unrecorded(refusal) if self.is_json() => self.err(&json_line(&refusal_json(&refusal))),
            Failure::Unrecorded(refusal) => self.err(&visible(&refusal.to_string())),
            Failure::Plain(code, words) if self.is_json() => {
                self.err(&json_line(&serde_json::json!({ "error": words, "code": code as u8 })));
            }
            Failure::Plain(_, words) => self.err(&visible(&format!("ironclaw: {words}"))),
            Failure::Quoting(code, words, quoted) => {
                let shown = match Safety::new(Default::default()) {
                    Ok(safety) => safety.screen(quoted, Channel::Log, &Trace::off()).ok(),
                    Err(_) => None,
                };
                // Marked on every line, so that none can look like this program's own.
                let shown = shown.as_ref().map_or("(not shown)", |text| text.as_str()).trim_end();
                let lines = shown.lines().filter(|line| !line.trim().is_empty());
                let marked: String = lines.map(|line| format!("\n  | {line}")).collect();
                self.failure(Failure::Plain(code, format!("{words}{marked}")));
            }
        }
    }

    /// Prints refusals to standard error, each with its rule and the command that would widen it.
    pub fn refusals(&self, refusals: &[Refusal]) {
        for refusal in refusals {
            if self.is_json() {
                self.err(&json_line(&refusal_json(refusal)));
            } else {
                self.err(&visible(&refusal.to_string()));
                self.err(&format!("  more: ironclaw policy explain {}", refusal.id));
            }
        }
    }

    /// Words that [`Terminal::painted`] shows in a colour, where there is colour.
    pub fn paint(&self, tone: Tone, words: impl Display) -> String {
        format!("{}{}{PLAIN}", tone.mark(), visible(&words.to_string()))
    }

    /// Prints a line that was put together from [`Terminal::paint`]ed parts and plain ones. All of it is made
    /// visible as one, so that no part can bring an escape sequence of its own.
    pub fn painted(&self, line: &str) {
        let colour = |c: char| match Tone::of(c) {
            Some(tone) if self.colour => format!("\u{1b}[{}m", tone.code()),
            Some(_) => String::new(),
            None if c == PLAIN && self.colour => "\u{1b}[0m".to_owned(),
            None if c == PLAIN => String::new(),
            None => visible(c.encode_utf8(&mut [0; 4])),
        };
        self.out(&line.chars().map(colour).collect::<String>());
    }

    // A closed pipe is no reason to panic; there is nobody left to tell.
    fn out(&self, line: &str) {
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }

    fn err(&self, line: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }
}

/// Asks on the controlling terminal, wherever standard input and output lead. An answer is typed there, after the
/// question stands there.
async fn ask_yes(question: &str) -> std::io::Result<Line> {
    let mut tty = OpenOptions::new().write(true).open("/dev/tty")?;
    let question = visible(question);
    let (above, prompt) = question.rsplit_once('\n').unwrap_or(("", &question));
    writeln!(tty, "{above}")?;
    read_line(&mut Editor::new(), tty, prompt).await
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

/// A value as one line of JSON, in which whatever would drive or deceive a terminal is escaped. To a parser it is
/// the same value.
fn json_line(value: &Value) -> String {
    let mut line = String::new();
    for c in value.to_string().chars() {
        if is_hidden(c) {
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| line.push_str(&format!("\\u{unit:04x}")));
        } else {
            line.push(c);
        }
    }
    line
}

/// Replaces every control but newline and tab, and every character that reorders or hides text.
fn visible(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Controls; marks that reorder text; characters without a glyph, tags among them; and noncharacters, which carry
/// the colours of [`Terminal::paint`]. The joiners that scripts and emoji need are none of these.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{fdd0}'..='\u{fdef}' | '\u{e0000}'..='\u{e0fff}')
}

/// Where a colour ends in a painted line.
const PLAIN: char = '\u{fddf}';

impl Tone {
    const ALL: [Self; 5] = [Self::Good, Self::Warn, Self::Bad, Self::Dim, Self::Strong];

    /// The noncharacter that stands for the colour until the line is printed.
    fn mark(self) -> char {
        match self {
            Self::Good => '\u{fdd0}',
            Self::Warn => '\u{fdd1}',
            Self::Bad => '\u{fdd2}',
            Self::Dim => '\u{fdd3}',
            Self::Strong => '\u{fdd4}',
        }
    }

    fn of(mark: char) -> Option<Self> {
        Self::ALL.into_iter().find(|tone| tone.mark() == mark)
    }

    /// The parameters of the terminal's "select graphic rendition".
    fn code(self) -> &'static str {
        match self {
            Self::Good => "32",
            Self::Warn => "33",
            Self::Bad => "1;31",
            Self::Dim => "2",
            Self::Strong => "1",
        }
    }
}

/// Asks on the controlling terminal for what is not shown, and gives the terminal back however that ends.
fn ask_hidden(prompt: &str, instead: &str) -> Result<String, Failure> {
    let tty = OpenOptions::new().write(true).open("/dev/tty").map_err(|_| no_terminal(instead))?;
    let asked = read_hidden(tty, prompt);
    let read = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(asked));
    match read.map_err(|_| no_terminal(instead))? {
        Some(typed) => Ok(typed.trim_end_matches('\n').to_owned()),
        None => Err(Failure::failed(Interrupted::Cancelled)),
    }
}

fn no_terminal(instead: &str) -> Failure {
    Failure::environment(format!("there is no terminal to ask on\n  without one: {instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m12_controls_do_not_reach_a_person() {
        assert_eq!(
            visible("a\u{1b}]52;c;x\u{7}b\r\u{202e}c\u{200f}\u{feff}\n"),
            "a\u{fffd}]52;c;x\u{fffd}b\u{fffd}\u{fffd}c\u{fffd}\u{fffd}\n"
        );
        // A family emoji and a Persian word keep their joiners.
        assert_eq!(
            visible("\u{1f468}\u{200d}\u{1f467} \u{6cc}\u{200c}\u{6cc}"),
            "\u{1f468}\u{200d}\u{1f467} \u{6cc}\u{200c}\u{6cc}"
        );
    }

    #[test]
    fn m12_json_holds_no_control_and_is_still_the_same_value() {
        let value = serde_json::json!({ "a\u{9b}31m": "b\u{1b}[2J\u{7f}\u{202e}\u{e0041}\nc" });
        let line = json_line(&value);
        assert!(!line.chars().any(is_hidden), "{line:?}");
        assert_eq!(serde_json::from_str::<Value>(&line).unwrap(), value);
    }
}
