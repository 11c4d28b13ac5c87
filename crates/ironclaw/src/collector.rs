//! Records on their way to the owner's collector: OTLP over HTTP with JSON (OpenTelemetry protocol 1).
//!
//! The log is the spool, and what it claims of exports says how far they came ([`audit::Handed`]). So a collector that is
//! slow or dead holds up nobody and loses nothing: nothing is kept for it but the records themselves, which are there
//! anyway. A request is decided and sent like every other, and leaves records of its own; those alone are
//! no reason to send, or every request would be one for the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use audit::{Audit, ChangeError, Entry, Handed, Log};
use egress::{Egress, Message, SendError};
use futures_util::StreamExt as _;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use policy::{Policy, Turn};
use safety::Safety;
use serde_json::{Value, json};
use store::{Lost, Mutation};
use tokio::task::AbortHandle;
use types::{Caller, Digest, Field, Kind, Layer, Record, Target, Trace};

use crate::commands::audit::broken;
use crate::commands::audit::export::{otlp, shown};
use crate::exit::{Failure, Outcome};
use crate::parts::{Base, catalog, egress_config, policy};
use crate::renewal::failure;
use crate::terminal::Terminal;

/// Records read at a time.
const PAGE: u32 = 256;

/// The longest body, unless one record alone is longer. Collectors take several times that.
const BODY: usize = 512 * 1024;

/// How often the end of the log is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// How many records a request leaves at most: its decision, the use of a secret and the count of it, its end.
const LEFT: usize = 4;

/// The longest time between two attempts at a collector that does not take anything.
const PATIENCE: Duration = Duration::from_secs(300);

/// `ironclaw audit export --push`.
pub async fn run(follow: bool, base: &Base, terminal: &Terminal) -> Outcome {
    let vault = match base.config.policy.collector.as_ref().is_some_and(|rule| rule.secret.is_some()) {
        true => Some(base.vault(terminal).await?),
        false => None,
    };
    let egress = Egress::new(egress_config(&base.config), base.safety.clone(), vault);
    let egress = Arc::new(egress.map_err(Failure::usage)?);
    let policy = policy(base, catalog(base, Vec::new()))?;
    let collector = Collector::of(base, policy, egress).ok_or_else(|| {
        Failure::usage("no collector is configured\n  more: ironclaw config explain export")
    })?;
    if follow {
        let following = collector.follow(Duration::ZERO, terminal.clone());
        return terminal.unless_interrupted(following).await.map_or(Ok(()), |never| match never {});
    }
    let work = async {
        let (end, mut taken) =
            (collector.log.tail(1).await.map_err(broken)?.last().map_or(0, |entry| entry.seq), 0);
        while let Some(step) = collector.hand_over().await? {
            taken += step.handed.taken;
            if step.handed.last >= end {
                break;
            }
        }
        Ok((taken, collector.log.handed(&collector.digest).await.map_err(broken)?))
    };
    let (taken, last) = match terminal.unless_interrupted(work).await {
        Ok(Ok(done)) => done,
        Ok(Err(error)) => return Err(error),
        Err(interrupted) => return Err(Failure::failed(interrupted)),
    };
    terminal.done(
        json!({ "exported": taken, "last": last }),
        format!("{taken} records were taken, up to number {last}."),
    );
    Ok(())
}

/// What hands records over as long as it is kept.
pub struct Kept(AbortHandle);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Hands records over while a program runs, where a collector is configured. Nobody waits for it.
pub fn keep(base: &Base, policy: Policy, egress: Arc<Egress>, terminal: &Terminal) -> Option<Kept> {
    let collector = Collector::of(base, policy, egress)?;
    let terminal = terminal.clone();
    let work = async move { match collector.follow(LOOK, terminal).await {} };
    Some(Kept(tokio::spawn(work).abort_handle()))
}

/// A collector, and what it takes to hand records to it.
struct Collector {
    log: Log,
    audit: Audit,
    safety: Arc<Safety>,
    policy: Policy,
    egress: Arc<Egress>,
    target: Target,
    digest: Digest,
    turn: Turn,
}

/// What was handed over at a time.
struct Step {
    handed: Handed,
    /// How many records were sent.
    sent: usize,
    /// How many requests it took.
    requests: usize,
}

impl Step {
    /// Whether the log has grown by more than was handed over, as it does where a collector takes no two records together.
    fn falls_behind(&self) -> bool {
        self.requests > 1 && self.requests * LEFT >= self.sent
    }
}

/// How soon the log is looked at again, and whether a failure was told.
struct Pace {
    wait: Duration,
    is_told: bool,
}

impl Pace {
    /// What to tell of an attempt.
    fn after(&mut self, attempt: Result<Option<Step>, Failure>) -> Option<Failure> {
        let slower = (self.wait * 2).clamp(LOOK, PATIENCE);
        match attempt {
            Ok(None) => self.wait = LOOK,
            Ok(Some(step)) => {
                self.wait = if step.falls_behind() { slower } else { Duration::ZERO };
                self.is_told = false;
            }
            Err(error) => {
                self.wait = slower;
                return (!std::mem::replace(&mut self.is_told, true)).then_some(error);
            }
        }
        None
    }
}

