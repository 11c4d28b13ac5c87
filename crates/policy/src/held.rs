//! Requests of programs that wait for the owner: those under a rule with `ask = true`, and those that a Cedar policy
//! asks about.
//!
//! The request itself waits, so what is sent is what was shown; the approval is for its digest, once, and ends with the
//! wait (attack A09). A program that asks the same again waits for the same answer, and of what it asks of one host, port
//! and method one question at a time is put before the owner (attack A08). When a run ends, so does everything of it that
//! waits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use audit::{Audit, ChangeError};
use safety::{Blocked, Channel, Screened, Untrusted};
use store::{ApprovalRow, ApprovalState, Lost, Mutation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use types::{
    Digest, Endpoint, Field, FindingId, Kind, Record, Refusal, Source, Target, Tenant, Trace, TurnId, Verdict,
};

use crate::decide::{Policy, not_recorded};
use crate::proxied::{Asked, Run};
use crate::rules;

/// How long a request waits, unless its run says otherwise: programs give up after a few minutes.
pub(crate) const WAIT: Duration = Duration::from_secs(120);

/// How often the answer is looked for.
const LOOK: Duration = Duration::from_millis(250);

/// Characters of a header's value that the card shows.
const LONGEST_SHOWN: usize = 200;

/// Bytes of a body that the card shows.
const BODY_SHOWN: usize = 1024;

/// Requests of one run that wait at a time.
const MOST_HELD: usize = 16;

/// A request that waits, for whoever tells the owner.
#[derive(Clone, Debug)]
pub struct Held {
    /// What `ironclaw approvals` knows it by.
    pub id: FindingId,
    /// Where it goes.
    pub target: Target,
}

/// What of one run waits. Dropped with it, it takes back what the owner has not answered: nobody would send it.
pub(crate) struct Waiting {
    slots: Semaphore,
    /// Whose question is before the owner, for each host, port and method.
    places: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    /// The questions without an answer.
    rows: Mutex<Vec<FindingId>>,
    log: OnceLock<(Audit, Tenant, TurnId)>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self {
            slots: Semaphore::new(MOST_HELD),
            places: Mutex::default(),
            rows: Mutex::default(),
            log: OnceLock::new(),
        }
    }
}

impl Waiting {
    /// Waits until nothing else is asked about the same host, port and method.
    async fn turn_at(&self, target: &Target, wait: Duration) -> Option<OwnedSemaphorePermit> {
        timeout(wait, self.place(target).acquire_owned()).await.ok()?.ok()
    }

    fn place(&self, target: &Target) -> Arc<Semaphore> {
        let place = format!("{} {}", target.method, target.endpoint);
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry(place).or_insert_with(|| Arc::new(Semaphore::new(1))).clone()
    }

    fn begin(&self, policy: &Policy, run: &Run, id: FindingId) {
        let log = || (policy.audit().clone(), policy.tenant().clone(), run.turn().id());
        self.log.get_or_init(log);
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    fn end(&self, id: FindingId) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).retain(|row| *row != id);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some((audit, tenant, turn)) = self.log.take() else { return };
        for id in self.rows.get_mut().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let record = Record::new(Kind::Approval, Verdict::Block)
                .of_turn(turn)
                .with(Field::Finding, id)
                .with(Field::State, ApprovalState::Expired)
                .with(Field::Reason, "the run that asked has ended");
            let (from, to) = (ApprovalState::Waiting, ApprovalState::Expired);
            audit.change_detached(record, Mutation::Answer { tenant: tenant.clone(), id, from, to });
        }
    }
}

