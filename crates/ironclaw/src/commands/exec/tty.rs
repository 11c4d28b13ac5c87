//! A command on a terminal of its own, behind the terminal of whoever typed it.
//!
//! Keys go in as they are, Ctrl-C among them. What comes out is drawn but for what drives a terminal beyond drawing:
//! the clipboard, titles, links, and everything that a terminal answers, which it would type to the command or, after
//! its end, to a shell.

use container::{Console, Control, Finished, OnTerminal, RunError, Size, rules};
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::signals::Signals;
use crate::exit::Failure;
use crate::terminal::Terminal;

/// Leaves what a program that was ended may have left behind: modes (DECSTR), reports of the mouse and of pastes, the other
/// screen.
const LEAVE: &[u8] = b"\x1b[!p\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?2004l\x1b[?47l";

/// Raw mode for as long as it lives: it is taken back on every way out, a panic among them.
pub struct Raw<'a>(&'a Terminal);

impl<'a> Raw<'a> {
    /// Puts the terminal of this program into it.
    pub fn enter(terminal: &'a Terminal) -> Result<Self, Failure> {
        crossterm::terminal::enable_raw_mode().map_err(|error| {
            Failure::environment(format!("the terminal does not go into raw mode: {}", error.kind()))
        })?;
        Ok(Self(terminal))
    }
}

impl Drop for Raw<'_> {
    fn drop(&mut self) {
        self.0.pass(false, LEAVE);
        // There is nobody left to tell when even this fails.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// The size of the terminal of this program.
pub fn size() -> Size {
    let (columns, rows) = crossterm::terminal::size().unwrap_or((80, 24));
    Size { columns, rows }
}

/// Carries keys, signals, sizes and output until the run is over. Gives what it came to, and the leak that it was stopped for.
pub async fn attend(
    running: OnTerminal,
    raw: Raw<'_>,
    signals: Signals,
) -> (Result<Finished, RunError>, Option<types::Refusal>) {
    let OnTerminal { console, mut stdin, control, outcome, .. } = running;
    let keys = tokio::spawn(async move {
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut stdin).await;
        let _ = stdin.shutdown().await;
    });
    let forwarding = tokio::spawn(signals.forward(control.clone()));
    let resizing = tokio::spawn(resize(control.clone()));
    let leak = draw(console, &control, raw.0).await;
    let finished = outcome.wait().await;
    for task in [keys, forwarding, resizing] {
        task.abort();
    }
    drop(raw);
    (finished, leak)
}

async fn resize(control: Control) {
    let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
    while changed.recv().await.is_some() {
        control.resize(size()).await;
    }
}

/// Draws to the end. A value of the vault stops the run, and the refusal says so.
async fn draw(mut console: Console, control: &Control, terminal: &Terminal) -> Option<types::Refusal> {
    let mut filter = Filter::default();
    while let Some(piece) = console.next().await {
        match piece {
            Ok(bytes) => terminal.pass(false, &filter.pass(&bytes)),
            Err(refusal) => {
                control.stop(&rules::LEAK);
                return Some(refusal);
            }
        }
    }
    None
}

/// The longest sequence that draws. A longer one is dropped to its end.
const LONGEST: usize = 128;

/// Lets through what draws (ECMA-48), whatever the borders of the pieces.
#[derive(Default)]
struct Filter {
    /// A sequence that has begun and not ended.
    begun: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and a byte that wants another: a character set, a line attribute.
    Designation,
    /// A control sequence: parameters, then a final byte.
    Control,
    /// A string for the terminal (OSC, DCS, APC, PM, SOS), to BEL or ST.
    Text,
    /// ESC within such a string.
    TextEscape,
    /// After the first byte of U+0080 to U+00BF, of which the first half are controls.
    Latin,
}

