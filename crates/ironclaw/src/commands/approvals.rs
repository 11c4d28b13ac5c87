//! `ironclaw approvals`: what waits for the owner, and the owner's answer.

use std::time::Duration;

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

/// The most that `list` shows, the oldest first.
const MOST_LISTED: u32 = 1000;

/// Lines of a card, and characters of each, that are shown where the whole is not asked for.
const LINES_SHOWN: usize = 40;
const LINE_SHOWN: usize = 1024;

/// How often, and how many times, it is looked for whether an approved request was taken up: for three seconds.
const LOOK: Duration = Duration::from_millis(100);
const LOOKS: usize = 30;

/// Runs the command.
pub async fn run(args: &cli::Approvals, base: &Base, terminal: &Terminal) -> Outcome {
    match args {
        cli::Approvals::List => list(base, terminal).await,
        cli::Approvals::Show { id } => show(id, base, terminal).await,
        cli::Approvals::Approve { id } => answer(id, ApprovalState::Approved, base, terminal).await,
        cli::Approvals::Deny { id } => answer(id, ApprovalState::Denied, base, terminal).await,
    }
}

async fn list(base: &Base, terminal: &Terminal) -> Outcome {
    let rows = base.reader.approvals_waiting(&Tenant::local(), audit::now_ms(), MOST_LISTED).await;
    let rows = rows.map_err(database)?;
    if rows.is_empty() && !terminal.is_json() {
        terminal.say("Nothing waits for you.");
    }
    for row in &rows {
        let card = Card::of(row, &base.safety);
        if terminal.is_json() {
            terminal.json(&card.json(row));
            continue;
        }
        card.show(row, Extent::Beginning, terminal);
        terminal.say(answers(row.id));
    }
    Ok(())
}

/// Shows one of them whole, with what the approval would be bound to.
async fn show(id: &str, base: &Base, terminal: &Terminal) -> Outcome {
    let row = waiting(id, base).await?;
    let card = Card::of(&row, &base.safety);
    if terminal.is_json() {
        terminal.json(&card.json(&row));
        return Ok(());
    }
    card.show(&row, Extent::Whole, terminal);
    terminal.say(format!("  digest:  {}\n{}", row.digest, answers(row.id)));
    Ok(())
}

fn answers(id: FindingId) -> String {
    format!("  approve: ironclaw approvals approve {id}\n  deny:    ironclaw approvals deny {id}")
}

/// Records the answer and moves the row in one transaction.
async fn answer(id: &str, to: ApprovalState, base: &Base, terminal: &Terminal) -> Outcome {
    let row = waiting(id, base).await?;
    let verdict = if to == ApprovalState::Approved { Verdict::Allow } else { Verdict::Block };
    let record = Record::new(types::Kind::Approval, verdict)
        .with(Field::Actor, "owner")
        .with(Field::Finding, row.id)
        .with(Field::Digest, row.digest)
        .with(Field::State, to);
    let (tenant, from) = (Tenant::local(), ApprovalState::Waiting);
    let change = Mutation::Answer { tenant, id: row.id, from, to };
    base.audit.change(record, change).await.map_err(|error| match error {
        ChangeError::Lost(lost) => Failure::failed(lost),
        ChangeError::Audit(error) => Failure::environment(error),
    })?;
    let is_request = row.kind == "request" && to == ApprovalState::Approved;
    let state = if is_request { taken_up(row.id, base).await? } else { to };
    if terminal.is_json() {
        terminal.json(&json!({ "id": row.id.to_string(), "state": state.as_str() }));
        return Ok(());
    }
    Card::of(&row, &base.safety).show(&row, Extent::Beginning, terminal);
    terminal.say(match (to, row.kind.as_str()) {
        (ApprovalState::Approved, "call") => "Approved: the same call with the same arguments runs once.",
        (ApprovalState::Approved, "request") => match state {
            ApprovalState::Used => "Approved: the request that waited is sent now, once.",
            ApprovalState::Expired => "Approved, but whoever asked has left: nothing is sent.",
            _ => "Approved, but nobody has taken it up, so nothing is sent as yet: whoever asked may have ended.",
        },
        (ApprovalState::Approved, _) => {
            "Seen: it does not wait any more. The next one like it is told again."
        }
        _ => "Denied.",
    });
    Ok(())
}

