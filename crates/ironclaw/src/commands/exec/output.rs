//! What a command prints, on its way to a person or a file.

use std::io::{IsTerminal as _, Write as _};
use std::task::Poll;
use std::time::Duration;

use anstream::adapter::StripBytes;
use bytes::Bytes;
use container::{Control, rules};
use futures_util::StreamExt as _;
use safety::{BodyFault, ScreenedBody};
use serde_json::json;
use types::Refusal;

use crate::terminal::Terminal;

/// For so long a line that was printed to its end is held back because a value could go on in what follows.
const PAUSE: Duration = Duration::from_millis(100);

/// Which of the two streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum To {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Prints a stream to its end. Output that holds a secret stops the run, and the refusal says so.
pub async fn carry(
    mut body: ScreenedBody,
    to: To,
    control: &Control,
    terminal: &Terminal,
) -> Option<Refusal> {
    let mut printer = Printer::toward(to, terminal);
    loop {
        let piece = match next(&mut body).await {
            Next::Piece(piece) => piece,
            Next::Pause => {
                printer.print(&body.release_lines());
                continue;
            }
            Next::End => break,
        };
        match piece {
            Ok(bytes) => printer.print(&bytes),
            Err(fault) => {
                let (rule, refusal) = match fault {
                    BodyFault::Blocked(blocked) => (&rules::LEAK, Some(blocked.refusal)),
                    // Of output there is no other: it is neither encoded nor does it come over a network.
                    _ => (&rules::OUTPUT, None),
                };
                control.stop(rule);
                return refusal;
            }
        }
    }
    None
}

/// What comes next out of a stream.
enum Next {
    Piece(Result<Bytes, BodyFault>),
    /// Nothing, and something was held for a pause. It may have been read by the very same call, which a piece that is held
    /// whole does not end.
    Pause,
    End,
}

async fn next(body: &mut ScreenedBody) -> Next {
    let mut pause = None;
    std::future::poll_fn(|context| {
        if let Poll::Ready(piece) = body.poll_next_unpin(context) {
            return Poll::Ready(piece.map_or(Next::End, Next::Piece));
        }
        if !body.holds_lines() {
            return Poll::Pending;
        }
        let pause = pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(PAUSE)));
        pause.as_mut().poll(context).map(|()| Next::Pause)
    })
    .await
}

/// How a stream is printed.
struct Printer<'a> {
    to: To,
    terminal: &'a Terminal,
    form: Form,
}

enum Form {
    /// As it is, into a file or a pipe.
    Plain,
    /// For a person's terminal.
    Filtered(Filter),
    /// In JSON lines, which hold text; with the beginning of a character whose rest has not come yet.
    Json(Vec<u8>),
}

impl<'a> Printer<'a> {
    fn toward(to: To, terminal: &'a Terminal) -> Self {
        let is_terminal = match to {
            To::Out => std::io::stdout().is_terminal(),
            To::Err => std::io::stderr().is_terminal(),
        };
        let form = match (terminal.is_json(), is_terminal) {
            (true, _) => Form::Json(Vec::new()),
            (false, true) => Form::Filtered(Filter::default()),
            (false, false) => Form::Plain,
        };
        Self { to, terminal, form }
    }

    fn print(&mut self, bytes: &[u8]) {
        let to_stderr = self.to == To::Err;
        match &mut self.form {
            Form::Plain => self.terminal.pass(to_stderr, bytes),
            Form::Filtered(filter) => self.terminal.pass(to_stderr, &filter.pass(bytes)),
            Form::Json(begun) => {
                begun.extend_from_slice(bytes);
                let text = whole_text(begun);
                if !text.is_empty() {
                    let stream = if to_stderr { "stderr" } else { "stdout" };
                    self.terminal.json(&json!({ "stream": stream, "text": text }));
                }
            }
        }
    }
}

/// What is a whole character of the bytes, which keep the beginning of one.
fn whole_text(bytes: &mut Vec<u8>) -> String {
    let whole = match std::str::from_utf8(bytes) {
        Err(cut) if cut.error_len().is_none() => cut.valid_up_to(),
        _ => bytes.len(),
    };
    let begun = bytes.split_off(whole);
    String::from_utf8_lossy(&std::mem::replace(bytes, begun)).into_owned()
}

/// Takes escape sequences out of what a terminal would obey, and shows every other control.
#[derive(Default)]
struct Filter {
    strip: StripBytes,
    /// The beginning of a character whose rest has not come yet.
    begun: Vec<u8>,
}

impl Filter {
    fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut plain = std::mem::take(&mut self.begun);
        for part in self.strip.strip_next(bytes) {
            plain.extend_from_slice(part);
        }
        let text = whole_text(&mut plain);
        self.begun = plain;
        let mut out = Vec::with_capacity(text.len());
        for c in text.chars() {
            // A carriage return goes back to write over what was printed.
            let shown = if c == '\r' { '\n' } else { c };
            let hidden = crate::terminal::is_hidden(shown) && shown != '\n' && shown != '\t';
            let shown = if hidden { '\u{fffd}' } else { shown };
            let _ = write!(out, "{shown}");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(pieces: &[&[u8]]) -> String {
        let mut filter = Filter::default();
        pieces.iter().map(|piece| String::from_utf8(filter.pass(piece)).unwrap()).collect()
    }

    #[test]
    fn m12_what_a_terminal_would_obey_is_taken_out_however_it_is_cut() {
        let hostile = b"a\x1b]52;c;cm0gLXJm\x07b\x1b[2Jc\x1b[31md\x1b]8;;http://e\x1b\\e\x1bPq\x1b\\f";
        for cut in 0..hostile.len() {
            let (head, tail) = hostile.split_at(cut);
            assert_eq!(pass(&[head, tail]), "abcdef", "cut at {cut}");
        }
        assert_eq!(pass(&["caf\u{e9}\n".as_bytes()]), "caf\u{e9}\n");
        assert_eq!(pass(&[&[0xc3], &[0xa9, b'\n']]), "\u{e9}\n");
        assert_eq!(pass(&["a\u{202e}b\u{9b}c".as_bytes()]).replace('\u{fffd}', ""), "abc");
        assert_eq!(pass(&[b"secret\rhidden\n"]), "secret\nhidden\n");
    }
}
