//! Requests of programs that wait for the owner: those under a rule with `ask = true`, and those that a Cedar policy
//! asks about.
//!
//! The request itself waits, so what is sent is what was shown; the approval is for its digest, once, and ends with the
//! wait (attack A09). A program that asks the same again waits for the same answer (attack A08).

use std::time::{Duration, Instant};

use audit::ChangeError;
use safety::{Channel, Untrusted};
use store::{ApprovalRow, ApprovalState, Lost, Mutation};
use tokio::time::sleep;
use types::{Digest, Field, FindingId, Kind, Record, Refusal, Source, Target, Trace, Verdict};

use crate::decide::{Policy, not_recorded};
use crate::proxied::{Asked, Run};
use crate::rules;

/// How long a request waits, unless its run says otherwise: programs give up after a few minutes.
pub(crate) const WAIT: Duration = Duration::from_secs(120);

/// How often the answer is looked for.
const LOOK: Duration = Duration::from_millis(250);

/// Characters of a header's value that the card shows.
const LONGEST_SHOWN: usize = 200;

/// Requests of one run that wait at a time.
pub(crate) const MOST_HELD: usize = 16;

/// A request that waits, for whoever tells the owner.
#[derive(Clone, Debug)]
pub struct Held {
    /// What `ironclaw approvals` knows it by.
    pub id: FindingId,
    /// Where it goes.
    pub target: Target,
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
        let Ok(_slot) = run.held.try_acquire() else {
            return Err(Refusal::new(&rules::HELD_TOO_MANY, format!("{MOST_HELD} before {endpoint}")));
        };
        let Some(body) = &asked.body else {
            return Err(Refusal::new(&rules::HELD_UNSEEN, endpoint.to_string()));
        };
        let digest = digest_of(asked, body);
        let started = Instant::now();
        let id = match self.waiting_request(digest).await? {
            Some(id) => id,
            None => self.put_before_the_owner(run, asked, digest, body.len(), &record).await?,
        };
        run.tell(&Held { id, target: asked.target.clone() });
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
        length: usize,
        record: &impl Fn(Verdict) -> Record,
    ) -> Result<FindingId, Refusal> {
        let id = FindingId::new();
        let query = asked.target.query().map(|query| format!("?{query}")).unwrap_or_default();
        let names: Vec<String> = asked.claims.iter().map(|claim| claim.secret.to_string()).collect();
        let names = if names.is_empty() { "no key".to_owned() } else { names.join(", ") };
        let headers = headers_of(asked).map(|(name, value)| format!("\n{name}: {}", cut(&value)));
        let headers: String = headers.collect();
        let shown = format!("{}{query}\n{length} bytes of body, {names}{headers}", asked.target);
        // The program chose path, query and headers, so they are screened before they are kept for a person.
        let card = Untrusted::new(Source::Model, shown);
        let card = self.catalog().safety().screen(card, Channel::Reply, &Trace::off());
        let card = card.map_err(|blocked| blocked.refusal)?.into_inner();
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
        Ok(id)
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
