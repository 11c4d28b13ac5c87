//! The engine against the slow way, and against texts that were made to cost time.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::examples::examples;
use super::tests::none;
use super::*;

fn detector() -> &'static LeakDetector {
    static DETECTOR: std::sync::OnceLock<LeakDetector> = std::sync::OnceLock::new();
    DETECTOR.get_or_init(|| LeakDetector::new(Fingerprinter::new(&[0; 32])))
}

/// Every example of every rule, with its characters made up.
fn samples() -> &'static [String] {
    static SAMPLES: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    SAMPLES.get_or_init(|| {
        let mut seed = 11;
        let all = examples().flat_map(|(positive, negative)| positive.into_iter().chain(negative));
        all.map(|example| super::examples::expand(&example, &mut seed)).collect()
    })
}

/// The beginnings that the rules are looked for by.
fn beginnings() -> &'static [String] {
    static BEGINNINGS: std::sync::OnceLock<Vec<String>> = std::sync::OnceLock::new();
    BEGINNINGS.get_or_init(|| {
        SHIPPED.iter().flat_map(|rule| rule.literals.iter().map(|literal| literal.to_string())).collect()
    })
}

fn piece() -> impl Strategy<Value = String> {
    let example = any::<prop::sample::Index>().prop_map(|index| index.get(samples()).clone());
    let beginning = any::<prop::sample::Index>().prop_map(|index| index.get(beginnings()).clone());
    let half = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>());
    let half = half.prop_map(|(sample, at, front)| {
        let sample: Vec<char> = sample.get(samples()).chars().collect();
        let at = at.index(sample.len() + 1);
        if front { sample[..at].iter().collect::<String>() } else { sample[at..].iter().collect() }
    });
    prop_oneof![
        6 => example,
        2 => half,
        1 => beginning,
        3 => Just("\n".to_owned()),
        2 => Just(" ".to_owned()),
        2 => "[A-Za-z0-9_-]{1,40}",
        1 => "[ -~]{0,12}",
        1 => "(=|: |\\\\n|\"|'|://|@|_|-|\\.)",
        1 => "[a-f0-9]{32}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_finds_what_the_slow_way_finds(pieces in prop::collection::vec(piece(), 0..40)) {
        let text = pieces.concat();
        let fast = ENGINE.find(&SHIPPED, text.as_bytes());
        let slow = oracle::find(&SHIPPED, text.as_bytes());
        prop_assert_eq!(oracle::sorted(fast), oracle::sorted(slow));
    }
}

#[test]
fn the_engine_finds_a_value_behind_every_way_to_write_its_name() {
    let value = "tB96Xpkk1vk9MUTVnPT8hOmrteBnOT4v";
    for name in
        ["coinmarket.cap", "coinmarket_cap", "coinmarket cap", "coinmarketcap\"", "coinmarket.cap'] \t"]
    {
        for operator in ["=", ":", "=>", ":=", " = ", ": '"] {
            let text = format!("{name}{operator}{value}");
            let slow = oracle::sorted(oracle::find(&SHIPPED, text.as_bytes()));
            assert!(!slow.0.is_empty(), "{text}");
            assert_eq!(oracle::sorted(ENGINE.find(&SHIPPED, text.as_bytes())), slow, "{text}");
        }
    }
}

#[test]
fn the_engine_finds_what_the_slow_way_finds_on_this_projects_own_sources() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut text = Vec::new();
    for file in
        ["leak_detector/rules.rs", "leak_detector/rules/cloud.toml", "leak_detector/tests.rs", "finding.rs"]
    {
        text.extend(std::fs::read(root.join(file)).unwrap());
    }
    samples().iter().for_each(|sample| text.extend(format!("{sample}\n").bytes()));
    let fast = oracle::sorted(ENGINE.find(&SHIPPED, &text));
    assert!(fast.0.len() > 150);
    assert_eq!(fast, oracle::sorted(oracle::find(&SHIPPED, &text)));
}

/// Time for a text of a shape, at two sizes: a linear scan takes about four times as long for four times
/// the text. The best of two, and room for a busy machine.
/// The time that this thread has had on a processor, whatever else the machine does (Linux: proc(5), schedstat).
fn own_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|told| told.split(' ').next()?.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn grows_linearly(name: &str, unit: &str) {
    let time = |size: usize| {
        let text = unit.repeat(size / unit.len() + 1);
        let once = || {
            let started = own_time();
            detector().scan(text.as_bytes(), &none());
            own_time() - started
        };
        (0..2).map(|_| once()).min().unwrap_or_default()
    };
    let (small, large) = (time(64 << 10), time(256 << 10));
    assert!(large < small * 12 + Duration::from_millis(40), "{name}: {small:?}, then {large:?}");
    assert!(large < Duration::from_secs(8), "{name}: {large:?} for 256 KiB");
}

