//! The values of a Secret of Kubernetes, in YAML and in JSON: `data` as base64, `stringData` as it is.
//!
//! `kind: Secret` stands before its values or behind them (`kubectl get -o yaml` sorts), so lines are read as one block
//! from the first of `kind: Secret`, `data:` and `stringData:` to the end of their document or object. Which lines
//! belong together follows from their indentation, in JSON of one member a line too. JSON on one line is read by its
//! braces, escaped in a string or not, and a line that is read in pieces is cut in front of an object that is small
//! enough. The items of a SecretList have no kind; their type says as much.

pub(super) mod inline;
mod line;

use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use memchr::{memchr, memmem, memrchr};

use super::placeholder::{has_example_word, is_masked, is_placeholder};
use crate::finding::{Kind, Severity};
use crate::signal::{Fingerprinter, Signal};
use line::{Line, lines};

/// The id of the rule.
pub(super) const RULE: &str = "kubernetes-secret";

/// Lines that begin farther behind the first of a block than this are not read with it: a value of 60 KiB on one line
/// may stand between `data` and `kind`.
const FAR: usize = 63 * 1024;
/// The fewest bytes of a value.
const LEAST: usize = 4;
/// Names of what is no secret in a Secret.
const PUBLIC: [&str; 9] =
    ["username", "user", "host", "hostname", "port", "namespace", "database", "dbname", "ca.crt"];
/// What the types of Secrets begin with.
const TYPES: [&str; 9] = [
    "Opaque",
    "kubernetes.io/service-account-token",
    "kubernetes.io/dockercfg",
    "kubernetes.io/dockerconfigjson",
    "kubernetes.io/basic-auth",
    "kubernetes.io/ssh-auth",
    "kubernetes.io/tls",
    "kubernetes.io/token",
    "helm.sh/release",
];

/// True when a kind that may be one of a Secret stands at `at`, in YAML or in JSON, which may be escaped in a string of
/// another, or the type of one.
pub(super) fn is_kind(text: &[u8], at: usize) -> bool {
    let sign = |byte: &&u8| b"\\\"' :\t".contains(byte);
    let Some(rest) = text[at..].strip_prefix(b"kind") else {
        let before = text[..at].strip_suffix(b"bootstrap.").unwrap_or(&text[..at]);
        let signs = before.iter().rev().take_while(sign).count();
        return is_type(&text[at..]) && before[..before.len() - signs].ends_with(b"type");
    };
    let signs = rest.iter().take_while(sign).count();
    let value = rest[signs..].strip_prefix(b"!!str ").unwrap_or(&rest[signs..]);
    let value = value.strip_prefix(b"\"").or(value.strip_prefix(b"'")).unwrap_or(value);
    rest[..signs].contains(&b':') && value.starts_with(b"Secret")
}

fn is_type(value: &[u8]) -> bool {
    TYPES.iter().any(|kind| value.starts_with(kind.as_bytes()))
}

/// True when a member says that what it stands in is a Secret.
fn tells(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"kind" => value == b"Secret",
        b"type" => is_type(value.strip_prefix(b"bootstrap.").unwrap_or(value)),
        _ => false,
    }
}

/// The secret values of a text in which a `kind` that may be one of a Secret stands at `kinds`.
pub(super) fn find(text: &[u8], kinds: &[usize]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    if kinds.is_empty() {
        return found;
    }
    blocks(text, kinds.to_vec()).for_each(|block| block.values(text, &mut found));
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
    let words = [b"kind".as_slice(), b"Opaque", b"kubernetes.io/", b"helm.sh/"];
    let mut kinds: Vec<usize> = words.iter().flat_map(|word| memmem::find_iter(settled, word)).collect();
    kinds.sort_unstable();
    blocks(settled, kinds).find(open).map(|block| block.start)
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

/// The blocks of a text, one behind the other, by where it may have the kind or the type of a Secret, in order.
fn blocks(text: &[u8], kinds: Vec<usize>) -> impl Iterator<Item = Block> {
    let mut starts = candidates(text, kinds);
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = starts.find(|at| *at >= from && opens(text, *at))?;
        let first = Line::read(text, start);
        let mut block = Block { start, end: text.len(), column: first.column, closed: false };
        for line in lines(text, first.next..text.len()) {
            if line.start - start >= FAR || ends(text, &line, block.column) {
                (block.end, block.closed) = (line.start, true);
                break;
            }
        }
        from = block.end;
        Some(block)
    })
}

