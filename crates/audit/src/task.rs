//! The one task that writes: takes what has gathered in the queue, commits it as one group, and
//! answers each waiting caller only then.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::time::Duration;

use store::{AuditRow, Batch, LeaseQuestion, Lost, Mutation, NewRecord, Writer};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};
use types::{Digest, Field, Kind, Record, RefusalId, Verdict};

use crate::chain;
use crate::checkpoint::Signer;
use crate::clock;
use crate::end::{self, End};
use crate::merkle::Tree;
use crate::moment::{self, Moments};
use crate::recorder::{AuditError, ChangeError, Job, Judge, Losses, Seq, Work};
use crate::seal::Sealer;

/// The most records in one transaction: enough that the disk's sync is shared by all who wait, few
/// enough that the first of them does not wait long for the last.
const GROUP: usize = 256;

/// How long records for which nobody waits are held back for one that somebody waits for, so that both share a sync.
/// Most tell how a request ended, and the decision about the next one follows at once.
const COMPANY: Duration = Duration::from_millis(5);

/// How often a group is tried that other transactions stand in the way of. Writers wait for each other at
/// the head of the chain, so only a stranger's transaction can be in the way.
const ATTEMPTS: u32 = 5;

/// Runs until every handle is dropped and the queue is empty.
pub(crate) async fn run(
    writer: Writer,
    mut queue: mpsc::Receiver<Job>,
    (losses, moments): (Losses, Moments),
    mut sealer: Option<Sealer>,
) {
    let mut pen = Pen { writer, end: None, moments };
    let mut group = Vec::with_capacity(GROUP);
    let mut recorded = false;
    let mut pause = Box::pin(sleep(COMPANY));
    while queue.recv_many(&mut group, GROUP).await > 0 {
        if group.iter().all(|job| job.answer.is_none()) {
            accompanied(&mut queue, &mut group, pause.as_mut()).await;
        }
        recorded |= group.iter().any(|job| !matches!(job.work, Work::Seal(_)));
        write_group(&mut pen, &mut group, &losses, &mut sealer, false).await;
        // Who was answered may have the next record at hand: let it come before the group is taken, or groups
        // would be of those alone who waited for the one before.
        if !queue.is_empty() {
            tokio::task::yield_now().await;
        }
    }
    // What was recorded since the last seal is sealed before the process ends.
    if losses.pending() > 0 || (recorded && sealer.is_some()) {
        write_group(&mut pen, &mut group, &losses, &mut sealer, true).await;
    }
    pen.writer.close().await;
}

/// What the task writes with.
struct Pen {
    writer: Writer,
    /// The end of the log as this process left it.
    end: Option<End>,
    moments: Moments,
}

/// Holds a group of records for which nobody waits back for one that somebody waits for. The pause is one for all groups:
/// to set it for each would wake whoever waits for the earliest of all pauses.
async fn accompanied(queue: &mut mpsc::Receiver<Job>, group: &mut Vec<Job>, mut pause: Pin<&mut Sleep>) {
    let until = Instant::now() + COMPANY;
    if pause.is_elapsed() {
        pause.as_mut().reset(until);
    }
    let mut gathered = pin!(gathered(queue, group));
    loop {
        tokio::select! {
            biased;
            () = &mut gathered => return,
            () = pause.as_mut() => {}
        }
        if Instant::now() >= until {
            return;
        }
        pause.as_mut().reset(until);
    }
}

/// Adds to a group of records for which nobody waits until somebody does, or the group is full. Whatever is dropped of
/// this loses no record: those that have come are in the group.
async fn gathered(queue: &mut mpsc::Receiver<Job>, group: &mut Vec<Job>) {
    while group.len() < GROUP {
        match queue.recv().await {
            Some(job) => {
                let is_awaited = job.answer.is_some();
                group.push(job);
                if is_awaited {
                    return;
                }
            }
            None => return,
        }
    }
}

/// Writes a group and answers everyone in it.
async fn write_group(
    pen: &mut Pen,
    group: &mut Vec<Job>,
    losses: &Losses,
    sealer: &mut Option<Sealer>,
    closing: bool,
) {
    let lost = losses.pending();
    match commit_in_the_end(pen, group, lost, sealer.as_ref(), closing).await {
        Ok((outcomes, sealed)) => {
            losses.told(lost);
            if let (Some(sealer), Some(tree)) = (sealer.as_mut(), sealed) {
                sealer.sealed(tree);
            }
            for (job, outcome) in group.drain(..).zip(outcomes) {
                match (job.work, sealer.as_mut()) {
                    (Work::HandOver(successor), Some(sealer)) if outcome.is_ok() => {
                        sealer.followed_by(successor);
                    }
                    (Work::Seal(signer), None) => *sealer = Some(Sealer::new(signer)),
                    _ => {}
                }
                if let Some(answer) = job.answer {
                    // A caller that no longer waits has cancelled; its record stands.
                    let _ = answer.send(outcome.map(Seq::minted).map_err(ChangeError::Lost));
                }
            }
        }
        Err(error) => {
            for job in group.drain(..) {
                match job.answer {
                    Some(answer) => drop(answer.send(Err(ChangeError::Audit(error.clone())))),
                    None => losses.add(1),
                }
            }
        }
    }
}

