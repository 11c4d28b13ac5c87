//! What a guest says besides its result.
//!
//! Lines come from the `log` interface and from the guest's standard output and error. They are bounded in bytes and
//! number while the call runs; control characters are shown, not obeyed; what is beyond is counted and dropped. After
//! the call every line passes the leak detector, and only what comes out of it leaves this crate.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use safety::{Channel, Safety, Screened, Untrusted};
use tokio::io::AsyncWrite;
use types::limits::Bytes;
use types::{Refusal, Source, ToolName, Trace};
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};

/// The most lines of one call.
const MAX_LINES: usize = 1_000;
/// The longest line; the rest of it is dropped and counted.
const MAX_LINE: usize = 4 << 10;

/// How much a line matters, as the guest sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// For the tool's author.
    Debug,
    /// What happened.
    Info,
    /// What was not expected.
    Warn,
    /// What went wrong.
    Error,
}

/// One line of a tool, ready for a person or a file.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// Who said it.
    pub tool: ToolName,
    /// How much it matters.
    pub level: Level,
    /// The line.
    pub text: Screened<String>,
}

/// The lines of one call so far. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Log(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    limit: usize,
    used: usize,
    lines: Vec<(Level, String)>,
    dropped: u64,
    /// What was written to a standard stream since its last line end.
    partial: Vec<u8>,
}

/// What is left of a log after screening.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) lines: Vec<LogLine>,
    pub(crate) dropped: u64,
    /// The first line that was blocked, if one was.
    pub(crate) blocked: Option<Refusal>,
}

impl Log {
    pub(crate) fn new(limit: Bytes) -> Self {
        let lines =
            Lines { limit: limit.as_usize(), used: 0, lines: Vec::new(), dropped: 0, partial: Vec::new() };
        Self(Arc::new(Mutex::new(lines)))
    }

    /// Adds one line of the `log` interface.
    pub(crate) fn add(&self, level: Level, message: &str) {
        self.lock().add(level, message);
    }

    /// Screens every line and empties the log.
    pub(crate) fn screen(&self, tool: &ToolName, safety: &Safety) -> Report {
        let (lines, dropped) = self.lock().take();
        let mut report = Report { dropped, ..Report::default() };
        for (level, line) in lines {
            let line = Untrusted::new(Source::Tool(tool.clone()), line);
            match safety.screen(line, Channel::Log, &Trace::off()) {
                Ok(text) => report.lines.push(LogLine { tool: tool.clone(), level, text }),
                Err(blocked) => {
                    report.dropped += 1;
                    report.blocked.get_or_insert(blocked.refusal);
                }
            }
        }
        report
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn add(&mut self, level: Level, message: &str) {
        let room = self.limit.saturating_sub(self.used).min(MAX_LINE);
        if room == 0 || self.lines.len() >= MAX_LINES {
            self.dropped += 1;
            return;
        }
        let mut line = String::new();
        for c in message.chars() {
            let shown: String = if c.is_control() { c.escape_default().collect() } else { c.into() };
            if line.len() + shown.len() > room {
                self.dropped += 1;
                break;
            }
            line.push_str(&shown);
        }
        // An empty line costs as much to keep as a short one.
        self.used += line.len().max(1);
        self.lines.push((level, line));
    }

    /// Adds bytes of a standard stream, cutting them at line ends.
    fn add_bytes(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_LINE.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.partial);
        self.add(Level::Info, String::from_utf8_lossy(&line).trim_end_matches('\n'));
    }

    fn take(&mut self) -> (Vec<(Level, String)>, u64) {
        if !self.partial.is_empty() {
            self.end_line();
        }
        (std::mem::take(&mut self.lines), std::mem::take(&mut self.dropped))
    }
}

/// The guest's standard output and error.
impl StdoutStream for Log {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Stream(self.clone()))
    }
}

impl IsTerminal for Log {
    fn is_terminal(&self) -> bool {
        false
    }
}

struct Stream(Log);

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.0.lock().add_bytes(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(log: &Log) -> (Vec<(Level, String)>, u64) {
        log.lock().take()
    }

    #[test]
    fn w09_a_flood_is_bounded_escaped_and_counted() {
        let log = Log::new(Bytes::kib(64));
        for _ in 0..100_000 {
            log.add(Level::Info, "line");
        }
        let (kept, dropped) = lines(&log);
        assert_eq!((kept.len(), dropped), (MAX_LINES, 100_000 - MAX_LINES as u64));

        let log = Log::new(Bytes::kib(64));
        log.add(Level::Info, &"x".repeat(10_000_000));
        log.add(Level::Info, "ok\nFORGED\u{1b}[2J\r");
        let (kept, dropped) = lines(&log);
        assert_eq!((kept[0].1.len(), dropped), (MAX_LINE, 1));
        assert_eq!(kept[1].1, "ok\\nFORGED\\u{1b}[2J\\r");

        let log = Log::new(Bytes(10));
        log.add(Level::Info, "0123456789");
        log.add(Level::Info, "more");
        assert_eq!(lines(&log).1, 1);
    }

    #[test]
    fn w09_standard_streams_are_lines_too() {
        let log = Log::new(Bytes::kib(64));
        log.lock().add_bytes(b"one\ntw");
        log.lock().add_bytes(b"o\n\xff");
        let (kept, _) = lines(&log);
        let texts: Vec<_> = kept.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["one", "two", "\u{fffd}"]);

        let log = Log::new(Bytes::kib(64));
        for _ in 0..1000 {
            log.lock().add_bytes(&[b'x'; 10_000]);
        }
        assert!(log.lock().partial.len() <= MAX_LINE);
    }
}
