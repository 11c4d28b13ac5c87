//! `ironclaw policy`: what would be decided, and why something was.

use agent::Files;
use audit::{Entry, Log};
use serde_json::json;
use types::{Field, Refusal, RefusalId, Target, ToolName};

use super::audit::{stored, utc};
use crate::cli;
use crate::exit::{Code, Failure, Outcome};
use crate::parts::{self, Base};
use crate::terminal::{Terminal, Tone};

/// Runs the command.
pub async fn run(args: &cli::Policy, base: &Base, terminal: &Terminal) -> Outcome {
    match args {
        cli::Policy::Check { tool, request } => check(tool, request.as_deref(), base, terminal).await,
        cli::Policy::Explain { id } => explain(id, base, terminal).await,
    }
}

/// Judges as at the start of a turn that has read nothing. Records nothing.
async fn check(tool: &str, request: Option<&str>, base: &Base, terminal: &Terminal) -> Outcome {
    let tool = ToolName::parse(tool).map_err(|error| Failure::usage(format!("the tool's name: {error}")))?;
    let target = request.map(target).transpose()?;
    let folder = base.config.workspace.as_deref();
    let mut built_in = folder.map_or(Vec::new(), |folder| Files::tools(folder, &base.safety));
    let may = crate::shell::may(base, folder)?;
    built_in.extend(may.and_then(|may| may.tool(&base.safety)));
    let policy = parts::policy(base, parts::catalog(base, built_in))?;
    match policy.check(&tool, target.as_ref()).await {
        Ok(answer) if terminal.is_json() => {
            terminal.json(&json!({
                "tool": tool.as_str(),
                "request": target.as_ref().map(ToString::to_string),
                "refused": null,
                "answer": answer.lines().collect::<Vec<_>>(),
            }));
            Ok(())
        }
        Ok(answer) => {
            terminal.say(answer);
            Ok(())
        }
        Err(refusal) => {
            refused(&tool, target.as_ref(), &refusal, terminal);
            Err(Failure::Said(Code::Refused))
        }
    }
}

fn target(request: &str) -> Result<Target, Failure> {
    let form = || {
        Failure::usage(
            "--request: a method and a URL are expected, as in 'GET https://api.weather.com/v1/current'",
        )
    };
    let (method, url) = request.trim().split_once(' ').ok_or_else(form)?;
    Target::parse(method, url.trim()).map_err(|error| Failure::usage(format!("--request: {error}")))
}

/// Nothing was recorded, so there is no id by which to ask for more.
fn refused(tool: &ToolName, target: Option<&Target>, refusal: &Refusal, terminal: &Terminal) {
    if terminal.is_json() {
        terminal.json(&json!({
            "tool": tool.as_str(),
            "request": target.map(ToString::to_string),
            "refused": refusal.rule.id,
            "reason": refusal.rule.says,
            "detail": refusal.detail,
            "widen": refusal.widen,
        }));
    } else {
        terminal.warn(format!("would be {refusal}"));
    }
}

async fn explain(id: &str, base: &Base, terminal: &Terminal) -> Outcome {
    let id = RefusalId::parse(id)
        .ok_or_else(|| Failure::usage("an id looks like 0199c6f2-3d41-7b02-8d0e-5a1f6a1b2c3d"))?;
    let entries = Log::new(base.reader.clone()).by_refusal(id).await.map_err(Failure::failed)?;
    if entries.is_empty() {
        return Err(Failure::not_found(
            "no refusal with this id was recorded\n  the last records: ironclaw audit tail",
        ));
    }
    for entry in &entries {
        if terminal.is_json() {
            terminal.json(&as_json(id, entry, base));
        } else {
            as_text(entry, base, terminal);
        }
    }
    Ok(())
}

fn as_json(id: RefusalId, entry: &Entry, base: &Base) -> serde_json::Value {
    let field = |field| entry.record.field(field).map(|value| stored(value.to_owned(), &base.safety));
    json!({
        "id": id.to_string(),
        "record": entry.seq,
        "time": utc(entry.at_ms),
        "kind": entry.record.kind.as_str(),
        "rule": field(Field::Rule),
        "reason": field(Field::Reason),
        "actor": field(Field::Actor),
        "tool": field(Field::Tool),
        "target": field(Field::Target),
        "widen": field(Field::Widen),
    })
}

fn as_text(entry: &Entry, base: &Base, terminal: &Terminal) {
    let field = |field| entry.record.field(field).map(|value| stored(value.to_owned(), &base.safety));
    let rule = field(Field::Rule).unwrap_or_else(|| "a rule that was not recorded".to_owned());
    terminal.painted(&format!("refused by {}", terminal.paint(Tone::Strong, rule)));
    for (name, value) in [
        ("why", field(Field::Reason)),
        ("who", field(Field::Actor).or_else(|| field(Field::Tool).map(|tool| format!("tool {tool}")))),
        ("what", field(Field::Target)),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            terminal.say(format!("  {name:<6} {value}"));
        }
    }
    terminal.say(format!("  when   {} (record {})", utc(entry.at_ms), entry.seq));
    match field(Field::Widen).filter(|widen| !widen.is_empty()) {
        Some(widen) => terminal.say(format!("  to allow it: {widen}")),
        None => terminal.say("  No command allows it."),
    }
}
