//! Wrapped texts in every form, streams of them in any cuts, and the slow way to find them.

use std::ops::Range;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;
use regex::bytes::Regex;

use super::super::lines::{LONG_LINE, Lines};
use super::super::tests::{Outcome, detector, none, run, token, vault};
use super::super::{ENGINE, SHIPPED};
use super::*;

const SHORT: &str = "x7Kq2mZp9";

fn hex(text: &[u8]) -> String {
    text.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lines of `width` digits, with something around each.
fn wrap(digits: &str, width: usize, head: &str, tail: &str) -> String {
    let lines = digits.as_bytes().chunks(width);
    lines.map(|line| format!("{head}{}{tail}", String::from_utf8_lossy(line))).collect()
}

/// Prose of so many bytes.
fn prose(length: usize) -> String {
    "the notes of the meeting in the larger room, as they were taken down; "
        .chars()
        .cycle()
        .take(length)
        .collect()
}

fn rules(outcome: &Outcome) -> Vec<&str> {
    outcome.1.iter().map(|(rule, _)| rule.as_str()).collect()
}

/// A token wherever it stands, by the tools that wrap and the widths that they do it with.
#[test]
fn a_token_that_a_line_end_cuts_is_found_and_is_taken_out() {
    let known = vault(SHORT);
    let token = token(3);
    for before in (0..70).step_by(3) {
        let text = format!("{} {token} {}\n", prose(before), prose(40));
        for (digits, widths) in [
            (STANDARD.encode(&text), [76, 64, 70, 21]),
            (URL_SAFE_NO_PAD.encode(&text), [76, 64, 57, 40]),
            (hex(text.as_bytes()), [60, 32, 64, 59]),
        ] {
            for width in widths {
                let text = format!("a line\n{}and another\n", wrap(&digits, width, "", "\n"));
                let (out, found, stopped) = run(text.as_bytes(), &[], &known);
                let [(rule, span)] = &found[..] else { panic!("{found:?} in {text}") };
                assert_eq!((rule.as_str(), stopped), ("github-pat", false), "{text}");
                // What is left of the lines says nothing of it.
                let rest = String::from_utf8(out).unwrap();
                assert_eq!(
                    rest,
                    format!("{}[redacted:github-pat]{}", &text[..span.start], &text[span.end..])
                );
                let left = |encoded: &str| {
                    let digits: String = encoded.chars().filter(|c| *c != '\n').collect();
                    hex(token.as_bytes()).contains(&digits) || STANDARD.encode(&token).contains(&digits)
                };
                assert!(!left(&text[span.start - 8..span.start]) && !left(&text[span.end..span.end + 8]));
            }
        }
    }
}

#[test]
fn what_may_stand_around_the_digits_of_a_line_hides_nothing() {
    let text = format!("{} {} {}\n", prose(50), token(5), prose(40));
    let encoded = STANDARD.encode(&text);
    for (head, tail) in [
        ("", "\r\n"),
        ("    ", "\n"),
        ("\t> > ", "\n"),
        ("# ", "\n"),
        (" * ", "  \n"),
        ("     7\t", "\n"),
        ("   12\u{2192}", "\n"),
        ("31: ", "\n"),
        ("+", "\n"),
        ("-", "\n"),
        ("    \"", "\"\n"),
        ("  '", "' +\r\n"),
        ("\"", "\\n\"\n"),
        ("\"", "\\r\\n\",\n"),
        ("", "\\\n"),
        ("  \"", "\" .\n"),
        ("", "\\n"),
        ("", "\\r\\n"),
        ("", "\\\\n"),
        ("> ", "\\n"),
        ("   12\u{2192}", "\\n"),
        ("   12\\t", "\\n"),
        ("   12: ", "\\\\\\n"),
    ] {
        for digits in [&encoded, &hex(text.as_bytes())] {
            let wrapped = wrap(digits, 60, head, tail);
            let found = detector().scan(wrapped.as_bytes(), &none());
            assert!(found.iter().any(|signal| &*signal.rule == "github-pat"), "{wrapped}");
            // In a string of JSON, with something in front of it.
            let json = serde_json::json!({ "text": wrapped }).to_string();
            let found = detector().scan(json.as_bytes(), &none());
            let inside = tail.contains('"') || tail.contains('\'') || head == "\t> > " || tail == "\\\n";
            assert!(inside || found.iter().any(|signal| &*signal.rule == "github-pat"), "{json}");
        }
    }
}

#[test]
fn a_short_value_of_the_vault_is_found_between_bytes_that_are_no_text() {
    let known = vault(SHORT);
    for before in 30..62 {
        let bytes = [&vec![0xfe; before], SHORT.as_bytes(), &[0xff; 30]].concat();
        for (digits, width) in
            [(STANDARD.encode(&bytes), 64), (STANDARD.encode(&bytes), 70), (hex(&bytes), 60)]
        {
            let text = wrap(&digits, width, "", "\n");
            let found = run(text.as_bytes(), &[], &known);
            assert_eq!((rules(&found), found.2), (vec!["known-value"], true), "{before} {text}");
        }
    }
}

#[test]
fn a_wrapped_secret_is_found_in_any_cut() {
    let known = vault(SHORT);
    let inner = format!("{} {} {}", prose(20), token(7), prose(30));
    let twice = wrap(&STANDARD.encode(wrap(&STANDARD.encode(&inner), 64, "", "\n")), 76, "", "\n");
    let value = format!("{} {SHORT} {}", prose(52), prose(9));
    for text in [
        format!("x\n{}\ny\n", wrap(&STANDARD.encode(&inner), 48, "  ", "\n")),
        format!("<password>\n{}</password>\n", wrap(&STANDARD.encode(&inner), 48, "  ", "\r\n")),
        wrap(&hex(inner.as_bytes()), 60, "", "\n"),
        twice,
        wrap(&STANDARD.encode(&value), 76, "", "\n"),
        format!("-----BEGIN X-----\n{}-----END X-----\n", wrap(&STANDARD.encode(&value), 76, "", "\n")),
    ] {
        let whole = run(text.as_bytes(), &[], &known);
        assert!(!whole.1.is_empty(), "{text}");
        for cut in 0..text.len() {
            assert_eq!(run(text.as_bytes(), &[cut, cut + 1, cut + 70], &known), whole, "{cut} {text}");
        }
    }
}

/// More lines than are read at once: a token of each hundred, across a line end.
#[test]
fn lines_that_go_on_in_each_other_without_end_are_read_in_pieces() {
    let known = vault(SHORT);
    let text: String = (0..300).map(|n| format!("{} {}\n", prose(400 + n), token(n % 9))).collect();
    for (digits, width) in [(STANDARD.encode(&text), 76), (hex(text.as_bytes()), 60)] {
        let text = format!("a line\n{}", wrap(&digits, width, "", "\n"));
        assert!(text.len() > 3 * LONG_LINE);
        let spans: Vec<_> =
            detector().scan(text.as_bytes(), &known).into_iter().map(|found| found.span).collect();
        assert_eq!(spans.len(), 300);
        let whole = run(text.as_bytes(), &[], &known);
        assert!(!String::from_utf8_lossy(&whole.0).contains(&STANDARD.encode(&token(1)[4..28])));
        let every: Vec<usize> = (0..text.len()).step_by(76).collect();
        assert_eq!(run(text.as_bytes(), &every, &known), whole);
        for cut in [1, LONG_LINE - 1, LONG_LINE, LONG_LINE + 8, 100_000, text.len() - 1] {
            assert_eq!(run(text.as_bytes(), &[cut, cut + 77], &known), whole, "{cut}");
        }
    }
}

#[test]
fn honest_lines_of_digits_are_no_secrets() {
    let digests = |width: usize| -> String {
        let digest = |n: u32| hex(&<sha2::Sha256 as sha2::Digest>::digest(n.to_le_bytes()));
        (0..400).map(|n| format!("{}\n", &digest(n)[..width])).collect()
    };
    let random: Vec<u8> =
        (0..400u32).flat_map(|n| <sha2::Sha256 as sha2::Digest>::digest(n.to_le_bytes())).collect();
    let certificate = format!(
        "-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n",
        wrap(&STANDARD.encode(&random), 64, "", "\n")
    );
    for text in [
        digests(64),
        digests(40),
        digests(32),
        certificate,
        wrap(&hex(&random), 60, "", "\n"),
        "crates/safety/src/leak_detector\ncrates/safety/src/leak_detector/wrapped\n".repeat(50),
        "31415926535897932384626433\n".repeat(50),
        "--------------------------------\n".repeat(4),
    ] {
        let found = detector().scan(text.as_bytes(), &vault(SHORT));
        assert!(found.is_empty(), "{found:?} in {text}");
    }
}

/// Nothing is held that a reader of single lines waits for.
#[test]
fn only_lines_of_digits_wait_for_the_next() {
    for (line, waits) in [
        ("9fceb02d0ae598e95dc970b74767f19372d61af8", true),
        ("  \"QmxhdSB1bmQgZ3LDvG4gdW5kIGdlbGI\" +", true),
        ("QmxhdSB1bmQgZ3LDvG4gdW5kIGdlbGI=", false),
        ("http://127.0.0.1:8888/?token=9fceb02d0ae598e95dc970b74767f19372d61af8", false),
        ("commit 9fceb02d0ae598e95dc970b74767f19372d61af8", false),
        ("------------------------------", false),
        ("1234567890123456789", false),
        ("total", false),
        ("", false),
    ] {
        let text = format!("a\n{line}\n");
        let cut = Lines::default().settled(text.as_bytes(), false);
        assert_eq!(cut.accept, if waits { 2 } else { text.len() }, "{line}");
        assert_eq!(Lines::default().settled(text.as_bytes(), true).accept, text.len());
    }
}

/// Pieces of texts that nearly are wrapped.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => "[A-Za-z0-9+/_-]{19,70}",
        1 => "[a-z]{1,19}",
        1 => "(ab12){250,260}",
        8 => Just("\n".to_owned()),
        1 => "[ #>*|0-9-]{0,3}( |\"|'|: )",
        1 => "(=|==|\"|' \\+|,|;|\\\\|\r|\t| )",
        1 => "[ -~]{0,9}",
    ]
}

