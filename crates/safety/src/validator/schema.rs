//! Tool arguments against the JSON Schema of their tool. Schemas resolve nothing outside
//! themselves, and their patterns run in linear time.

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;
use types::limits;

/// Longest schema in bytes of compact JSON. The longest of a public tool catalogue is 20 KB.
const MAX_SCHEMA: usize = 64 * 1024;

/// Why a schema was refused. Quotes nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaError {
    /// Longer than 64 KiB.
    #[error("the schema is longer than {MAX_SCHEMA} bytes")]
    TooLong,
    /// Nested more deeply than [`limits::MAX_DEPTH`].
    #[error("the schema is nested more deeply than {} levels", limits::MAX_DEPTH)]
    Depth,
    /// Not a JSON Schema, or one that refers to something outside itself.
    #[error("the schema is not a self-contained JSON Schema")]
    Invalid,
}

/// Why arguments were refused. Names places by number, quotes nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ArgumentsError {
    /// Nested more deeply than [`limits::MAX_DEPTH`].
    #[error("the arguments are nested more deeply than {} levels", limits::MAX_DEPTH)]
    Depth,
    /// They do not fit the schema in this many places.
    #[error("the arguments do not fit the tool's schema: {keyword} ({count} in all)")]
    Mismatch {
        /// What the schema asks for at the first place: `required`, `type`, `enum`...
        keyword: &'static str,
        /// Places that do not fit, at most 16 counted.
        count: usize,
    },
}

/// The schema of a tool's parameters, checked and compiled.
#[derive(Debug)]
pub struct CompiledSchema(Validator);

impl CompiledSchema {
    /// Compiles a schema (draft 2020-12 unless it says otherwise).
    pub fn new(schema: &Value) -> Result<Self, SchemaError> {
        if schema.to_string().len() > MAX_SCHEMA {
            return Err(SchemaError::TooLong);
        }
        if depth(schema) > limits::MAX_DEPTH {
            return Err(SchemaError::Depth);
        }
        let options = jsonschema::options()
            .with_retriever(Nothing)
            .with_pattern_options(PatternOptions::regex().size_limit(1 << 18));
        options.build(schema).map(Self).map_err(|_| SchemaError::Invalid)
    }
}

/// Checks arguments against the schema of their tool.
pub fn arguments(schema: &CompiledSchema, value: &Value) -> Result<(), ArgumentsError> {
    if depth(value) > limits::MAX_DEPTH {
        return Err(ArgumentsError::Depth);
    }
    let mut errors = schema.0.iter_errors(value).take(16);
    match errors.next() {
        None => Ok(()),
        Some(first) => {
            let keyword = KEYWORDS.iter().copied().find(|known| *known == first.kind().keyword());
            Err(ArgumentsError::Mismatch {
                keyword: keyword.unwrap_or("another rule"),
                count: 1 + errors.count(),
            })
        }
    }
}

/// Levels of arrays and objects in a value.
pub(crate) fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// The words an error may name.
const KEYWORDS: [&str; 18] = [
    "required",
    "type",
    "enum",
    "const",
    "additionalProperties",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "format",
    "oneOf",
    "anyOf",
    "uniqueItems",
    "multipleOf",
    "not",
];

/// Resolves nothing: a schema from outside must not make the host read or fetch.
struct Nothing;

impl Retrieve for Nothing {
    fn retrieve(&self, _: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("a schema may not refer to anything outside itself".into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_held_to_their_schema() {
        let schema = CompiledSchema::new(&json!({
            "type": "object",
            "properties": { "city": { "type": "string", "pattern": "^[A-Z]" } },
            "required": ["city"],
            "additionalProperties": false,
        }))
        .unwrap();
        assert_eq!(arguments(&schema, &json!({ "city": "Beijing" })), Ok(()));
        let wrong = |value| match arguments(&schema, &value) {
            Err(ArgumentsError::Mismatch { keyword, .. }) => keyword,
            other => panic!("{other:?}"),
        };
        assert_eq!(wrong(json!({})), "required");
        assert_eq!(wrong(json!({ "city": 1 })), "type");
        assert_eq!(wrong(json!({ "city": "beijing" })), "pattern");
        assert_eq!(wrong(json!({ "city": "Beijing", "x": 1 })), "additionalProperties");
        assert_eq!(wrong(json!([])), "type");
    }

    #[test]
    fn schemas_reach_nothing_outside_themselves() {
        for reference in ["https://example.com/s.json", "file:///etc/passwd", "other.json"] {
            let schema = json!({ "properties": { "a": { "$ref": reference } } });
            assert_eq!(CompiledSchema::new(&schema).err(), Some(SchemaError::Invalid), "{reference}");
        }
        let local = json!({ "$defs": { "n": { "type": "integer" } }, "properties": { "a": { "$ref": "#/$defs/n" } } });
        assert!(CompiledSchema::new(&local).is_ok());
    }

    #[test]
    fn hostile_schemas_are_refused() {
        let mut deep = json!({});
        for _ in 0..200 {
            deep = json!({ "items": deep });
        }
        assert_eq!(CompiledSchema::new(&deep).err(), Some(SchemaError::Depth));
        assert_eq!(CompiledSchema::new(&json!({ "type": "zebra" })).err(), Some(SchemaError::Invalid));
        assert_eq!(
            CompiledSchema::new(&json!({ "title": "x".repeat(70_000) })).err(),
            Some(SchemaError::TooLong)
        );
        // A pattern that would backtrack for years does not compile, or runs in linear time.
        let schema = CompiledSchema::new(&json!({ "pattern": "^(a+)+$" })).unwrap();
        assert!(arguments(&schema, &json!("a".repeat(50_000) + "!")).is_err());
    }
}
