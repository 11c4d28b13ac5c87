//! A body from the network on its way to whoever asked for it: decoded within bounds, read by the
//! leak detector while it streams, and released only as far as it was read.

#[cfg(test)]
mod bombs;
mod conversation;
mod decode;
mod messages;
mod originals;

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_core::Stream;
use types::{Layer, Refusal, Rule, Source, Trace, Verdict, limits};

use super::Screened;
use crate::finding::{Action, Finding, Report, Severity};
use crate::leak_detector::LeakStream;
use crate::{Blocked, Channel, Safety};
pub use conversation::Conversation;
use decode::Decoder;
pub use decode::Encoding;
use messages::Messages;
pub use messages::holds_compressed_message;
use originals::Originals;

/// What one turn of reading decodes at most, but for its last step. A piece from the network may stand for gigabytes,
/// which would wait in memory for a slow reader, and keep others waiting while it is decoded.
const MOST_DECODED: u64 = 256 * 1024;

/// Why a body ended early. Quotes nothing of it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BodyFault {
    /// It holds a secret. What was released before is free of it.
    #[error(transparent)]
    Blocked(Blocked),
    /// Another rule stopped it: one of whoever brings the body.
    #[error(transparent)]
    Refused(Refusal),
    /// More bytes than were allowed, after decoding.
    #[error("the body is longer than {0}")]
    TooLarge(limits::Bytes),
    /// It grows so much in decoding that it was made to.
    #[error("the body grows too much in decoding")]
    Ratio,
    /// Not what its encoding says, or cut short.
    #[error("the body is not what its content encoding says")]
    Encoding,
    /// The connection broke.
    #[error("the connection broke before the end of the body")]
    Upstream,
}

impl BodyFault {
    /// What was found ends it.
    fn of_findings(findings: Vec<Finding>) -> Self {
        let severity = findings.iter().map(|finding| finding.severity).max().unwrap_or(Severity::None);
        Self::Blocked(Blocked::by(Report { findings, verdict: Verdict::Block, severity, ..Report::clean() }))
    }

    /// The refusal, when a rule ended the body.
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Blocked(blocked) => Some(&blocked.refusal),
            Self::Refused(refusal) => Some(refusal),
            Self::TooLarge(_) | Self::Ratio | Self::Encoding | Self::Upstream => None,
        }
    }
}

/// How a body ended, for the record.
#[derive(Clone, Debug)]
pub struct BodyEnd {
    /// Bytes that came from the network.
    pub received: u64,
    /// Bytes after decoding.
    pub decoded: u64,
    /// Allow, warn, flag or redact when it ended by itself; block, failed or abandoned otherwise.
    pub verdict: Verdict,
    /// What ended it early, if anything did: the rule or the limit.
    pub fault: Option<BodyFault>,
    /// What was found in what passed.
    pub findings: Vec<Finding>,
}

/// Reads along, after decoding, and may end the body.
type Watch = Box<dyn FnMut(&[u8]) -> Result<(), Refusal> + Send>;

/// A stream of screened bytes. Dropping it early ends the exchange as abandoned.
pub struct ScreenedBody {
    inner: Pin<Box<dyn Stream<Item = Result<Bytes, BodyFault>> + Send>>,
    /// What came and was not read yet.
    unread: Bytes,
    /// Whether the last turn was a whole one, so that others have theirs first.
    is_tired: bool,
    safety: Arc<Safety>,
    source: Source,
    decoder: Decoder,
    leaks: LeakStream,
    /// Where messages end, in a body of messages, and the rule that stops one that is compressed by itself.
    messages: Option<(Messages, &'static Rule)>,
    /// What is passed on where that is not what was read, and its own reading.
    originals: Option<(Originals, LeakStream)>,
    watch: Option<Watch>,
    limit: limits::Bytes,
    received: u64,
    spent: Duration,
    trace: Trace,
    /// What ends the stream once everything before it was taken.
    fault: Option<BodyFault>,
    ended: bool,
    on_end: Option<Box<dyn FnOnce(BodyEnd) + Send>>,
}

impl Safety {
    /// Screens a body while it streams. `limit` bounds it after decoding. A fault of the stream ends the body.
    pub fn body<S>(
        self: &Arc<Self>,
        stream: S,
        origin: Source,
        encoding: Option<Encoding>,
        limit: limits::Bytes,
        trace: Trace,
    ) -> ScreenedBody
    where
        S: Stream<Item = Result<Bytes, BodyFault>> + Send + 'static,
    {
        ScreenedBody {
            inner: Box::pin(stream),
            unread: Bytes::new(),
            is_tired: false,
            safety: Arc::clone(self),
            leaks: LeakStream::new(self.known(), Channel::Response, origin.clone()),
            source: origin,
            decoder: Decoder::new(encoding, limit),
            messages: None,
            originals: None,
            watch: None,
            limit,
            received: 0,
            spent: Duration::ZERO,
            trace,
            fault: None,
            ended: false,
            on_end: None,
        }
    }
}

impl Safety {
    /// Reads a body on its way out while it streams. Nothing of it is altered: what may not leave ends it. One that is
    /// encoded is read as what it stands for, and leaves as it is, no further than it was read; it is read as it is too,
    /// for decoders pass over names and comments (RFC 1952, 2.3).
    pub fn outgoing_body<S>(
        self: &Arc<Self>,
        stream: S,
        encoding: Option<Encoding>,
        limit: limits::Bytes,
        trace: Trace,
    ) -> ScreenedBody
    where
        S: Stream<Item = Result<Bytes, BodyFault>> + Send + 'static,
    {
        let mut body = self.body(stream, Source::Model, encoding, limit, trace);
        body.leaks = LeakStream::new(self.known(), Channel::Outbound, Source::Model);
        body.originals = encoding
            .map(|_| (Originals::default(), LeakStream::new(self.known(), Channel::Outbound, Source::Model)));
        body
    }
}

impl ScreenedBody {
    /// What is called once with the outcome, also when the body is dropped half-way.
    #[must_use]
    pub fn on_end(mut self, call: Box<dyn FnOnce(BodyEnd) + Send>) -> Self {
        self.on_end = Some(call);
        self
    }

