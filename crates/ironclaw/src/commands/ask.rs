//! `ironclaw ask`: one turn of the agent.

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;

use agent::{Conversation, Input, Outcome as TurnOutcome};
use safety::Untrusted;
use serde_json::{Value, json};
use types::limits::MAX_INPUT;
use types::{Source, Trace};

use crate::cli;
use crate::exit::{Failure, Outcome};
use crate::files;
use crate::parts::{Base, Parts};
use crate::terminal::{Terminal, refusal_json};
use crate::trace_view;

/// Runs the command.
pub async fn run(args: &cli::Ask, base: &Base, terminal: &Terminal) -> Outcome {
    let mut input = Input::typed(args.text.clone());
    for file in &args.files {
        input = input.with(attached_file(file)?);
    }
    if let Some(piped) = piped()? {
        input = input.with(piped);
    }
    let parts = Parts::build(base, terminal, args.workspace.as_deref()).await?;
    let trace = if args.trace { Trace::collecting() } else { Trace::off() };
    let ask = |card: &policy::Card| terminal.ask_card(card);
    let mut conversation = Conversation::default();
    let turn = parts.agent.turn(&mut conversation, input, trace, &ask);
    report(&terminal.unless_interrupted(turn).await.map_err(Failure::failed)?, terminal)
}

/// Prints what a turn came to; the exit code says whether it was refused or failed.
pub fn report(outcome: &TurnOutcome, terminal: &Terminal) -> Outcome {
    let steps = outcome.turn.trace().steps();
    for alert in &outcome.alerts {
        terminal.alert(alert);
    }
    for moved in &outcome.moved {
        terminal.warn(format!("ironclaw: {}", moved.as_str()));
    }
    if terminal.is_json() {
        terminal.json(&as_json(outcome));
    } else {
        if !steps.is_empty() {
            trace_view::draw(&steps, terminal);
        }
        if let Some(reply) = &outcome.reply {
            terminal.show(reply);
        }
    }
    if !outcome.refusals.is_empty() {
        return Err(Failure::Refused(outcome.refusals.clone()));
    }
    match outcome.failure {
        Some(failure) => Err(Failure::failed(failure)),
        None => Ok(()),
    }
}

/// A turn as an object with stable keys.
fn as_json(outcome: &TurnOutcome) -> Value {
    json!({
        "turn": outcome.turn.id().to_string(),
        "reply": outcome.reply.as_ref().map(|reply| reply.as_str()),
        "refusals": outcome.refusals.iter().map(refusal_json).collect::<Vec<_>>(),
        "alerts": outcome.alerts.iter().map(|alert| json!({
            "id": alert.id.to_string(),
            "rule": alert.rule,
            "severity": alert.severity.to_string(),
            "reason": alert.reason,
        })).collect::<Vec<_>>(),
        "moved": outcome.moved.iter().map(|moved| moved.as_str()).collect::<Vec<_>>(),
        "failure": outcome.failure.map(|failure| failure.to_string()),
        "trace": trace_view::as_json(&outcome.turn.trace().steps()),
    })
}

/// A file is untrusted material, whoever named it.
fn attached_file(file: &Path) -> Result<Untrusted<String>, Failure> {
    Ok(Untrusted::new(Source::File, files::read(file, MAX_INPUT)?).into_text())
}

/// What is piped in, if anything is.
fn piped() -> Result<Option<Untrusted<String>>, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    stdin
        .lock()
        .take(MAX_INPUT.0 + 1)
        .read_to_end(&mut bytes)
        .map_err(|_| Failure::failed("standard input cannot be read"))?;
    if bytes.len() as u64 > MAX_INPUT.0 {
        return Err(Failure::usage(format!("standard input is longer than {MAX_INPUT}")));
    }
    Ok((!bytes.is_empty()).then(|| Untrusted::new(Source::Pipe, bytes).into_text()))
}
