//! Questions to the owner: one call, shown as it would run, answered once and soon.

use std::time::{Duration, Instant};

use safety::Screened;
use serde_json::Value;
use store::{ApprovalRow, ApprovalState, Mutation};
use types::{Digest, Field, FindingId, Kind, Record, Refusal, Rule, ToolCall, ToolName, Verdict};

use crate::decide::{Policy, not_recorded};
use crate::permit::Permit;
use crate::rules;
use crate::turn::{Scope, Turn};

/// How long an answer at the terminal may take.
pub(crate) const ANSWER_TIME: Duration = Duration::from_secs(300);

/// How long an approval given with `ironclaw approvals approve` waits for the call it is for.
pub(crate) const HELD_TIME: Duration = Duration::from_secs(24 * 3600);

/// What the owner is shown. A card is drawn from these fields and nothing else.
#[derive(Debug)]
pub struct Card {
    /// The tool.
    pub tool: ToolName,
    /// The digest of its code and manifest.
    pub digest: Digest,
    /// Why the owner is asked.
    pub rule: &'static Rule,
    /// The policy that asks, where one does.
    pub policy: String,
    /// The arguments, screened.
    pub arguments: Screened<Value>,
    /// Where the tool can connect.
    pub hosts: Vec<String>,
    /// The folder of the owner's that it works in, if it works in one, as it may be printed.
    pub folder: Option<String>,
}

/// The owner's word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Run this one call.
    Yes,
    /// Do not.
    No,
}

/// A call that waits for the owner. Dropping it refuses.
#[must_use = "an unanswered question refuses"]
pub struct Question {
    pub(crate) card: Card,
    pub(crate) call: ToolCall,
    pub(crate) scope: Scope,
    pub(crate) policy: Policy,
    pub(crate) generation: u64,
    pub(crate) asked: audit::Seq,
    pub(crate) since: Instant,
}

impl Question {
    /// What to show.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Records the answer; `Yes` within the time limit gives the permit.
    pub async fn answer(self, answer: Answer) -> Result<Permit<ToolCall>, Refusal> {
        let late = self.since.elapsed() > ANSWER_TIME;
        let refusal = match answer {
            Answer::Yes if !late => None,
            Answer::Yes => Some(&rules::ANSWERED_LATE),
            Answer::No => Some(&rules::DECLINED),
        }
        .map(|rule| Refusal::new(rule, self.card.tool.to_string()));
        let verdict = if refusal.is_none() { Verdict::Allow } else { Verdict::Block };
        let mut record = self.record(Kind::Approval, verdict);
        if let Some(refusal) = &refusal {
            record = record.with(Field::Refusal, refusal.id).with(Field::Rule, refusal.rule.id);
        }
        let seq = self.policy.audit().record(record).await.map_err(not_recorded)?;
        match refusal {
            Some(refusal) => Err(refusal),
            None => Ok(self.policy.mint_call(self.call, self.scope, seq, self.generation)),
        }
    }

    /// Nobody can be asked: the call is refused and waits in `ironclaw approvals`. Approved there, the
    /// same call with the same arguments runs once.
    pub async fn hold(self) -> Refusal {
        let id = FindingId::new();
        let refusal =
            Refusal::new(&rules::UNATTENDED, format!("{}: {}", self.card.tool, self.card.rule.says))
                .widened_by(format!("ironclaw approvals approve {id}"));
        let now = audit::now_ms();
        let row = ApprovalRow {
            id,
            tenant: self.policy.tenant().clone(),
            kind: "call".to_owned(),
            digest: call_digest(&self.call),
            card: match &self.card.folder {
                Some(folder) => format!("{} in {folder} {}", self.card.tool, self.call.arguments),
                None => format!("{} {}", self.card.tool, self.call.arguments),
            },
            state: ApprovalState::Waiting,
            created_ms: now,
            expires_ms: now + HELD_TIME.as_millis() as u64,
        };
        let record = self
            .record(Kind::Approval, Verdict::Ask)
            .with(Field::Finding, id)
            .with(Field::Refusal, refusal.id)
            .with(Field::Rule, refusal.rule.id)
            .with(Field::Reason, &refusal.detail)
            .with(Field::Widen, refusal.widen.as_deref().unwrap_or_default());
        match self.policy.audit().change(record, Mutation::Hold(row)).await {
            Ok(_) => refusal,
            Err(_) => not_recorded(()),
        }
    }

    fn record(&self, kind: Kind, verdict: Verdict) -> Record {
        Record::new(kind, verdict)
            .of_turn(self.turn().id())
            .with(Field::Of, self.asked.get())
            .with(Field::Actor, "owner")
            .with(Field::Tool, &self.card.tool)
            .with(Field::Call, self.call.id)
    }

    fn turn(&self) -> &Turn {
        self.scope.turn()
    }
}

/// What an approval is bound to: the code that would run and its exact arguments.
pub(crate) fn call_digest(call: &ToolCall) -> Digest {
    Digest::of_parts([
        call.tool.as_str().as_bytes(),
        call.digest.as_bytes().as_slice(),
        call.arguments.as_bytes(),
    ])
}
