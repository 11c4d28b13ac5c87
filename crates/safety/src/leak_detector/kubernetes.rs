//! The values of a Secret of Kubernetes, in YAML and in JSON: `data` as base64, `stringData` as it is.
//!
//! `kind: Secret` stands before its values or behind them (`kubectl get -o yaml` sorts), so lines are read as one block
//! from the first of `kind: Secret`, `data:` and `stringData:` to the end of their document or object. Which lines
//! belong together follows from their indentation, in JSON of one member a line too. JSON on one line is read by its
//! braces, and a line that is read in pieces is cut in front of an object that is small enough.

pub(super) mod inline;

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memchr_iter, memmem, memrchr};

use super::placeholder::{has_example_word, is_masked, is_placeholder};
use crate::finding::{Kind, Severity};
use crate::signal::{Fingerprinter, Signal};

/// The id of the rule.
pub(super) const RULE: &str = "kubernetes-secret";

/// Values that stand farther behind the first line of a block than this are not read with it.
const FAR: usize = 32 * 1024;
/// The fewest bytes of a value.
const LEAST: usize = 4;
/// Names of what is no secret in a Secret.
const PUBLIC: [&str; 9] =
    ["username", "user", "host", "hostname", "port", "namespace", "database", "dbname", "ca.crt"];

/// The secret values of a text in which a `kind` that may be one of a Secret stands at `kinds`.
pub(super) fn find(text: &[u8], kinds: &[usize]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if kinds.is_empty() {
        return found;
    }
    blocks(text).for_each(|block| block.values(text, &mut found));
    let mut last = usize::MAX;
    for at in kinds {
        let start = memrchr(b'\n', &text[..*at]).map_or(0, |newline| newline + 1);
        if start != last {
            let end = memchr(b'\n', &text[*at..]).map_or(text.len(), |newline| at + newline);
            inline::values(text, start..end, &mut found);
        }
        last = start;
    }
    found
}

/// Where the first line stands of a block that has neither ended nor gone on too long in `settled`.
pub(super) fn undecided(settled: &[u8]) -> Option<usize> {
    let open = |block: &Block| !block.closed && settled.len() - block.start < FAR;
    blocks(settled).find(open).map(|block| block.start)
}

/// The signal for a value that stands at `span`.
pub(super) fn signal(prints: &Fingerprinter, value: &[u8], span: Range<usize>) -> Signal {
    Signal {
        rule: RULE.into(),
        reason: "a value of a Secret of Kubernetes".into(),
        kind: Kind::Password,
        severity: Severity::High,
        fingerprint: prints.of(RULE, value),
        span,
        view: "plain",
        secret: None,
    }
}

/// Lines that belong together.
struct Block {
    start: usize,
    end: usize,
    /// The column of `kind` and of `data`.
    column: usize,
    closed: bool,
}

/// The blocks of a text, one behind the other.
fn blocks(text: &[u8]) -> impl Iterator<Item = Block> {
    let mut starts = candidates(text);
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = starts.find(|at| *at >= from && opens(text, *at))?;
        let first = Line::read(text, start);
        let mut block = Block { start, end: text.len(), column: first.column, closed: false };
        for line in lines(text, first.next..text.len()) {
            if line.next - start >= FAR || ends(text, &line, block.column) {
                (block.end, block.closed) = (line.start, true);
                break;
            }
        }
        from = block.end;
        Some(block)
    })
}

/// The beginnings of lines that have a word which the first line of a block has, each once.
fn candidates(text: &[u8]) -> impl Iterator<Item = usize> {
    let mut words =
        [b"kind".as_slice(), b"ata:", b"ata\""].map(|word| memmem::find_iter(text, word).peekable());
    let mut read = 0;
    std::iter::from_fn(move || {
        loop {
            let next = words.iter_mut().filter_map(|places| Some((*places.peek()?, places)));
            let (at, places) = next.min_by_key(|(at, _)| *at)?;
            places.next();
            if at >= read {
                let start = memrchr(b'\n', &text[read..at]).map_or(read, |newline| read + newline + 1);
                read = memchr(b'\n', &text[at..]).map_or(text.len(), |newline| at + newline + 1);
                return Some(start);
            }
        }
    })
}

/// True when the line at `at` may be the first of a block: in front of a map there has to be one.
fn opens(text: &[u8], at: usize) -> bool {
    let line = Line::read(text, at);
    let (name, value) = (&text[line.name.clone()], &text[line.value.clone()]);
    match name {
        b"kind" => value == b"Secret",
        b"data" | b"stringData" if matches!(value, b"" | b"{") => {
            // Not known yet is good enough.
            let child = lines(text, line.next..text.len()).find(|line| !is_aside(text, line));
            child.is_none_or(|child| child.column > line.column && !child.name.is_empty())
        }
        _ => false,
    }
}