/// The row that an id names, as long as it can be answered.
async fn waiting(id: &str, base: &Base) -> Result<ApprovalRow, Failure> {
    let id = FindingId::parse(id)
        .ok_or_else(|| Failure::usage("an id looks like 0199c6f2-3d41-7b02-8d0e-5a1f6a1b2c3d"))?;
    let missing =
        || Failure::not_found("nothing with this id waits\n  all that waits: ironclaw approvals list");
    let row = base.reader.approval(&Tenant::local(), id).await.map_err(database)?.ok_or_else(missing)?;
    if row.state != ApprovalState::Waiting {
        return Err(Failure::failed(format!("it does not wait any more: it is {}", row.state)));
    }
    if row.expires_ms <= audit::now_ms() {
        let over = utc(row.expires_ms);
        return Err(Failure::failed(format!("it does not wait any more: its time was over at {over}")));
    }
    Ok(row)
}

/// What became of an approved request: it waits itself, and whoever made it looks for the answer several times a second.
async fn taken_up(id: FindingId, base: &Base) -> Result<ApprovalState, Failure> {
    let mut state = ApprovalState::Approved;
    for _ in 0..LOOKS {
        let row = base.reader.approval(&Tenant::local(), id).await.map_err(database)?;
        state = row.map_or(ApprovalState::Expired, |row| row.state);
        if state != ApprovalState::Approved {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(state)
}

/// How much of a card is shown.
#[derive(Clone, Copy)]
enum Extent {
    /// All of it.
    Whole,
    /// Of each line the beginning, and of many lines the first.
    Beginning,
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
            Ok((text, _)) => {
                let is_partial = text.as_str().lines().any(|line| line.starts_with(policy::NOT_SHOWN));
                Self { flagged: text.is_flagged() || is_partial, text: text.into_inner() }
            }
            Err(blocked) => Self { text: format!("(not shown: {})", blocked.refusal.rule.id), flagged: true },
        }
    }

    fn json(&self, row: &ApprovalRow) -> serde_json::Value {
        json!({
            "id": row.id.to_string(), "kind": row.kind, "card": self.text, "flagged": self.flagged,
            "digest": row.digest.to_string(), "created_ms": row.created_ms, "expires_ms": row.expires_ms,
        })
    }

    fn show(&self, row: &ApprovalRow, extent: Extent, terminal: &Terminal) {
        terminal.painted(&format!(
            "{}  {}  until {}",
            terminal.paint(Tone::Strong, row.id),
            terminal.paint(Tone::Warn, &row.kind),
            utc(row.expires_ms)
        ));
        let (text, hidden) = match extent {
            Extent::Whole => (self.text.clone(), 0),
            Extent::Beginning => beginning(&self.text),
        };
        terminal.say(format!("  {}", text.replace('\n', "\n  ")));
        if hidden > 0 {
            let more = format!("{hidden} more characters are not shown: ironclaw approvals show {}", row.id);
            terminal.painted(&format!("  {}", terminal.paint(Tone::Bad, more)));
        }
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

/// The beginning of a card, and how many characters of it are left out. A line that is cut ends in `...`.
fn beginning(card: &str) -> (String, usize) {
    let mut hidden = 0;
    let mut lines = Vec::new();
    for (at, line) in card.lines().enumerate() {
        let shown = if at < LINES_SHOWN { LINE_SHOWN } else { 0 };
        let cut = line.char_indices().nth(shown).map(|(cut, _)| cut);
        hidden += cut.map_or(0, |cut| line[cut..].chars().count());
        match cut {
            Some(cut) if shown > 0 => lines.push(format!("{}...", &line[..cut])),
            Some(_) => {}
            None => lines.push(line.to_owned()),
        }
    }
    (lines.join("\n"), hidden)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a09_what_is_not_shown_is_counted() {
        assert_eq!(
            beginning("POST https://a.example/\n\nbody"),
            ("POST https://a.example/\n\nbody".to_owned(), 0)
        );
        let (shown, hidden) = beginning(&format!("é\n{}", "é".repeat(LINE_SHOWN + 7)));
        assert_eq!((shown, hidden), (format!("é\n{}...", "é".repeat(LINE_SHOWN)), 7));
        let (shown, hidden) = beginning(&"abc\n".repeat(LINES_SHOWN + 2));
        assert_eq!((shown.lines().count(), hidden), (LINES_SHOWN, 6));
    }
}
