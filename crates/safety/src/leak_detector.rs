//! Secrets in text and in streams: vendors' tokens, connection strings, private keys, passwords in
//! context, and the vault's own values.
//!
//! Almost every token has a few bytes that only it has, and something that has to stand around them: the beginning
//! of a word, a long run, a name and an operator. [`blocks`] and [`chunk`] find where that may be, 64 bytes at a time;
//! [`keys`] says which rules have these bytes there; only those run their expression, anchored at that place ([`engine`]).
//! Which bytes and which surroundings those are follows from the expression ([`lane`]), when the program is built.
//! Every expression is a finite automaton with a bound, so the time is linear on every input. A text is read line by
//! line (a very long line in overlapping pieces), which makes the result of a stream independent of how it was cut
//! into chunks. What stands encoded ([`stretches`], [`views`]), wrapped over several lines or not ([`wrapped`]), or on
//! the line below its name ([`joined`]), is read as a text of its own.
//!
//! A checksum is confidence, not a filter: a token whose checksum is right is critical, one whose
//! checksum is wrong is still a token of that format.

#[cfg(test)]
mod adversarial;
#[cfg(any(test, fuzzing))]
mod behind;
mod blocks;
#[cfg(any(test, fuzzing))]
mod buckets;
mod checksum;
mod chunk;
#[cfg(any(test, fuzzing))]
mod compiler;
pub(crate) mod context;
mod encodings;
mod engine;
#[cfg(test)]
mod examples;
mod filter;
mod joined;
mod keys;
mod known;
mod kubernetes;
mod lane;
mod letters;
mod lines;
#[cfg(any(test, fuzzing))]
pub mod oracle;
mod parts;
mod placeholder;
mod private_key;
#[cfg(any(test, fuzzing))]
mod rule_file;
mod rules;
mod runs;
mod stream;
mod stretches;
mod surroundings;
#[cfg(test)]
mod tests;
mod views;
mod wrapped;

use std::sync::{Arc, LazyLock};

pub(crate) use known::Cursor;
pub use known::{Fingerprints, FingerprintsError, KnownValues, TooWeak};
pub(crate) use stream::LeakStream;

use crate::finding::{Kind, Severity};
use crate::signal::{Fingerprinter, Signal};
use engine::{Engine, Found};
use lines::Lines;
use rules::{DIGEST, FILTERS, SHIPPED};

/// The shipped rules by their lanes, once for the whole process.
static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(&SHIPPED, FILTERS.clone()));

/// Bytes of a text in which the ends of lines are looked for at a time, once a piece of it was cut: of a text that is one
/// line, or many that go on in each other, each piece would else be looked for in all that follows.
const WINDOW: usize = 1 << 20;

/// What looks for secrets by the shipped rules.
pub(crate) struct LeakDetector {
    prints: Fingerprinter,
}

impl LeakDetector {
    /// Costs nothing: the rules are part of the program, and the tables of their keys are made by the first text.
    pub(crate) fn new(prints: Fingerprinter) -> Self {
        Self { prints }
    }

