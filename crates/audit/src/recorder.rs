//! Recording: how an event gets from any task of the process into the chain, and what comes back.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use store::{LeaseQuestion, LeaseView, Lost, Mutation, StoreError, Writer};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use types::Record;

use crate::checkpoint::Signer;
use crate::moment::{Moment, Moments};
use crate::seal::Sealer;
use crate::task;

/// How many records may wait for the disk. Beyond it, [`Audit::record`] waits too: who acts faster
/// than the disk can remember is slowed down, not forgotten.
const QUEUE: usize = 1024;

/// The number of a record that is on the disk. Only a commit makes one, so holding one proves that
/// the record is durable.
///
/// ```compile_fail,E0423
/// fn forge(durable: audit::Seq) -> audit::Seq {
///     audit::Seq(durable.get() + 1)
/// }
/// ```
///
/// It can be copied and read:
///
/// ```
/// fn forge(durable: audit::Seq) -> audit::Seq {
///     durable
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Seq(u64);

impl Seq {
    /// Called by the writer task after COMMIT has returned, and nowhere else.
    pub(crate) fn minted(number: u64) -> Self {
        Self(number)
    }

    /// The number: 1 for the first record of a database, and one more for each after it.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why there is no record. Whoever asked for one must not act.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AuditError {
    /// The database took nothing; the old state stands.
    #[error("the audit log cannot be written: {0}")]
    Unavailable(StoreError),
    /// The commit itself failed: the old state stands for this process, but the disk may have kept
    /// the new one. What happened shows in the log when the database is opened again.
    #[error("the audit log may have lost its last records: {0}")]
    Uncertain(StoreError),
    /// The last record in the log is not one that this program can continue.
    #[error("the last record of the audit log is damaged; `ironclaw audit verify` names the first bad one")]
    Head,
    /// The log was closed.
    #[error("the audit log is closed")]
    Closed,
}

impl AuditError {
    /// Whether the transaction gave way to another one: nothing of it was written, not even where the
    /// commit says so, and the whole of it can be tried again.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self, Self::Unavailable(error) | Self::Uncertain(error) if error.is_conflict())
    }
}

