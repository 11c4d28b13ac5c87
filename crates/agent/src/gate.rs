//! Where text passes into and out of a turn: screened, recorded, and told of where it must be.

use std::sync::Arc;

use policy::{Scope, Turn};
use safety::validator::json::{self, JsonError};
use safety::{Blocked, Channel, Report, Safety, Screened, StaticFault, Untrusted};
use serde_json::Value;
use types::{Field, Kind, Layer, Record, Refusal, Source, ToolName, Verdict};

use crate::alert::{Alarm, Alert, Place, not_recorded};
use crate::model::Proposal;

/// Screens and records. Nothing passes before its record is durable.
pub(crate) struct Gate {
    pub(crate) safety: Arc<Safety>,
    pub(crate) alarm: Alarm,
}

/// A proposal that was read.
pub(crate) struct Call {
    pub(crate) tool: ToolName,
    pub(crate) arguments: Screened<Value>,
}

impl Gate {
    /// Text given to the agent.
    pub(crate) async fn admit(
        &self,
        turn: &Turn,
        text: Untrusted<String>,
        alerts: &mut Vec<Alert>,
    ) -> Result<Screened<String>, Refusal> {
        self.pass(Kind::Admit, Channel::Input, turn, None, text, alerts).await
    }

    /// What a tool returned, success or error.
    pub(crate) async fn release(
        &self,
        scope: &Scope,
        text: Untrusted<String>,
        alerts: &mut Vec<Alert>,
    ) -> Result<Screened<String>, Refusal> {
        self.pass(Kind::Release, Channel::Result, scope.turn(), Some(scope), text, alerts).await
    }

    /// The model's words to the person.
    pub(crate) async fn reply(
        &self,
        turn: &Turn,
        text: Untrusted<String>,
        alerts: &mut Vec<Alert>,
    ) -> Result<Screened<String>, Refusal> {
        self.pass(Kind::Release, Channel::Reply, turn, None, text, alerts).await
    }

    /// Reads a proposed call. One that is no call (a name that no tool can have, arguments that are not
    /// JSON or that programs read differently) gives the reason; one that holds what may not pass is refused.
    pub(crate) async fn read(
        &self,
        turn: &Turn,
        proposal: Proposal,
        alerts: &mut Vec<Alert>,
    ) -> Result<Result<Call, StaticFault>, Refusal> {
        let name = match self.safety.screen(proposal.tool, Channel::Arguments, &types::Trace::off()) {
            Ok(name) => ToolName::parse(name.as_str()).ok(),
            Err(blocked) => return Err(self.stopped(turn, None, &Source::Model, blocked, alerts).await),
        };
        let (tool, arguments) = match (name, proposal.arguments.try_map(parse)) {
            (Some(tool), Ok(arguments)) => (tool, arguments),
            (None, _) => return Ok(Err(UNREADABLE)),
            (_, Err(fault)) => return Ok(Err(fault)),
        };
        Ok(Ok(Call { tool, arguments: self.arguments(turn, arguments, alerts).await? }))
    }

    /// The arguments of a call, whoever proposed it.
    pub(crate) async fn arguments(
        &self,
        turn: &Turn,
        arguments: Untrusted<Value>,
        alerts: &mut Vec<Alert>,
    ) -> Result<Screened<Value>, Refusal> {
        let source = arguments.source().clone();
        match self.safety.screen_json_and_tell(arguments, Channel::Arguments, turn.trace()) {
            Ok((arguments, report)) => {
                let place = Place { turn, source: &source, scope: None };
                alerts.extend(self.alarm.tell(&report, place).await?);
                Ok(arguments)
            }
            Err(blocked) => Err(self.stopped(turn, None, &source, blocked, alerts).await),
        }
    }

    /// Records what was stopped and gives the refusal.
    pub(crate) async fn stopped(
        &self,
        turn: &Turn,
        scope: Option<&Scope>,
        source: &Source,
        blocked: Blocked,
        alerts: &mut Vec<Alert>,
    ) -> Refusal {
        self.stop(Kind::Release, turn, scope, source, blocked, alerts).await
    }

    /// What another layer refused. A leak is told of, wherever it was found.
    pub(crate) async fn refused(
        &self,
        refusal: Refusal,
        place: Place<'_>,
        alerts: &mut Vec<Alert>,
    ) -> Refusal {
        if refusal.rule.layer != Layer::Leaks {
            return refusal;
        }
        match self.alarm.tell_refused(&refusal, place).await {
            Ok(alert) => {
                alerts.push(alert);
                refusal
            }
            Err(unrecorded) => unrecorded,
        }
    }

