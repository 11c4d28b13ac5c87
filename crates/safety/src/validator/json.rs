//! JSON to the letter of RFC 8259, of bounded depth and without duplicate names. How long it may be is for the
//! channel to say that it arrives by.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use types::limits;

/// Why a text is not acceptable JSON. Quotes nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum JsonError {
    /// Not JSON, at this line and column.
    #[error("not JSON at line {line}, column {column}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in bytes.
        column: usize,
    },
    /// Nested more deeply than [`limits::MAX_DEPTH`].
    #[error("nested more deeply than {} levels", limits::MAX_DEPTH)]
    Depth,
    /// Two members of one object have the same name: programs disagree about which one counts.
    #[error("an object has two members of the same name")]
    Duplicate,
}

/// Reads a text that every program reads in the same way.
pub fn read(text: &str) -> Result<Value, JsonError> {
    check(text)?;
    serde_json::from_str(text).map_err(syntax)
}

/// Checks a text without building anything from it.
fn check(text: &str) -> Result<(), JsonError> {
    let mut fault = None;
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Walk { depth: 0, fault: &mut fault }.deserialize(&mut reader).and_then(|()| reader.end());
    match (read, fault) {
        (_, Some(fault)) => Err(fault),
        (Ok(()), None) => Ok(()),
        (Err(error), None) => Err(syntax(error)),
    }
}

fn syntax(error: serde_json::Error) -> JsonError {
    JsonError::Syntax { line: error.line(), column: error.column() }
}

/// Visits every value once, counting levels and comparing names.
struct Walk<'a> {
    depth: usize,
    fault: &'a mut Option<JsonError>,
}

impl<'a> Walk<'a> {
    fn deeper(&mut self) -> Option<Walk<'_>> {
        if self.depth == limits::MAX_DEPTH {
            *self.fault = Some(JsonError::Depth);
            return None;
        }
        Some(Walk { depth: self.depth + 1, fault: self.fault })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// An error whose text nobody reads: the fault is kept beside it.
fn stop<E: serde::de::Error>() -> E {
    E::custom("refused")
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        loop {
            let Some(walk) = self.deeper() else { return Err(stop()) };
            if items.next_element_seed(walk)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let mut names: HashSet<String> = HashSet::new();
        while let Some(name) = members.next_key::<String>()? {
            if !names.insert(name) {
                *self.fault = Some(JsonError::Duplicate);
                return Err(stop());
            }
            let Some(walk) = self.deeper() else { return Err(stop()) };
            members.next_value_seed(walk)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_what_the_standard_accepts_and_refuses_the_rest() {
        for good in ["{}", "[1, 2.5e3, -0]", r#"{"a":{"a":1},"b":[{"a":2}]}"#, "null", " \"\\u00e9\" "] {
            assert_eq!(read(good), Ok(serde_json::from_str(good).unwrap()), "{good}");
        }
        for bad in ["", "{", "[1,]", "{'a':1}", "01", "nul", "{} {}", "\"\\x\"", "NaN"] {
            assert!(matches!(read(bad), Err(JsonError::Syntax { .. })), "{bad}");
        }
    }

    #[test]
    fn bounds_hold() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(check(&nested(limits::MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(limits::MAX_DEPTH + 2)), Err(JsonError::Depth));
        assert!(check(&nested(100_000)).is_err());
        assert_eq!(check(r#"{"a":1,"\u0061":2}"#), Err(JsonError::Duplicate));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]{}\",:0-9a\\\\u ]{0,60}") {
            let _ = read(&text);
        }
    }
}