/// For each job its number, or why its change was lost; and the tree that was sealed, if one was.
type Written = (Vec<Result<u64, Lost>>, Option<Tree>);

/// Tries a group again, whole, when its transaction gave way to another one.
async fn commit_in_the_end(
    pen: &mut Pen,
    group: &mut [Job],
    lost: u64,
    sealer: Option<&Sealer>,
    closing: bool,
) -> Result<Written, AuditError> {
    if lost == 0
        && !closing
        && pen.writer.is_in_file()
        && let Some(end) = &mut pen.end
        && let Some(records) = end::only_appended(group, pen.moments.now())
        && !sealer.is_some_and(|sealer| sealer.is_due(end.seq + records.len() as u64, false))
        && let Some(numbers) = end.append(&mut pen.writer, &records).await?
    {
        return Ok((numbers.map(Ok).collect(), None));
    }
    let mut attempt = 1;
    loop {
        match commit(pen, group, lost, sealer, closing).await {
            Err(error) if error.is_conflict() && attempt < ATTEMPTS => attempt += 1,
            outcome => return outcome,
        }
    }
}

/// Writes a group in one transaction. When this returns an error, nothing of the group is acknowledged.
async fn commit(
    pen: &mut Pen,
    group: &mut [Job],
    lost: u64,
    sealer: Option<&Sealer>,
    closing: bool,
) -> Result<Written, AuditError> {
    let questions: Vec<&LeaseQuestion> = group
        .iter()
        .filter_map(|job| match &job.work {
            Work::Lease(question, _) => Some(&**question),
            _ => None,
        })
        .collect();
    let (moments, left) = (&pen.moments, pen.end);
    let batch = pen.writer.begin_with(&questions).await.map_err(AuditError::Unavailable)?;
    let mut tail = Tail::read(batch, left, moments).await?;
    if lost > 0 {
        tail.append(&loss(lost), None).await?.map_err(|_| AuditError::Closed)?;
    }
    let mut outcomes = Vec::with_capacity(group.len());
    let mut sealed = None;
    for job in group {
        outcomes.push(match &mut job.work {
            Work::Record(record, mutation) => tail.append(record, mutation.as_ref()).await?,
            Work::AsOf(moment, ..) if tail.changed || *moment != moments.now() => Err(Lost::Changed),
            Work::AsOf(_, record, mutation) => tail.append(record, mutation.as_ref()).await?,
            Work::Lease(question, judge) => tail.lease(question, judge).await?,
            Work::HandOver(successor) => tail.hand_over(sealer, successor, &mut sealed).await?,
            Work::Seal(_) => Ok(tail.seq),
        });
    }
    let handed_over = sealed.is_some();
    if let Some(sealer) = sealer.filter(|sealer| !handed_over && sealer.is_due(tail.seq, closing)) {
        sealed = tail.seal(sealer).await?;
    }
    let Tail { batch, seq, chain, now_ms, changed } = tail;
    let committed = batch.commit().await;
    if changed {
        moments.pass();
    }
    committed.map_err(AuditError::Uncertain)?;
    pen.end = Some(End { seq, chain, at_ms: now_ms });
    Ok((outcomes, sealed))
}

/// The growing end of the chain inside one transaction.
struct Tail<'w> {
    batch: Batch<'w>,
    seq: u64,
    chain: Digest,
    now_ms: u64,
    /// Whether this transaction changed grants.
    changed: bool,
}

impl<'w> Tail<'w> {
    /// Reads the head under the write lock, so that of two processes each continues the other's
    /// chain, and the clock after it, so that their times do not cross. The clock is the server's where
    /// there is one: what a record allows for a while is over at one moment for every process.
    ///
    /// `left` is the end as this process left it: whether others have changed grants since moves the moment on.
    async fn read(mut batch: Batch<'w>, left: Option<End>, moments: &Moments) -> Result<Self, AuditError> {
        let (head, clock) = batch.head_and_clock().await.map_err(AuditError::Unavailable)?;
        let now_ms = clock.unwrap_or_else(clock::now_ms);
        let (seq, chain, at_ms) = match head {
            Some(head) => continued(&head).ok_or(AuditError::Head)?,
            None => (0, chain::genesis(), 0),
        };
        if moment::is_changed(&mut batch, left, (seq, chain)).await.map_err(AuditError::Unavailable)? {
            moments.pass();
        }
        let mut tail = Self { batch, seq, chain, now_ms, changed: false };
        if now_ms < at_ms {
            tail.append(&clock_went_back(at_ms - now_ms), None).await?.map_err(|_| AuditError::Closed)?;
        }
        Ok(tail)
    }