/// Where the digits of each wrapped text stand, by an expression for a line.
fn slow(text: &[u8]) -> Vec<Vec<Range<usize>>> {
    static DIGITS: LazyLock<Regex> =
        LazyLock::new(|| Regex::new("(?-u)^([^A-Za-z]*?)([A-Za-z0-9+/_-]+)(={0,2})$").unwrap());
    static TAIL_OF: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"(?-u)(?:\\[nr]|[ \t\r\x0c\\"'`,;)\]}])*$"#).unwrap());
    let split = |line| {
        let strip = Regex::new(r"(?-u) [+.]$").unwrap();
        let trimmed = <[u8]>::trim_ascii_end(line);
        let trimmed = &trimmed[..strip.find(trimmed).map_or(trimmed.len(), |sign| sign.start())];
        let tail = TAIL_OF.find(trimmed).map_or(trimmed.len(), |tail| tail.start());
        let parts = DIGITS.captures(&trimmed[..tail])?;
        Some((parts[1].len(), parts[2].len(), parts[3].len()))
    };
    let (mut found, mut pieces, mut at) = (Vec::new(), Vec::new(), 0);
    for line in text.split(|byte| *byte == b'\n') {
        let read = split(line).filter(|(head, digits, padding)| {
            *head <= HEAD
                && *digits <= MOST
                && line.len() <= LONGEST
                && line.len() - head - digits - padding <= TAIL
        });
        let goes_on = read.is_some_and(|(head, digits, padding)| {
            let digits = &line[head..head + digits];
            padding == 0 && digits.len() >= LEAST && digits.iter().any(u8::is_ascii_alphanumeric)
        });
        if let Some((head, digits, _)) = read.filter(|_| goes_on || !pieces.is_empty()) {
            pieces.push(at + head..at + head + digits);
        }
        if !goes_on {
            found.push(std::mem::take(&mut pieces));
        }
        at += line.len() + 1;
    }
    found.push(pieces);
    found.retain(|pieces| pieces.len() > 1);
    found
}

