//! The leak engine against the slow way, and streams in any cuts against whole texts.
#![no_main]

use libfuzzer_sys::fuzz_target;

// The first byte says how long the pieces of the stream are.
fuzz_target!(|data: &[u8]| {
    let Some((size, text)) = data.split_first() else { return };
    safety::leak_detector::oracle::compare(text);
    safety::leak_detector::oracle::compare_stream(text, usize::from(*size) + 1);
});
