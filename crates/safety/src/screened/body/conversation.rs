//! One direction of a conversation in messages, as a WebSocket has them: each is read whole, in the light of what was
//! said before it, and released or not.

use std::fmt;
use std::sync::Arc;

use types::Source;

use super::BodyFault;
use crate::finding::Finding;
use crate::leak_detector::LeakStream;
use crate::screened::Screened;
use crate::{Channel, Safety};

/// What one side says. After a fault nothing more of it may be released.
pub struct Conversation {
    safety: Arc<Safety>,
    leaks: LeakStream,
    source: Source,
    received: u64,
}

impl Safety {
    /// Reads what comes from `source` over that channel.
    pub fn conversation(self: &Arc<Self>, channel: Channel, source: Source) -> Conversation {
        let leaks = LeakStream::new(self.known(), channel, source.clone());
        Conversation { safety: Arc::clone(self), leaks, source, received: 0 }
    }
}

impl Conversation {
    /// Reads the next message. What is replaced in a text is left alone in bytes, as in a body. A value that is split
    /// over messages is recognised in the one that brings the sixteenth byte of it.
    pub fn read(&mut self, bytes: &[u8], is_text: bool) -> Result<Screened<Vec<u8>>, BodyFault> {
        self.received += bytes.len() as u64;
        let (leaks, rules) = (&self.safety.leaks, &self.safety.rulebook);
        let (before, mut value) = (self.leaks.marks(), Vec::with_capacity(bytes.len()));
        self.leaks.is_text(is_text);
        let read = self
            .leaks
            .know(rules, self.safety.known())
            .and_then(|()| self.leaks.push(leaks, rules, bytes, &mut value))
            .and_then(|()| self.leaks.boundary(leaks, rules, &mut value));
        read.map_err(|_| BodyFault::of_findings(self.leaks.findings().to_vec()))?;
        let flagged = self.leaks.marks() > before;
        let (source, generation) = (self.source.clone(), self.safety.generation());
        Ok(Screened { value, label: source.label(), source, generation, flagged })
    }

    /// Bytes that were read.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// What was found.
    pub fn findings(&self) -> &[Finding] {
        self.leaks.findings()
    }
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conversation({}, {} bytes received)", self.source, self.received)
    }
}
