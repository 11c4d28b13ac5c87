//! JSON to the letter of RFC 8259, of bounded depth and without duplicate names. How long it may be is for the
//! channel to say that it arrives by.

mod members;

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use types::limits;

pub use members::{Member, Members, members};

/// Values in one text. A tree of so many takes ten megabytes or so; arguments of tools have a hundred.
const MAX_VALUES: usize = 65_536;

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
    /// So many values that a tree of them would take much more room than the text.
    #[error("more than {MAX_VALUES} values")]
    Values,
    /// Two members of one object have the same name: programs disagree about which one counts.
    #[error("an object has two members of the same name")]
    Duplicate,
}

/// Reads a text that every program reads in the same way.
pub fn read(text: &str) -> Result<Value, JsonError> {
    check(text)?;
    serde_json::from_str(text).map_err(syntax)
}

/// True for a text that is one object, whatever is in it. Nothing is built from it, and it may be of any depth.
pub fn is_object(text: &[u8]) -> bool {
    text.trim_ascii_start().first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// Checks a text without building anything from it.
fn check(text: &str) -> Result<(), JsonError> {
    let (mut fault, mut left) = (None, MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = Walk { depth: 0, left: &mut left, fault: &mut fault }
        .deserialize(&mut reader)
        .and_then(|()| reader.end());
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
    left: &'a mut usize,
    fault: &'a mut Option<JsonError>,
}

impl<'a> Walk<'a> {
    fn deeper(&mut self) -> Option<Walk<'_>> {
        if self.depth == limits::MAX_DEPTH {
            *self.fault = Some(JsonError::Depth);
            return None;
        }
        Some(Walk { depth: self.depth + 1, left: self.left, fault: self.fault })
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Some(left) = self.left.checked_sub(1) else {
            *self.fault = Some(JsonError::Values);
            return Err(stop());
        };
        *self.left = left;
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
    fn one_object_is_told_from_everything_else() {
        let deep = format!(" {{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for text in ["{}", " {\"a\":[{\"b\":1}]} ", &deep] {
            assert!(is_object(text.as_bytes()), "{}", text.len());
        }
        for text in ["", "[{}]", "{", "{} {}", "{a:1}", "null", "\"{}\""] {
            assert!(!is_object(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn bounds_hold() {
        let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        assert_eq!(check(&nested(limits::MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(limits::MAX_DEPTH + 2)), Err(JsonError::Depth));
        assert!(check(&nested(100_000)).is_err());
        assert_eq!(check(r#"{"a":1,"\u0061":2}"#), Err(JsonError::Duplicate));
        let values = |count: usize| format!("[{}0]", r#"{},"#.repeat(count - 2));
        assert_eq!(check(&values(MAX_VALUES)), Ok(()));
        assert_eq!(check(&values(MAX_VALUES + 1)), Err(JsonError::Values));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]{}\",:0-9a\\\\u ]{0,60}") {
            let _ = read(&text);
        }
    }
}
