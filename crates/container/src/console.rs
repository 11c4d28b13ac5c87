//! What a command prints on a terminal of its own, for a person who watches.
//!
//! A prompt has no end of line and an echo is one letter, so nothing can be held back until more comes, and what a full-screen
//! program draws is no text that rules could read. Values of the vault are looked for all the same, across the borders
//! of what arrives: as in a stream of lines at most 15 bytes of one can pass, never the 16 by which it is recognised.
//! Whoever prints it takes out what a terminal should not obey.

use std::sync::Arc;

use bytes::Bytes;
use safety::finding::Kind;
use safety::{Channel, Safety};
use tokio::sync::mpsc;
use types::Refusal;

/// Bytes of what passed in which a value could have begun. Values are shorter.
const KEPT: usize = 8 * 1024;

/// The output of a command on a terminal.
pub struct Console {
    pieces: mpsc::Receiver<Bytes>,
    safety: Arc<Safety>,
    passed: Vec<u8>,
}

impl Console {
    pub(crate) fn of(pieces: mpsc::Receiver<Bytes>, safety: Arc<Safety>) -> Self {
        Self { pieces, safety, passed: Vec::new() }
    }

    /// What was printed next; none at the end. A piece that completes a value of the vault is refused.
    pub async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        let piece = self.pieces.recv().await?;
        self.passed.extend_from_slice(&piece);
        if let Err(blocked) = self.safety.scan_bytes(&self.passed, Channel::Response)
            && blocked.report.findings.iter().any(|finding| finding.kind == Kind::KnownValue)
        {
            self.passed.clear();
            return Some(Err(blocked.refusal));
        }
        let excess = self.passed.len().saturating_sub(KEPT);
        self.passed.drain(..excess);
        Some(Ok(piece))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_printed_passes_at_once() {
        let (to, from) = mpsc::channel(8);
        let mut console = Console::of(from, Arc::new(Safety::new(Default::default()).unwrap()));
        for piece in ["$ ", "l", "s", "\x1b[1mfile\x1b[0m\r\n"] {
            to.send(Bytes::from(piece)).await.unwrap();
            assert_eq!(console.next().await.unwrap().unwrap(), piece);
        }
        drop(to);
        assert!(console.next().await.is_none());
    }
}
