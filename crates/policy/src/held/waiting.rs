//! What of one run waits for the owner: each question for as long as somebody waits for its answer, and few of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use audit::Audit;
use store::{ApprovalState, Mutation};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use types::{Digest, Field, FindingId, Kind, Record, Target, Tenant, TurnId, Verdict};

/// Requests of one run that wait at a time.
pub(super) const MOST_HELD: usize = 16;

/// Questions that nobody has answered, at one host, port and method and in the whole run, before no more are put for a while:
/// a program that asks and leaves would otherwise fill the list that the owner reads.
const MOST_UNANSWERED_HERE: usize = 8;
const MOST_UNANSWERED: usize = 32;

/// How long a question that nobody has answered is counted.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What of one run waits.
pub(crate) struct Waiting {
    slots: Semaphore,
    /// Whose question is before the owner, for each host, port and method.
    places: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    /// The questions that wait, by what is asked.
    open: Mutex<BTreeMap<Digest, Weak<Asking>>>,
    unanswered: Arc<Unanswered>,
}

/// One question, kept by every request that waits for its answer. When the last of them is gone before it was answered, it
/// is taken back: nobody would send it.
pub(crate) struct Asking {
    id: FindingId,
    place: String,
    audit: Audit,
    tenant: Tenant,
    turn: TurnId,
    /// Whether there is nothing to take back.
    over: AtomicBool,
    unanswered: Arc<Unanswered>,
    _turn: OwnedSemaphorePermit,
}

/// The questions of the last while that nobody has answered: when, and where.
#[derive(Default)]
struct Unanswered(Mutex<VecDeque<(Instant, String)>>);

impl Default for Waiting {
    fn default() -> Self {
        Self {
            slots: Semaphore::new(MOST_HELD),
            places: Mutex::default(),
            open: Mutex::default(),
            unanswered: Arc::default(),
        }
    }
}

impl Waiting {
    /// Room for one request more that waits.
    pub(super) fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.try_acquire().ok()
    }

    /// Waits until nothing else is asked about the same host, port and method.
    pub(super) async fn turn_at(&self, target: &Target, wait: Duration) -> Option<OwnedSemaphorePermit> {
        let place =
            locked(&self.places).entry(place(target)).or_insert_with(|| Arc::new(Semaphore::new(1))).clone();
        timeout(wait, place.acquire_owned()).await.ok()?.ok()
    }

    /// The same question, where it waits already.
    pub(super) fn asking(&self, digest: Digest) -> Option<Arc<Asking>> {
        locked(&self.open).get(&digest)?.upgrade()
    }

    /// A question that is about to be put, in its turn; absent where too many were put that nobody has answered.
    pub(super) fn begin(
        &self,
        (audit, tenant): (&Audit, &Tenant),
        turn: TurnId,
        target: &Target,
        order: OwnedSemaphorePermit,
    ) -> Option<Arc<Asking>> {
        let place = place(target);
        self.unanswered.count(&place).then(|| {
            Arc::new(Asking {
                id: FindingId::new(),
                place,
                audit: audit.clone(),
                tenant: tenant.clone(),
                turn,
                over: AtomicBool::new(false),
                unanswered: self.unanswered.clone(),
                _turn: order,
            })
        })
    }

    /// The question stands before the owner: who asks the same waits for its answer.
    pub(super) fn put(&self, digest: Digest, asking: &Arc<Asking>) {
        let mut open = locked(&self.open);
        open.retain(|_, asking| asking.strong_count() > 0);
        open.insert(digest, Arc::downgrade(asking));
    }
}

impl Asking {
    /// What `ironclaw approvals` knows it by.
    pub(super) fn id(&self) -> FindingId {
        self.id
    }

    /// The owner has answered.
    pub(super) fn answered(&self) {
        self.unanswered.forget(&self.place);
    }