    /// What the rule files hold, as a digest.
    pub(crate) fn shipped() -> &'static [u8] {
        &DIGEST
    }

    /// The ids of all rules.
    pub(crate) fn ids() -> impl Iterator<Item = Arc<str>> {
        let own = [private_key::RULE, known::RULE, kubernetes::RULE];
        SHIPPED.iter().map(|rule| &*rule.id).chain(own).map(Arc::from)
    }

    /// Everything in a whole text: what the rules find and the values of a vault, as they stand and encoded.
    /// Spans count from its beginning.
    pub(crate) fn scan(&self, text: &[u8], known: &KnownValues) -> Vec<Signal> {
        let mut signals = Vec::new();
        let mut lines = Lines::default();
        let (mut at, mut window) = (0, usize::MAX);
        while at < text.len() {
            let end = text.len().min(at.saturating_add(window));
            let cut = lines.settled(&text[at..end], end == text.len());
            if cut.accept == 0 && end < text.len() {
                window = window.saturating_mul(2);
                continue;
            }
            self.scan_lines(&text[at..at + cut.read], at, cut.accept, known, &mut signals);
            window = if cut.accept < end - at { WINDOW } else { usize::MAX };
            at += cut.accept;
        }
        Cursor::new().read(known, text, &mut signals);
        merge(signals)
    }

    /// Reads whole lines that stand at offset `base`; keeps what begins before `accept`. Values of the vault
    /// are looked for in what stands there encoded; as they are, a [`Cursor`] finds them.
    fn scan_lines(
        &self,
        text: &[u8],
        base: usize,
        accept: usize,
        known: &KnownValues,
        signals: &mut Vec<Signal>,
    ) {
        let found = ENGINE.find(&SHIPPED, text);
        let mut all = self.encoded(text, &found, known, views::DEPTH);
        self.report(found, text, &mut all);
        all.retain(|signal| signal.span.start < accept);
        signals.extend(all.into_iter().map(|mut signal| {
            signal.span = signal.span.start + base..signal.span.end + base;
            signal
        }));
    }

    /// What stands encoded in a text, up to `depth` encodings around each other. Each view is shorter than
    /// what it was decoded from, so the work is bounded by the length of the text. That text was wrapped is no encoding.
    fn encoded(&self, text: &[u8], found: &Found, known: &KnownValues, depth: usize) -> Vec<Signal> {
        let mut signals = Vec::new();
        for view in views::of(text, found) {
            let (found, left) = match view.wrapped() {
                Some(found) => (found, depth),
                None => (ENGINE.find(&SHIPPED, &view.text), depth - 1),
            };
            let mut inner = match left {
                0 => Vec::new(),
                left => self.encoded(&view.text, &found, known, left),
            };
            self.report(found, &view.text, &mut inner);
            Cursor::new().read(known, &view.text, &mut inner);
            signals.extend(inner.into_iter().map(|mut signal| {
                signal.span = view.original(&signal.span);
                signal.view = view.name;
                signal
            }));
        }
        signals
    }

    fn report(&self, found: Found, text: &[u8], signals: &mut Vec<Signal>) {
        let keys = private_key::find(text, &found.key_openings).into_iter();
        signals.extend(keys.map(|span| private_key::signal(&self.prints, &text[span.clone()], span)));
        let values = kubernetes::find(text, &found.secret_kinds).into_iter();
        signals.extend(values.map(|span| kubernetes::signal(&self.prints, &text[span.clone()], span)));
        signals.extend(found.secrets.into_iter().map(|(index, span, severity)| {
            let rule = &SHIPPED[usize::from(index)];
            Signal {
                rule: (*rule.id).into(),
                reason: (*rule.description).into(),
                kind: rule.kind,
                severity,
                fingerprint: self.prints.of(&rule.id, &text[span.clone()]),
                span,
                view: "plain",
                secret: None,
            }
        }));
    }
}

/// Of findings that overlap, keeps the most severe; of equals the one from the more precise kind,
/// then the longer.
fn merge(mut signals: Vec<Signal>) -> Vec<Signal> {
    signals.sort_by_key(|signal| (signal.span.start, std::cmp::Reverse(signal.span.end)));
    let mut kept: Vec<Signal> = Vec::with_capacity(signals.len());
    for signal in signals {
        match kept.last_mut() {
            Some(last) if signal.span.start < last.span.end => {
                let end = last.span.end.max(signal.span.end);
                if rank(&signal) > rank(last) {
                    let start = last.span.start;
                    *last = signal;
                    last.span.start = start;
                }
                last.span.end = end;
            }
            _ => kept.push(signal),
        }
    }
    kept
}

/// Widens spans to whole characters: expressions read bytes.
pub(crate) fn to_characters(text: &str, signals: &mut Vec<Signal>) {
    for signal in signals.iter_mut() {
        while !text.is_char_boundary(signal.span.start) {
            signal.span.start -= 1;
        }
        while !text.is_char_boundary(signal.span.end) {
            signal.span.end += 1;
        }
    }
    *signals = merge(std::mem::take(signals));
}

fn rank(signal: &Signal) -> (Severity, u8) {
    let precise = match signal.kind {
        Kind::KnownValue => 4,
        Kind::PrivateKey => 3,
        Kind::VendorToken => 2,
        Kind::ConnectionString => 1,
        _ => 0,
    };
    (signal.severity, precise)
}
