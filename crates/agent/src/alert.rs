//! Alerts: a critical finding or a leak is told three times. A record of its own kind, a value that the
//! binary prints as a line nobody can miss, and a command of the owner's that is given the finding's id.
//!
//! The third time that a tool touches a value of the vault, it is suspended: what looks like a leak can be
//! a tool that guesses (attack M05). Hits on all secrets count together, so guessing at several gains
//! nothing. They are counted in the database, where each waits in `ironclaw approvals` until the owner has
//! looked at it.

use std::fmt;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use audit::{Audit, ChangeError};
use policy::{Scope, Turn};
use safety::finding::{self, Finding};
use safety::{Action, Report, Severity};
use store::{ApprovalRow, ApprovalState, Mutation, Reader, ToolState};
use types::{
    Digest, Field, FindingId, Kind, Lane, Record, Refusal, SecretName, Source, Tenant, ToolName, Verdict,
};

/// Hits on values of the vault after which a tool is suspended.
const MAX_HITS: usize = 3;

/// How long the owner's command may run.
const COMMAND_TIME: Duration = Duration::from_secs(10);

/// How long a finding waits for the owner.
const HELD_TIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The most findings of one text that wait for the owner one by one.
const MAX_HELD: usize = 8;

/// Something the person must not miss. Shows no text that was found.
#[derive(Clone, Debug)]
pub struct Alert {
    /// Under which it waits in `ironclaw approvals`.
    pub id: FindingId,
    /// The rule that found it.
    pub rule: String,
    /// How bad it is.
    pub severity: Severity,
    /// What the rule looks for.
    pub reason: String,
    /// Where the text came from.
    pub source: Source,
    /// Which secret of the vault it is, where it is one.
    pub secret: Option<SecretName>,
    /// The tool that was suspended for it.
    pub suspended: Option<ToolName>,
}

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ALERT ({}): {}: {}, from {}", self.severity, self.rule, self.reason, self.source)?;
        if let Some(secret) = &self.secret {
            write!(f, ", the secret {secret}")?;
        }
        if let Some(tool) = &self.suspended {
            write!(f, "\n  {tool} is suspended; to use it again: ironclaw tool approve {tool}")?;
        }
        write!(f, "\n  it waits as {}: ironclaw approvals list", self.id)
    }
}

/// The owner's command for alerts: a program and fixed arguments. The finding's id comes last, and there is
/// nothing else that a finding could say through it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AlertCommand {
    program: PathBuf,
    arguments: Vec<String>,
}

/// Why a command for alerts was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the command for alerts begins with the absolute path of a program")]
pub struct AlertCommandError;

impl AlertCommand {
    /// Reads `["/usr/bin/notify", "--now"]`. Without a search path, nobody else's program is found.
    pub fn parse(argv: &[String]) -> Result<Option<Self>, AlertCommandError> {
        let Some((program, arguments)) = argv.split_first() else {
            return Ok(None);
        };
        let program = PathBuf::from(program);
        if !program.is_absolute() || argv.iter().any(|argument| argument.contains('\0')) {
            return Err(AlertCommandError);
        }
        Ok(Some(Self { program, arguments: arguments.to_vec() }))
    }

    /// Runs the program without shell, environment, input or output. True when it ended well in time; one
    /// that runs too long is killed.
    async fn run(&self, id: FindingId) -> bool {
        #[allow(clippy::disallowed_methods, reason = "the owner's own command for alerts, with a fixed argv")]
        let mut command = tokio::process::Command::new(&self.program);
        command.args(&self.arguments).arg(id.to_string()).env_clear().current_dir("/").kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(mut child) = command.spawn() else {
            return false;
        };
        match tokio::time::timeout(COMMAND_TIME, child.wait()).await {
            Ok(status) => status.is_ok_and(|status| status.success()),
            Err(_) => {
                // It may have ended in this moment; either way it is gone and reaped.
                let _ = child.kill().await;
                false
            }
        }
    }
}

/// Where a finding came up.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) turn: &'a Turn,
    pub(crate) source: &'a Source,
    pub(crate) scope: Option<&'a Scope>,
}

/// One finding as the owner is told of it: fixed words, numbers and parsed names.
struct Told {
    rule: String,
    severity: Severity,
    reason: String,
    secret: Option<SecretName>,
    /// A value of the vault, whether or not its name is known here.
    known_value: bool,
    fingerprint: Digest,
    card: String,
}

