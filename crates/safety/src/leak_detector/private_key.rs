//! Private keys in text: PEM (RFC 7468), OpenSSH, PGP (RFC 9580), PuTTY and JWK (RFC 7517), withheld from
//! their first line on.
//!
//! A block is judged as a whole: from its opening line to its closing line, or as far as
//! [`FAR`] where it does not close. Documentation that shows the two lines around `...` is no key. Lines may be of any
//! length and may be broken by `\n` of a string or by `%0A` of a form, in which the spaces of the markers are `+`.

mod jwk;
mod jwk_lines;

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
/// A run of this many is longer than words, and a whole line of so many is no word if it mixes cases or has digits.
const LEAST_RUN: usize = 16;
const LEAST_LINE: usize = 8;

/// True when a text begins with what an opening line holds.
pub(super) fn opens(text: &[u8]) -> bool {
    OPENINGS.iter().any(|opening| text.starts_with(opening.as_bytes()))
}

/// The private keys of a text, by where it has what opening lines hold, in order.
pub(super) fn find(text: &[u8], openings: &[usize]) -> Vec<Range<usize>> {
    let mut found = jwk::find(text, openings);
    found.extend(jwk_lines::find(text, openings));
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
    let jwk = jwk::undecided(settled).into_iter().chain(jwk_lines::undecided(settled)).min();
    let mut openings: Vec<usize> =
        FORMS.iter().flat_map(|form| memmem::find_iter(settled, form.words)).collect();
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
    /// What closes each of the [`FORMS`] next, once somebody asked.
    ends: [Option<Option<usize>>; FORMS.len()],
}

impl<'a> Marks<'a> {
    fn new(openings: &'a [usize]) -> Self {
        Self { openings, ends: Default::default() }
    }

    /// The next opening from `from` on, which never goes back.
    fn opening(&mut self, from: usize) -> Option<usize> {
        let passed = self.openings.iter().take_while(|at| **at < from).count();
        self.openings = &self.openings[passed..];
        self.openings.first().copied()
    }

    /// Where a form closes first from `from` on, which never goes back.
    fn end(&mut self, text: &[u8], from: usize, form: usize) -> Option<usize> {
        let known = self.ends[form].filter(|at| at.is_none_or(|at| at >= from));
        let search = || memmem::find(&text[from..], FORMS[form].closing).map(|at| from + at);
        let at = known.unwrap_or_else(search);
        self.ends[form] = Some(at);
        at
    }
}