    async fn pass(
        &self,
        kind: Kind,
        channel: Channel,
        turn: &Turn,
        scope: Option<&Scope>,
        text: Untrusted<String>,
        alerts: &mut Vec<Alert>,
    ) -> Result<Screened<String>, Refusal> {
        let source = text.source().clone();
        let (screened, report) = match self.safety.screen_and_tell(text, channel, turn.trace()) {
            Ok(passed) => passed,
            Err(blocked) => return Err(self.stop(kind, turn, scope, &source, blocked, alerts).await),
        };
        let record = self.record(kind, report.verdict, turn, scope, &source, &report);
        self.alarm.audit.record(record).await.map_err(not_recorded)?;
        alerts.extend(self.alarm.tell(&report, Place { turn, source: &source, scope }).await?);
        Ok(screened)
    }

    async fn stop(
        &self,
        kind: Kind,
        turn: &Turn,
        scope: Option<&Scope>,
        source: &Source,
        blocked: Blocked,
        alerts: &mut Vec<Alert>,
    ) -> Refusal {
        let Blocked { refusal, report } = blocked;
        let mut record = self
            .record(kind, Verdict::Block, turn, scope, source, &report)
            .with(Field::Rule, refusal.rule.id)
            .with(Field::Refusal, refusal.id)
            .with(Field::Reason, &refusal.detail);
        if let Some(widen) = &refusal.widen {
            record = record.with(Field::Widen, widen);
        }
        if let Err(error) = self.alarm.audit.record(record).await {
            return not_recorded(error);
        }
        match self.alarm.tell(&report, Place { turn, source, scope }).await {
            Ok(told) => alerts.extend(told),
            Err(unrecorded) => return unrecorded,
        }
        refusal
    }

    /// What was screened and what was found; never the text.
    fn record(
        &self,
        kind: Kind,
        verdict: Verdict,
        turn: &Turn,
        scope: Option<&Scope>,
        source: &Source,
        report: &Report,
    ) -> Record {
        let mut record = Record::new(kind, verdict)
            .of_turn(turn.id())
            .with(Field::Source, source)
            .with(Field::Severity, report.severity)
            .with(Field::Generation, format!("{:016x}", self.safety.generation()));
        if let Some(scope) = scope {
            record = record.with(Field::Tool, scope.tool()).with(Field::Call, scope.call());
        }
        // A refusal names its own rule; its reason names the detector's.
        match report.worst() {
            Some(worst) if verdict != Verdict::Block => record = record.with(Field::Rule, &worst.rule),
            _ => {}
        }
        record.with(Field::Count, report.findings.len())
    }
}

/// The arguments of a call; nothing at all stands for no arguments.
fn parse(text: String) -> Result<Value, StaticFault> {
    match text.trim() {
        "" => Ok(Value::Object(serde_json::Map::new())),
        text => json::read(text).map_err(|fault| match fault {
            JsonError::Syntax { .. } => UNREADABLE,
            JsonError::Depth => TOO_DEEP,
            JsonError::Values => TOO_MANY,
            JsonError::Duplicate => TWICE,
        }),
    }
}

/// What a model is told that proposed something that is no call.
const UNREADABLE: StaticFault = StaticFault(
    "The last call could not be read: the name must be that of an offered tool and the arguments a JSON object.",
);
const TOO_DEEP: StaticFault =
    StaticFault("The last call could not be read: its arguments are nested more deeply than 64 levels.");
const TOO_MANY: StaticFault =
    StaticFault("The last call could not be read: its arguments hold more than 65,536 values.");
const TWICE: StaticFault = StaticFault(
    "The last call could not be read: an object in its arguments has two members of the same name.",
);

#[cfg(test)]
mod tests {
    use types::limits;

    use super::*;

    #[test]
    fn arguments_that_programs_read_differently_are_no_call() {
        assert_eq!(parse(r#"{"action":"list","action":"add"}"#.into()), Err(TWICE));
        let nested = |levels: usize| format!("{{\"a\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(parse(nested(limits::MAX_DEPTH + 1)), Err(TOO_DEEP));
        assert!(TOO_DEEP.0.contains(&limits::MAX_DEPTH.to_string()));
        assert_eq!(parse("{".into()), Err(UNREADABLE));
        assert_eq!(parse(" ".into()), Ok(serde_json::json!({})));
    }
}