/// What tells the owner of findings.
pub struct Alarm {
    /// Where they are recorded.
    pub audit: Audit,
    /// The right to count what waits.
    pub reader: Reader,
    /// Whose findings they are.
    pub tenant: Tenant,
    /// What is run for each.
    pub command: Option<AlertCommand>,
}

impl Alarm {
    /// Tells of every finding that someone has to hear of. A finding that cannot be recorded is a refusal.
    pub(crate) async fn tell(&self, report: &Report, place: Place<'_>) -> Result<Vec<Alert>, Refusal> {
        let mut alerts: Vec<Alert> = Vec::new();
        let mut held = 0;
        for finding in report.findings.iter().filter(|finding| finding.action >= Action::Flag) {
            let told = Told::of(finding);
            if told.known_value || told.severity == Severity::Critical {
                // However many small findings stand before it. One of a kind is enough.
                if !alerts.iter().any(|alert| alert.rule == told.rule && alert.secret == told.secret) {
                    alerts.push(self.raise(told, place).await?);
                }
            } else if finding.action == Action::Flag && held < MAX_HELD {
                held += 1;
                self.hold(told, place).await?;
            }
        }
        Ok(alerts)
    }

    /// Tells of a leak that another layer stopped inside a call.
    pub(crate) async fn tell_refused(&self, refusal: &Refusal, place: Place<'_>) -> Result<Alert, Refusal> {
        self.raise(Told::stopped(refusal.rule.id, &refusal.detail), place).await
    }

    /// Tells of a leak that was stopped outside any call, by its rule's id and what was found, in fixed words.
    pub async fn tell_leak(
        &self,
        (rule, reason): (&str, &str),
        turn: &Turn,
        source: &Source,
    ) -> Result<Alert, Refusal> {
        self.raise(Told::stopped(rule, reason), Place { turn, source, scope: None }).await
    }

    /// One alert: recorded, counted, and the command run.
    async fn raise(&self, told: Told, place: Place<'_>) -> Result<Alert, Refusal> {
        let id = FindingId::new();
        let hit = place.scope.filter(|_| told.known_value);
        let (kind, digest) = match hit {
            Some(scope) => ("leak", hit_digest(scope)),
            None => ("alert", told.fingerprint),
        };
        let record = told.record(Kind::Alert, id, place);
        self.audit
            .change(record, Mutation::Hold(self.row(id, kind, digest, &told)))
            .await
            .map_err(not_recorded)?;
        let suspended = match hit {
            Some(scope) => self.suspend_after_hits(digest, scope).await?,
            None => None,
        };
        if let Some(command) = &self.command {
            let verdict = if command.run(id).await { Verdict::Done } else { Verdict::Failed };
            let record = Record::new(Kind::Alert, verdict).of_turn(place.turn.id()).with(Field::Finding, id);
            self.audit
                .record(record.with(Field::Reason, "the command for alerts"))
                .await
                .map_err(not_recorded)?;
        }
        let Told { rule, severity, reason, secret, .. } = told;
        Ok(Alert { id, rule, severity, reason, source: place.source.clone(), secret, suspended })
    }

    /// Lets a flagged finding wait for the owner, unless the same one waits already.
    async fn hold(&self, told: Told, place: Place<'_>) -> Result<(), Refusal> {
        if self.waiting(told.fingerprint).await? > 0 {
            return Ok(());
        }
        let id = FindingId::new();
        let record = told.record(Kind::Approval, id, place);
        let row = self.row(id, "finding", told.fingerprint, &told);
        self.audit.change(record, Mutation::Hold(row)).await.map_err(not_recorded).map(drop)
    }

    /// Suspends an installed tool that touched the vault's values too often.
    async fn suspend_after_hits(&self, digest: Digest, scope: &Scope) -> Result<Option<ToolName>, Refusal> {
        let hits = self.waiting(digest).await?;
        if hits < MAX_HITS || scope.manifest().lane != Lane::Wasm {
            return Ok(None);
        }
        let record = Record::new(Kind::Tool, Verdict::Block)
            .of_turn(scope.turn().id())
            .with(Field::Tool, scope.tool())
            .with(Field::Digest, scope.digest())
            .with(Field::Count, hits)
            .with(Field::State, ToolState::Suspended)
            .with(Field::Reason, "it touched values of the vault too often");
        let change = Mutation::SetToolState {
            tenant: self.tenant.clone(),
            name: scope.tool().clone(),
            digest: *scope.digest(),
            from: ToolState::Approved,
            to: ToolState::Suspended,
        };
        match self.audit.change(record, change).await {
            Ok(_) => Ok(Some(scope.tool().clone())),
            // It was suspended, replaced or removed in the meantime.
            Err(ChangeError::Lost(_)) => Ok(None),
            Err(ChangeError::Audit(error)) => Err(not_recorded(error)),
        }
    }

