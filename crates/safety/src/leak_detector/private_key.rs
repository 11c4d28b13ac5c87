//! Private keys in text: PEM (RFC 7468), OpenSSH, PGP (RFC 9580), PuTTY and JWK (RFC 7517), withheld from
//! their first line on.
//!
//! A block is judged as a whole: from its opening line to its closing line, or as far as
//! [`FAR`] where it does not close. Documentation that shows the two lines around `...` is no key.

mod jwk;

use std::ops::Range;

use memchr::memmem;

use super::lane::OPENINGS;
use crate::finding::{Kind, Severity};
use crate::signal::{Fingerprinter, Signal};

/// The id of the rule.
pub(super) const RULE: &str = "private-key";

/// A block that has not closed after this many bytes is judged without its end. An RSA key of
/// 16,384 bits takes 12.5 KB.
const FAR: usize = 32 * 1024;

/// The fewest base64 characters of a key: an Ed25519 seed alone has 43.
const LEAST_BODY: usize = 40;

/// True when a text begins with what an opening line holds.
pub(super) fn opens(text: &[u8]) -> bool {
    OPENINGS.iter().any(|opening| text.starts_with(opening.as_bytes()))
}

/// The private keys of a text, by where it has what opening lines hold, in order.
pub(super) fn find(text: &[u8], openings: &[usize]) -> Vec<Range<usize>> {
    let mut found = jwk::find(text, openings);
    let mut marks = Marks::new(openings);
    let mut from = 0;
    while let Some(block) = next_block(text, from, &mut marks) {
        if is_key(&text[block.body.clone()]) {
            found.push(block.whole.clone());
        }
        from = block.whole.end;
    }
    found
}

/// Where the first block begins that has neither closed nor gone on too long in `settled`.
pub(super) fn undecided(settled: &[u8]) -> Option<usize> {
    let jwk = jwk::undecided(settled);
    let mut openings: Vec<usize> =
        [WORDS, PUTTY].iter().flat_map(|word| memmem::find_iter(settled, word)).collect();
    openings.sort_unstable();
    let mut marks = Marks::new(&openings);
    let mut from = 0;
    while let Some(block) = next_block(settled, from, &mut marks) {
        if !block.closed && settled.len() - block.whole.start < FAR {
            return Some(block.whole.start.min(jwk.unwrap_or(usize::MAX)));
        }
        from = block.whole.end;
    }
    jwk
}

/// The signal for a key that stands at `span`.
pub(super) fn signal(prints: &Fingerprinter, key: &[u8], span: Range<usize>) -> Signal {
    Signal {
        rule: RULE.into(),
        reason: "a private key between its opening and its closing line".into(),
        kind: Kind::PrivateKey,
        severity: Severity::Critical,
        fingerprint: prints.of(RULE, key),
        span,
        view: "plain",
        secret: None,
    }
}

struct Block {
    whole: Range<usize>,
    body: Range<usize>,
    closed: bool,
}

/// The next places of what is looked for again and again, so that a text of many openings is read once.
struct Marks<'a> {
    /// The openings that were not passed yet.
    openings: &'a [usize],
    /// The next [`PEM_END`], once somebody asked.
    end: Option<Option<usize>>,
}

impl<'a> Marks<'a> {
    fn new(openings: &'a [usize]) -> Self {
        Self { openings, end: None }
    }

    /// The next opening from `from` on, which never goes back.
    fn opening(&mut self, from: usize) -> Option<usize> {
        let passed = self.openings.iter().take_while(|at| **at < from).count();
        self.openings = &self.openings[passed..];
        self.openings.first().copied()
    }

    /// The first [`PEM_END`] from `from` on, which never goes back.
    fn end(&mut self, text: &[u8], from: usize) -> Option<usize> {
        let known = self.end.filter(|at| at.is_none_or(|at| at >= from));
        let at = known.unwrap_or_else(|| memmem::find(&text[from..], PEM_END).map(|at| from + at));
        self.end = Some(at);
        at
    }
}

fn next_block(text: &[u8], from: usize, marks: &mut Marks<'_>) -> Option<Block> {
    let (begin, after, closing) = next_opening(text, from, marks)?;
    let limit = text.len().min(begin + FAR);
    let end = match closing {
        PEM_END => marks.end(text, after).filter(|end| end + closing.len() <= limit),
        _ => memmem::find(&text[after..limit], closing).map(|end| after + end),
    };
    match end.map(|end| end - after) {
        Some(end) => {
            let body = after..after + end;
            let tail = &text[body.end + closing.len()..limit];
            let marker = tail.iter().take_while(|byte| is_marker(**byte)).count();
            let rest = closing.len() + tail[..marker].trim_ascii_end().len();
            Some(Block { whole: begin..body.end + rest, body, closed: true })
        }
        None => {
            let end = after + key_like(&text[after..limit]);
            Some(Block { whole: begin..end, body: after..end, closed: false })
        }
    }
}