/// What of some records was sent.
struct Offered {
    sent: usize,
    requests: usize,
    /// Sent and refused.
    refused: u64,
    /// Sent without their fields.
    withheld: u64,
}

/// What a collector said to some records.
enum Said {
    /// It has taken them, but for so many.
    Taken { refused: u64 },
    /// Not these, or not so many at once.
    NotThese,
}

impl Collector {
    fn of(base: &Base, policy: Policy, egress: Arc<Egress>) -> Option<Self> {
        let target = base.config.collector.clone()?;
        Some(Self {
            log: Log::new(base.reader.clone()),
            audit: base.audit.clone(),
            safety: base.safety.clone(),
            policy,
            egress,
            digest: Digest::of(target.to_string().as_bytes()),
            target,
            turn: Turn::begin(Trace::off()),
        })
    }

    /// Hands over what is there and what comes, for ever; the slower, the less comes of it. A failure is told once, until it
    /// is over.
    async fn follow(&self, wait: Duration, terminal: Terminal) -> std::convert::Infallible {
        let mut pace = Pace { wait, is_told: false };
        loop {
            tokio::time::sleep(pace.wait).await;
            if let Some(error) = pace.after(self.hand_over().await) {
                terminal.failure(error);
            }
        }
    }

    /// Hands over the next records; `None` where there is no news.
    async fn hand_over(&self) -> Result<Option<Step>, Failure> {
        let before = self.log.handed(&self.digest).await.map_err(broken)?;
        let entries = self.log.after(before, PAGE).await.map_err(broken)?;
        if entries.len() < PAGE as usize && !hold_news(&entries) {
            return Ok(None);
        }
        let Offered { sent, requests, refused, withheld } = match self.offer(&entries).await {
            Ok(offered) => offered,
            Err(error) => return Err(self.waiting(error, before).await),
        };
        let last = entries[..sent].last().map_or(before, |entry| entry.seq);
        let handed = Handed {
            collector: self.digest,
            last,
            taken: sent as u64 - refused,
            refused,
            // Numbers have no gaps but what is in archives.
            archived: (last - before).saturating_sub(sent as u64),
            withheld,
        };
        match self.audit.change(handed.record().of_turn(self.turn.id()), Mutation::Claim).await {
            // Another process has handed over the same records, and says so.
            Ok(_) | Err(ChangeError::Lost(Lost::Claimed)) => Ok(Some(Step { handed, sent, requests })),
            Err(error) => Err(Failure::failed(error)),
        }
    }

    /// Offers as many records as are taken together.
    async fn offer(&self, entries: &[Entry]) -> Result<Offered, Failure> {
        let (mut count, mut requests) = (entries.len(), 0);
        loop {
            let body = otlp(&entries[..count], &shown(&self.safety)).to_string();
            if body.len() > BODY && count > 1 {
                count = count.div_ceil(2);
                continue;
            }
            requests += 1;
            match self.send(body).await? {
                Said::Taken { refused } => {
                    let refused = refused.min(count as u64);
                    return Ok(Offered { sent: count, requests, refused, withheld: 0 });
                }
                Said::NotThese if count > 1 => count = count.div_ceil(2),
                Said::NotThese => break,
            }
        }
        // One record that may not leave, or that the collector cannot read: what is left of it is that it is there.
        let bare: Vec<Entry> = entries.iter().take(1).map(bare).collect();
        let body = without_links(otlp(&bare, &shown(&self.safety))).to_string();
        let refused = match self.send(body).await? {
            Said::Taken { refused } => refused.min(1),
            Said::NotThese => 1,
        };
        Ok(Offered { sent: 1, requests: requests + 1, refused, withheld: 1 - refused })
    }

    async fn send(&self, body: String) -> Result<Said, Failure> {
        let permit = self.policy.decide_export(&self.turn, self.target.clone()).await?;
        let json = HeaderValue::from_static("application/json");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, json.clone()), (ACCEPT, json)]);
        let message = Message { headers, body: body.into_bytes().into() };
        let answer = match self.egress.send(permit, message, self.turn.trace()).await {
            Ok(answer) => answer,
            Err(SendError::Refused(refusal))
                if matches!(refusal.rule.layer, Layer::Leaks | Layer::Safety) =>
            {
                return Ok(Said::NotThese);
            }
            Err(error) => return Err(failure(error)),
        };
        let status = answer.status();
        let mut chunks = answer.into_body();
        let mut told = Vec::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Failure::failed("the collector's answer cannot be read"))?;
            told.extend_from_slice(&chunk);
        }
        match status {
            status if status.is_success() => Ok(Said::Taken { refused: refused(&told) }),
            StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY => {
                Ok(Said::NotThese)
            }
            status => Err(Failure::failed(format!("the collector answers with status {}", status.as_u16()))),
        }
    }

    /// The same failure, with how much waits for the collector.
    async fn waiting(&self, error: Failure, handed: u64) -> Failure {
        let last = self.log.tail(1).await.ok().and_then(|tail| Some(tail.last()?.seq)).unwrap_or(handed);
        match error {
            Failure::Plain(code, words) => {
                let wait = last.saturating_sub(handed);
                Failure::Plain(
                    code,
                    format!("{words}\n  {wait} records wait in the log, from number {}", handed + 1),
                )
            }
            other => other,
        }
    }
}

