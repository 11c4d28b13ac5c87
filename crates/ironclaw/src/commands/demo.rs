//! `ironclaw demo`: one request through all five layers, then attacks on each of them.
//!
//! Nothing here is a rehearsal: the demo makes an installation in a folder of its own, starts two HTTPS
//! services on loopback, and then asks the same agent that `ironclaw ask` asks. What it prints is what
//! came back.

pub mod scenes;
pub mod stage;

use agent::{Conversation, Outcome as TurnOutcome};
use futures_util::FutureExt as _;
use futures_util::future::ready;
use serde_json::json;
use types::Trace;

use self::scenes::{ATTACKS, Attack, REQUEST};
use self::stage::Stage;
use super::signals::Signals;
use crate::exit::{Code, Failure, Outcome};
use crate::terminal::{Terminal, Tone, refusal_json};
use crate::trace_view;

/// Runs the command.
pub async fn run(terminal: &Terminal) -> Outcome {
    // Its folders are removed however it ends.
    let mut signals = Signals::listen()?;
    let stage = signals.unless_ended(Stage::set_up(&std::env::temp_dir(), terminal)).await?;
    let outcome = signals.unless_ended(play(&stage, terminal)).await;
    stage.take_down().await;
    outcome
}

async fn play(stage: &Stage, terminal: &Terminal) -> Outcome {
    introduce(stage, terminal);
    let answered = request(stage, terminal).await;
    let mut stopped = Vec::new();
    for (number, attack) in ATTACKS.iter().enumerate() {
        stopped.push((attack, attempt(stage, number + 1, attack, terminal).await));
    }
    let intact = summary(stage, &stopped, terminal).await;
    if answered && intact && stopped.iter().all(|(_, rule)| rule.is_some()) {
        Ok(())
    } else {
        terminal.warn("The demo did not go as it should: a layer failed, or an attack was not stopped.");
        Err(Failure::Said(Code::Failed))
    }
}

fn introduce(stage: &Stage, terminal: &Terminal) {
    if terminal.is_json() {
        return;
    }
    heading(terminal, "The stage");
    terminal.say(format!("  an installation of its own in {}", stage.folder().display()));
    terminal.say(format!(
        "  https://api.weather.com is {} here, with its own certificate authority",
        stage.weather.addr()
    ));
    terminal
        .say("  a random API key is sealed in the vault and granted to the weather tool for that host alone");
}

/// The honest request. True when the service got the key and the owner got the weather.
async fn request(stage: &Stage, terminal: &Terminal) -> bool {
    let outcome = ask(stage, &REQUEST).await;
    let authenticated = stage.weather_saw_the_key();
    if terminal.is_json() {
        terminal.json(&json!({
            "scene": "request",
            "text": REQUEST.typed,
            "reply": outcome.reply.as_ref().map(|reply| reply.as_str()),
            "authenticated": authenticated,
            "trace": trace_view::as_json(&outcome.turn.trace().steps()),
        }));
    } else {
        heading(terminal, &format!("The request: \"{}\"", REQUEST.typed));
        trace_view::draw(&outcome.turn.trace().steps(), terminal);
        show_end(&outcome, terminal);
        let seen = if authenticated { "yes" } else { "no" };
        terminal.say(format!(
            "  the service received the key: {seen}; the tool, the model and this screen never had it"
        ));
    }
    outcome.reply.is_some() && outcome.refusals.is_empty() && authenticated
}

/// One attack; gives the rule that stopped it, if one did.
async fn attempt(stage: &Stage, number: usize, attack: &Attack, terminal: &Terminal) -> Option<&'static str> {
    let outcome = ask(stage, attack).await;
    let stopped = outcome.refusals.first().map(|refusal| refusal.rule.id);
    if terminal.is_json() {
        terminal.json(&json!({
            "scene": "attack",
            "name": attack.name,
            "stopped_by": stopped,
            "refusals": outcome.refusals.iter().map(refusal_json).collect::<Vec<_>>(),
            "reply": outcome.reply.as_ref().map(|reply| reply.as_str()),
            "trace": trace_view::as_json(&outcome.turn.trace().steps()),
        }));
        return stopped;
    }
    heading(terminal, &format!("Attack {number}: {}", attack.name));
    terminal.say(format!("  asked: \"{}\"", attack.typed));
    if let Some(pasted) = attack.shown_paste {
        terminal.say(format!("  pasted: {pasted}"));
    }
    trace_view::draw(&outcome.turn.trace().steps(), terminal);
    show_end(&outcome, terminal);
    stopped
}

/// One turn of the agent on the stage.
pub async fn ask(stage: &Stage, attack: &Attack) -> TurnOutcome {
    // Nobody sits at the terminal: what needs the owner's word is refused and waits.
    let nobody = |_: &policy::Card| ready(None).boxed();
    stage.parts.agent.turn(&mut Conversation::default(), attack.input(), Trace::collecting(), &nobody).await
}

fn show_end(outcome: &TurnOutcome, terminal: &Terminal) {
    for alert in &outcome.alerts {
        terminal.painted(&format!("  {}", terminal.paint(Tone::Bad, alert)));
    }
    if let Some(reply) = &outcome.reply {
        terminal.painted(&format!("  {}", terminal.paint(Tone::Strong, "the owner reads:")));
        terminal.show(reply);
    }
    for refusal in &outcome.refusals {
        terminal.painted(&format!(
            "  {} {}",
            terminal.paint(Tone::Bad, "STOPPED"),
            terminal.paint(Tone::Strong, refusal)
        ));
    }
    if let Some(failure) = outcome.failure {
        terminal.say(format!("  {failure}"));
    }
}

/// What stopped what, and whether the record of it all is whole.
async fn summary(stage: &Stage, stopped: &[(&Attack, Option<&'static str>)], terminal: &Terminal) -> bool {
    let verified = audit::Log::new(stage.base.reader.clone()).verify().await;
    if terminal.is_json() {
        terminal.json(&json!({
            "scene": "summary",
            "stopped": stopped.iter().map(|(attack, rule)| json!({ "name": attack.name, "rule": rule })).collect::<Vec<_>>(),
            "records": verified.as_ref().ok().map(|verified| verified.records),
        }));
        return verified.is_ok();
    }
    heading(terminal, "What stopped what");
    for (attack, rule) in stopped {
        let rule = match rule {
            Some(rule) => terminal.paint(Tone::Good, rule),
            None => terminal.paint(Tone::Bad, "NOTHING"),
        };
        terminal.painted(&format!("  {:<56} {rule}", attack.name));
    }
    match &verified {
        Ok(verified) => terminal.say(format!(
            "\n  {} audit records, chain verified to {}",
            verified.records,
            verified.head.short()
        )),
        Err(broken) => terminal.say(format!("\n  the audit chain does not verify: {broken}")),
    }
    terminal.say("  Next: ironclaw init, then ironclaw tool install PATH and ironclaw secret set NAME");
    verified.is_ok()
}

fn heading(terminal: &Terminal, words: &str) {
    terminal.painted(&format!("\n{}", terminal.paint(Tone::Strong, words)));
}