    /// Releases each line to its end, for a stream of events: nobody waits for the next event to read this one.
    #[must_use]
    pub fn by_lines(mut self) -> Self {
        self.leaks.by_lines();
        self
    }

    /// Releases each message to its end, for a body of messages behind prefixes (gRPC). One that is compressed by itself
    /// ends the body by that rule.
    #[must_use]
    pub fn by_messages(mut self, compressed: &'static Rule) -> Self {
        self.messages = Some((Messages::default(), compressed));
        self
    }

    /// Lets somebody else read along, after decoding.
    #[must_use]
    pub fn watched(mut self, watch: Watch) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Reads to the end.
    pub async fn collect(mut self) -> Result<Screened<Vec<u8>>, BodyFault> {
        let mut value = Vec::new();
        while let Some(piece) = std::future::poll_fn(|context| Pin::new(&mut self).poll_next(context)).await {
            value.extend_from_slice(&piece?);
        }
        let flagged = self.leaks.findings().iter().any(|finding| finding.action >= Action::Flag);
        let source = self.source.clone();
        Ok(Screened { value, label: source.label(), source, generation: self.safety.generation(), flagged })
    }

    /// Releases the lines that were read, with the few bytes that stay behind otherwise because a value of the vault
    /// could go on in what follows. For a person who watches while nothing follows: at most 15 bytes of a value can
    /// pass, never the 16 by which it is recognised.
    pub fn release_lines(&mut self) -> Bytes {
        let mut out = Vec::new();
        if self.fault.is_none() && !self.ended {
            match self.know() {
                Ok(()) => self.leaks.release_lines(&mut out),
                stopped => self.close(stopped),
            }
        }
        out.into()
    }

    /// Whether there is something for [`ScreenedBody::release_lines`] to release.
    pub fn holds_lines(&self) -> bool {
        self.fault.is_none() && !self.ended && self.leaks.holds_lines()
    }

    /// Looks for what the vault holds now.
    fn know(&mut self) -> Result<(), BodyFault> {
        let (rules, known) = (&self.safety.rulebook, self.safety.known());
        let mut read = self.leaks.know(rules, known.clone());
        if let Some((_, leaks)) = &mut self.originals {
            read = read.and(leaks.know(rules, known));
        }
        read.map_err(|_| self.stopped())
    }

    /// Decodes and reads the next bytes from the network, and keeps those for which there is no room now. Gives those
    /// that were read.
    fn take(&mut self, mut bytes: Bytes, out: &mut Vec<u8>) -> (Bytes, Result<(), BodyFault>) {
        if let Err(fault) = self.know() {
            return (bytes, Err(fault));
        }
        let (started, most) = (Instant::now(), self.decoder.decoded() + MOST_DECODED);
        // In steps, so that a bomb is noticed before it has unfolded.
        let (mut length, mut result, mut plain) = (0, Ok(()), Vec::new());
        while result.is_ok()
            && (length < bytes.len() || self.decoder.has_more())
            && self.decoder.decoded() < most
        {
            plain.clear();
            let step = self.decoder.step(&bytes[length..], &mut plain);
            result = step.map(|taken| length += taken).map_err(|fault| fault.of(self.limit));
            // What was decoded before a fault is read too: it would be released otherwise.
            result = self.read(&plain, out).and(result);
        }
        self.is_tired = self.decoder.decoded() >= most;
        self.unread = bytes.split_off(length);
        self.spent += started.elapsed();
        (bytes, result)
    }

    /// Reads decoded bytes, and releases what can be.
    fn read(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), BodyFault> {
        if let Some(watch) = &mut self.watch {
            watch(plain).map_err(BodyFault::Refused)?;
        }
        let Some((mut messages, compressed)) = self.messages.take() else {
            return self.push(plain, false, out);
        };
        let mut rest = plain;
        while !rest.is_empty() {
            let part =
                messages.next(rest).map_err(|_| BodyFault::Refused(Refusal::new(compressed, "a message")))?;
            self.push(&rest[..part.length], part.ends, out)?;
            rest = &rest[part.length..];
        }
        self.messages = Some((messages, compressed));
        Ok(())
    }

