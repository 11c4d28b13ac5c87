//! Texts that were made to cost time take no more than a few times what prose of their length takes.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::tests::scan_as;

/// Bytes of each text: one that took the square of its length would take minutes.
const LENGTH: usize = 256 * 1024;
/// How many times the time of prose a text may take. The dearest of those below takes a quarter of it.
const DEAREST: u32 = 40;

/// What each of them repeats.
const COSTLY: [&str; 63] = [
    "\u{202e}",
    "\u{202d}",
    "\u{202e}a",
    "\u{202e}a\u{202c}",
    "\u{202e}a\n",
    "\u{2067}",
    "\u{2066}a\u{2069}",
    "\u{e0041}",
    "a\u{e0041}",
    "a\u{fe0f}",
    "\u{e0101}",
    "a\u{e0141}\u{e0142}\u{e0143}\u{e0144}",
    "\u{200b}\u{200c}",
    "\u{9d}",
    "\u{90}a",
    "\u{1b}]",
    "\u{1b}[",
    "\u{9b}1;",
    "a\u{8}",
    "\r",
    "<!-- x -->",
    "<!--",
    "<a",
    "<a b='",
    "<b>i</b>",
    "![",
    "![x](",
    "![x](http://a/?d={",
    "[x]: http://a/?d={b}\n",
    "](",
    "[",
    "<img src=",
    "<img src='http://a.b/?d=",
    "url(http://a/?d={",
    "\u{fdfa}",
    "\u{3300}",
    "\u{24b6}",
    "\u{430}b",
    "%41",
    "&#65;",
    "&",
    "&am",
    "\\u0041",
    "\\",
    "=41",
    "a=",
    "QUJD",
    "QUJD ",
    "QUJDQUJDQUJDQUJD ",
    "4142",
    "4142 ",
    "65 ",
    ".- ",
    "'+'",
    "';a='",
    "ignore ",
    "system: ",
    "```\n",
    "\"<|im_start|>",
    "<|im_start|>",
    "<important>",
    "{\"role\":",
    "%41 &#65; \\u0041 =41 <b>x</b>\n",
];

const PROSE: &str =
    "The meeting on Tuesday has been moved to the larger room, so bring the printed notes along. ";

/// The time that this thread has had on a processor, whatever else the machine does (Linux: proc(5), schedstat).
fn own_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn takes(unit: &str) -> Duration {
    let text = unit.repeat(LENGTH / unit.len() + 1);
    let once = || {
        let started = own_time();
        scan_as(&text, true);
        own_time() - started
    };
    (0..2).map(|_| once()).min().unwrap_or_default()
}

#[test]
fn no_text_takes_much_longer_than_prose() {
    let prose = takes(PROSE);
    for unit in COSTLY {
        let took = takes(unit);
        assert!(took < prose * DEAREST + Duration::from_millis(40), "{unit:?}: {took:?}, prose {prose:?}");
    }
}
