//! The account of one request: every step for the trace, and the outcome for the audit record.
//!
//! It knows names, numbers and rules. Queries, headers and bodies never enter it.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use policy::{Permit, Settlement};
use safety::{BodyEnd, BodyFault, Finding};
use types::{Field, Layer, Outbound, Refusal, SecretName, Trace, Verdict};

use crate::error::{Failure, SendError};
use crate::payload::Meter;
use crate::rules;
use crate::socket::Outcome;

/// One request on its way.
pub(crate) struct Account {
    trace: Trace,
    started: Instant,
    time: Duration,
    target: String,
    addr: Option<IpAddr>,
    status: Option<StatusCode>,
    sent: u64,
    upload: Option<Arc<Meter>>,
}

impl Account {
    /// Opens the account of a permitted request.
    pub(crate) fn open(permit: &Permit<Outbound>, trace: &Trace) -> Self {
        let effect = permit.effect();
        Self {
            trace: trace.clone(),
            started: Instant::now(),
            time: effect.time,
            target: effect.target.to_string(),
            addr: None,
            status: None,
            sent: 0,
            upload: None,
        }
    }

    /// When the whole exchange has to be over.
    pub(crate) fn deadline(&self) -> tokio::time::Instant {
        (self.started + self.time).into()
    }

    /// The trace that steps go to.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Lists a step of the way out that began at `since` and passes its result on.
    pub(crate) fn step<T, E: Into<SendError>>(
        &self,
        stage: &'static str,
        since: Instant,
        result: Result<T, E>,
        reason: impl FnOnce(&T) -> String,
    ) -> Result<T, SendError> {
        self.list(Layer::Egress, stage, since, result.map_err(Into::into), reason)
    }

    /// Lists a scan of what came back and passes its result on.
    pub(crate) fn leak_step<T>(
        &self,
        stage: &'static str,
        since: Instant,
        result: Result<T, SendError>,
    ) -> Result<T, SendError> {
        self.list(Layer::Leaks, stage, since, result, |_| "no secret".to_owned())
    }

    fn list<T>(
        &self,
        layer: Layer,
        stage: &'static str,
        since: Instant,
        result: Result<T, SendError>,
        reason: impl FnOnce(&T) -> String,
    ) -> Result<T, SendError> {
        let verdict = result.as_ref().map_or_else(verdict, |_| Verdict::Allow);
        self.trace.step(layer, stage, verdict, since, || match &result {
            Ok(value) => reason(value),
            Err(error) => explain(error),
        });
        result
    }

    /// Notes the address that took the connection.
    pub(crate) fn connected(&mut self, addr: IpAddr) {
        self.addr = Some(addr);
    }

    /// Notes how many bytes of head and body leave, secrets not counted.
    pub(crate) fn sends(&mut self, bytes: usize) {
        self.sent = bytes as u64;
    }

    /// Notes where to read how much of a streamed body left.
    pub(crate) fn uploads(&mut self, meter: Option<Arc<Meter>>) {
        self.upload = meter;
    }

    /// Why an exchange failed: what cut the request off, where something did.
    pub(crate) fn cause(&self, error: SendError) -> SendError {
        self.cut_off().unwrap_or(error)
    }

    fn cut_off(&self) -> Option<SendError> {
        Some(match self.upload.as_ref()?.fault()? {
            BodyFault::TooLarge(most) => {
                Refusal::new(&rules::TOO_LARGE, format!("a body of more than {most}")).into()
            }
            fault => match fault.refusal() {
                Some(refusal) => refusal.clone().into(),
                None => Failure::Sender.into(),
            },
        })
    }

    /// Notes the status of the answer to a request that was written from `since` on: what the step
    /// takes is the upstream's time.
    pub(crate) fn answered(&mut self, status: StatusCode, since: Instant) {
        self.status = Some(status);
        self.trace.step(Layer::Egress, "status", Verdict::Allow, since, || status.as_u16().to_string());
    }

    /// Settles a request that ended before it was armed: nothing of it was sent.
    pub(crate) async fn close_unsent(mut self, permit: Permit<Outbound>, error: SendError) -> SendError {
        self.sent = 0;
        match permit.redeem() {
            Ok((_, settlement)) => self.leaves(settlement).close(error).await,
            // The permit ended meanwhile, which redeeming it has recorded.
            Err(_) => error,
        }
    }

    /// The request leaves now.
    pub(crate) fn leaves(self, settlement: Settlement) -> Sent {
        Sent { account: self, settlement: Some(settlement) }
    }

    fn fields(&self) -> Vec<(Field, String)> {
        let mut fields = vec![(Field::Target, self.target.clone())];
        fields.extend(self.addr.map(|addr| (Field::Address, addr.to_string())));
        fields.extend(self.status.map(|status| (Field::Status, status.as_u16().to_string())));
        let streamed = self.upload.as_ref().map_or(0, |meter| meter.sent());
        fields.push((Field::Sent, (self.sent + streamed).to_string()));
        fields.push((Field::Micros, self.started.elapsed().as_micros().to_string()));
        fields
    }
}

