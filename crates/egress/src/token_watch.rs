//! Tokens where none may come: at a host whose tokens the owner has captured, in the answer from another place of it.
//!
//! A server may take `/Token`, `/token/` or another method for the place that a rule captures, and a broader rule may let
//! such a request through. Which spellings it takes nobody else can know, so the answers are looked at: one that names a
//! token as a token endpoint does (RFC 6749, 5.1; as a form, as some services answer unasked; in an address, 4.2.2; or
//! in XML) ends before its value.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use types::{Outbound, Refusal, Tokens};

use crate::rules;

/// The members that are tokens, each as the beginning of a match.
const NAMES: [&str; 9] = [
    "\"access_token\"",
    "\"refresh_token\"",
    "\"id_token\"",
    "access_token=",
    "refresh_token=",
    "id_token=",
    "<access_token>",
    "<refresh_token>",
    "<id_token>",
];

/// The longest of them.
const LONGEST: usize = 15;

/// White space that may stand around a colon. Who writes more wants it not to be read.
const MOST_SPACE: usize = 64;

static FIND: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| AhoCorasick::new(NAMES).ok());

/// Reads an answer along.
pub(crate) struct TokenWatch {
    /// The end of what was read, in which a match may have begun.
    tail: Vec<u8>,
    /// Whether that is the beginning of the answer, too.
    begins: bool,
    refusal: Refusal,
}

/// Whether what follows a name makes it a token's.
#[derive(PartialEq, Eq)]
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
        Some(Self { tail: Vec::new(), begins: true, refusal })
    }

    /// Reads the next bytes. None of a token has passed when one is found.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.tail.extend_from_slice(bytes);
        let mut keep = LONGEST;
        for found in FIND.iter().flat_map(|find| find.find_iter(&self.tail)) {
            let is_first = found.start() == 0 && self.begins;
            let before = found.start().checked_sub(1).map(|at| self.tail[at]);
            let is_form = self.tail[found.end() - 1] == b'=';
            if is_form && !is_first && !before.is_some_and(|before| b"?&#".contains(&before)) {
                continue;
            }
            match follows(&self.tail[found.end() - 1..]) {
                Follows::Value => return Err(self.refusal.clone()),
                Follows::Nothing => {}
                Follows::Unknown => keep = keep.max(self.tail.len() - found.start() + 1),
            }
        }
        if self.tail.len() > keep {
            self.begins = false;
            self.tail.drain(..self.tail.len() - keep);
        }
        Ok(())
    }
}

/// What follows the last byte of a name, which comes first.
fn follows(text: &[u8]) -> Follows {
    let Some((last, rest)) = text.split_first() else { return Follows::Unknown };
    let value = |rest: &[u8], not: &[u8]| match rest.first() {
        None => Follows::Unknown,
        Some(byte) if not.contains(byte) || byte.is_ascii_whitespace() => Follows::Nothing,
        Some(_) => Follows::Value,
    };
    let spaced =
        |rest: &[u8]| rest.iter().take(MOST_SPACE).take_while(|byte| byte.is_ascii_whitespace()).count();
    match last {
        b'=' => value(rest, b"&\"'<"),
        b'>' => value(rest, b"<"),
        _ => {
            let colon = spaced(rest);
            let quote = colon + 1 + spaced(rest.get(colon + 1..).unwrap_or_default());
            match (rest.get(colon), rest.get(quote)) {
                _ if colon == MOST_SPACE || quote > MOST_SPACE => Follows::Value,
                (Some(b':'), Some(b'"')) => value(&rest[quote + 1..], b"\""),
                (None, _) | (Some(b':'), None) => Follows::Unknown,
                _ => Follows::Nothing,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(pieces: &[&[u8]]) -> bool {
        let refusal = Refusal::new(&rules::UNCAPTURED_TOKEN, "");
        let mut watch = TokenWatch { tail: Vec::new(), begins: true, refusal };
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
        ] {
            let text = text.as_bytes();
            assert!(finds(&[text]), "{text:?}");
            let value = text.windows(2).position(|at| at == b"t0").unwrap();
            for cut in 0..text.len() {
                let mut watch = TokenWatch {
                    tail: Vec::new(),
                    begins: true,
                    refusal: Refusal::new(&rules::UNCAPTURED_TOKEN, ""),
                };
                let first = watch.read(&text[..cut]);
                assert_eq!(first.is_err(), cut > value, "{cut} of {text:?}");
                assert!(first.is_err() || watch.read(&text[cut..]).is_err(), "{cut} of {text:?}");
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert!(finds(&bytes), "{text:?}");
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
        ] {
            let bytes: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
            assert!(!finds(&[text.as_bytes()]) && !finds(&bytes), "{text}");
        }
    }
}