/// Why a change was not made. It left no record either.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ChangeError {
    /// Somebody else was first, or a limit stands against it.
    #[error(transparent)]
    Lost(#[from] Lost),
    /// It could not be recorded.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// The log, for those who write to it. A handle to the one writer task; cloning shares it.
#[derive(Clone, Debug)]
pub struct Audit {
    queue: mpsc::Sender<Job>,
    losses: Losses,
    moments: Moments,
}

/// Finishes the log. See [`Drain::finish`].
#[must_use = "a process that ends without draining may drop records that nobody waits for"]
#[derive(Debug)]
pub struct Drain(JoinHandle<()>);

impl Audit {
    /// Starts the writer task on the current tokio runtime. The writer is consumed: from here on
    /// nothing reaches this database without a record.
    pub fn start(writer: Writer) -> (Self, Drain) {
        Self::run(writer, None)
    }

    /// Starts the writer task of a log that is sealed: a signed checkpoint is one of its records, each
    /// thousand records or second and at the end.
    pub fn start_sealed(writer: Writer, signer: Signer) -> (Self, Drain) {
        Self::run(writer, Some(Sealer::new(signer)))
    }

    fn run(writer: Writer, sealer: Option<Sealer>) -> (Self, Drain) {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let (losses, moments) = (Losses::default(), Moments::default());
        let task = tokio::spawn(task::run(writer, jobs, (losses.clone(), moments.clone()), sealer));
        (Self { queue, losses, moments }, Drain(task))
    }

    /// Records an event. Returns once the record is durable; waits while the queue is full.
    ///
    /// Cancelling the future does not take the record back.
    pub async fn record(&self, record: Record) -> Result<Seq, AuditError> {
        match self.submit(Work::Record(record, None)).await {
            Ok(seq) => Ok(seq),
            Err(ChangeError::Audit(error)) => Err(error),
            // Only a mutation can be lost.
            Err(ChangeError::Lost(_)) => Err(AuditError::Closed),
        }
    }

    /// The moment as of which grants that are read from here on are remembered.
    pub fn moment(&self) -> Moment {
        self.moments.now()
    }

    /// Records an event that rests on what was granted at that moment, with the change that belongs to it. Returns once both
    /// are durable.
    ///
    /// # Errors
    /// [`Lost::Changed`], and nothing is recorded, where grants may have changed since, in this process or in another one.
    pub async fn record_as_of(
        &self,
        moment: Moment,
        record: Record,
        change: Option<Mutation>,
    ) -> Result<Seq, ChangeError> {
        self.submit(Work::AsOf(moment, record, change)).await
    }

    /// Makes a change and records it, both or neither. Returns once both are durable.
    pub async fn change(&self, record: Record, mutation: Mutation) -> Result<Seq, ChangeError> {
        self.submit(Work::Record(record, Some(mutation))).await
    }

    /// Judges a lease under the lock of the log and records what follows, in one transaction. `judge` is told what is
    /// there at that moment, and the time of the clock that stamps records in milliseconds since 1970; it answers with
    /// the records of the use, whose claims it saw to be free, and with what to hand out. That is handed out
    /// once the records are durable. It may be asked again where the transaction gave way to another one, and it holds
    /// up all other records while it thinks.
    pub async fn lease<T, E>(
        &self,
        question: LeaseQuestion,
        mut judge: impl FnMut(&LeaseView, u64) -> Result<(Vec<Record>, T), E> + Send + 'static,
    ) -> Result<Result<T, E>, AuditError>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let judged = Arc::new(Mutex::new(None));
        let kept = judged.clone();
        let judge = Judge(Box::new(move |view, now_ms| {
            let (records, outcome) = match judge(view, now_ms) {
                Ok((records, value)) => (Some(records), Ok(value)),
                Err(error) => (None, Err(error)),
            };
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
            records
        }));
        match self.submit(Work::Lease(Box::new(question), judge)).await {
            Err(ChangeError::Lost(Lost::Unjudged)) => {
                Err(AuditError::Unavailable(StoreError::Damaged("what a lease is judged by")))
            }
            Ok(_) | Err(ChangeError::Lost(_)) => {
                judged.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or(AuditError::Closed)
            }
            Err(ChangeError::Audit(error)) => Err(error),
        }
    }

    /// Records an event for which nobody can wait, such as the end of a permit in its `Drop`. Never
    /// blocks. A record that finds no room, or that the database does not take, is counted, and the
    /// count is recorded as soon as records can be written again.
    pub fn record_detached(&self, record: Record) {
        if self.queue.try_send(Job { work: Work::Record(record, None), answer: None }).is_err() {
            self.losses.add(1);
        }
    }

    /// The same with a change that goes with the record, such as the end of a question whose asker is gone. Where the row is
    /// not as the change expects it, neither is written.
    pub fn change_detached(&self, record: Record, change: Mutation) {
        let work = Work::Record(record, Some(change));
        if self.queue.try_send(Job { work, answer: None }).is_err() {
            self.losses.add(1);
        }
    }

    async fn submit(&self, work: Work) -> Result<Seq, ChangeError> {
        let (answer, durable) = oneshot::channel();
        let job = Job { work, answer: Some(answer) };
        self.queue.send(job).await.map_err(|_| AuditError::Closed)?;
        durable.await.map_err(|_| AuditError::Closed)?
    }

    /// From now on this key seals the log, where none does yet in this process: what was recorded before is sealed with
    /// what comes.
    pub async fn seal_with(&self, signer: Signer) -> Result<(), AuditError> {
        match self.submit(Work::Seal(signer)).await {
            Ok(_) => Ok(()),
            Err(ChangeError::Audit(error)) => Err(error),
            Err(ChangeError::Lost(_)) => Err(AuditError::Closed),
        }
    }

    /// Exchanges the key that seals the log: seals it once more, and hands over in a record that both keys sign.
    /// Returns once that is durable; from then on the new one seals, here and in every process that has it. A process
    /// that has the old one goes on recording, unsealed.
    ///
    /// # Errors
    /// [`Lost::Changed`] where the log is sealed by another key than ours by now, or is not sealed at all.
    pub async fn hand_over(&self, successor: Signer) -> Result<Seq, ChangeError> {
        self.submit(Work::HandOver(successor)).await
    }
}

impl Drain {
    /// Waits until everything in the queue is durable and the database is closed. Every [`Audit`]
    /// handle must be dropped first: as long as one lives, more can come.
    pub async fn finish(self) {
        // The task does not panic; and if it did, nobody would have been told of a durable record.
        let _ = self.0.await;
    }
}

/// Something on its way to the writer task.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) work: Work,
    /// Empty for a detached record.
    pub(crate) answer: Option<oneshot::Sender<Result<Seq, ChangeError>>>,
}

/// What is to be written.
#[derive(Debug)]
pub(crate) enum Work {
    /// A record, and what changes with it.
    Record(Record, Option<Mutation>),
    /// The same, where no grant was changed since that moment.
    AsOf(Moment, Record, Option<Mutation>),
    /// What follows from an answer that is not known yet.
    Lease(Box<LeaseQuestion>, Judge),
    /// Nothing; but from here on this key seals.
    Seal(Signer),
    /// The exchange of the key that seals: its record is made where the tree is known.
    HandOver(Signer),
}

/// Says what to record of a lease; `None` where it is refused.
pub(crate) struct Judge(pub(crate) Box<Judging>);

type Judging = dyn FnMut(&LeaseView, u64) -> Option<Vec<Record>> + Send;

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Judge")
    }
}

/// Detached records that could not be written and are not yet told of.
#[derive(Clone, Default, Debug)]
pub(crate) struct Losses(Arc<AtomicU64>);

impl Losses {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn pending(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes off what a durable record tells of.
    pub(crate) fn told(&self, count: u64) {
        self.0.fetch_sub(count, Ordering::Relaxed);
    }
}