/// One request that left, and the obligation to say what became of it: dropped, it says that the request was abandoned, and what
/// is known of it.
pub(crate) struct Sent {
    account: Account,
    settlement: Option<Settlement>,
}

impl Sent {
    /// What is known of it.
    pub(crate) fn account(&mut self) -> &mut Account {
        &mut self.account
    }

    /// Settles a request that has no usable answer.
    pub(crate) async fn close(mut self, error: SendError) -> SendError {
        let mut fields = self.account.fields();
        fields.extend(of_error(&error));
        // The decision is on record already; the caller gets this error whether or not a second
        // record could be written.
        self.settle(verdict(&error), fields).await;
        error
    }

    /// Settles a request whose answer went into the vault.
    pub(crate) async fn close_captured(
        mut self,
        received: usize,
        stored: impl IntoIterator<Item = &SecretName>,
    ) {
        let mut fields = self.account.fields();
        fields.push((Field::Received, received.to_string()));
        // What it brought is on record already, as a change of each secret.
        let stored = stored.into_iter().map(SecretName::as_str).collect::<Vec<_>>().join(",");
        fields.extend(Some((Field::Secret, stored)).filter(|(_, stored)| !stored.is_empty()));
        self.settle(Verdict::Done, fields).await;
    }

    /// Settles a request whose answer was read, or dropped half-way. Called from where nothing can
    /// wait. `failed` says how the exchange broke, if it did.
    pub(crate) fn close_with_body(mut self, end: BodyEnd, failed: Option<&Failure>) {
        let mut fields = self.account.fields();
        fields.push((Field::Received, end.received.to_string()));
        let cut_off = self.account.cut_off();
        let verdict = match &cut_off {
            Some(error) => verdict(error),
            None if end.verdict == Verdict::Allow => Verdict::Done,
            None => end.verdict,
        };
        if let Some(SendError::Refused(refusal)) = &cut_off {
            fields.extend(of_refusal(refusal));
            return self.settle_detached(verdict, fields);
        }
        match (end.fault.as_ref().and_then(BodyFault::refusal), failed, &end.fault) {
            (Some(refusal), ..) => fields.extend(of_refusal(refusal)),
            (None, Some(failure), _) => fields.push((Field::Reason, failure.to_string())),
            (None, None, Some(fault)) => fields.push((Field::Reason, fault.to_string())),
            (None, None, None) => {
                fields.extend(end.findings.first().map(|finding| (Field::Rule, finding.rule.to_string())));
            }
        }
        self.settle_detached(verdict, fields);
    }

    /// Settles a request that opened a WebSocket, with the bytes of the messages that were sent and received.
    pub(crate) async fn close_socket(
        mut self,
        (sent, received): (u64, u64),
        outcome: Outcome,
        findings: &[Finding],
    ) {
        self.account.sent += sent;
        let mut fields = self.account.fields();
        fields.push((Field::Received, received.to_string()));
        let verdict = match &outcome {
            Outcome::Left => Verdict::Abandoned,
            Outcome::Error(error) => verdict(error),
            Outcome::Done => {
                let worst = findings.iter().max_by_key(|finding| (finding.action, finding.severity));
                fields.extend(worst.map(|finding| (Field::Rule, finding.rule.to_string())));
                worst.map_or(Verdict::Done, |worst| worst.action.into())
            }
        };
        if let Outcome::Error(error) = &outcome {
            fields.extend(of_error(error));
        }
        self.settle(verdict, fields).await;
    }

    async fn settle(&mut self, verdict: Verdict, fields: Vec<(Field, String)>) {
        if let Some(settlement) = self.settlement.take() {
            let _ = settlement.settle(verdict, fields).await;
        }
    }

    fn settle_detached(&mut self, verdict: Verdict, fields: Vec<(Field, String)>) {
        if let Some(settlement) = self.settlement.take() {
            settlement.settle_detached(verdict, fields);
        }
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        if let Some(settlement) = self.settlement.take() {
            settlement.settle_detached(Verdict::Abandoned, self.account.fields());
        }
    }
}

fn verdict(error: &SendError) -> Verdict {
    match error {
        SendError::Refused(_) => Verdict::Block,
        SendError::Failed(_) => Verdict::Failed,
    }
}

fn explain(error: &SendError) -> String {
    match error {
        SendError::Refused(refusal) if refusal.detail.is_empty() => refusal.rule.id.to_owned(),
        SendError::Refused(refusal) => format!("{}: {}", refusal.rule.id, refusal.detail),
        SendError::Failed(failure) => failure.to_string(),
    }
}

fn of_error(error: &SendError) -> Vec<(Field, String)> {
    match error {
        SendError::Refused(refusal) => of_refusal(refusal),
        SendError::Failed(failure) => vec![(Field::Reason, failure.to_string())],
    }
}

fn of_refusal(refusal: &Refusal) -> Vec<(Field, String)> {
    let mut fields = vec![
        (Field::Rule, refusal.rule.id.to_owned()),
        (Field::Refusal, refusal.id.to_string()),
        (Field::Reason, refusal.detail.clone()),
    ];
    fields.extend(refusal.widen.clone().map(|widen| (Field::Widen, widen)));
    fields
}
