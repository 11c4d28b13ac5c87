//! Known attack patterns, looked for under every reading of a text.

use aho_corasick::AhoCorasick;

use crate::finding::{Kind, Severity};
use crate::signal::{Fingerprinter, Signal};
use crate::validator::characters::Cleaned;

/// The patterns, compiled.
pub(crate) struct Sanitizer {
    phrases: AhoCorasick,
    prints: Fingerprinter,
}

const PHRASES: [&str; 4] = [
    "ignore all previous instructions",
    "ignore previous instructions",
    "disregard all previous",
    "<|im_start|>",
];

impl Sanitizer {
    pub(crate) fn new(prints: Fingerprinter) -> Result<Self, String> {
        let phrases = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .build(PHRASES)
            .map_err(|error| error.to_string())?;
        Ok(Self { phrases, prints })
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = std::sync::Arc<str>> {
        ["override-instructions".into()].into_iter()
    }

    pub(crate) fn shipped() -> impl Iterator<Item = &'static str> {
        PHRASES.into_iter()
    }

    pub(crate) fn scan(&self, cleaned: &Cleaned<'_>, signals: &mut Vec<Signal>) {
        let text = &*cleaned.text;
        let hits = self.phrases.find_iter(text);
        signals.extend(hits.map(|hit| Signal {
            rule: "override-instructions".into(),
            reason: "tells the reader to drop its instructions".into(),
            kind: Kind::Injection,
            severity: Severity::High,
            span: cleaned.original(hit.range()),
            view: "plain",
            fingerprint: self.prints.of("override-instructions", text[hit.range()].as_bytes()),
            secret: None,
        }));
    }
}
