//! Leak detection on a stream: bytes in, released bytes out, nothing released before it was read
//! together with everything that could belong to it.
//!
//! A value that the vault learns while the stream runs is looked for from the next bytes on, and in what is still held.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use memchr::{memchr, memrchr};
use types::Source;

use super::lines::{self, Lines};
use super::{Cursor, KnownValues, LeakDetector, merge};
use crate::Channel;
use crate::finding::{Action, Finding, Kind};
use crate::rulebook::Rulebook;
use crate::screened::redaction;
use crate::signal::Signal;

/// Findings of one stream that are kept. All are judged; a stream that is flagged over and over fills no memory.
const MOST_FINDINGS: usize = 64;

/// Bytes that stay behind because a value of the vault could begin in them.
const HELD: usize = 15;

/// One stream on its way through the detector.
pub(crate) struct LeakStream {
    known: Arc<KnownValues>,
    cursor: Cursor,
    channel: Channel,
    source: Source,
    /// Bytes not released yet; the first stands at offset `start`.
    buffer: Vec<u8>,
    start: usize,
    /// The last bytes before them, at most [`HELD`].
    gone: Vec<u8>,
    /// Offset up to which lines were read for good, and those behind it.
    settled: usize,
    lines: Lines,
    /// Replacements that are not released yet, in order.
    edits: VecDeque<(Range<usize>, String)>,
    /// Offset of the first zero byte: what holds one is not text and is never altered.
    zero: Option<usize>,
    /// Whether a line that has ended is released to its end.
    by_lines: bool,
    findings: Findings,
}

/// What was found: the first of it, and of what came after these only what is worse than all before.
#[derive(Default)]
struct Findings {
    kept: Vec<Finding>,
    /// How many there were that mark what they stand in, kept or not.
    marks: u64,
}

impl Findings {
    fn add(&mut self, finding: Finding) {
        self.marks += u64::from(finding.action >= Action::Flag);
        let grade = |finding: &Finding| (finding.action, finding.severity);
        if self.kept.len() < MOST_FINDINGS {
            self.kept.push(finding);
        } else if self.kept.iter().all(|kept| grade(kept) < grade(&finding)) {
            self.kept[MOST_FINDINGS - 1] = finding;
        }
    }
}

/// The stream may not go on.
pub(crate) struct Stopped;

impl LeakStream {
    pub(crate) fn new(known: Arc<KnownValues>, channel: Channel, source: Source) -> Self {
        Self {
            known,
            cursor: Cursor::new(),
            channel,
            source,
            buffer: Vec::new(),
            start: 0,
            gone: Vec::new(),
            settled: 0,
            lines: Lines::default(),
            edits: VecDeque::new(),
            zero: None,
            by_lines: false,
            findings: Findings::default(),
        }
    }

    /// Releases each line to its end as soon as it has ended, for events that a reader waits for. A value that holds a
    /// line break could lose what stands before the break, at most [`HELD`] bytes; no header can carry such a value.
    pub(crate) fn by_lines(&mut self) {
        self.by_lines = true;
    }

    /// Looks for these values from here on. Where they are others than before, in what is held back too, and over its
    /// beginning: what can be recognised by a byte that is still here is.
    pub(crate) fn know(&mut self, rules: &Rulebook, known: Arc<KnownValues>) -> Result<(), Stopped> {
        if Arc::ptr_eq(&self.known, &known) {
            return Ok(());
        }
        self.known = known;
        let mut signals = Vec::new();
        self.cursor = Cursor::behind(&self.gone, self.start);
        self.cursor.read(&self.known, &self.buffer[..self.settled - self.start], &mut signals);
        // What was found already has its replacement.
        let old = |signal: &Signal| {
            self.findings.kept.iter().any(|found| {
                found.kind == Kind::KnownValue
                    && found.span.start < signal.span.end
                    && signal.span.start < found.span.end
            })
        };
        signals.retain(|signal| !old(signal));
        self.decide(rules, merge(signals)).map_or(Ok(()), |_| Err(Stopped))
    }