    /// Seals what is there so far; the tree that was sealed. `None` where that is another key's to do.
    async fn seal(&mut self, sealer: &Sealer) -> Result<Option<Tree>, AuditError> {
        if sealer.is_retired(&mut self.batch).await.map_err(AuditError::Unavailable)? {
            return Ok(None);
        }
        let (seal, tree) = sealer.seal(&mut self.batch, self.seq).await.map_err(AuditError::Unavailable)?;
        self.append(&seal, None).await?.map_err(|_| AuditError::Closed)?;
        Ok(Some(tree))
    }

    /// Seals the log for the last time with the old key, and hands over to the new one.
    async fn hand_over(
        &mut self,
        sealer: Option<&Sealer>,
        successor: &Signer,
        sealed: &mut Option<Tree>,
    ) -> Result<Result<u64, Lost>, AuditError> {
        // One exchange in a group: whoever asks for a second one in the same breath has seen an older key.
        let Some(sealer) = sealer.filter(|_| sealed.is_none()) else { return Ok(Err(Lost::Changed)) };
        let Some(mut tree) = self.seal(sealer).await? else { return Ok(Err(Lost::Changed)) };
        *sealed = Some(tree.clone());
        tree.push(self.chain.as_bytes());
        self.append(&sealer.hand_over(successor, &tree), None).await
    }

    /// Has a lease judged by what is there now, and appends the records of its use.
    async fn lease(
        &mut self,
        question: &LeaseQuestion,
        judge: &mut Judge,
    ) -> Result<Result<u64, Lost>, AuditError> {
        let view = match self.batch.lease_view(question).await.map_err(AuditError::Unavailable)? {
            Ok(view) => view,
            Err(lost) => return Ok(Err(lost)),
        };
        // Everybody's records go through this task: a judge that breaks down ends its own lease, not the log.
        let judged = catch_unwind(AssertUnwindSafe(|| judge.0(&view, self.now_ms)));
        let records = match judged {
            Ok(Some(records)) => records,
            Ok(None) => return Ok(Err(Lost::Refused)),
            Err(_) => return Ok(Err(Lost::Unjudged)),
        };
        for record in &records {
            self.link(record, With::Lease(question)).await?.map_err(|_| AuditError::Closed)?;
        }
        Ok(Ok(self.seq))
    }

    /// Appends one record and makes its change. A lost change takes no number.
    async fn append(
        &mut self,
        record: &Record,
        change: Option<&Mutation>,
    ) -> Result<Result<u64, Lost>, AuditError> {
        let changes = change.is_some_and(Mutation::changes_grants);
        if changes && !moment::tells_of_grants(record.kind) {
            return Ok(Err(Lost::Invalid));
        }
        let linked = self.link(record, With::Change(change)).await?;
        self.changed |= changes && linked.is_ok();
        Ok(linked)
    }

    /// Gives a record its number and its link, unless its change is lost.
    async fn link(&mut self, record: &Record, with: With<'_>) -> Result<Result<u64, Lost>, AuditError> {
        let seq = self.seq + 1;
        let bytes = record.encode(self.now_ms);
        let chain = chain::link(&self.chain, seq, &bytes);
        let row = NewRecord {
            seq: i64::try_from(seq).map_err(|_| AuditError::Head)?,
            record: &bytes,
            chain: chain.as_bytes(),
            refusal: refusal_of(record),
            claim: record.field(Field::Claim),
            at_ms: self.now_ms,
        };
        let appended = match with {
            With::Change(change) => self.batch.append(row, change).await,
            With::Lease(question) => self.batch.append_judged(row, question).await.map(Ok),
        };
        match appended.map_err(AuditError::Unavailable)? {
            Err(lost) => Ok(Err(lost)),
            Ok(()) => {
                (self.seq, self.chain) = (seq, chain);
                Ok(Ok(seq))
            }
        }
    }
}

/// What a record is appended with.
enum With<'a> {
    /// The change that it tells of.
    Change(Option<&'a Mutation>),
    /// The question whose answer it follows from.
    Lease(&'a LeaseQuestion),
}

/// Number, chain and time of a head that can be continued.
fn continued(head: &AuditRow) -> Option<(u64, Digest, u64)> {
    let seq = u64::try_from(head.seq).ok().filter(|seq| *seq > 0)?;
    let chain = head.chain.as_slice().try_into().ok().map(Digest::from_bytes)?;
    let (at_ms, _) = Record::decode(&head.record).ok()?;
    Some((seq, chain, at_ms))
}

/// The id under which the record is found again, where it tells of a refusal.
pub(crate) fn refusal_of(record: &Record) -> Option<RefusalId> {
    record.field(Field::Refusal).and_then(RefusalId::parse)
}

fn clock_went_back(by_ms: u64) -> Record {
    Record::new(Kind::Clock, Verdict::Warn)
        .with(Field::Reason, "the clock is behind the record before")
        .with(Field::Micros, by_ms.saturating_mul(1000))
}

fn loss(count: u64) -> Record {
    Record::new(Kind::Loss, Verdict::Failed)
        .with(Field::Reason, "records for which nobody waited could not be written")
        .with(Field::Count, count)
}
