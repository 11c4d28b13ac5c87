//! `ironclaw config`: what is in force, what a key means, whether a file is right, and where all of it is.

use std::path::Path;

use safety::rulebook::Allow;
use safety::{Channel, Safety, Untrusted};
use serde_json::{Map, Value, json};
use types::{Source, Trace};

use crate::cli;
use crate::config::Config;
use crate::config_keys::{self, KEYS, Key};
use crate::exit::{Failure, Outcome};
use crate::home::Home;
use crate::terminal::{Terminal, Tone};

/// Runs the command. It needs no installation.
pub fn run(args: &cli::Config, home: &Home, terminal: &Terminal) -> Outcome {
    match args {
        cli::Config::Show => show(home, terminal),
        cli::Config::Explain { key } => explain(key.as_deref(), terminal),
        cli::Config::Validate { file } => validate(file.as_deref(), home, terminal),
        cli::Config::Path => path(home, terminal),
    }
}

/// What the file sets, then what holds without being set.
fn show(home: &Home, terminal: &Terminal) -> Outcome {
    let config = Config::load(home)?;
    let safety = crate::parts::scanners(&config)?;
    let mut set = Vec::new();
    flatten(&written(home)?, "", &mut set);
    let kinds: Vec<&str> = set.iter().filter_map(|(key, _)| config_keys::find(key)).collect();
    let unset: Vec<&Key> = KEYS.iter().filter(|key| is_value(key) && !kinds.contains(&key.path)).collect();
    if terminal.is_json() {
        let set: Map<String, Value> =
            set.into_iter().map(|(key, value)| (key, as_value(value, &safety))).collect();
        let unset: Map<String, Value> =
            unset.iter().map(|key| (key.path.to_owned(), key.default.into())).collect();
        terminal
            .json(&json!({ "file": home.config_file().display().to_string(), "set": set, "default": unset }));
        return Ok(());
    }
    let found = if home.config_file().exists() { "" } else { " (there is none)" };
    terminal.say(format!("{}{found}", home.config_file().display()));
    for (key, value) in set {
        terminal.painted(&format!(
            "  {} = {}",
            terminal.paint(Tone::Strong, key),
            shown(value.to_string(), &safety)
        ));
    }
    for key in unset {
        terminal.painted(&terminal.paint(Tone::Dim, format!("  {:<26} {}", key.path, key.default)));
    }
    Ok(())
}

/// The file as a table; an empty one where there is no file.
fn written(home: &Home) -> Result<toml::Table, Failure> {
    match std::fs::read_to_string(home.config_file()) {
        Ok(text) => {
            toml::from_str(&text).map_err(|_| Failure::usage("the configuration changed while it was read"))
        }
        Err(_) => Ok(toml::Table::new()),
    }
}

/// Every value under its path with dots; entries of lists of tables are numbered.
fn flatten(table: &toml::Table, prefix: &str, into: &mut Vec<(String, toml::Value)>) {
    for (name, value) in table {
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(inner, &path, into),
            toml::Value::Array(items) if items.iter().any(toml::Value::is_table) => {
                for inner in items.iter().filter_map(toml::Value::as_table) {
                    flatten(inner, &path, into);
                }
            }
            other => into.push((path, other.clone())),
        }
    }
}

/// A value in JSON.
fn as_value(value: toml::Value, safety: &Safety) -> Value {
    match value {
        toml::Value::Integer(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Array(items) => items.into_iter().map(|item| as_value(item, safety)).collect(),
        toml::Value::String(text) => shown(text, safety).into(),
        other => shown(other.to_string(), safety).into(),
    }
}

/// A value may be a secret that was written into the wrong place.
fn shown(value: String, safety: &Safety) -> String {
    match safety.screen(Untrusted::new(Source::File, value), Channel::Log, &Trace::off()) {
        Ok(value) => value.into_inner(),
        Err(blocked) => format!("(not shown: {})", blocked.refusal.rule.id),
    }
}

/// True for a key that holds a value itself and is not the name of a group of keys.
fn is_value(key: &Key) -> bool {
    let prefix = format!("{}.", key.path);
    !key.path.contains('*') && !KEYS.iter().any(|other| other.path.starts_with(&prefix))
}

fn explain(key: Option<&str>, terminal: &Terminal) -> Outcome {
    let Some(key) = key else {
        for key in KEYS {
            list(key, terminal);
        }
        return Ok(());
    };
    let path = config_keys::find(key).ok_or_else(|| config_keys::unknown(key))?;
    let Some(key) = KEYS.iter().find(|known| known.path == path) else {
        return Err(config_keys::unknown(key));
    };
    if terminal.is_json() {
        terminal.json(&as_json(key));
        return Ok(());
    }
    terminal.painted(&terminal.paint(Tone::Strong, key.path));
    terminal.say(format!("  {}", key.means));
    terminal.say(format!("  default: {}", key.default));
    terminal.say(format!("  example:\n    {}", key.example.replace('\n', "\n    ")));
    let prefix = format!("{}.", key.path);
    for below in KEYS.iter().filter(|below| below.path.starts_with(&prefix)) {
        list(below, terminal);
    }
    Ok(())
}

fn list(key: &Key, terminal: &Terminal) {
    if terminal.is_json() {
        return terminal.json(&as_json(key));
    }
    terminal.painted(&format!("{} {}", terminal.paint(Tone::Strong, format!("{:<26}", key.path)), key.means));
}

fn as_json(key: &Key) -> Value {
    json!({ "key": key.path, "means": key.means, "default": key.default, "example": key.example })
}

/// Everything that a start would refuse is refused here, in the same words.
fn validate(file: Option<&Path>, home: &Home, terminal: &Terminal) -> Outcome {
    let config = match file {
        None => Config::load(home)?,
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    Failure::not_found(format!("there is no file {}", file.display()))
                }
                kind => Failure::failed(format!("{} cannot be read: {kind}", file.display())),
            })?;
            Config::parse(&text, file.parent().unwrap_or(Path::new(".")))?
        }
    };
    crate::parts::scanners(&config)?;
    policy::cedar::Engine::load(&config.policy.policies)
        .map_err(|error| crate::parts::broken_policy(error, home))?;
    let file = file.map_or_else(|| home.config_file(), Path::to_owned);
    let over = config.safety.ended();
    let over = over.map(|entry| json!({ "fingerprint": entry.fingerprint, "until": entry.until }));
    let notes: String =
        config.safety.ended().map(|entry| format!("\n  accepts no longer {}", ended(entry))).collect();
    terminal.done(
        json!({ "ok": true, "file": file.display().to_string(), "ended": over.collect::<Vec<_>>() }),
        format!("{} is right{notes}", file.display()),
    );
    Ok(())
}

/// An entry for a finding whose last day is over: `FINGERPRINT (DAY)`. Both were checked when the file was read.
pub(super) fn ended(entry: &Allow) -> String {
    format!("{} ({})", entry.fingerprint, entry.until.as_deref().unwrap_or_default())
}

fn path(home: &Home, terminal: &Terminal) -> Outcome {
    let places = [
        ("configuration", home.config_file()),
        ("policies", home.policies()),
        ("data", home.data.clone()),
        ("database", home.database()),
        ("tools", home.components()),
    ];
    if terminal.is_json() {
        let places: Map<String, Value> = places
            .iter()
            .map(|(name, path)| ((*name).to_owned(), path.display().to_string().into()))
            .collect();
        terminal.json(&Value::Object(places));
        return Ok(());
    }
    for (name, path) in places {
        terminal.say(format!("{name:<14} {}", path.display()));
    }
    Ok(())
}