impl Policy {
    /// Waits for the owner's word about this request; what uses the approval up, or the refusal.
    pub(crate) async fn hold_request(
        &self,
        run: &Run,
        asked: &Asked,
        record: impl Fn(Verdict) -> Record,
    ) -> Result<Mutation, Refusal> {
        let endpoint = &asked.target.endpoint;
        let Ok(_slot) = run.waiting.slots.try_acquire() else {
            return Err(Refusal::new(&rules::HELD_TOO_MANY, format!("{MOST_HELD} before {endpoint}")));
        };
        let Some(body) = &asked.body else {
            return Err(Refusal::new(&rules::HELD_UNSEEN, endpoint.to_string()));
        };
        let digest = digest_of(asked, body);
        let mut _turn = None;
        let mut same = self.waiting_request(digest).await?;
        if same.is_none() {
            _turn = run.waiting.turn_at(&asked.target, run.wait).await;
            if _turn.is_none() {
                return Err(Refusal::new(&rules::ANSWERED_LATE, endpoint.to_string()));
            }
            same = self.waiting_request(digest).await?;
        }
        let id = match same {
            Some(id) => id,
            None => self.put_before_the_owner(run, asked, digest, body, &record).await?,
        };
        let started = Instant::now();
        run.tell(&Held { id, target: asked.target.clone() });
        let answered = self.answer_to(run, id, (started, endpoint), &record).await;
        run.waiting.end(id);
        answered
    }

    /// The owner's answer, or the refusal of what nobody answered in time.
    async fn answer_to(
        &self,
        run: &Run,
        id: FindingId,
        (started, endpoint): (Instant, &Endpoint),
        record: &impl Fn(Verdict) -> Record,
    ) -> Result<Mutation, Refusal> {
        let answer = |from, to| Mutation::Answer { tenant: self.tenant().clone(), id, from, to };
        loop {
            let row = self.0.reader.approval(self.tenant(), id).await;
            match row.map_err(|_| rules::not_read("approvals"))?.map(|row| row.state) {
                Some(ApprovalState::Approved) => {
                    return Ok(answer(ApprovalState::Approved, ApprovalState::Used));
                }
                Some(ApprovalState::Waiting) if started.elapsed() < run.wait => sleep(LOOK).await,
                Some(ApprovalState::Waiting) => {
                    let late = record(Verdict::Block)
                        .with(Field::Finding, id)
                        .with(Field::State, ApprovalState::Expired);
                    let expire = answer(ApprovalState::Waiting, ApprovalState::Expired);
                    match self.audit().change(late, expire).await {
                        Ok(_) => return Err(Refusal::new(&rules::ANSWERED_LATE, endpoint.to_string())),
                        // The answer came in the same moment.
                        Err(ChangeError::Lost(Lost::Changed)) => {}
                        Err(_) => return Err(not_recorded(())),
                    }
                }
                Some(ApprovalState::Used) | None => {
                    return Err(Refusal::new(&rules::UNATTENDED, endpoint.to_string()));
                }
                Some(ApprovalState::Expired) => {
                    return Err(Refusal::new(&rules::ANSWERED_LATE, endpoint.to_string()));
                }
                Some(ApprovalState::Denied) => {
                    return Err(Refusal::new(&rules::DECLINED, endpoint.to_string()));
                }
            }
        }
    }

    /// The same request, where one waits already.
    async fn waiting_request(&self, digest: Digest) -> Result<Option<FindingId>, Refusal> {
        let rows = self.0.reader.approvals(self.tenant()).await.map_err(|_| rules::not_read("approvals"))?;
        let now = audit::now_ms();
        let waits = |row: &&ApprovalRow| {
            row.digest == digest && row.state == ApprovalState::Waiting && now < row.expires_ms
        };
        Ok(rows.iter().find(waits).map(|row| row.id))
    }

