//! What the owner reads of a request that waits: all of it, as text that neither moves nor hides anything.

use std::collections::BTreeSet;
use std::fmt;

use safety::finding::Kind;
use safety::{Blocked, Channel, Untrusted};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use types::limits::Bytes;
use types::{Digest, Refusal, Rule, Source, Trace};

use crate::decide::Policy;
use crate::proxied::Asked;
use crate::rules;

/// The longest card. Nobody reads more, and what is not read is not approved.
const LONGEST: Bytes = Bytes::kib(64);

/// How the line of a card begins that stands for a body that was not let through to a person.
pub const NOT_SHOWN: &str = "(the body is not shown: ";

impl Policy {
    /// The card of a request: where it goes, with which keys, its headers, a line of its own each, and its body on one line.
    ///
    /// # Errors
    /// A request that is too long to be read, or whose body reads in two ways.
    pub(super) fn card(&self, asked: &Asked, body: &[u8]) -> Result<String, Refusal> {
        let refuse = |rule: &'static Rule| Refusal::new(rule, asked.target.endpoint.to_string());
        if body.len() > LONGEST.as_usize() {
            return Err(refuse(&rules::HELD_UNSEEN));
        }
        if reads_in_two_ways(body) {
            return Err(refuse(&rules::HELD_TWICE));
        }
        let query = asked.target.query().map(|query| format!("?{query}")).unwrap_or_default();
        let names: Vec<String> = asked.claims.iter().map(|claim| claim.secret.to_string()).collect();
        let names = if names.is_empty() { "no key".to_owned() } else { names.join(", ") };
        let headers = asked.headers.iter();
        let headers: String =
            headers.map(|(name, value)| format!("\n{name}: {}", on_a_line(value.as_bytes()))).collect();
        let length = body.len();
        let head = format!("{}{query}\n{length} bytes of body, {names}{headers}", asked.target);
        let body = on_a_line(body);
        if head.len() + body.len() > LONGEST.as_usize() {
            return Err(refuse(&rules::HELD_UNSEEN));
        }
        // The program chose path, query, headers and body, so they are screened before they are kept for a person.
        let unseen = || refuse(&rules::HELD_UNSEEN);
        let head = self.shown(head).map_err(|blocked| blocked.refusal)?.ok_or_else(unseen)?;
        if body.is_empty() {
            return Ok(head);
        }
        let body = match self.shown(body) {
            Ok(body) => body.ok_or_else(unseen)?,
            Err(blocked) => format!("{NOT_SHOWN}{})", blocked.refusal.rule.id),
        };
        Ok(format!("{head}\n\n{body}"))
    }

    /// The text, screened; absent where a configured limit cut it.
    fn shown(&self, text: String) -> Result<Option<String>, Blocked> {
        let text = Untrusted::new(Source::Model, text);
        let (text, report) = self.catalog().safety().screen_and_tell(text, Channel::Reply, &Trace::off())?;
        let is_cut = report.findings.iter().any(|finding| finding.kind == Kind::Size);
        Ok((!is_cut).then(|| text.into_inner()))
    }
}

/// What an approval is bound to: where the request goes, with which secrets and headers, and its body.
pub(super) fn digest_of(asked: &Asked, body: &[u8]) -> Digest {
    let target = &asked.target;
    let headers = asked.headers.iter();
    // One part each, so that no value can be taken for another header.
    let headers: Vec<&[u8]> =
        headers.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]).collect();
    let claims = asked.claims.iter().map(|claim| format!("{} {}", claim.secret, claim.inject));
    let claims = claims.collect::<Vec<_>>().join("\n");
    Digest::of_parts([
        target.to_string().as_bytes(),
        target.query().unwrap_or_default().as_bytes(),
        claims.as_bytes(),
        Digest::of_parts(headers).as_bytes(),
        body,
    ])
}

/// Bytes as a person reads them, on one line: what would move or hide text, and what is no text, is written as an escape,
/// so that no value looks like another part of the card.
fn on_a_line(bytes: &[u8]) -> String {
    let is_plain = |c: char| c == ' ' || c.is_alphanumeric() || c.is_ascii_graphic();
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_plain(c) { out.push(c) } else { out.extend(c.escape_default()) }
        }
        out.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    out
}

/// True for JSON, or a row of it, in which an object has a name twice, in whatever case: of `{"to":"a","to":"b"}` some
/// programs read the first and some the last (RFC 8259, 4), and some match names without their case. And for what begins as
/// JSON and goes on as something that only some programs read: `NaN`, half a pair of surrogates, a hundred arrays in each other.
fn reads_in_two_ways(body: &[u8]) -> bool {
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let is_json = body.trim_ascii_start().first().is_some_and(|first| b"{[".contains(first));
    let values = serde_json::Deserializer::from_slice(body).into_iter::<Once>();
    values.filter_map(Result::err).any(|error| is_json || error.is_data())
}

/// Any JSON, of which nothing is kept, whose objects have each name once.
struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        json.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with each name once")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut names = BTreeSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name.to_lowercase()) {
                return Err(A::Error::custom("a name twice"));
            }
            members.next_value::<Self>()?;
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m12_bytes_are_one_line_that_neither_moves_nor_hides_anything() {
        assert_eq!(on_a_line(b"{\"to\": \"me\"}"), "{\"to\": \"me\"}");
        assert_eq!(
            on_a_line(b"a\nPOST https://good.example/\x1b[2J"),
            "a\\nPOST https://good.example/\\u{1b}[2J"
        );
        assert_eq!(on_a_line("\u{202e}\u{200b}é".as_bytes()), "\\u{202e}\\u{200b}é");
        assert_eq!(on_a_line(&[b'x'; 2000]), "x".repeat(2000));
        assert_eq!(on_a_line(&[0xff, b'a', 0xc2]), "\\xffa\\xc2");
    }

    #[test]
    fn a09_json_that_names_something_twice_is_known() {
        for twice in [
            r#"{"to":"alice","amount":1,"to":"mallory"}"#,
            r#"{"to":"alice","To":"mallory"}"#,
            r#"{"a":[{"b":{"c":1,"\u0063":2}}]}"#,
            "{\"a\":1}\n{\"b\":1,\"b\":2}",
            r#"{"a":1,"a":2"#,
            r#"{"x":NaN,"to":"alice","to":"mallory"}"#,
            r#"{"x":1e999,"to":"alice","to":"mallory"}"#,
            r#"{"x":"\ud800","to":"alice","to":"mallory"}"#,
            &format!("{{\"x\":{}1{},\"to\":1,\"to\":2}}", "[".repeat(130), "]".repeat(130)),
        ] {
            assert!(reads_in_two_ways(twice.as_bytes()), "{twice}");
        }
        for once in [
            r#"{"a":{"a":[{"b":1},{"b":null}]},"c":-1.5e3,"d":18446744073709551615,"e":true}"#,
            "to=a&to=b",
            "",
            "[1,\"x\",\"x\"]",
            "{\"a\":1}\n{\"a\":1}",
        ] {
            assert!(!reads_in_two_ways(once.as_bytes()), "{once}");
        }
    }
}
