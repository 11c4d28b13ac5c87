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

/// Leaves what a program that was ended may have left behind: modes (DECSTR), reverse video, reports of the mouse, of focus,
/// pastes, colours and sizes, output that is held back, keys in another encoding (kitty's stack of either screen, xterm's
/// XTMODKEYS), the other screen. The last takes back what a terminal draws that reads one of these as something else.
const LEAVE: &[u8] =
    b"\x1b[!p\x1b[?5l\x1b[?9l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1005l\x1b[?1006l\x1b[?1015l\
    \x1b[?1016l\x1b[?2004l\x1b[?2026l\x1b[?2031l\x1b[?2048l\x1b[<99u\x1b[?47l\x1b[<99u\x1b[>4m\x1b[m";

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

/// Modes of a terminal (DECSET) that programs on the whole screen use. What of them makes it speak up by itself is switched
/// off in the end ([`LEAVE`]); no other is passed on, so none stays.
const MODES: [u16; 32] = [
    1, 3, 4, 5, 6, 7, 9, 12, 25, 45, 47, 66, 69, 1000, 1002, 1003, 1004, 1005, 1006, 1007, 1015, 1016, 1034,
    1036, 1047, 1048, 1049, 2004, 2026, 2027, 2031, 2048,
];

/// Modes of ECMA-48 and the cursor's look: the others are about the keyboard and stay.
const PLAIN_MODES: [u16; 2] = [4, 34];

/// xterm's resource for the keys that [`LEAVE`] sets back.
const OTHER_KEYS: u16 = 4;

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
    /// Within a character of several bytes.
    Character,
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
                // A byte that begins no character, such as 0x9b, is a control to some terminals.
                0xc2..=0xf4 => self.begin(byte, State::Character),
                0x07..=0x0f | 0x20..=0x7e => self.draw(byte, out),
                _ => State::Ground,
            },
            State::Character => match byte {
                0x80..=0xbf => self.continued(byte, out),
                _ => {
                    self.state = State::Ground;
                    self.step(byte, out)
                }
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

    /// One byte more of a character. What is no UTF-8 does not pass, nor does a control of U+0080 to U+009F.
    fn continued(&mut self, byte: u8, out: &mut Vec<u8>) -> State {
        self.more(byte, State::Character);
        match std::str::from_utf8(&self.begun) {
            Ok(text) if text.chars().any(char::is_control) => State::Ground,
            Ok(_) => {
                out.append(&mut self.begun);
                State::Ground
            }
            Err(error) if error.error_len().is_none() => State::Character,
            Err(_) => State::Ground,
        }
    }

    /// Whether a control sequence of this final byte draws, or asks for keys that [`LEAVE`] sets back. What is not known to
    /// is asked, of a terminal that may answer.
    fn draws(&self, last: u8) -> bool {
        let sequence = self.begun.get(2..).unwrap_or_default();
        let (mark, sequence) = match sequence.split_first() {
            Some((mark @ b'<'..=b'?', rest)) => (*mark, rest),
            _ => (0, sequence),
        };
        let end = sequence.iter().position(|byte| !byte.is_ascii_digit() && !matches!(byte, b';' | b':'));
        let (numbers, between) = sequence.split_at(end.unwrap_or(sequence.len()));
        let first = || number(numbers.split(|byte| matches!(byte, b';' | b':')).next().unwrap_or_default());
        let are_all = |known: &[u16]| {
            numbers
                .split(|byte| *byte == b';')
                .all(|mode| number(mode).is_some_and(|mode| known.contains(&mode)))
        };
        match (mark, between, last) {
            (0, b"", b'h' | b'l') => are_all(&PLAIN_MODES),
            (0, b"", b'@'..=b'M' | b'P' | b'S' | b'T' | b'X' | b'Z' | b'`' | b'a' | b'b' | b'd'..=b'g') => {
                true
            }
            (0, b"", b'm' | b'r' | b's' | b'u') => true,
            (0, b" ", b'@' | b'A' | b'q') | (0, b"!", b'p') | (0, b"\"", b'q') | (0, b"'", b'}' | b'~') => {
                true
            }
            (b'?', b"", b'h' | b'l' | b'r' | b's') => are_all(&MODES),
            (b'?', b"", b'J' | b'K') | (b'<'..=b'>', b"", b'u') => true,
            (b'>', b"", b'm') => first() == Some(OTHER_KEYS),
            _ => false,
        }
    }
}

