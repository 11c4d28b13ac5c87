//! `ironclaw approvals`: what waits for the owner, and the owner's answer.

use audit::ChangeError;
use safety::finding::Kind;
use safety::{Channel, Safety, Untrusted};
use serde_json::json;
use store::{ApprovalRow, ApprovalState, Mutation};
use types::{Field, FindingId, Record, Source, Tenant, Trace, Verdict};

use super::audit::utc;
use crate::cli;
use crate::exit::{Failure, Outcome};
use crate::parts::{Base, database};
use crate::terminal::{Terminal, Tone};

/// Runs the command.
pub async fn run(args: &cli::Approvals, base: &Base, terminal: &Terminal) -> Outcome {
    match args {
        cli::Approvals::List => list(base, terminal).await,
        cli::Approvals::Approve { id } => answer(id, ApprovalState::Approved, base, terminal).await,
        cli::Approvals::Deny { id } => answer(id, ApprovalState::Denied, base, terminal).await,
    }
}

async fn list(base: &Base, terminal: &Terminal) -> Outcome {
    let now = audit::now_ms();
    let mut rows = base.reader.approvals(&Tenant::local()).await.map_err(database)?;
    rows.retain(|row| row.state == ApprovalState::Waiting && now < row.expires_ms);
    if rows.is_empty() && !terminal.is_json() {
        terminal.say("Nothing waits for you.");
    }
    for row in &rows {
        let card = Card::of(row, &base.safety);
        if terminal.is_json() {
            terminal.json(&json!({
                "id": row.id.to_string(), "kind": row.kind, "card": card.text, "flagged": card.flagged,
                "digest": row.digest.to_string(), "created_ms": row.created_ms, "expires_ms": row.expires_ms,
            }));
            continue;
        }
        card.show(row, terminal);
        terminal.say(format!(
            "  approve: ironclaw approvals approve {0}\n  deny:    ironclaw approvals deny {0}",
            row.id
        ));
    }
    Ok(())
}

/// Records the answer and moves the row in one transaction.
async fn answer(id: &str, to: ApprovalState, base: &Base, terminal: &Terminal) -> Outcome {
    let id = FindingId::parse(id)
        .ok_or_else(|| Failure::usage("an id looks like 0199c6f2-3d41-7b02-8d0e-5a1f6a1b2c3d"))?;
    let missing =
        || Failure::not_found("nothing with this id waits\n  all that waits: ironclaw approvals list");
    let tenant = Tenant::local();
    let row = base.reader.approval(&tenant, id).await.map_err(database)?.ok_or_else(missing)?;
    if row.state != ApprovalState::Waiting {
        return Err(Failure::failed(format!("it does not wait any more: it is {}", row.state)));
    }
    if row.expires_ms <= audit::now_ms() {
        return Err(Failure::failed(format!(
            "it does not wait any more: its time was over at {}",
            utc(row.expires_ms)
        )));
    }
    let verdict = if to == ApprovalState::Approved { Verdict::Allow } else { Verdict::Block };
    let record = Record::new(types::Kind::Approval, verdict)
        .with(Field::Actor, "owner")
        .with(Field::Finding, id)
        .with(Field::Digest, row.digest)
        .with(Field::State, to);
    let change = Mutation::Answer { tenant, id, from: ApprovalState::Waiting, to };
    base.audit.change(record, change).await.map_err(|error| match error {
        ChangeError::Lost(lost) => Failure::failed(lost),
        ChangeError::Audit(error) => Failure::environment(error),
    })?;
    if terminal.is_json() {
        terminal.json(&json!({ "id": id.to_string(), "state": to.as_str() }));
        return Ok(());
    }
    Card::of(&row, &base.safety).show(&row, terminal);
    terminal.say(match (to, row.kind.as_str()) {
        (ApprovalState::Approved, "call") => "Approved: the same call with the same arguments runs once.",
        (ApprovalState::Approved, "request") => "Approved: this request is sent now.",
        (ApprovalState::Approved, _) => {
            "Seen: it does not wait any more. The next one like it is told again."
        }
        _ => "Denied.",
    });
    Ok(())
}

/// What a row asks for, screened again: what was once screened is untrusted when it is read back.
struct Card {
    text: String,
    /// Something in it looks like an attack on whoever decides, or is not shown.
    flagged: bool,
}

impl Card {
    fn of(row: &ApprovalRow, safety: &Safety) -> Self {
        let card = Untrusted::new(Source::Store, row.card.clone());
        match safety.screen_and_tell(card, Channel::Reply, &Trace::off()) {
            Ok((text, report)) if report.findings.iter().any(|finding| finding.kind == Kind::Size) => {
                Self { text: format!("{} (its end is not shown)", text.as_str()), flagged: true }
            }
            Ok((text, _)) => Self { flagged: text.is_flagged(), text: text.into_inner() },
            Err(blocked) => Self { text: format!("(not shown: {})", blocked.refusal.rule.id), flagged: true },
        }
    }

    fn show(&self, row: &ApprovalRow, terminal: &Terminal) {
        terminal.painted(&format!(
            "{}  {}  until {}",
            terminal.paint(Tone::Strong, row.id),
            terminal.paint(Tone::Warn, &row.kind),
            utc(row.expires_ms)
        ));
        terminal.say(format!("  {}", self.text.replace('\n', "\n  ")));
        if self.flagged {
            terminal.painted(&format!(
                "  {}",
                terminal.paint(
                    Tone::Bad,
                    "It looks like an attack or is not shown whole: approve only what you understand."
                )
            ));
        }
    }
}