fn next_block(text: &[u8], from: usize, marks: &mut Marks<'_>) -> Option<Block> {
    let (begin, after, form) = next_opening(text, from, marks)?;
    let limit = text.len().min(begin + FAR);
    let closing = FORMS[form].closing;
    match marks.end(text, after, form).filter(|end| end + closing.len() <= limit) {
        Some(end) => {
            let tail = &text[end + closing.len()..limit];
            let marker = tail.iter().take_while(|byte| is_marker(**byte)).count();
            let rest = closing.len() + tail[..marker].trim_ascii_end().len();
            Some(Block { whole: begin..end + rest, body: after..end, closed: true })
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

/// Runs of base64 that are longer than words, or the whole of a line.
fn runs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    let sign = |byte: &&u8| b"\"', +\t\r".contains(byte);
    let start = line.iter().take_while(sign).count();
    let end = line.len() - line[start..].iter().rev().take_while(sign).count();
    let whole = &line[start..end];
    let mixed = whole.iter().any(u8::is_ascii_uppercase)
        && whole.iter().any(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let least = if mixed && whole.iter().all(inside) { LEAST_LINE } else { LEAST_RUN };
    line.split(move |byte| !inside(byte)).filter(move |run| run.len() >= least)
}

/// What may follow `-----END` on its line.
fn is_marker(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b' ' | b'+' | b'%')
}

/// How a key is written: what its opening line holds, what stands in front of that, and what its closing line holds.
struct Form {
    words: &'static [u8],
    begin: &'static [u8],
    closing: &'static [u8],
}

/// PEM as it is, in a form, and percent-encoded; and a PuTTY key.
const FORMS: [Form; 4] = [
    Form { words: OPENINGS[0].as_bytes(), begin: b"BEGIN ", closing: b"END " },
    Form { words: OPENINGS[1].as_bytes(), begin: b"BEGIN+", closing: b"END+" },
    Form { words: OPENINGS[2].as_bytes(), begin: b"BEGIN%20", closing: b"END%20" },
    Form { words: OPENINGS[3].as_bytes(), begin: b"", closing: b"Private-MAC" },
];
const PUTTY: usize = FORMS.len() - 1;

/// The next opening line: where it begins, where it ends, and in which of the [`FORMS`] it is.
fn next_opening(text: &[u8], from: usize, marks: &mut Marks<'_>) -> Option<(usize, usize, usize)> {
    let mut search = from;
    while let Some(at) = marks.opening(search) {
        search = at + 1;
        let Some(index) = FORMS.iter().position(|form| text[at..].starts_with(form.words)) else { continue };
        let form = &FORMS[index];
        let after = at + form.words.len();
        if index == PUTTY {
            return Some((at, after, index));
        }
        let head = &text[at.saturating_sub(48).max(from)..at];
        let Some(begin) = memmem::rfind(head, form.begin) else { continue };
        let marker = head[..begin].strip_suffix(b" ").unwrap_or(&head[..begin]);
        let dashes = marker.iter().rev().take_while(|byte| **byte == b'-').count();
        let tail = &text[after..text.len().min(after + 12)];
        if dashes >= 2 && !head[begin..].contains(&b'\n') && memmem::find(tail, b"--").is_some() {
            return Some((at - head.len() + marker.len() - dashes, after, index));
        }
    }
    None
}

/// True when enough base64 stands between the markers, outside lines such as `DEK-Info: ...`.
fn is_key(body: &[u8]) -> bool {
    let mut characters = 0;
    let mut seen = [false; 256];
    for line in unescaped(body).split(|byte| matches!(byte, b'\n' | b'\r')) {
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

/// A body with the line ends that are written as `\n` and `%0A`, and the signs of base64 that are escaped in a form.
fn unescaped(body: &[u8]) -> Vec<u8> {
    const ESCAPES: [(&[u8], u8); 8] = [
        (b"\\n", b'\n'),
        (b"\\r", b'\r'),
        (b"\\/", b'/'),
        (b"%0A", b'\n'),
        (b"%0D", b'\r'),
        (b"%2B", b'+'),
        (b"%2F", b'/'),
        (b"%3D", b'='),
    ];
    let mut plain = Vec::with_capacity(body.len());
    let mut rest = body;
    while let Some(first) = rest.first() {
        let begins = |(escape, _): &&(&[u8], u8)| {
            rest.get(..escape.len()).is_some_and(|head| head.eq_ignore_ascii_case(escape))
        };
        let escape = ESCAPES.iter().filter(|_| matches!(first, b'\\' | b'%')).find(begins);
        let (length, byte) = escape.map_or((1, *first), |(escape, byte)| (escape.len(), *byte));
        plain.push(byte);
        rest = &rest[length..];
    }
    plain
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
            for separator in ["\n", "\\n", "\r\n", " ", "\" +\n  \"", "\\\\n", "%0A", "%0d%0a"] {
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
    fn a_key_is_found_in_short_lines_and_in_a_form() {
        let body = "MC4CAQAwBQYDK2VwBCIEIJ0x3Rk7t1+/aB2".repeat(2);
        for columns in [8, 12, 15, 64] {
            for (separator, space) in
                [("\n", " "), ("\\n", " "), ("\",\n\"", " "), ("%0A", "+"), ("%0D%0A", "%20")]
            {
                let pieces: Vec<String> = body
                    .as_bytes()
                    .chunks(columns)
                    .map(|line| String::from_utf8_lossy(line).into())
                    .collect();
                let mut body = pieces.join(separator);
                if space != " " {
                    body = body.replace('/', "%2F").replace("1+", "1%2B");
                }
                let key = format!(
                    "-----BEGIN PRIVATE KEY-----{separator}{body}{separator}-----END PRIVATE KEY-----"
                )
                .replace(' ', space);
                assert_eq!(find(format!("key={key}&a=b").as_bytes()), vec![4..4 + key.len()], "{key}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_key_is_left_alone() {
        for text in [
            "-----BEGIN RSA PRIVATE KEY-----\n...\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA\n-----END PUBLIC KEY-----",
            "grep -r 'BEGIN RSA PRIVATE KEY' .",
            "-----BEGIN PRIVATE KEY-----\nyour\nprivate\nkey\ncontents\nstand here\nbetween\nthese two\nmarkers of\nit\n-----END PRIVATE KEY-----",
            "-----BEGIN+PRIVATE+KEY-----%0A...%0A-----END+PRIVATE+KEY-----",
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
