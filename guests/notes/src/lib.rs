//! Short notes, kept as files in the tool's own workspace.
//!
//! Arguments: `{"action": "add", "text": "..."}`, `{"action": "list"}` or `{"action": "remove", "number": 3}`.

use kit::workspace::{self, Error};
use serde_json::{Value, json};

/// Where the notes are.
const FOLDER: &str = "notes";

struct Notes;

impl kit::Guest for Notes {
    fn call(arguments: String) -> Result<String, String> {
        let arguments: Value = serde_json::from_str(&arguments).map_err(|_| "the arguments are not JSON")?;
        match arguments.get("action").and_then(Value::as_str) {
            Some("add") => add(arguments.get("text").and_then(Value::as_str).ok_or("`text` is missing")?),
            Some("list") => list(),
            Some("remove") => remove(arguments.get("number").and_then(Value::as_u64).ok_or("`number` is missing")?),
            _ => Err("`action` is one of add, list and remove".into()),
        }
    }
}

/// The numbers in use, in order.
fn numbers() -> Result<Vec<u64>, String> {
    let entries = match workspace::list(FOLDER) {
        Err(Error::NotFound) => return Ok(Vec::new()),
        other => other.map_err(describe)?,
    };
    let mut numbers: Vec<u64> = entries.iter().filter_map(|entry| entry.name.strip_suffix(".txt")?.parse().ok()).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

fn add(text: &str) -> Result<String, String> {
    let number = numbers()?.last().map_or(1, |last| last + 1);
    workspace::write(&file(number), text.as_bytes()).map_err(describe)?;
    Ok(json!({ "added": number }).to_string())
}

fn list() -> Result<String, String> {
    let mut notes = Vec::new();
    for number in numbers()? {
        let content = workspace::read(&file(number)).map_err(describe)?;
        notes.push(json!({ "number": number, "text": String::from_utf8_lossy(&content) }));
    }
    Ok(json!({ "notes": notes }).to_string())
}

fn remove(number: u64) -> Result<String, String> {
    workspace::remove(&file(number)).map_err(describe)?;
    Ok(json!({ "removed": number }).to_string())
}

fn file(number: u64) -> String {
    format!("{FOLDER}/{number}.txt")
}

fn describe(error: Error) -> String {
    match error {
        Error::None => "this tool was given no workspace",
        Error::Path => "the path is not accepted",
        Error::NotFound => "there is no such note",
        Error::Quota => "the workspace is full",
        Error::TooLarge => "the note is too long",
        Error::Io => "the workspace could not be reached",
    }
    .into()
}

kit::export!(Notes);