#[test]
fn no_text_takes_more_than_linear_time() {
    for (name, unit) in [
        ("beginnings without an end", "sk-proj-"),
        ("beginnings of a JWT", "eyJ"),
        ("names on one line", "password_"),
        ("operators", "token=:=>"),
        ("names and operators", "secret = secret: "),
        ("schemes", "https://a:b"),
        ("slashes", "://"),
        ("half a connection string", "Server=a;"),
        ("names before runs", "algolia_key twilio_token 0123456789abcdef0123 "),
        ("one endless run", "a1b2c3d4e5f6"),
        ("zeros", "0000"),
        ("repeats", "aaaaaaaaaaaaaaaa"),
        ("openings of keys", "-----BEGIN PRIVATE KEY-----"),
        ("openings of keys on lines", "-----BEGIN PRIVATE KEY-----\n"),
        ("commands", "curl -u "),
        ("line ends", "\n"),
        ("literals of rules by line", "okta kubeadm mailgun discord "),
        ("a million findings", "ghp_qWeRtY7uIoP3asdfghjklZXCVBNM12345678 "),
        ("maps of Kubernetes", "data:\n# kind\n"),
        ("objects on one line", "{\"kind\":{\"data\":"),
        ("findings on lines", "ghp_qWeRtY7uIoP3asdfghjklZXCVBNM12345678\n"),
        (
            "openings of a key behind an indentation",
            "kty                                                                ",
        ),
        ("lines of digits", "0123456789abcdef0123\n"),
        ("lines of text in base64", "Ym9vbSBib29tIGJvb20gYm9v\n"),
        ("lines of text in hexadecimal", "626f6f6d20626f6f6d20626f6f6d20\n"),
        ("lines of digits that end in each other", "0123456789abcdef0123\nabc\n"),
        ("digits with written line ends", "Ym9vbSBib29tIGJvb20gYm9v\\n"),
        ("digits that go on in nothing", "0123456789abcdef0123\\n\""),
        ("slashes behind digits", "0123456789abcdef0123\\\\\\\\\\\\\\\\"),
    ] {
        grows_linearly(name, unit);
    }
}

/// Each piece of a very long line, or of very many lines that go on in each other, is looked for near where it begins.
#[test]
fn texts_of_many_megabytes_take_linear_time() {
    for unit in ["one word and 1234 ", "0123456789abcdef0123\n"] {
        let time = |size: usize| {
            let text = unit.repeat(size / unit.len());
            let started = own_time();
            detector().scan(text.as_bytes(), &none());
            own_time() - started
        };
        let (small, large) = (time(4 << 20), time(32 << 20));
        assert!(large < small * 12 + Duration::from_millis(40), "{unit:?}: {small:?}, then {large:?}");
    }
}

/// A wrapped text in a wrapped text: each break is read once for each encoding around it.
#[test]
fn wrapped_texts_in_each_other_take_linear_time() {
    use base64::Engine as _;
    let wrap = |text: &[u8]| -> Vec<u8> {
        let digits = base64::engine::general_purpose::STANDARD.encode(text).into_bytes();
        digits.chunks(76).flat_map(|line| line.iter().copied().chain([b'\n'])).collect()
    };
    let nested = |length: usize| wrap(&wrap(&wrap(&b"a note of it, ".repeat(length))));
    let time = |text: &[u8]| {
        let started = own_time();
        detector().scan(text, &none());
        own_time() - started
    };
    let (small, large) = (nested(2_000), nested(8_000));
    assert!(large.len() > 256 << 10);
    let (once, often) = (time(&small).min(time(&small)), time(&large).min(time(&large)));
    assert!(often < once * 12 + Duration::from_millis(40), "{once:?}, then {often:?}");
}

/// A program that prints a line at a time: what is held is not read again with each.
#[test]
fn lines_of_digits_that_come_one_by_one_take_linear_time() {
    let line = b"0123456789abcdef0123\n";
    let time = |count: usize| {
        let known = std::sync::Arc::new(none());
        let rules = crate::rulebook::Rulebook::new(&Default::default(), &[], &[]).unwrap();
        let mut stream = LeakStream::new(known, crate::Channel::Response, types::Source::Pipe);
        let (mut out, started) = (Vec::new(), own_time());
        for _ in 0..count {
            assert!(stream.push(detector(), &rules, line, &mut out).is_ok());
        }
        assert!(stream.finish(detector(), &rules, &mut out).is_ok());
        assert_eq!(out.len(), count * line.len());
        own_time() - started
    };
    let (small, large) = (time(700).min(time(700)), time(2_800).min(time(2_800)));
    assert!(large < small * 8 + Duration::from_millis(20), "{small:?}, then {large:?}");
}

#[test]
fn every_one_of_many_findings_is_reported() {
    let token = "ghp_qWeRtY7uIoP3asdfghjklZXCVBNM12345678";
    assert_eq!(detector().scan(format!("{token} ").repeat(20_000).as_bytes(), &none()).len(), 20_000);
    assert_eq!(detector().scan(format!("{token}\n").repeat(20_000).as_bytes(), &none()).len(), 20_000);
}