    async fn put_before_the_owner(
        &self,
        run: &Run,
        asked: &Asked,
        digest: Digest,
        body: &[u8],
        record: &impl Fn(Verdict) -> Record,
    ) -> Result<FindingId, Refusal> {
        let id = FindingId::new();
        let query = asked.target.query().map(|query| format!("?{query}")).unwrap_or_default();
        let names: Vec<String> = asked.claims.iter().map(|claim| claim.secret.to_string()).collect();
        let names = if names.is_empty() { "no key".to_owned() } else { names.join(", ") };
        let headers = headers_of(asked).map(|(name, value)| format!("\n{name}: {}", cut(&value)));
        let headers: String = headers.collect();
        let length = body.len();
        let shown = format!("{}{query}\n{length} bytes of body, {names}{headers}", asked.target);
        // The program chose path, query, headers and body, so they are screened before they are kept for a person.
        let card = self.shown_to_the_owner(shown).map_err(|blocked| blocked.refusal)?;
        let body = self.shown_to_the_owner(beginning(body));
        let body = body.unwrap_or_else(|blocked| format!("(not shown: {})", blocked.refusal.rule.id));
        let card = if body.is_empty() { card } else { format!("{card}\n\n{body}") };
        let now = audit::now_ms();
        let row = ApprovalRow {
            id,
            tenant: self.tenant().clone(),
            kind: "request".to_owned(),
            digest,
            card,
            state: ApprovalState::Waiting,
            created_ms: now,
            expires_ms: now + run.wait.as_millis() as u64,
        };
        let mut asks = record(Verdict::Ask);
        asks.kind = Kind::Approval;
        let asks = asks
            .with(Field::Finding, id)
            .with(Field::Digest, digest)
            .with(Field::Widen, format!("ironclaw approvals approve {id}"));
        self.audit().change(asks, Mutation::Hold(row)).await.map_err(not_recorded)?;
        run.waiting.begin(self, run, id);
        Ok(id)
    }

    fn shown_to_the_owner(&self, text: String) -> Result<String, Blocked> {
        let text = Untrusted::new(Source::Model, text);
        self.catalog().safety().screen(text, Channel::Reply, &Trace::off()).map(Screened::into_inner)
    }
}

/// What an approval is bound to: where the request goes, with which secrets and headers, and its body.
fn digest_of(asked: &Asked, body: &[u8]) -> Digest {
    let target = &asked.target;
    let headers = asked.headers.iter();
    // One part each, so that no value can be taken for another header.
    let headers: Vec<&[u8]> =
        headers.flat_map(|(name, value)| [name.as_str().as_bytes(), value.as_bytes()]).collect();
    let claims = asked.claims.iter().map(|claim| format!("{} {}", claim.secret, claim.inject));
    let claims = claims.collect::<Vec<_>>().join("\n");
    Digest::of_parts([
        target.to_string().as_bytes(),
        target.query().unwrap_or_default().as_bytes(),
        claims.as_bytes(),
        Digest::of_parts(headers).as_bytes(),
        body,
    ])
}

/// The beginning of a body as a person reads it, on one line: what would move or hide text is written as an escape, so that
/// no body looks like another part of the card.
fn beginning(body: &[u8]) -> String {
    let shown = &body[..body.len().min(BODY_SHOWN)];
    let more = if shown.len() < body.len() { "..." } else { "" };
    let text = String::from_utf8_lossy(shown);
    let plain = |c: char| c == ' ' || c.is_alphanumeric() || c.is_ascii_graphic();
    let quoted = text.chars().map(|c| if plain(c) { c.to_string() } else { c.escape_default().to_string() });
    quoted.collect::<String>() + more
}

/// The headers as a person reads them.
fn headers_of(asked: &Asked) -> impl Iterator<Item = (&str, String)> {
    asked
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
}

/// The beginning of a long value, and that more follows.
fn cut(value: &str) -> String {
    let more = if value.chars().count() > LONGEST_SHOWN { "..." } else { "" };
    value.chars().take(LONGEST_SHOWN).chain(more.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m12_a_body_is_one_line_of_what_it_begins_with() {
        assert_eq!(beginning(b"{\"to\": \"me\"}"), "{\"to\": \"me\"}");
        assert_eq!(
            beginning(b"a\nPOST https://good.example/\x1b[2J"),
            "a\\nPOST https://good.example/\\u{1b}[2J"
        );
        assert_eq!(beginning("\u{202e}\u{200b}é".as_bytes()), "\\u{202e}\\u{200b}é");
        assert_eq!(beginning(&[b'x'; 2000]), "x".repeat(1024) + "...");
        assert_eq!(beginning(&[0xff, b'a']), "\\u{fffd}a");
    }
}
