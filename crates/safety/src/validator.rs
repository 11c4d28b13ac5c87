//! Form: lengths, characters, JSON, XML, and tool arguments against their schema.

pub(crate) mod characters;
mod hidden;
pub mod json;
pub mod schema;
pub(crate) mod xml;

pub use schema::{ArgumentsError, CompiledSchema, SchemaError, arguments};