/// How far a block without its end goes on like a key: lines of base64, headers, empty lines.
fn key_like(text: &[u8]) -> usize {
    let mut end = 0;
    for (index, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let trimmed = line.trim_ascii();
        let header = memmem::find(trimmed, b": ").is_some_and(|at| at < 24) && trimmed.len() < 100;
        let dense = runs(trimmed).map(<[u8]>::len).sum::<usize>() * 2 > trimmed.len();
        // The first line is what follows the opening marker: its dashes, or all in one line.
        if index > 0 && !(trimmed.is_empty() || header || dense) {
            break;
        }
        end += line.len();
    }
    end
}

/// Runs of base64 that are longer than words.
fn runs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    // In JSON and in source the line ends are written as `\n`; a literal break ends a run too.
    let outside = |byte: &u8| !(byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
    line.split(outside).filter(|run| run.len() >= 16)
}

/// What may follow `-----END` on its line.
fn is_marker(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b' ')
}

/// What the opening line of a PEM block holds, and that of a PuTTY key.
const WORDS: &[u8] = OPENINGS[0].as_bytes();
const PUTTY: &[u8] = OPENINGS[1].as_bytes();
/// What the closing line of a PEM block holds.
const PEM_END: &[u8] = b"END ";

/// The next opening line: where it begins, where it ends, and what closes it.
fn next_opening(text: &[u8], from: usize, marks: &mut Marks<'_>) -> Option<(usize, usize, &'static [u8])> {
    let mut search = from;
    while let Some(at) = marks.opening(search) {
        if text[at..].starts_with(PUTTY) {
            return Some((at, at + PUTTY.len(), b"Private-MAC".as_slice()));
        }
        let head = &text[at.saturating_sub(48).max(from)..at];
        let after = at + WORDS.len();
        let words = text[at..].starts_with(WORDS);
        let opening = memmem::rfind(head, b"-- BEGIN ").or_else(|| memmem::rfind(head, b"--BEGIN "));
        if let Some(begin) = opening.filter(|_| words) {
            let between = &head[begin + 2..];
            let tail = &text[after..text.len().min(after + 12)];
            if !between.contains(&b'\n') && memmem::find(tail, b"--").is_some() {
                let dashes = head[..begin].iter().rev().take_while(|byte| **byte == b'-').count();
                let begin = at - head.len() + begin - dashes;
                return Some((begin, after, PEM_END));
            }
        }
        search = at + 1;
    }
    None
}

/// True when enough base64 stands between the markers, outside lines such as `DEK-Info: ...`.
fn is_key(body: &[u8]) -> bool {
    let mut characters = 0;
    let mut seen = [false; 256];
    for line in body.split(|byte| matches!(byte, b'\n' | b'\r')) {
        if memmem::find(line, b": ").is_some() && line.len() < 100 {
            continue;
        }
        for run in runs(line) {
            characters += run.len();
            run.iter().for_each(|byte| seen[usize::from(*byte)] = true);
        }
    }
    characters >= LEAST_BODY && seen.iter().filter(|seen| **seen).count() >= 12
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(text: &[u8]) -> Vec<Range<usize>> {
        let mut openings: Vec<usize> =
            OPENINGS.iter().flat_map(|word| memmem::find_iter(text, word)).collect();
        openings.sort_unstable();
        super::find(text, &openings)
    }

    fn pem(label: &str, separator: &str) -> String {
        let body = "MC4CAQAwBQYDK2VwBCIEIJ0x3Rk7".repeat(3);
        format!("-----BEGIN {label}-----{separator}{body}{separator}-----END {label}-----")
    }

    #[test]
    fn keys_are_found_whole_in_every_wrapping() {
        for label in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "PGP PRIVATE KEY BLOCK",
            "EC PRIVATE KEY",
        ] {
            for separator in ["\n", "\\n", "\r\n", " ", "\" +\n  \""] {
                let key = pem(label, separator);
                let text = format!("before {key} after");
                assert_eq!(find(text.as_bytes()), vec![7..7 + key.len()], "{label} {separator:?}");
            }
        }
        let putty = format!(
            "PuTTY-User-Key-File-2: ssh-rsa\nPrivate-Lines: 1\n{}\nPrivate-MAC: 00",
            "aB3dE6gH9kL2nP5r".repeat(4)
        );
        assert_eq!(find(putty.as_bytes()).len(), 1);
    }

    #[test]
    fn what_only_looks_like_a_key_is_left_alone() {
        for text in [
            "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----",
            "grep -r 'BEGIN RSA PRIVATE KEY' .",
            "-----BEGIN PRIVATE KEY-----\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n-----END PRIVATE KEY-----",
        ] {
            assert!(find(text.as_bytes()).is_empty(), "{text}");
        }
    }

    #[test]
    fn an_open_block_is_undecided_until_it_closes_or_goes_on_too_long() {
        let open = b"x\n-----BEGIN PRIVATE KEY-----\nabc\n".to_vec();
        assert_eq!(undecided(&open), Some(2));
        assert_eq!(undecided(pem("PRIVATE KEY", "\n").as_bytes()), None);
        let mut long = open;
        long.resize(FAR + 2, b'\n');
        assert_eq!(undecided(&long), None);
    }
}