    /// Takes the next bytes and appends to `out` what may be released.
    pub(crate) fn push(
        &mut self,
        leaks: &LeakDetector,
        rules: &Rulebook,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Stopped> {
        if self.zero.is_none() {
            self.zero = memchr(0, bytes).map(|at| self.start + self.buffer.len() + at);
        }
        self.buffer.extend_from_slice(bytes);
        let pending = self.start + self.buffer.len() - self.settled;
        if memchr(b'\n', bytes).is_none() && pending <= lines::LONG_LINE {
            return Ok(());
        }
        self.advance(leaks, rules, false, out)
    }

    /// Ends the stream and releases the rest.
    pub(crate) fn finish(
        &mut self,
        leaks: &LeakDetector,
        rules: &Rulebook,
        out: &mut Vec<u8>,
    ) -> Result<(), Stopped> {
        self.advance(leaks, rules, true, out)?;
        self.release(usize::MAX, out);
        Ok(())
    }

    /// Ends a message, of which all is read and released; more may follow. A value that goes on in the next message is
    /// recognised there, after at most [`HELD`] bytes of it have passed.
    pub(crate) fn boundary(
        &mut self,
        leaks: &LeakDetector,
        rules: &Rulebook,
        out: &mut Vec<u8>,
    ) -> Result<(), Stopped> {
        self.finish(leaks, rules, out)?;
        // A long message leaves no room behind that nothing fills.
        self.buffer.shrink_to(2 * lines::LONG_LINE);
        Ok(())
    }

    /// Says whether what comes next, up to the next such word, is text.
    pub(crate) fn is_text(&mut self, is_text: bool) {
        self.zero = (!is_text).then_some(self.start + self.buffer.len());
    }

    /// How many bytes were released or replaced.
    pub(crate) fn released(&self) -> usize {
        self.start
    }

    /// Releases whole lines that were read to their end, with the bytes that stay behind otherwise.
    pub(crate) fn release_lines(&mut self, out: &mut Vec<u8>) {
        self.release(self.settled, out);
    }

    /// Whether lines that were read to their end are held back.
    pub(crate) fn holds_lines(&self) -> bool {
        self.settled > self.start
    }

    /// What was found so far: at most [`MOST_FINDINGS`], the worst of all among them.
    pub(crate) fn findings(&self) -> &[Finding] {
        &self.findings.kept
    }

    /// How many findings there were that mark what they stand in.
    pub(crate) fn marks(&self) -> u64 {
        self.findings.marks
    }

    fn advance(
        &mut self,
        leaks: &LeakDetector,
        rules: &Rulebook,
        finished: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Stopped> {
        loop {
            let pending = &self.buffer[self.settled - self.start..];
            let cut = self.lines.settled(pending, finished);
            if cut.accept == 0 {
                return Ok(());
            }
            let mut signals = Vec::new();
            leaks.scan_lines(&pending[..cut.read], self.settled, cut.accept, &self.known, &mut signals);
            self.cursor.read(&self.known, &pending[..cut.accept], &mut signals);
            let begin = self.settled;
            self.settled += cut.accept;
            if let Some(at) = self.decide(rules, merge(signals)) {
                // What stood on earlier lines goes out, however the bytes arrived.
                let before = &self.buffer[begin - self.start..at.max(begin) - self.start];
                let line = begin + memrchr(b'\n', before).map_or(0, |newline| newline + 1);
                self.release(line.saturating_sub(HELD), out);
                return Err(Stopped);
            }
            let ended = self.by_lines && self.buffer[..self.settled - self.start].ends_with(b"\n");
            self.release(if ended { self.settled } else { self.settled.saturating_sub(HELD) }, out);
        }
    }

    /// Notes the findings up to the first that stops the stream; where that one was recognised.
    fn decide(&mut self, rules: &Rulebook, signals: Vec<Signal>) -> Option<usize> {
        for mut finding in rules.judge(signals, self.channel, &self.source).findings {
            let is_text = self.zero.is_none_or(|zero| zero >= finding.span.end);
            match finding.action {
                Action::Redact if is_text => self.replace(&finding),
                Action::Redact => finding.action = Action::Flag,
                Action::Block => {
                    // A value of the vault is recognised at the end of its first window.
                    let window = match finding.kind {
                        Kind::KnownValue => finding.span.len().min(HELD + 1) - 1,
                        _ => 0,
                    };
                    let at = finding.span.start + window;
                    self.findings.add(finding);
                    return Some(at);
                }
                _ => {}
            }
            self.findings.add(finding);
        }
        None
    }

    /// Two pieces of one long line may find parts of one token: that is one replacement. What was released is not
    /// replaced.
    fn replace(&mut self, finding: &Finding) {
        let span = finding.span.start.max(self.start)..finding.span.end;
        let at = self.edits.partition_point(|(edit, _)| edit.end <= span.start);
        let after = self.edits.partition_point(|(edit, _)| edit.start < span.end);
        match self.edits.get_mut(at) {
            _ if span.is_empty() => {}
            Some((edit, _)) if at < after => {
                edit.start = edit.start.min(span.start);
                edit.end = edit.end.max(span.end);
                while self.edits.get(at + 1).is_some_and(|(next, _)| next.start < span.end) {
                    let (next, _) = self.edits.remove(at + 1).unwrap_or_default();
                    self.edits[at].0.end = self.edits[at].0.end.max(next.end);
                }
            }
            _ => self.edits.insert(at, (span, redaction(&finding.rule))),
        }
    }

    /// Releases everything before the offset `until`, with replacements. A replaced span that
    /// reaches into what is not settled waits as a whole.
    fn release(&mut self, until: usize, out: &mut Vec<u8>) {
        let mut until = until.min(self.settled).max(self.start);
        let mut from = self.start;
        while let Some((span, _)) = self.edits.front() {
            if span.start >= until {
                break;
            }
            out.extend_from_slice(&self.buffer[from - self.start..span.start - self.start]);
            from = span.start;
            if span.end > self.settled {
                until = from;
                break;
            }
            if let Some((span, replacement)) = self.edits.pop_front() {
                out.extend_from_slice(replacement.as_bytes());
                from = span.end;
                until = until.max(from);
            }
        }
        out.extend_from_slice(&self.buffer[from - self.start..until - self.start]);
        self.gone.extend(self.buffer.drain(..until - self.start));
        self.gone.drain(..self.gone.len().saturating_sub(HELD));
        self.start = until;
    }
}
