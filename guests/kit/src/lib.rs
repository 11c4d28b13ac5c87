//! What a tool in Rust needs: the bindings of the contract in `wit/`, and a small HTTP client on top of `wasi:http`.
//!
//! ```ignore
//! struct Tool;
//! impl kit::Guest for Tool {
//!     fn call(arguments: String) -> Result<String, String> { Ok(arguments) }
//! }
//! kit::export!(Tool);
//! ```

mod http;

#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "tool",
        generate_all,
        pub_export_macro: true,
        default_bindings_module: "kit::bindings",
    });
}

pub use bindings::ironclaw::tool::{config, log, workspace};
pub use bindings::{Guest, export, wasi};
pub use http::{Response, get, send};

/// A setting of the manifest's `[config]` table.
pub fn setting(key: &str) -> Result<String, String> {
    config::get(key).ok_or_else(|| format!("the manifest's [config] has no `{key}`"))
}

/// One value made safe to stand in a query: RFC 3986's unreserved characters stay, the rest is escaped.
pub fn query_value(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
    out
}