impl Filter {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            self.state = self.step(*byte, &mut out);
        }
        out
    }

    fn step(&mut self, byte: u8, out: &mut Vec<u8>) -> State {
        // Whatever was begun, these begin anew (ECMA-48, 5.5).
        match (self.state, byte) {
            (State::Text, 0x1b) => return State::TextEscape,
            (_, 0x1b) => return self.begin(byte, State::Escape),
            (State::Text | State::TextEscape, 0x18 | 0x1a) => return State::Ground,
            _ => {}
        }
        match self.state {
            State::Ground => match byte {
                0xc2 => self.begin(byte, State::Latin),
                0x07..=0x0f | 0x20..=0x7e | 0x80.. => self.draw(byte, out),
                _ => State::Ground,
            },
            State::Latin => match byte {
                0x80..=0x9f => State::Ground,
                _ => self.end(byte, out),
            },
            State::Escape => match byte {
                b'[' => self.more(byte, State::Control),
                b']' | b'P' | b'X' | b'^' | b'_' => State::Text,
                b'(' | b')' | b'*' | b'+' | b'#' => self.more(byte, State::Designation),
                b'7' | b'8' | b'=' | b'>' | b'D' | b'E' | b'H' | b'M' | b'c' => self.end(byte, out),
                _ => State::Ground,
            },
            State::Designation => match byte {
                0x30..=0x7e => self.end(byte, out),
                _ => State::Ground,
            },
            State::Control => match byte {
                0x20..=0x3f => self.more(byte, State::Control),
                0x40..=0x7e if self.draws(byte) => self.end(byte, out),
                // A control within a sequence is carried out at once.
                0x07..=0x0d => {
                    out.push(byte);
                    State::Control
                }
                _ => State::Ground,
            },
            State::Text if byte == 0x07 => State::Ground,
            State::Text => State::Text,
            State::TextEscape if byte == b'\\' => State::Ground,
            // ESC ended the string, and this is of what it began.
            State::TextEscape => {
                self.begin(0x1b, State::Escape);
                self.state = State::Escape;
                self.step(byte, out)
            }
        }
    }

    fn begin(&mut self, byte: u8, state: State) -> State {
        self.begun.clear();
        self.more(byte, state)
    }

    fn more(&mut self, byte: u8, state: State) -> State {
        if self.begun.len() <= LONGEST {
            self.begun.push(byte);
        }
        state
    }

    fn draw(&mut self, byte: u8, out: &mut Vec<u8>) -> State {
        out.push(byte);
        State::Ground
    }

    fn end(&mut self, byte: u8, out: &mut Vec<u8>) -> State {
        if self.begun.len() <= LONGEST {
            out.append(&mut self.begun);
            out.push(byte);
        }
        State::Ground
    }

    /// Whether a control sequence of this final byte draws. Not: reports of state and identity, window operations,
    /// printing, and what with a mark asks for one of these.
    fn draws(&self, last: u8) -> bool {
        let marked = |marks: &[u8]| self.begun.iter().any(|byte| marks.contains(byte));
        match last {
            b'n' | b'c' | b't' | b'x' | b'i' => false,
            b'q' => !marked(b">"),
            b'p' => !marked(b"$\"&"),
            b'u' | b'S' => !marked(b"?"),
            b'w' | b'y' | b'z' | b'{' | b'|' => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(pieces: &[&[u8]]) -> String {
        let mut filter = Filter::default();
        pieces.iter().map(|piece| String::from_utf8_lossy(&filter.pass(piece)).into_owned()).collect()
    }

    #[test]
    fn m12_what_draws_passes_and_what_else_drives_a_terminal_does_not_however_it_is_cut() {
        let draws = "\x1b[2J\x1b[1;31mred\x1b[0m\x1b[?1049h\x1b[10;5Hcaf\u{e9} \u{2500}\x1b(0q\x1b(B\x1b7\x1b8\r\n\x08\x1b[!p";
        let hostile = "\x1b]52;c;cm0gLXJm\x07\x1b]8;;http://e\x1b\\\x1b]0;title\x07\x1bPq#0\x1b\\\x1b_Ga\x1b\\\x1b^x\x1b\\\
            \x1b[6n\x1b[c\x1b[>c\x1b[21t\x1b[>q\x1b[?1$p\x1b[?u\x1b[5i\x1bZ\u{9b}6n\u{90}x\u{9c}\x05";
        let all = format!("{draws}{hostile}{draws}");
        // What stands between an unseen introducer and its end is letters without power.
        let expected = format!("{draws}6nx{draws}");
        for cut in 0..all.len() {
            let (head, tail) = all.as_bytes().split_at(cut);
            let mut filter = Filter::default();
            let mut out = filter.pass(head);
            out.extend(filter.pass(tail));
            assert_eq!(String::from_utf8(out).unwrap(), expected, "cut at {cut}");
        }
    }

    #[test]
    fn m12_a_sequence_without_an_end_is_not_kept() {
        let long = format!("\x1b[{}m.", "1;".repeat(100_000));
        assert_eq!(pass(&[long.as_bytes()]), ".");
        assert_eq!(pass(&[b"\x1b]52;c;", &[b'x'; 100_000], b"\x1b[31mred"]), "\x1b[31mred");
        assert_eq!(pass(&[b"\x1b]52;c\x18ok"]), "ok");
    }
}