/// The beginnings of lines that have what the first line of a block has, each once.
fn candidates(text: &[u8], kinds: Vec<usize>) -> impl Iterator<Item = usize> {
    let mut kinds = kinds.into_iter().peekable();
    let mut maps = [b"ata:", b"ata\"", b"ata'"].map(|word| memmem::find_iter(text, word).peekable());
    let mut read = 0;
    std::iter::from_fn(move || {
        loop {
            let next = maps.iter_mut().filter_map(|places| Some((*places.peek()?, places)));
            let map = next.min_by_key(|(place, _)| *place);
            let at = match (kinds.peek(), map) {
                (Some(kind), Some((place, places))) if place < *kind => places.next()?,
                (None, Some((_, places))) => places.next()?,
                _ => kinds.next()?,
            };
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
        b"kind" | b"type" => tells(name, value),
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
        if !members().any(|line| tells(&text[line.name], &text[line.value])) {
            return;
        }
        let mut map = None;
        let mut scalar: Option<Scalar> = None;
        for line in lines(text, self.start..self.end) {
            let (name, value) = (&text[line.name.clone()], &text[line.value.clone()]);
            if let Some(open) = scalar.take_if(|open| line.column <= open.column && !line.whole.is_empty()) {
                open.close(text, found);
            }
            if line.column == self.column && !(name.is_empty() && value.is_empty()) {
                map = match name {
                    b"data" => Some(Map::Encoded),
                    b"stringData" => Some(Map::Plain),
                    _ => None,
                };
            } else if let Some(open) = &mut scalar {
                open.lines.extend((!line.whole.is_empty()).then_some(line.whole));
            } else if let Some(map) = map {
                if line.opens_scalar(text) {
                    scalar = Some(Scalar { name: line.name, column: line.column, map, lines: Vec::new() });
                } else if is_secret(name, value, map) {
                    found.push(line.value);
                }
            }
        }
        scalar.into_iter().for_each(|open| open.close(text, found));
    }
}

/// A block scalar of YAML that is a value.
struct Scalar {
    name: Range<usize>,
    column: usize,
    map: Map,
    lines: Vec<Range<usize>>,
}

impl Scalar {
    /// Appends its lines, if they are secret. Plain text of more than one line, or of words, is read as it is.
    fn close(self, text: &[u8], found: &mut Vec<Range<usize>>) {
        let value: Vec<u8> = self.lines.iter().flat_map(|line| text[line.clone()].iter().copied()).collect();
        let is_plain = self.map == Map::Plain;
        let is_text = is_plain && (self.lines.len() != 1 || value.contains(&b' '));
        if !is_text && is_secret(&text[self.name], &value, self.map) {
            found.extend(self.lines);
        }
    }
}

/// The maps of a Secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Map {
    /// `data`, in base64.
    Encoded,
    /// `stringData`.
    Plain,
}

/// True when a member of a map is to be kept secret.
fn is_secret(name: &[u8], value: &[u8], map: Map) -> bool {
    let stands_in = |value: &[u8]| is_placeholder(value) || is_masked(value) || has_example_word(value);
    let public = PUBLIC.iter().any(|public| public.as_bytes() == name);
    if public || value.len() < LEAST || stands_in(value) {
        return false;
    }
    if map == Map::Plain {
        return !name.is_empty();
    }
    let Ok(plain) = STANDARD.decode(value) else { return false };
    plain.len() >= LEAST && !stands_in(plain.trim_ascii()) && !plain.starts_with(b"-----BEGIN CERTIFICATE")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found in a text.
    fn values(text: &str) -> Vec<&str> {
        let places = |kind| memmem::find_iter(text.as_bytes(), kind);
        let mut kinds: Vec<usize> = super::super::lane::SECRET_KINDS.iter().flat_map(places).collect();
        kinds.retain(|at| is_kind(text.as_bytes(), *at));
        kinds.sort_unstable();
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
            "kind: 'Secret'\ndata:\n  'pin': QmxhdTQy\n",
            "\"kind\":  \"Secret\" # a note\n\"data\":\n  \"pin\": !!binary QmxhdTQy\n",
            "kind: !!str Secret\ndata:\n  pin: !!binary |-\n    QmxhdTQy\n  user: |\n    YWRhbGJlcnQ=\n",
            "data:\n  pin: QmxhdTQy\ntype: kubernetes.io/basic-auth\n",
            "{\"kind\":\"SecretList\",\"items\":[{\"metadata\":{},\"data\":{\"pin\":\"QmxhdTQy\"},\"type\":\"Opaque\"}]}",
            "{'apiVersion': 'v1', 'data': {'pin': 'QmxhdTQy'}, 'kind': 'Secret'}",
            "      last-applied: |\n        {\"data\":{\"pin\":\"QmxhdTQy\"},\"kind\":\"Secret\"}\n",
            "\"last-applied\": \"{\\\"data\\\":{\\\"pin\\\":\\\"QmxhdTQy\\\"},\\\"kind\\\":\\\"Secret\\\"}\\n\"",
            "\"{\\n  \\\"kind\\\": \\\"Secret\\\",\\n  \\\"data\\\": {\\n    \\\"pin\\\": \\\"QmxhdTQy\\\"\\n  }\\n}\"",
        ] {
            assert_eq!(values(text), ["QmxhdTQy"], "{text}");
        }
        let twice = "{\"data\":{\"pin\":\"QmxhdTQy\"},\"kind\":\"Secret\",\"metadata\":{\"annotations\":{\"a\":\"{\\\"data\\\":{\\\"pin\\\":\\\"QmxhdTQy\\\"},\\\"kind\\\":\\\"Secret\\\"}\"}}}";
        assert_eq!(values(twice), ["QmxhdTQy"; 2]);
        let folded = "kind: Secret\ndata:\n  pin: |\n    QmxhdTQyQm\n    xhdTQy\n\ntype: Opaque\n";
        assert_eq!(values(folded), ["QmxhdTQyQm", "xhdTQy"]);
        let scalar =
            "kind: Secret\nstringData:\n  pin: >-\n    Blau42\n  config: |\n    a: Blau43\n    b: c\n";
        assert_eq!(values(scalar), ["Blau42"]);
        let escaped =
            "\"{\\\"kind\\\":\\\"Secret\\\",\\\"stringData\\\":{\\\"a\\\":\\\"Bl\\\\\\\"au42\\\"}}\"";
        assert_eq!(values(escaped), ["Bl\\\\\\\"au42"]);
        let plain = "kind: Secret\nstringData:\n  pin: 'Blau42'\n  port: 54321\n  cert: |\n    text of many words\ntype: Opaque\n";
        assert_eq!(values(plain), ["Blau42"]);
        let signs = "kind: Secret\nstringData:\n  pin: Blau#42 # a sign\n  two: \"Rot \\\" # 42\" # quoted\n";
        assert_eq!(values(signs), ["Blau#42", "Rot \\\" # 42"]);
        assert_eq!(values("{\"kind\":\"Secret\",\"stringData\":{\"pin\":\"Blau42\"}}"), ["Blau42"]);
    }

    #[test]
    fn a_long_value_on_one_line_is_found_in_front_of_the_kind_and_behind_it() {
        let long = "QmxhdTQy".repeat(7 * 1024);
        for text in [
            format!("data:\n  pin: {long}\nkind: Secret\n"),
            format!("kind: Secret\ndata:\n  pin: {long}\n"),
            format!("{{\"kind\":\"Secret\",\"data\":{{\"pin\":\"{long}\"}}}}"),
        ] {
            assert_eq!(values(&text), [&long]);
        }
    }

    #[test]
    fn only_the_kind_of_a_secret_is_one() {
        for (before, text) in [
            ("", "kind: Secret"),
            ("", "kind:  'Secret' # note"),
            ("", "kind\":\"Secret\""),
            ("", "kind\" : \"Secret\","),
            ("", "kind\": 'Secret'"),
            ("\\\"", "kind\\\": \\\"Secret\\\""),
            ("type: ", "Opaque"),
            ("\\\"type\\\":\\\"", "kubernetes.io/tls"),
            ("type: bootstrap.", "kubernetes.io/token"),
        ] {
            assert!(is_kind(format!("{before}{text}").as_bytes(), before.len()), "{before}{text}");
        }
        for (before, text) in [
            ("", "kind: secret"),
            ("", "kind\": \"Pod\""),
            ("", "kind\""),
            ("", "kind: "),
            ("", "kind\", \"Secret\""),
            ("An ", "Opaque"),
            ("type: ", "kubernetes.io/name"),
        ] {
            assert!(!is_kind(format!("{before}{text}").as_bytes(), before.len()), "{before}{text}");
        }
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
            "{\"kind\":\"SecretList\",\"data\":{\"pin\":\"QmxhdTQy\"}}",
            "{\"kind\":\"ConfigMap\",\"data\":{\"pin\":\"QmxhdTQy\"},\"metadata\":{\"type\":\"Opaque\"}}",
            "kind: ConfigMap\ndata:\n  pin: QmxhdTQy\n  type: Opaque\n",
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
