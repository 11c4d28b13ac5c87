//! Tools as small as they get: a component that answers every call with the same text.

use std::fmt::Write as _;

/// A component that answers with this text, as a result or as an error.
pub(crate) fn answering(text: &str, is_error: bool) -> Vec<u8> {
    let bytes = text.bytes().fold(String::new(), |mut out, byte| {
        write!(out, "\\{byte:02x}").unwrap();
        out
    });
    let wat = format!(
        r#"(component
          (core module $m
            (memory (export "memory") 4)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 131072))
            (func (export "call") (param i32 i32) (result i32)
              (i32.store8 (i32.const 8) (i32.const {tag}))
              (i32.store (i32.const 12) (i32.const 1024))
              (i32.store (i32.const 16) (i32.const {length}))
              (i32.const 8))
            (data (i32.const 1024) "{bytes}"))
          (core instance $i (instantiate $m))
          (func $call (param "arguments" string) (result (result string (error string)))
            (canon lift (core func $i "call") (memory (core memory $i "memory"))
              (realloc (core func $i "cabi_realloc")) string-encoding=utf8))
          (export "call" (func $call)))"#,
        tag = u8::from(is_error),
        length = text.len(),
    );
    wat::parse_str(wat).unwrap()
}
