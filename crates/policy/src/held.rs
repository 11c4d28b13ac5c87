//! Requests of programs that wait for the owner: those under a rule with `ask = true`, and those that a Cedar policy
//! asks about.
//!
//! The request itself waits, so what is sent is what was shown; the approval is for its digest, once, and ends with the
//! wait (attack A09). A program that asks the same again waits for the same answer, and of what it asks of one host, port
//! and method one question at a time is put before the owner (attack A08). A question stands as long as somebody waits for
//! its answer: when the last client has left, or the run ends, it is taken back.

use std::sync::Arc;
use std::time::Duration;

use audit::ChangeError;
use store::{ApprovalRow, ApprovalState, Lost, Mutation};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::sleep;
use types::{Digest, Endpoint, Field, FindingId, Kind, Record, Refusal, Target, Verdict};

use crate::decide::{Policy, not_recorded};
use crate::proxied::Asked;
use crate::rules;
use crate::run::Run;
pub use card::NOT_SHOWN;
pub(crate) use waiting::Waiting;
use waiting::{Asking, MOST_HELD};

mod card;
mod waiting;

/// How long a request waits, unless its run says otherwise: programs give up after a few minutes.
pub(crate) const WAIT: Duration = Duration::from_secs(120);

/// How often the answer is looked for.
const LOOK: Duration = Duration::from_millis(250);

/// A request that waits, for whoever tells the owner.
#[derive(Clone, Debug)]
pub struct Held {
    /// What `ironclaw approvals` knows it by.
    pub id: FindingId,
    /// Where it goes.
    pub target: Target,
}

/// The owner's yes to one request. Dropped before it is used, it is taken back.
#[must_use = "an approval that is not used is taken back"]
pub(crate) struct Approval {
    asking: Arc<Asking>,
    use_up: Mutation,
}

impl Approval {
    /// What uses it up, for the record of the decision.
    pub(crate) fn use_up(&self) -> Mutation {
        self.use_up.clone()
    }

    /// It is used up.
    pub(crate) fn used(self) {
        self.asking.over();
    }
}

impl Policy {
    /// Waits for the owner's word about this request: the approval, or the refusal.
    pub(crate) async fn hold_request(
        &self,
        run: &Run,
        asked: &Asked,
        record: impl Fn(Verdict) -> Record,
    ) -> Result<Approval, Refusal> {
        let endpoint = &asked.target.endpoint;
        let Some(_slot) = run.waiting.slot() else {
            return Err(Refusal::new(&rules::HELD_TOO_MANY, format!("{MOST_HELD} before {endpoint}")));
        };
        let Some(body) = &asked.body else {
            return Err(Refusal::new(&rules::HELD_UNSEEN, endpoint.to_string()));
        };
        let digest = card::digest_of(asked, body);
        let asking = match run.waiting.asking(digest) {
            Some(same) => same,
            None => {
                let Some(turn) = run.waiting.turn_at(&asked.target, run.wait).await else {
                    return Err(Refusal::new(&rules::ANSWERED_LATE, endpoint.to_string()));
                };
                match run.waiting.asking(digest) {
                    Some(same) => same,
                    None => self.put_before_the_owner(run, asked, (digest, body), turn, &record).await?,
                }
            }
        };
        self.answer_to(&asking, endpoint, &record).await?;
        let (from, to) = (ApprovalState::Approved, ApprovalState::Used);
        let use_up = Mutation::Answer { tenant: self.tenant().clone(), id: asking.id(), from, to };
        Ok(Approval { asking, use_up })
    }

    /// Returns when the owner has said yes; else the refusal, also of what nobody answered in time.
    async fn answer_to(
        &self,
        asking: &Asking,
        endpoint: &Endpoint,
        record: &impl Fn(Verdict) -> Record,
    ) -> Result<(), Refusal> {
        let refuse = |rule| Err(Refusal::new(rule, endpoint.to_string()));
        loop {
            let row = self.0.reader.approval(self.tenant(), asking.id()).await;
            let row = row.map_err(|_| rules::not_read("approvals"))?;
            let is_in_time = row.as_ref().is_some_and(|row| audit::now_ms() < row.expires_ms);
            match row.map(|row| row.state) {
                Some(ApprovalState::Waiting) if is_in_time => sleep(LOOK).await,
                Some(ApprovalState::Waiting) => {
                    let (from, to) = (ApprovalState::Waiting, ApprovalState::Expired);
                    let late =
                        record(Verdict::Block).with(Field::Finding, asking.id()).with(Field::State, to);
                    let expire =
                        Mutation::Answer { tenant: self.tenant().clone(), id: asking.id(), from, to };
                    match self.audit().change(late, expire).await {
                        // The answer came in the same moment, or another request that waits for it was quicker.
                        Ok(_) | Err(ChangeError::Lost(Lost::Changed)) => {}
                        Err(_) => return Err(not_recorded(())),
                    }
                }
                Some(ApprovalState::Approved) => {
                    asking.answered();
                    return Ok(());
                }
                Some(ApprovalState::Denied) => {
                    asking.answered();
                    asking.over();
                    return refuse(&rules::DECLINED);
                }
                Some(ApprovalState::Expired) => {
                    asking.over();
                    return refuse(&rules::ANSWERED_LATE);
                }
                Some(ApprovalState::Used) => return refuse(&rules::APPROVAL_USED),
                None => return refuse(&rules::UNATTENDED),
            }
        }
    }

    async fn put_before_the_owner(
        &self,
        run: &Run,
        asked: &Asked,
        (digest, body): (Digest, &[u8]),
        turn: OwnedSemaphorePermit,
        record: &impl Fn(Verdict) -> Record,
    ) -> Result<Arc<Asking>, Refusal> {
        let card = self.card(asked, body)?;
        let (log, of) = ((self.audit(), self.tenant()), run.turn().id());
        let Some(asking) = run.waiting.begin(log, of, &asked.target, turn) else {
            let detail = format!("nobody answered those before {}", asked.target.endpoint);
            return Err(Refusal::new(&rules::HELD_TOO_MANY, detail));
        };
        let id = asking.id();
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
        run.waiting.put(digest, &asking);
        run.tell(&Held { id, target: asked.target.clone() });
        Ok(asking)
    }
}
