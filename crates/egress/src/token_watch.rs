//! Tokens where none may come: at a host whose tokens the owner has captured, in the answer from another place of it.
//!
//! A server may take `/Token`, `/token/` or another method for the place that a rule captures, and a broader rule may let
//! such a request through. Which spellings it takes nobody else can know, so the answers are looked at: one that names a
//! token as a token endpoint does (RFC 6749, 5.1; as a form, as some services answer unasked; in an address, 4.2.2; in XML;
//! or in a form of HTML, as OAuth 2.0 Form Post Response Mode has it) ends before its value.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use types::{Outbound, Refusal, Tokens};

use crate::rules;

/// The members that are tokens.
const NAMES: [&str; 3] = ["access_token", "refresh_token", "id_token"];

/// The longest of them.
const LONGEST: usize = 13;

/// Bytes before a name that say where it stands: a quote that is escaped, or the prefix of an element.
const BEFORE: usize = 40;

/// White space that may stand in one place. Who writes more wants it not to be read.
const MOST_SPACE: usize = 64;

/// Bytes of a tag behind a name in it.
const MOST_TAG: usize = 512;

/// Members with which an object is about a token, and is not one: those of JSON Schema and of OpenAPI.
const ABOUT: [&[u8]; 16] = [
    b"type",
    b"description",
    b"title",
    b"$ref",
    b"format",
    b"example",
    b"examples",
    b"default",
    b"enum",
    b"anyOf",
    b"oneOf",
    b"allOf",
    b"properties",
    b"items",
    b"nullable",
    b"required",
];

static FIND: LazyLock<Option<AhoCorasick>> =
    LazyLock::new(|| AhoCorasick::builder().ascii_case_insensitive(true).build(NAMES).ok());

/// Reads an answer along.
pub(crate) struct TokenWatch {
    /// The end of what was read, in which a match may have begun.
    tail: Vec<u8>,
    /// Where in it the names begin that were not judged yet.
    from: usize,
    /// Whether that is the beginning of the answer, too.
    begins: bool,
    refusal: Refusal,
}

/// Whether what follows a name makes it a token's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Follows {
    Value,
    Nothing,
    /// What is here does not tell.
    Unknown,
}

impl TokenWatch {
    /// For the answer to a request in which no token may come; `None` for every other.
    pub(crate) fn of(effect: &Outbound) -> Option<Self> {
        if effect.tokens != Tokens::Refuse {
            return None;
        }
        let (endpoint, path) = (&effect.target.endpoint, &effect.target.path);
        let detail = format!("from {endpoint}{path}; it was not passed on");
        let refusal = Refusal::new(&rules::UNCAPTURED_TOKEN, detail).widened_by(format!(
            "add a rule with path = \"{path}\" and capture = {{ access_token = \"NAME\" }} for {endpoint} to the rules file"
        ));
        Some(Self { tail: Vec::new(), from: 0, begins: true, refusal })
    }

    /// Reads the next bytes. None of a token has passed when one is found.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.tail.extend_from_slice(bytes);
        // From here on names may be cut off.
        let mut open = self.tail.len().saturating_sub(LONGEST - 1).max(self.from);
        let mut unknown = None;
        for found in FIND.iter().flat_map(|find| find.find_iter(&self.tail[self.from..])) {
            let (start, end) = (self.from + found.start(), self.from + found.end());
            let stands = Stands::after(&self.tail[..start], self.begins);
            match stands.and_then(|stands| stands.judge(&self.tail[end..])) {
                Err(Follows::Nothing) => open = open.max(end),
                Err(Follows::Value) | Ok(()) => return Err(self.refusal.clone()),
                Err(Follows::Unknown) => unknown = unknown.or(Some(start)),
            }
        }
        let open = unknown.unwrap_or(open);
        let gone = open.saturating_sub(BEFORE);
        self.tail.drain(..gone);
        self.from = open - gone;
        self.begins &= gone == 0;
        Ok(())
    }
}

/// Where a name stands, by what is before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stands {
    /// In quotes, as a member's name does in JSON.
    Quoted,
    /// As a parameter of a form or an address.
    Parameter,
    /// As the value of an attribute, as a field's name does in HTML.
    Attribute,
    /// As the name of an element.
    Element,
}

impl Stands {
    fn after(before: &[u8], begins: bool) -> Result<Self, Follows> {
        match before {
            [] if begins => Ok(Self::Parameter),
            [.., b'?' | b'&' | b'#' | b';'] => Ok(Self::Parameter),
            [.., b'<'] => Ok(Self::Element),
            [before @ .., b':'] => {
                let prefix = before.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
                match before[..before.len() - prefix].ends_with(b"<") {
                    true => Ok(Self::Element),
                    false => Err(Follows::Nothing),
                }
            }
            [.., b'='] => Ok(Self::Attribute),
            [before @ .., b'"' | b'\''] => {
                let escapes = before.iter().rev().take_while(|byte| **byte == b'\\').count();
                match before[..before.len() - escapes].ends_with(b"=") {
                    true => Ok(Self::Attribute),
                    false => Ok(Self::Quoted),
                }
            }
            _ => Err(Follows::Nothing),
        }
    }

