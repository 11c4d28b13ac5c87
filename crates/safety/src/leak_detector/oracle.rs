//! The slow way, to compare the engine with: every rule's expression over every line that has one of the
//! rule's literals. In tests and fuzz targets only.

use memchr::memmem;

use super::engine::Found;
use super::lane::OPENINGS;
use super::rules::LeakRule;

/// What [`super::engine::Engine::find`] has to find, in its own order.
pub(super) fn find(rules: &[LeakRule], text: &[u8]) -> Found {
    let mut key_openings: Vec<usize> =
        OPENINGS.iter().flat_map(|opening| memmem::find_iter(text, opening)).collect();
    key_openings.sort_unstable();
    let mut found = Found { key_openings, ..Found::default() };
    let mut start = 0;
    for line in text.split(|byte| *byte == b'\n') {
        for (index, rule) in (0u16..).zip(rules) {
            if rule.literal_on(line) {
                rule.find(line, |secret, severity| {
                    found.secrets.push((index, start + secret.start..start + secret.end, severity));
                });
            }
        }
        start += line.len() + 1;
    }
    found
}

/// Rule, place and severity of a secret.
type Row = (u16, usize, usize, crate::Severity);

/// Rule, place and severity of every secret, in order, and where keys open.
pub(super) fn sorted(found: Found) -> (Vec<Row>, Vec<usize>) {
    let rows = found.secrets.into_iter().map(|(rule, span, severity)| (rule, span.start, span.end, severity));
    let mut rows: Vec<_> = rows.collect();
    rows.sort_unstable();
    (rows, found.key_openings)
}

#[cfg(fuzzing)]
pub use fuzzing::{compare, compare_stream, rules};

/// What the fuzz targets call; each panics where something differs.
#[cfg(fuzzing)]
mod fuzzing {
    use std::sync::{Arc, OnceLock};

    use types::Source;

    use super::super::engine::Engine;
    use super::super::{ENGINE, Fingerprinter, KnownValues, LeakDetector, LeakStream, SHIPPED};
    use super::{find, sorted};
    use crate::Channel;
    use crate::rulebook::{Config, Rulebook};

    fn detector() -> &'static LeakDetector {
        static DETECTOR: OnceLock<LeakDetector> = OnceLock::new();
        DETECTOR.get_or_init(|| LeakDetector::new(Fingerprinter::new(&[0; 32])))
    }

    /// The engine and the slow way on a text.
    pub fn compare(text: &[u8]) {
        let fast = ENGINE.find(&SHIPPED, text);
        assert_eq!(sorted(fast), sorted(find(&SHIPPED, text)));
    }

    /// A stream in pieces of `size` bytes and the whole of it.
    pub fn compare_stream(text: &[u8], size: usize) {
        let rules = Rulebook::new(&Config::default(), &[], &[]).expect("the default settings");
        let run = |size: usize| {
            let known = Arc::new(KnownValues::new([0; 32]));
            let mut stream = LeakStream::new(known, Channel::Response, Source::Pipe);
            let mut out = Vec::new();
            let mut pieces = text.chunks(size.max(1));
            let stopped = pieces.any(|piece| stream.push(detector(), &rules, piece, &mut out).is_err())
                || stream.finish(detector(), &rules, &mut out).is_err();
            let spans: Vec<_> =
                stream.findings().iter().map(|found| (found.rule.clone(), found.span.clone())).collect();
            (out, spans, stopped)
        };
        assert_eq!(run(size), run(text.len()));
    }

    /// A rule file, on its own text where it compiles.
    pub fn rules(text: &str) {
        if let Ok(rules) = super::super::rules::read(text) {
            let fast = Engine::of(&rules).find(&rules, text.as_bytes());
            assert_eq!(sorted(fast), sorted(find(&rules, text.as_bytes())));
        }
    }
}
