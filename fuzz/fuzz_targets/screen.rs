//! Every finding of a screening stands inside the original text, on character boundaries.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use safety::{Channel, Safety, Untrusted};
use types::{Source, Trace};

fuzz_target!(|text: &str| {
    static SAFETY: OnceLock<Safety> = OnceLock::new();
    let safety = SAFETY.get_or_init(|| Safety::new(Default::default()).expect("the shipped rules"));
    for channel in Channel::ALL {
        let given = Untrusted::new(Source::Pipe, text.to_owned());
        for finding in safety.inspect(&given, channel).findings {
            let span = finding.span;
            assert!(text.get(span.clone()).is_some(), "{} at {span:?} of {}", finding.rule, text.len());
        }
        _ = safety.screen(given, channel, &Trace::off());
    }
});
