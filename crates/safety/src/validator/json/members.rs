//! The names of members, read along a text without building anything from it: a tree of hostile JSON takes sixty times
//! the length of its text.
//!
//! This is a reader of what may be JSON, not a check. It goes on behind mistakes and at any depth, since the server that
//! a text is for may do so as well.

use std::borrow::Cow;

/// A member of an object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member<'a> {
    /// Its name, escapes read.
    pub name: Cow<'a, str>,
    /// Objects and arrays around it: 1 in the outermost object.
    pub depth: usize,
    /// Whether its value is a number, or a text that is not empty.
    pub is_filled: bool,
}

/// The members of all objects in a text, in its order.
pub fn members(text: &[u8]) -> Members<'_> {
    Members { rest: text, depth: 0 }
}

/// See [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    rest: &'a [u8],
    depth: usize,
}

impl<'a> Iterator for Members<'a> {
    type Item = Member<'a>;

    fn next(&mut self) -> Option<Member<'a>> {
        loop {
            let at = self.rest.iter().position(|byte| b"\"{}[]".contains(byte))?;
            let (mark, rest) = (self.rest[at], &self.rest[at + 1..]);
            self.rest = rest;
            match mark {
                b'{' | b'[' => self.depth += 1,
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {
                    let length = length(rest)?;
                    self.rest = &rest[length + 1..];
                    if let Some((b':', value)) = self.rest.trim_ascii_start().split_first() {
                        let (name, is_filled) = (unescaped(&rest[..length]), is_filled(value));
                        return Some(Member { name, depth: self.depth, is_filled });
                    }
                }
            }
        }
    }
}

/// Bytes of a string up to the quote that ends it.
fn length(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += text.get(at..)?.iter().position(|byte| b"\"\\".contains(byte))?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// What the inside of a string says; as it is written where that is not to be read.
fn unescaped(inside: &[u8]) -> Cow<'_, str> {
    if inside.contains(&b'\\') {
        let quoted = [b"\"", inside, b"\""].concat();
        if let Ok(text) = serde_json::from_slice::<String>(&quoted) {
            return Cow::Owned(text);
        }
    }
    String::from_utf8_lossy(inside)
}

fn is_filled(value: &[u8]) -> bool {
    match value.trim_ascii_start() {
        [b'"', next, ..] => *next != b'"',
        [first, ..] => *first == b'-' || first.is_ascii_digit(),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn names(text: &str) -> Vec<(String, usize, bool)> {
        members(text.as_bytes())
            .map(|found| (found.name.into_owned(), found.depth, found.is_filled))
            .collect()
    }

    #[test]
    fn members_are_told_from_what_looks_like_them() {
        let of = |list: &[(&str, usize, bool)]| -> Vec<(String, usize, bool)> {
            list.iter().map(|(name, depth, filled)| ((*name).to_owned(), *depth, *filled)).collect()
        };
        let text = r#"{"a" : "x", "b":[{"c":-1}, "d", {"\u0065\"":""}], "f":"\"g\":{", "h":{}, "i":null}"#;
        let expected = [
            ("a", 1, true),
            ("b", 1, false),
            ("c", 3, true),
            ("e\"", 3, false),
            ("f", 1, true),
            ("h", 1, false),
            ("i", 1, false),
        ];
        assert_eq!(names(text), of(&expected));
        // A byte order mark, a mistake and many levels keep nobody from reading on.
        let deep = format!("\u{feff}{{\"x\":{}{}, oops, \"key\":\"v\"}}", "[".repeat(500), "]".repeat(500));
        assert_eq!(names(&deep), of(&[("x", 1, false), ("key", 1, true)]));
        for text in ["", "\"", "\"\\", "{\"a", "{\"a\"", "\"\\\"", "]}"] {
            assert_eq!(names(text), of(&[]), "{text}");
        }
        assert_eq!(names("{\"a\":"), of(&[("a", 1, false)]));
    }

    fn of_tree(value: &Value, depth: usize, found: &mut Vec<(String, usize, bool)>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| of_tree(item, depth + 1, found)),
            Value::Object(fields) => {
                for (name, field) in fields {
                    let filled = field.is_number() || field.as_str().is_some_and(|text| !text.is_empty());
                    found.push((name.clone(), depth + 1, filled));
                    of_tree(field, depth + 1, found);
                }
            }
            _ => {}
        }
    }

    fn tree() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "[\"\\\\:{}a\u{e9}\n]{0,4}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[\"\\\\:,ab]{0,4}", inner, 0..5)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_members_of_a_text_are_those_of_its_tree(tree in tree(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&tree) } else { serde_json::to_string(&tree) };
            let mut expected = Vec::new();
            of_tree(&tree, 0, &mut expected);
            prop_assert_eq!(names(&text.unwrap()), expected);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(prop::sample::select(&b"\"\\{}[]:a1- \xff"[..]), 0..40)) {
            prop_assert!(members(&bytes).count() <= bytes.len());
        }
    }
}