    /// There is nothing to take back any more.
    pub(super) fn over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if *self.over.get_mut() {
            return;
        }
        // Also where the answer came when nobody waited any more. Of the two at most one finds its row.
        for from in [ApprovalState::Waiting, ApprovalState::Approved] {
            let to = ApprovalState::Expired;
            let record = Record::new(Kind::Approval, Verdict::Block)
                .of_turn(self.turn)
                .with(Field::Finding, self.id)
                .with(Field::State, to)
                .with(Field::Reason, "whoever asked has left");
            let change = Mutation::Answer { tenant: self.tenant.clone(), id: self.id, from, to };
            self.audit.change_detached(record, change);
        }
    }
}

impl Unanswered {
    /// Counts one more; false where there are as many as may be.
    fn count(&self, place: &str) -> bool {
        let mut asked = locked(&self.0);
        while asked.front().is_some_and(|(when, _)| when.elapsed() > REMEMBERED) {
            asked.pop_front();
        }
        let here = asked.iter().filter(|(_, other)| other == place).count();
        let fits = here < MOST_UNANSWERED_HERE && asked.len() < MOST_UNANSWERED;
        if fits {
            asked.push_back((Instant::now(), place.to_owned()));
        }
        fits
    }

    fn forget(&self, place: &str) {
        let mut asked = locked(&self.0);
        if let Some(at) = asked.iter().rposition(|(_, other)| other == place) {
            asked.remove(at);
        }
    }
}

fn place(target: &Target) -> String {
    format!("{} {}", target.method, target.endpoint)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use store::{ApprovalRow, Reader};

    use super::*;

    async fn state(reader: &Reader, id: FindingId) -> ApprovalState {
        reader.approval(&Tenant::local(), id).await.unwrap().unwrap().state
    }

    #[tokio::test]
    async fn a08_a_question_stands_as_long_as_somebody_waits_for_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer) = store::open(&folder.path().join("data").join("test.db")).await.unwrap();
        let (audit, _drain) = Audit::start(writer);
        let target = Target::parse("POST", "https://a.example/pay").unwrap();
        let (waiting, digest, local) = (Waiting::default(), Digest::of(b"asked"), Tenant::local());
        let order = waiting.turn_at(&target, Duration::ZERO).await.unwrap();
        let first = waiting.begin((&audit, &local), TurnId::new(), &target, order).unwrap();
        assert!(waiting.asking(digest).is_none());
        let row = ApprovalRow {
            id: first.id(),
            tenant: local.clone(),
            kind: "request".to_owned(),
            digest,
            card: String::new(),
            state: ApprovalState::Waiting,
            created_ms: audit::now_ms(),
            expires_ms: audit::now_ms() + 60_000,
        };
        let asks = || Record::new(Kind::Approval, Verdict::Ask);
        audit.change(asks(), Mutation::Hold(row)).await.unwrap();
        waiting.put(digest, &first);
        let (id, same) = (first.id(), waiting.asking(digest).unwrap());
        drop(first);
        // What is recorded later is written later.
        audit.record(asks()).await.unwrap();
        assert_eq!(state(&reader, id).await, ApprovalState::Waiting);
        assert!(waiting.turn_at(&target, Duration::ZERO).await.is_none());
        drop(same);
        audit.record(asks()).await.unwrap();
        assert_eq!(state(&reader, id).await, ApprovalState::Expired);
        assert!(waiting.asking(digest).is_none());
        assert!(waiting.turn_at(&target, Duration::ZERO).await.is_some());
    }

    #[test]
    fn a08_questions_without_an_answer_are_few_here_and_in_all() {
        let unanswered = Unanswered::default();
        let asked = (0..100).filter(|_| unanswered.count("here")).count();
        assert_eq!(asked, MOST_UNANSWERED_HERE);
        // An answer makes room for one.
        unanswered.forget("here");
        assert!(unanswered.count("here") && !unanswered.count("here"));
        let elsewhere = (0..100).filter(|place| unanswered.count(&place.to_string())).count();
        assert_eq!(elsewhere, MOST_UNANSWERED - MOST_UNANSWERED_HERE);
    }
}