/// Whether any of these records is neither a seal nor one that handing over left behind, by whichever process.
fn hold_news(entries: &[Entry]) -> bool {
    let ours = Caller::Log.to_string();
    let is_ours = |entry: &&Entry| entry.record.field(Field::Actor) == Some(&ours);
    let decided: BTreeSet<String> =
        entries.iter().filter(is_ours).map(|entry| entry.seq.to_string()).collect();
    let settles = |entry: &Entry| entry.record.field(Field::Of).is_some_and(|of| decided.contains(of));
    let is_news = |entry: &Entry| match entry.record.kind {
        Kind::Checkpoint => false,
        _ => !is_ours(&entry) && !settles(entry),
    };
    entries.iter().any(is_news)
}

/// How many records the collector did not take, though it took the others (`ExportLogsServiceResponse`). 64-bit integers
/// are strings in protobuf's JSON, but not everybody writes them so.
fn refused(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    match &answer["partialSuccess"]["rejectedLogRecords"] {
        Value::String(digits) => digits.parse().unwrap_or(0),
        number => number.as_u64().unwrap_or(0),
    }
}

/// A record without what it says.
fn bare(entry: &Entry) -> Entry {
    Entry { record: Record::new(entry.record.kind, entry.record.verdict), ..entry.clone() }
}

/// Takes the link of the chain out as well.
fn without_links(mut logs: Value) -> Value {
    for record in logs["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array_mut().into_iter().flatten() {
        if let Some(attributes) = record["attributes"].as_array_mut() {
            attributes.retain(|attribute| attribute["key"] != "ironclaw.chain");
        }
    }
    logs
}

#[cfg(test)]
mod tests {
    use types::Verdict;

    use super::*;

    #[test]
    fn what_handing_over_leaves_behind_is_no_news() {
        let entry = |seq, record| Entry { seq, at_ms: 0, record, chain: Digest::of(b"") };
        let ours = |kind, verdict| Record::new(kind, verdict).with(Field::Actor, Caller::Log);
        let settled = |of: u64| Record::new(Kind::Settle, Verdict::Done).with(Field::Of, of);
        let push = [
            entry(7, ours(Kind::Request, Verdict::Allow)),
            entry(8, settled(7)),
            entry(9, ours(Kind::Export, Verdict::Done)),
            entry(10, Record::new(Kind::Checkpoint, Verdict::Done)),
        ];
        assert!(!hold_news(&push) && !hold_news(&[]));
        for other in [
            settled(6),
            Record::new(Kind::Request, Verdict::Allow).with(Field::Actor, Caller::Agent),
            Record::new(Kind::Loss, Verdict::Failed),
        ] {
            assert!(hold_news(&[push.as_slice(), &[entry(11, other)]].concat()));
        }
    }

    #[test]
    fn a_collector_that_takes_less_than_is_left_behind_is_asked_ever_less() {
        let handed =
            Handed { collector: Digest::of(b""), last: 9, taken: 1, refused: 0, archived: 0, withheld: 0 };
        let step = |sent, requests| Step { handed: handed.clone(), sent, requests };
        assert!(step(1, 2).falls_behind() && step(1, 10).falls_behind() && step(32, 8).falls_behind());
        assert!(!step(1, 1).falls_behind() && !step(256, 1).falls_behind() && !step(128, 2).falls_behind());

        let mut pace = Pace { wait: Duration::ZERO, is_told: false };
        let mut waits = |attempt| {
            let told = pace.after(attempt).is_some();
            (pace.wait.as_secs(), told)
        };
        assert_eq!(waits(Ok(Some(step(256, 1)))), (0, false));
        assert_eq!(waits(Ok(None)), (5, false));
        let failure = || Err(Failure::failed("status 503"));
        assert_eq!([(); 3].map(|()| waits(failure())), [(10, true), (20, false), (40, false)], "told once");
        assert_eq!([(); 4].map(|()| waits(Ok(Some(step(1, 2))))).map(|(wait, _)| wait), [80, 160, 300, 300]);
        assert_eq!(waits(failure()), (300, true), "it had taken something meanwhile");
        assert_eq!(waits(Ok(Some(step(256, 1)))), (0, false));
    }

    #[test]
    fn an_answer_says_how_many_were_not_taken() {
        for (answer, count) in [
            (r#"{"partialSuccess":{"rejectedLogRecords":"12","errorMessage":"x"}}"#, 12),
            (r#"{"partialSuccess":{"rejectedLogRecords":3}}"#, 3),
            (r#"{"partialSuccess":{"rejectedLogRecords":-3}}"#, 0),
            (r#"{"partialSuccess":{}}"#, 0),
            ("{}", 0),
            ("no JSON", 0),
            ("", 0),
        ] {
            assert_eq!(refused(answer.as_bytes()), count, "{answer}");
        }
    }
}
