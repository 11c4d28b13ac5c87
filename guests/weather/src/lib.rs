//! The current weather of a city.
//!
//! Arguments: `{"city": "Beijing"}`. The service's address is the setting `url`; it answers
//! `{"city": ..., "temperature": ..., "conditions": ...}`.

use serde_json::{Value, json};

struct Weather;

impl kit::Guest for Weather {
    fn call(arguments: String) -> Result<String, String> {
        let arguments: Value = serde_json::from_str(&arguments).map_err(|_| "the arguments are not JSON")?;
        let city = arguments.get("city").and_then(Value::as_str).ok_or("`city` is missing")?;
        let url = format!("{}?city={}", kit::setting("url")?, kit::query_value(city));
        let response = kit::get(&url)?;
        if response.status != 200 {
            return Err(format!("the weather service answered with status {}", response.status));
        }
        let answer: Value = serde_json::from_slice(&response.body).map_err(|_| "the weather service sent no JSON")?;
        let report = json!({
            "city": answer.get("city").and_then(Value::as_str).unwrap_or(city),
            "temperature": answer.get("temperature"),
            "conditions": answer.get("conditions"),
        });
        Ok(report.to_string())
    }
}

kit::export!(Weather);