proptest! {
    #[test]
    fn wrapped_texts_are_those_that_the_slow_way_finds(pieces in prop::collection::vec(piece(), 0..60)) {
        let text = pieces.concat().into_bytes();
        let ends = ENGINE.find(&SHIPPED, &text).ends;
        // Written breaks, which pieces make by chance, are no business of the slow way.
        let breaks = |run: &Run| text[run.pieces[0].1..run.pieces[1].1].contains(&b'\n');
        let fast = runs(&text, &ends).filter(|(_, run)| breaks(run));
        let fast: Vec<_> = fast.map(|(digits, run)| (digits, run.pieces)).collect();
        let slow: Vec<_> = slow(&text).iter().filter_map(|pieces| Run::of(&text, pieces)).collect();
        let slow: Vec<_> = slow.into_iter().map(|(digits, run)| (digits, run.pieces)).collect();
        prop_assert_eq!(fast, slow);
    }

    #[test]
    fn a_span_of_the_digits_leads_back_to_the_text(
        lines in prop::collection::vec("[A-Za-z0-9][A-Za-z0-9+/]{19,40}", 2..6), from: usize, length in 1usize..90
    ) {
        let text = lines.join("\n");
        let ends = ENGINE.find(&SHIPPED, text.as_bytes()).ends;
        let (digits, run) = runs(text.as_bytes(), &ends).next().unwrap();
        let from = from % digits.len();
        let span = from..digits.len().min(from + length);
        let there = &text.as_bytes()[run.original(&span)];
        let there: Vec<u8> = there.iter().copied().filter(|byte| *byte != b'\n').collect();
        prop_assert_eq!(&there[..], &digits[span]);
    }

    /// Cuts in front of the same bytes, however the buffers grew, and never more held than a piece and a line.
    #[test]
    fn lines_are_settled_alike_in_buffers_of_any_size(
        regions in prop::collection::vec((20usize..100, 1usize..3000, any::<bool>()), 1..5),
        sizes in prop::collection::vec(1usize..40_000, 1..40),
    ) {
        let region = |(width, count, ends): &(usize, usize, bool)| {
            format!("{}{}", "abcd0123".repeat(13)[..*width].to_owned() + "\n", if *ends { "a line.\n" } else { "" })
                .repeat(if *ends { 1 } else { *count })
        };
        let text: String = regions.iter().map(region).collect();
        let text = text.as_bytes();
        // Where lines are cut that go on in each other.
        let cuts = |sizes: &[usize]| {
            let (mut lines, mut start, mut end, mut cuts) = (Lines::default(), 0, 0, Vec::new());
            for size in sizes.iter().cycle() {
                end = text.len().min(end + size);
                let finished = end == text.len();
                loop {
                    let cut = lines.settled(&text[start..end], finished);
                    if cut.read > cut.accept {
                        cuts.push((start + cut.accept, start + cut.read));
                    }
                    start += cut.accept;
                    if cut.accept == 0 || start == end {
                        break;
                    }
                }
                prop_assert!(end - start <= LONG_LINE + LONGEST);
                if finished {
                    prop_assert_eq!(start, end);
                    return Ok(cuts);
                }
            }
            Ok(cuts)
        };
        prop_assert_eq!(cuts(&sizes)?, cuts(&[usize::MAX / 2])?);
    }
}