fn number(digits: &[u8]) -> Option<u16> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass_bytes(pieces: &[&[u8]]) -> Vec<u8> {
        let mut filter = Filter::default();
        pieces.iter().flat_map(|piece| filter.pass(piece)).collect()
    }

    fn pass(pieces: &[&[u8]]) -> String {
        String::from_utf8(pass_bytes(pieces)).unwrap()
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
    fn m12_nothing_that_a_terminal_answers_passes() {
        let asks = "?4m,?m,#R,#S,1$u,2$u,&u,\"v,?u,n,6n,?6n,?996n,c,>c,=c,x,1x,21t,14t,18t,5i,?5i,>q,?1$p,4$p,\"p,$w,\
            1;1;1;1;1;1*y,'|,'z,?S,?1;1S,?9001h,?5522h,?1000;9001h,20h,12l,2h,>1m,>2;2m,>m,>4n,>p,>t,1#p,?25;h,?99999h,\
            1?25h,1 2 q,?+h";
        for asks in asks.split(',') {
            assert_eq!(pass(&[format!("\x1b[{asks}.").as_bytes()]), ".", "{asks}");
        }
        let draws = "m,0;38:2::1:2:3m,38;5;1m,10;5H,2J,?2J,5X,3b,1;5r,s,u,4h,34l,3 q,!p,1\"q,2'},?25l,?1000;1006h,\
            ?1049h,?2004h,?3;4l,>4;2m,>4m,>31u,<u,=1;1u,2 @";
        for draws in draws.split(',') {
            let sequence = format!("\x1b[{draws}");
            assert_eq!(pass(&[sequence.as_bytes()]), sequence, "{draws}");
        }
    }

    #[test]
    fn m12_bytes_that_are_no_characters_do_not_pass() {
        for bytes in [
            &b"\x9b6n"[..],
            b"\x9d0;title\x9c",
            b"\xc26n",
            b"\xe2\x9b6n",
            b"\xe0\x82\x9b",
            b"\xc0\x9b",
            b"\xf5\x80\x80\x80",
            b"\xed\xa0\x80",
            b"\xc2\x9b",
            b"\xff",
        ] {
            let out = Filter::default().pass(bytes);
            assert!(out.is_ascii(), "{bytes:?}: {out:?}");
        }
        let text = "caf\u{e9} \u{2500}\u{a0}\u{1f600}\u{10ffff}";
        for cut in 0..text.len() {
            let (head, tail) = text.as_bytes().split_at(cut);
            assert_eq!(pass_bytes(&[head, tail]), text.as_bytes());
        }
        // A character that is not finished takes nothing with it.
        assert_eq!(pass_bytes(&[b"\xe2\x94", b"\x1b[31mred"]), b"\x1b[31mred");
    }

    #[test]
    fn m12_every_mode_that_makes_a_terminal_speak_is_left() {
        let left = std::str::from_utf8(LEAVE).unwrap();
        for mode in [9, 1000, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004, 2031, 2048] {
            assert!(MODES.contains(&mode) && left.contains(&format!("\x1b[?{mode}l")), "{mode}");
        }
        assert_eq!(pass(&[LEAVE]), left);
    }

    #[test]
    fn m12_a_sequence_without_an_end_is_not_kept() {
        let long = format!("\x1b[{}m.", "1;".repeat(100_000));
        assert_eq!(pass(&[long.as_bytes()]), ".");
        assert_eq!(pass(&[b"\x1b]52;c;", &[b'x'; 100_000], b"\x1b[31mred"]), "\x1b[31mred");
        assert_eq!(pass(&[b"\x1b]52;c\x18ok"]), "ok");
    }
}