/// True when a line stands outside of a block whose members stand in a column.
fn ends(text: &[u8], line: &Line, column: usize) -> bool {
    let outside = line.column < column || line.is_item && line.column == column;
    !is_aside(text, line) && (outside || text[line.start..line.next].trim_ascii().starts_with(b"---"))
}

/// True for an empty line and a comment.
fn is_aside(text: &[u8], line: &Line) -> bool {
    let whole = text[line.start..line.next].trim_ascii();
    whole.is_empty() || whole.starts_with(b"#")
}

impl Block {
    /// Appends the secret values, if this is a Secret.
    fn values(&self, text: &[u8], found: &mut Vec<Range<usize>>) {
        let members = || lines(text, self.start..self.end).filter(|line| line.column == self.column);
        if !members().any(|line| &text[line.name] == b"kind" && &text[line.value] == b"Secret") {
            return;
        }
        let mut encoded = None;
        for line in lines(text, self.start..self.end) {
            let (name, value) = (&text[line.name.clone()], &text[line.value.clone()]);
            if line.column == self.column && !(name.is_empty() && value.is_empty()) {
                encoded = match name {
                    b"data" => Some(true),
                    b"stringData" => Some(false),
                    _ => None,
                };
            } else if encoded.is_some_and(|encoded| is_secret(name, value, encoded)) {
                found.push(line.value);
            }
        }
    }
}

/// True when a member of `data` (`encoded`) or of `stringData` is to be kept secret.
fn is_secret(name: &[u8], value: &[u8], encoded: bool) -> bool {
    let stands_in = |value: &[u8]| is_placeholder(value) || is_masked(value) || has_example_word(value);
    let public = PUBLIC.iter().any(|public| public.as_bytes() == name);
    if public || value.len() < LEAST || stands_in(value) {
        return false;
    }
    if !encoded {
        // A block scalar, the text of which is read as it is.
        return !name.is_empty() && !value.starts_with(b"|") && !value.starts_with(b">");
    }
    let Ok(plain) = STANDARD.decode(value) else { return false };
    plain.len() >= LEAST && !stands_in(plain.trim_ascii()) && !plain.starts_with(b"-----BEGIN CERTIFICATE")
}

/// One line: `name: value`, `"name": "value",`, `- name: value`.
struct Line {
    start: usize,
    /// Where the next line begins.
    next: usize,
    /// How many spaces and signs of a list stand before it.
    column: usize,
    is_item: bool,
    /// Empty where it has none.
    name: Range<usize>,
    /// Without quotes.
    value: Range<usize>,
}

impl Line {
    fn read(text: &[u8], start: usize) -> Self {
        let start = start.min(text.len());
        let next = memchr(b'\n', &text[start..]).map_or(text.len(), |newline| start + newline + 1);
        let column = text[start..next].iter().take_while(|byte| matches!(byte, b' ' | b'-')).count();
        let first = start + column + usize::from(text[start + column..next].starts_with(b"\""));
        let named = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let end = first + text[first..next].iter().take_while(|byte| named(byte)).count();
        let colon = end + usize::from(first > start + column && text[end..next].starts_with(b"\""));
        let is_named = end > first && text[colon..next].starts_with(b":");
        let (name, value) = if is_named { (first..end, colon + 1) } else { (first..first, start + column) };
        Self {
            start,
            next,
            column,
            is_item: text[start..start + column].contains(&b'-'),
            name,
            value: unquoted(text, value..next),
        }
    }
}

/// A value without the spaces, the comma, the comment and the quotes around it.
fn unquoted(text: &[u8], span: Range<usize>) -> Range<usize> {
    let value = text[span.clone()].trim_ascii_start();
    let start = span.end - value.len();
    if let Some(end) = closing(value) {
        return start + 1..start + end;
    }
    let comment =
        memchr_iter(b'#', value).find(|at| at.checked_sub(1).is_none_or(|at| b" \t".contains(&value[at])));
    let value = value[..comment.unwrap_or(value.len())].trim_ascii_end();
    start..start + value.strip_suffix(b",").unwrap_or(value).trim_ascii_end().len()
}

