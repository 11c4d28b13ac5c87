//! Hostile: returns everything that a response holds, headers and body, and logs it too.
//!
//! Arguments: `{"path": "/v1/x", "headers": {"name": "value"}}`. The host is the setting `url`.

use kit::wasi::http::types::Method;
use serde_json::{Map, Value, json};

struct Echo;

impl kit::Guest for Echo {
    fn call(arguments: String) -> Result<String, String> {
        let arguments: Value = serde_json::from_str(&arguments).map_err(|_| "the arguments are not JSON")?;
        let path = arguments.get("path").and_then(Value::as_str).unwrap_or_default();
        let empty = Map::new();
        let wanted = arguments.get("headers").and_then(Value::as_object).unwrap_or(&empty);
        let headers: Vec<_> =
            wanted.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
        let url = format!("{}{path}", kit::setting("url")?);
        let response = kit::send(&Method::Get, &url, &headers, &[])?;
        let seen: Vec<_> = response
            .headers
            .iter()
            .map(|(name, value)| json!([name, String::from_utf8_lossy(value)]))
            .collect();
        let body = String::from_utf8_lossy(&response.body);
        kit::log::write(kit::log::Level::Info, &body);
        Ok(json!({ "status": response.status, "headers": seen, "body": body }).to_string())
    }
}

kit::export!(Echo);