    /// How many findings of this digest wait for the owner.
    async fn waiting(&self, digest: Digest) -> Result<usize, Refusal> {
        let rows = self.reader.approvals_of(&self.tenant, digest).await;
        let rows = rows.map_err(|_| Refusal::new(&policy::rules::NOT_READ, "approvals"))?;
        Ok(rows.iter().filter(|row| row.state == ApprovalState::Waiting).count())
    }

    fn row(&self, id: FindingId, kind: &str, digest: Digest, told: &Told) -> ApprovalRow {
        let now = audit::now_ms();
        ApprovalRow {
            id,
            tenant: self.tenant.clone(),
            kind: kind.to_owned(),
            digest,
            card: told.card.clone(),
            state: ApprovalState::Waiting,
            created_ms: now,
            expires_ms: now + HELD_TIME.as_millis() as u64,
        }
    }
}

impl Told {
    fn of(finding: &Finding) -> Self {
        Self {
            rule: finding.rule.to_string(),
            severity: finding.severity,
            reason: finding.reason.to_string(),
            secret: finding.secret.clone(),
            known_value: finding.kind == finding::Kind::KnownValue,
            fingerprint: Digest::of(finding.fingerprint.as_bytes()),
            card: format!(
                "{} ({}): {}, bytes {} to {}, read as {}, fingerprint {}",
                finding.rule,
                finding.severity,
                finding.reason,
                finding.span.start,
                finding.span.end,
                finding.view,
                finding.fingerprint
            ),
        }
    }

    fn stopped(rule: &str, reason: &str) -> Self {
        Self {
            rule: rule.to_owned(),
            severity: Severity::Critical,
            reason: reason.to_owned(),
            secret: None,
            known_value: rule == finding::KNOWN_VALUE.id,
            fingerprint: Digest::of_parts([rule.as_bytes(), reason.as_bytes()]),
            card: format!("{rule}: {reason}"),
        }
    }

    fn record(&self, kind: Kind, id: FindingId, place: Place<'_>) -> Record {
        let mut record = Record::new(kind, Verdict::Flag)
            .of_turn(place.turn.id())
            .with(Field::Finding, id)
            .with(Field::Rule, &self.rule)
            .with(Field::Severity, self.severity)
            .with(Field::Source, place.source)
            .with(Field::Reason, &self.reason);
        if let Some(scope) = place.scope {
            record = record.with(Field::Tool, scope.tool()).with(Field::Call, scope.call());
        }
        if let Some(secret) = &self.secret {
            record = record.with(Field::Secret, secret);
        }
        record
    }
}

/// What hits are counted under: the code of the tool, so that a new version starts afresh only when the
/// owner approved it.
fn hit_digest(scope: &Scope) -> Digest {
    Digest::of_parts([b"hit".as_slice(), scope.digest().as_bytes().as_slice()])
}

/// The refusal for what could not be recorded.
pub(crate) fn not_recorded<E>(_: E) -> Refusal {
    Refusal::new(&policy::rules::NOT_RECORDED, "").widened_by("ironclaw doctor")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// On a paused clock the time limit passes as soon as nothing else can happen.
    #[tokio::test(start_paused = true)]
    async fn a_command_that_does_not_end_is_killed() {
        let since = Instant::now();
        let command =
            AlertCommand::parse(&["/bin/sh".to_owned(), "-c".to_owned(), "exec /bin/sleep 600".to_owned()]);
        assert!(!command.unwrap().unwrap().run(FindingId::new()).await);
        assert!(since.elapsed() < COMMAND_TIME);
    }

    #[test]
    fn a_command_for_alerts_has_no_search_path() {
        for bad in ["notify", "./notify", "", "/bin/a\0b"] {
            assert!(AlertCommand::parse(&[bad.to_owned()]).is_err(), "{bad:?}");
        }
        assert_eq!(AlertCommand::parse(&[]), Ok(None));
    }
}