    /// Whether a value follows. What says no is the error, as far as it is here.
    fn judge(self, rest: &[u8]) -> Result<(), Follows> {
        let mut rest = Rest(rest);
        match self {
            Self::Parameter => {
                rest.one(b"=")?;
                rest.is_not(b"&\"'<")
            }
            Self::Quoted => {
                rest.quote()?;
                rest.spaces()?;
                rest.one(b":")?;
                rest.spaces()?;
                rest.member()
            }
            Self::Attribute => rest.field(),
            Self::Element => rest.element(),
        }
    }
}

/// What stands behind a name, read as far as it is here.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn peek(&self) -> Result<u8, Follows> {
        self.0.first().copied().ok_or(Follows::Unknown)
    }

    fn next(&mut self) -> Result<u8, Follows> {
        let byte = self.peek()?;
        self.0 = &self.0[1..];
        Ok(byte)
    }

    fn one(&mut self, of: &[u8]) -> Result<(), Follows> {
        match of.contains(&self.next()?) {
            true => Ok(()),
            false => Err(Follows::Nothing),
        }
    }

    fn is_not(&self, none: &[u8]) -> Result<(), Follows> {
        let byte = self.peek()?;
        match none.contains(&byte) || byte.is_ascii_whitespace() {
            true => Err(Follows::Nothing),
            false => Ok(()),
        }
    }

    fn spaces(&mut self) -> Result<(), Follows> {
        for _ in 0..MOST_SPACE {
            if !self.peek()?.is_ascii_whitespace() {
                return Ok(());
            }
            self.next()?;
        }
        Err(Follows::Value)
    }

    /// A quote, which may be escaped where the text stands in another one.
    fn quote(&mut self) -> Result<(), Follows> {
        for _ in 0..4 {
            if self.peek()? != b'\\' {
                break;
            }
            self.next()?;
        }
        self.one(b"\"'")
    }

    /// The value of a member: a text that is not empty, by itself, in an array or in an object that is not about it.
    fn member(&mut self) -> Result<(), Follows> {
        if self.peek()? == b'[' {
            self.next()?;
            self.spaces()?;
        }
        if self.peek()? != b'{' {
            self.quote()?;
            // An escaped quote ends the text, too.
            return match self.0 {
                [b'\\'] => Err(Follows::Unknown),
                [b'\\', b'"' | b'\'', ..] => Err(Follows::Nothing),
                _ => self.is_not(b"\"'"),
            };
        }
        self.next()?;
        self.spaces()?;
        self.quote()?;
        let longest = ABOUT.iter().map(|name| name.len()).max().unwrap_or_default();
        let name = self.0.iter().take(longest + 1).take_while(|byte| !b"\\\"'".contains(byte)).count();
        match name {
            all if all == self.0.len() && all <= longest => Err(Follows::Unknown),
            _ if ABOUT.contains(&&self.0[..name]) => Err(Follows::Nothing),
            _ => Ok(()),
        }
    }

    /// The rest of a tag whose field has the name, as far as its `value`.
    fn field(&mut self) -> Result<(), Follows> {
        match b"\\\"'".contains(&self.peek()?) {
            true => self.quote()?,
            false if self.peek()?.is_ascii_whitespace() => {}
            false => return Err(Follows::Nothing),
        }
        let tag = &self.0[..self.0.len().min(MOST_TAG)];
        let end = tag.iter().position(|byte| *byte == b'>');
        let within = &tag[..end.unwrap_or(tag.len())];
        let value = within.windows(5).position(|word| word.eq_ignore_ascii_case(b"value"));
        let Some(value) = value else {
            return match end.is_some() || tag.len() == MOST_TAG {
                true => Err(Follows::Nothing),
                false => Err(Follows::Unknown),
            };
        };
        self.0 = &self.0[value + 5..];
        self.spaces()?;
        self.one(b"=")?;
        self.spaces()?;
        if b"\\\"'".contains(&self.peek()?) {
            self.quote()?;
        }
        self.is_not(b"\\\"'>")
    }

    /// The rest of an element's tag, and its text.
    fn element(&mut self) -> Result<(), Follows> {
        if self.peek()?.is_ascii_whitespace() {
            let end = self.0.iter().take(MOST_TAG).position(|byte| *byte == b'>');
            match end {
                Some(end) if self.0[..end].ends_with(b"/") => return Err(Follows::Nothing),
                Some(end) => self.0 = &self.0[end..],
                None if self.0.len() < MOST_TAG => return Err(Follows::Unknown),
                None => return Err(Follows::Nothing),
            }
        }
        self.one(b">")?;
        self.spaces()?;
        match self.0 {
            [b'<'] => Err(Follows::Unknown),
            // Characters as they are (XML, 2.7).
            [b'<', next, ..] if *next != b'!' => Err(Follows::Nothing),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> TokenWatch {
        let refusal = Refusal::new(&rules::UNCAPTURED_TOKEN, "");
        TokenWatch { tail: Vec::new(), from: 0, begins: true, refusal }
    }

    fn finds(pieces: &[&[u8]]) -> bool {
        let mut watch = watch();
        pieces.iter().any(|piece| watch.read(piece).is_err())
    }

    #[test]
    fn c14_a_token_is_known_by_its_name_however_it_is_cut() {
        for text in [
            r#"{"scope":"a","access_token":"t0"}"#,
            "{\n  \"refresh_token\" : \"t0\"\n}",
            r#"{"id_token":"t0"}"#,
            "access_token=t0&scope=a",
            "scope=a&access_token=t0",
            "https://a.example/#access_token=t0",
            "<OAuth><access_token>t0</access_token></OAuth>",
            r#"{"access_token":["t0"]}"#,
            r#"{"ACCESS_TOKEN":"t0"}"#,
            r#"{"body":"{\"access_token\":\"t0\"}"}"#,
            "{'id_token': 't0'}",
            "<a href='/x?a=1&amp;access_token=t0'>",
            r#"<form><input type="hidden" name="access_token" value="t0"/></form>"#,
            "<input type='hidden' name='access_token' value='t0'/>",
            r#"<INPUT NAME="id_token" TYPE="hidden" VALUE="t0">"#,
            "<input name=refresh_token type=hidden value=t0>",
            r#"<access_token type="string">t0</access_token>"#,
            "<o:access_token>\n  t0</o:access_token>",
        ] {
            let text = text.as_bytes();
            assert!(finds(&[text]), "{text:?}");
            let value = text.windows(2).position(|at| at == b"t0").unwrap();
            for cut in 0..text.len() {
                let mut watch = watch();
                let first = watch.read(&text[..cut]);
                assert_eq!(first.is_err(), cut > value, "{cut} of {text:?}");
                assert!(first.is_err() || watch.read(&text[cut..]).is_err(), "{cut} of {text:?}");
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert!(finds(&bytes), "{text:?}");
        }
    }

    /// Where the value is not the next thing, the answer ends with what comes before it.
    #[test]
    fn c14_a_token_in_an_object_or_as_it_is_ends_the_answer_before_its_value() {
        for text in [
            r#"{"access_token":{"value":"t0"}}"#,
            r#"{"access_token" : [ {"token":"t0"} ]}"#,
            r#"{"access_token":{"S":"t0"}}"#,
            "<access_token><![CDATA[t0]]></access_token>",
        ] {
            let value = text.find("t0").unwrap();
            let mut watch = watch();
            let ended = text.bytes().position(|byte| watch.read(&[byte]).is_err());
            assert!(ended.is_some_and(|ended| ended <= value), "{text}");
            assert!(finds(&[text.as_bytes()]), "{text}");
        }
    }

    /// What does not tell is not gathered without end.
    #[test]
    fn c14_what_is_kept_is_bounded() {
        for text in [
            "\"access_token\" ",
            "name=\"access_token\" x",
            "<access_token x",
            "access_token",
            "{\"id_token\":{\"x",
        ] {
            let mut watch = watch();
            let _ = watch.read(text.as_bytes());
            for _ in 0..1000 {
                if watch.read(b"xxxx xxxx").is_err() {
                    break;
                }
            }
            assert!(watch.tail.len() < BEFORE + LONGEST + 4 * MOST_SPACE + MOST_TAG, "{text}");
        }
    }

    #[test]
    fn c14_what_is_written_about_tokens_is_none() {
        for text in [
            r#"{"properties":{"access_token":{"type":"string"},"id_token":null,"refresh_token":""}}"#,
            r#"{"error":"the access_token= parameter is missing"}"#,
            "an \"access_token\" and a \"refresh_token\" are given out",
            "access_token=&scope=a",
            "<access_token></access_token>",
            "<access_token type=\"string\"/> <access_token> </access_token>",
            r#"{"access_token":[],"id_token":[null],"refresh_token":{}}"#,
            r#"{"id_token":{"$ref":"/Token"},"access_token":[{"description":"a token"}]}"#,
            r#"{"body":"{\"access_token\":\"\"}"}"#,
            r#"{"required":["access_token","id_token"]}"#,
            r#"<input name="access_token" type="text" value=""> <input name="a" value="t0">"#,
            r#"<label for="access_token">A token</label> value="t0""#,
            "valid_token=t0 and xid_token=t0",
            "<a href='/x?response_type=id_token&value=t0'>",
        ] {
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert!(!finds(&[text.as_bytes()]) && !finds(&bytes), "{text}");
        }
    }
}