/// Where the quotes around a value close, when nothing but a comma and a comment stands behind them.
fn closing(value: &[u8]) -> Option<usize> {
    let quote = *value.first().filter(|byte| matches!(byte, b'"' | b'\''))?;
    let (mut last, mut end) = (0, None);
    for at in memchr_iter(quote, &value[1..]).map(|at| at + 1) {
        let escapes = value[last + 1..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        if quote == b'\'' || escapes % 2 == 0 {
            end = Some(at);
            break;
        }
        last = at;
    }
    let rest = value[end? + 1..].trim_ascii_start();
    let rest = rest.strip_prefix(b",").unwrap_or(rest).trim_ascii_start();
    end.filter(|_| rest.is_empty() || rest.starts_with(b"#"))
}

fn lines(text: &[u8], span: Range<usize>) -> impl Iterator<Item = Line> {
    let mut at = span.start;
    std::iter::from_fn(move || {
        let line = (at < span.end).then(|| Line::read(text, at))?;
        at = line.next;
        Some(line)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a text.
    fn values(text: &str) -> Vec<&str> {
        let kinds: Vec<usize> = super::super::lane::SECRET_KINDS
            .iter()
            .flat_map(|kind| memmem::find_iter(text.as_bytes(), kind))
            .collect();
        find(text.as_bytes(), &kinds).into_iter().map(|span| &text[span]).collect()
    }

    #[test]
    fn the_values_of_a_secret_are_found_however_it_is_written() {
        for text in [
            "apiVersion: v1\ndata:\n  pin: QmxhdTQy\n  username: YWRhbGJlcnQ=\nkind: Secret\nmetadata:\n  name: x\n",
            "kind: Secret\r\ndata:\r\n  pin: \"QmxhdTQy\"\r\n",
            "kind: Secret # of the shop\ndata: # base64\n# Old.\n  pin: QmxhdTQy # rotate it\n  port: NTQzMg==\t# open\n",
            "data:\n# Old.\n\n  pin: QmxhdTQy\nkind: Secret\n",
            "kind: Secret\ndata:\n  pin: 'QmxhdTQy' # it's \"old\"\n  user: 'YWRh',\n",
            "items:\n- apiVersion: v1\n  kind: ConfigMap\n  data:\n    pin: QmxhdTQz\n- kind: Secret\n  data:\n    # Old.\n\n    pin: QmxhdTQy\n",
            "a: b\n---\nkind: Secret\ndata:\n  key: |\n    QmxhdTQy\n---\nkind: ConfigMap\ndata:\n  pin: QmxhdTQz\n",
            "{\n  \"data\": {\n    \"pin\": \"QmxhdTQy\",\n    \"host\": \"ZGIuaW50ZXJuYWw=\"\n  },\n  \"kind\": \"Secret\",\n  \"type\": \"Opaque\"\n}\n",
            "{\"apiVersion\":\"v1\",\"data\":{\"pin\":\"QmxhdTQy\"},\"kind\":\"Secret\",\"metadata\":{\"name\":\"x\"}}",
            "[{\"kind\": \"ConfigMap\", \"data\": {\"a\": \"QmxhdTQz\"}}, {\"kind\": \"Secret\", \"data\": { \"n\" : \"bnVsbA==\", \"pin\" : \"QmxhdTQy\"}}, {\"data\": {\"a\": \"QmxhdTQz\"}}]",
        ] {
            assert_eq!(values(text), ["QmxhdTQy"], "{text}");
        }
        let plain = "kind: Secret\nstringData:\n  pin: 'Blau42'\n  port: 54321\n  cert: |\n    text of many words\ntype: Opaque\n";
        assert_eq!(values(plain), ["Blau42"]);
        let signs = "kind: Secret\nstringData:\n  pin: Blau#42 # a sign\n  two: \"Rot \\\" # 42\" # quoted\n";
        assert_eq!(values(signs), ["Blau#42", "Rot \\\" # 42"]);
        assert_eq!(values("{\"kind\":\"Secret\",\"stringData\":{\"pin\":\"Blau42\"}}"), ["Blau42"]);
    }

    #[test]
    fn what_is_no_secret_is_left_alone() {
        for text in [
            "kind: ConfigMap\ndata:\n  pin: QmxhdTQy\n",
            "kind: SecretStore\ndata:\n  pin: QmxhdTQy\n",
            "kind: Secret\nmetadata:\n  data: QmxhdTQy\n  labels:\n    pin: QmxhdTQy\n",
            "kind: Secret\ndata:\n  password: Y2hhbmdlbWU=\n  token: <base64>\n  key: ${KEY}\n  short: YQ==\n",
            "kind: Secret\n---\ndata:\n  pin: QmxhdTQy\n",
            "kind: Secret\ndata:\n  tls.crt: LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCg==\n",
            "kind: Secret\nstringData:\n  password: changeme\n  url: ${URL}\n",
            "{\"kind\":\"Secret\",\"metadata\":{\"data\":{\"pin\":\"QmxhdTQy\"}}}",
            "{\"kind\":\"ConfigMap\",\"data\":{\"pin\":\"QmxhdTQy\"}} \"kind\":\"Secret\"",
        ] {
            assert!(values(text).is_empty(), "{text}: {:?}", values(text));
        }
    }

    #[test]
    fn a_block_is_undecided_until_it_ends() {
        assert_eq!(undecided(b"a: b\ndata:\n"), Some(5));
        assert_eq!(undecided(b"a: b\ndata:\n  x: y\n"), Some(5));
        assert_eq!(undecided(b"- kind: Secret\n  a: b\n"), Some(0));
        assert_eq!((undecided(b"data:\ndata: x\n"), undecided(b"kind: Secret\n---\n")), (None, None));
        let long = format!("data:\n{}", "  name: value\n".repeat(FAR));
        assert_eq!(undecided(long.as_bytes()), None);
    }
}