    fn push(&mut self, plain: &[u8], ends: bool, out: &mut Vec<u8>) -> Result<(), BodyFault> {
        let (leaks, rules) = (&self.safety.leaks, &self.safety.rulebook);
        let mut read = self.leaks.push(leaks, rules, plain, out);
        if ends && read.is_ok() {
            read = self.leaks.boundary(leaks, rules, out);
        }
        read.map_err(|_| self.stopped())
    }

    /// Reads what is left when the network has ended.
    fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), BodyFault> {
        self.know()?;
        let started = Instant::now();
        let mut plain = Vec::new();
        self.decoder.finish(&mut plain).map_err(|fault| fault.of(self.limit))?;
        self.read(&plain, out)?;
        let read = self.leaks.finish(&self.safety.leaks, &self.safety.rulebook, out);
        self.spent += started.elapsed();
        read.map_err(|_| self.stopped())
    }

    /// Puts the bytes as they came in the place of those that were read, as far as these were released.
    fn instead(
        &mut self,
        bytes: Option<Bytes>,
        result: Result<(), BodyFault>,
        out: &mut Vec<u8>,
    ) -> Result<(), BodyFault> {
        let Some((originals, own)) = &mut self.originals else { return result };
        out.clear();
        result?;
        let (leaks, rules, mut read) = (&self.safety.leaks, &self.safety.rulebook, Vec::new());
        let own_result = match bytes {
            Some(bytes) => {
                let result = own.push(leaks, rules, &bytes, &mut read);
                originals.add(bytes, (self.decoder.decoded(), self.decoder.reached()));
                result
            }
            None => {
                originals.finish();
                own.finish(leaks, rules, &mut read)
            }
        };
        let released = (self.leaks.released() as u64, own.released() as u64);
        match own_result {
            Ok(()) => originals.release(released, out).map_err(|_| BodyFault::Encoding),
            Err(_) => Err(self.stopped()),
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let own = self.originals.iter().flat_map(|(_, leaks)| leaks.findings());
        self.leaks.findings().iter().chain(own).cloned().collect()
    }

    fn stopped(&self) -> BodyFault {
        BodyFault::of_findings(self.findings())
    }

    /// Says once how it ended.
    fn end(&mut self, verdict: Verdict) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let findings = self.findings();
        let worst = findings.iter().max_by_key(|finding| (finding.action, finding.severity));
        let verdict = match (verdict, worst) {
            (Verdict::Allow, Some(worst)) => worst.action.into(),
            (other, _) => other,
        };
        let decoded = self.decoder.decoded();
        self.trace.push(Layer::Leaks, "leak detector", verdict, self.spent, || match (worst, &self.fault) {
            (Some(worst), _) => format!("{}: {}", worst.rule, worst.reason),
            (None, Some(fault)) => match fault.refusal() {
                Some(refusal) => refusal.rule.id.to_owned(),
                None => fault.to_string(),
            },
            (None, None) => format!("{decoded} bytes, no secret"),
        });
        let fault = self.fault.clone();
        if let Some(call) = self.on_end.take() {
            call(BodyEnd { received: self.received, decoded, verdict, fault, findings });
        }
    }

    /// Keeps a fault until what came before it was taken.
    fn close(&mut self, result: Result<(), BodyFault>) {
        if let Err(fault) = result {
            let verdict = if fault.refusal().is_some() { Verdict::Block } else { Verdict::Failed };
            self.fault = Some(fault);
            self.end(verdict);
        }
    }
}

impl Stream for ScreenedBody {
    type Item = Result<Bytes, BodyFault>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.is_tired) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        loop {
            if let Some(fault) = this.fault.take() {
                return Poll::Ready(Some(Err(fault)));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let mut out = Vec::new();
            let next = match std::mem::take(&mut this.unread) {
                unread if !unread.is_empty() || this.decoder.has_more() => Poll::Ready(Some(Ok(unread))),
                _ => this.inner.as_mut().poll_next(context).map_ok(|bytes| {
                    this.received += bytes.len() as u64;
                    bytes
                }),
            };
            match next {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(bytes))) => {
                    let (bytes, result) = this.take(bytes, &mut out);
                    let result = this.instead(Some(bytes), result, &mut out);
                    this.close(result);
                }
                Poll::Ready(Some(Err(fault))) => this.close(Err(fault)),
                Poll::Ready(None) => {
                    let result = this.finish(&mut out);
                    let result = this.instead(None, result, &mut out);
                    this.close(result);
                    this.end(Verdict::Allow);
                }
            }
            if !out.is_empty() {
                return Poll::Ready(Some(Ok(out.into())));
            }
            if std::mem::take(&mut this.is_tired) {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
        }
    }
}

impl Drop for ScreenedBody {
    fn drop(&mut self) {
        self.end(Verdict::Abandoned);
    }
}

impl fmt::Debug for ScreenedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScreenedBody({}, {} bytes received)", self.source, self.received)
    }
}
