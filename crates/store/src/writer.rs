//! The one connection that writes. There is one `Writer` for each opened database; it moves into
//! the audit log, and from then on nothing reaches the disk without a record.

use crate::apply::apply;
use crate::connection::{Connection, Place};
use crate::error::StoreError;
use crate::lease::{LeaseQuestion, LeaseView};
use crate::mutation::{Lost, Mutation};
use crate::rows::{AuditRow, NewRecord};
use crate::scope::Scope;
use crate::session::{Row, Session};
use crate::statement::{Statement, Value, built, placeholders, sql};

/// The right to write to one database. It cannot be copied, and nothing gives out a second one:
///
/// ```compile_fail,E0599
/// fn twice(writer: store::Writer) -> store::Writer {
///     writer.clone()
/// }
/// ```
///
/// It can only be handed on:
///
/// ```
/// fn twice(writer: store::Writer) -> store::Writer {
///     writer
/// }
/// ```
pub struct Writer {
    place: Place,
    /// Empty at first and after a failure: the next transaction connects anew.
    idle: Option<Connection>,
}

impl Writer {
    pub(crate) fn new(place: Place, connection: Connection) -> Self {
        Self { place, idle: Some(connection) }
    }

    /// Takes the database's write lock, waiting for other processes up to
    /// [`BUSY_TIMEOUT`](crate::BUSY_TIMEOUT). What is read in the batch is what the commit builds on.
    ///
    /// After any failure the next call starts from a fresh connection, so that the writer works
    /// again as soon as the database does.
    pub async fn begin(&mut self) -> Result<Batch<'_>, StoreError> {
        self.begin_with(&[]).await
    }

    /// The same, for a batch that will ask these questions. A server answers them, and tells the head of the log, in
    /// the message that begins the transaction.
    pub async fn begin_with(&mut self, questions: &[&LeaseQuestion]) -> Result<Batch<'_>, StoreError> {
        let idle = self.idle.take();
        let asked = questions.iter().map(|question| question.of_server());
        let ahead = std::iter::once_with(|| sql(HEAD)).chain(asked);
        let (connection, rows) = self.place.begun(idle, ahead).await?;
        let mut rows = rows.into_iter();
        let told = rows.next().map(|rows| told_head(&rows)).transpose()?;
        let view =
            |(question, rows): (&&LeaseQuestion, Vec<Row>)| (question.claim.clone(), question.view(&rows));
        Ok(Batch {
            home: &mut self.idle,
            connection,
            scope: Scope::Installation,
            waiting: Vec::new(),
            told,
            views: questions.iter().zip(rows).map(view).collect(),
        })
    }

    /// Whether it writes to a file.
    pub fn is_in_file(&self) -> bool {
        matches!(self.place, Place::File(_))
    }

    /// Appends records to a log in a file that still ends with the link `after`, in one statement. That is a transaction
    /// of its own, which takes the write lock before it reads, and returns once the records are on the disk. False, and
    /// nothing is written, where the log ends otherwise, is not in a file, or is to be connected to first.
    ///
    /// After any failure the next call starts from a fresh connection, as after one of a batch.
    pub async fn append_after(
        &mut self,
        after: &[u8; 32],
        records: &[NewRecord<'_>],
    ) -> Result<bool, StoreError> {
        let Place::File(file) = &self.place else { return Ok(false) };
        let Some(mut connection) = self.idle.take() else { return Ok(false) };
        file.still_there()?;
        let columns = placeholders(records.len(), COLUMNS);
        let text = format!(
            "INSERT INTO audit_record (seq, record, chain, refusal, claim) SELECT * FROM (VALUES {columns})
             WHERE (SELECT chain FROM audit_record ORDER BY seq DESC LIMIT 1) = ${}",
            records.len() * COLUMNS + 1
        );
        let values = records.iter().flat_map(values).chain([after.as_slice().into()]);
        let written = connection.session().run(built(text, values.collect()), APPEND).await?;
        self.idle = Some(connection);
        Ok(written > 0)
    }

    /// Closes the connection and returns once it is closed. The last connection of all processes
    /// moves what is in a file's write-ahead log into the file.
    pub async fn close(self) {
        if let Some(connection) = self.idle {
            connection.close().await;
        }
    }
}

/// One write transaction. Dropped without [`Batch::commit`], it leaves no trace: its connection is
/// closed, and the database forgets what it was told.
pub struct Batch<'w> {
    /// Where the connection goes when all went well.
    home: &'w mut Option<Connection>,
    connection: Connection,
    /// What was last declared to a server.
    scope: Scope,
    /// Records that are not sent yet: many travel in one statement.
    waiting: Vec<[Value; COLUMNS]>,
    /// The head of the log and the clock, where a server told them at the beginning and nothing was asked since.
    told: Option<Told>,
    /// What a server answered at the beginning, by the claim of each question, as long as it is true.
    views: Vec<(String, Result<LeaseView, Lost>)>,
}

/// The last record, and the time in milliseconds since 1970.
type Told = (Option<AuditRow>, u64);

/// The columns of a record that this program writes.
const COLUMNS: usize = 5;

/// The last record of a server's log and its clock, in one row.
const HEAD: &str = "SELECT last.seq, last.record, last.chain, last.refusal,
         CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT) AS at
     FROM (SELECT 1) AS one LEFT JOIN
         (SELECT seq, record, chain, refusal FROM audit_record ORDER BY seq DESC LIMIT 1) AS last ON true";

fn told_head(rows: &[Row]) -> Result<Told, StoreError> {
    let row = rows.first().ok_or_else(|| StoreError::failed(READ_HEAD))?;
    let at: i64 = row.named("at").map_err(StoreError::at(READ_HEAD))?;
    let empty = row.named::<Option<i64>>("seq").map_err(StoreError::at(READ_HEAD))?.is_none();
    let last = (!empty).then(|| crate::decode::audit_row(row));
    Ok((last, u64::try_from(at).unwrap_or(0)))
}

const READ_HEAD: &str = "read the head of the log";
const APPEND: &str = "append to the log";

/// The columns of a record.
fn values(record: &NewRecord<'_>) -> [Value; COLUMNS] {
    [
        record.seq.into(),
        record.record.into(),
        record.chain.into(),
        record.refusal.as_ref().map(|id| id.as_bytes().as_slice()).into(),
        record.claim.map(str::as_bytes).into(),
    ]
}

/// Records in one statement. Both databases take it quickly, and neither's limit on the number of
/// values (32766 and 65535) is near.
const TOGETHER: usize = 64;

/// So many records go to a server in one message with the end of the transaction. Of more, the server reads the values
/// faster where they do not stand in the text, and they share the round trip.
const WITH_THE_END: usize = 8;

impl Batch<'_> {
    /// The last record of the chain, read under the write lock: nobody can append after it but
    /// this batch.
    pub async fn head(&mut self) -> Result<Option<AuditRow>, StoreError> {
        Ok(self.head_and_clock().await?.0)
    }

    /// The same, and what the server's clock says under that lock, in milliseconds since 1970. `None` for
    /// a file: whoever shares it shares this machine's clock.
    pub async fn head_and_clock(&mut self) -> Result<(Option<AuditRow>, Option<u64>), StoreError> {
        if let Some((head, clock)) = self.told.take() {
            return Ok((head, Some(clock)));
        }
        self.send().await?;
        self.declare(Scope::Installation).await?;
        if self.is_in_file() {
            let last = "SELECT seq, record, chain, refusal FROM audit_record ORDER BY seq DESC LIMIT 1";
            let rows = self.session().rows(sql(last), READ_HEAD).await?;
            return Ok((rows.first().map(crate::decode::audit_row), None));
        }
        let (head, clock) = told_head(&self.session().rows(sql(HEAD), READ_HEAD).await?)?;
        Ok((head, Some(clock)))
    }

    /// What a lease is judged by. Nobody but this batch can change it before the commit. A damaged row among it is
    /// [`Lost::Unjudged`] to this one question, and to the batch nothing.
    pub async fn lease_view(
        &mut self,
        question: &LeaseQuestion,
    ) -> Result<Result<LeaseView, Lost>, StoreError> {
        if let Some(told) = self.views.iter().position(|(claim, _)| *claim == question.claim) {
            let (_, view) = self.views.swap_remove(told);
            // Whoever asks for the same lease after this is to see what became of it.
            self.views.retain(|(claim, _)| *claim != question.claim);
            return Ok(view);
        }
        self.send().await?;
        self.declare(Scope::Installation).await?;
        const WHAT: &str = "secret";
        if self.is_in_file() {
            return Ok(question.view(&self.session().rows(question.of_file(), WHAT).await?));
        }
        let told = self.session().message(question.of_server().written_out(), WHAT).await?;
        Ok(question.view(told.first().map_or(&[], Vec::as_slice)))
    }

    /// Appends a record that follows from a [`LeaseView`] of this batch, which says that what it claims is free. Were
    /// it not, the whole batch would fail.
    pub async fn append_judged(
        &mut self,
        record: NewRecord<'_>,
        of: &LeaseQuestion,
    ) -> Result<(), StoreError> {
        if record.claim != Some(of.claim.as_str()) {
            // A counted use: other views of this moment know nothing of it.
            self.views.clear();
        }
        self.wait(&record).await
    }

    /// The links of the chain after number `seq`, in order; at most `limit` of them.
    pub async fn chains_after(&mut self, seq: i64, limit: u32) -> Result<Vec<Vec<u8>>, StoreError> {
        self.send().await?;
        self.declare(Scope::Installation).await?;
        let query = sql("SELECT chain FROM audit_record WHERE seq > $1 ORDER BY seq LIMIT $2")
            .bind(seq)
            .bind(i64::from(limit));
        let rows = self.session().rows(query, "audit_record").await?;
        rows.iter().map(|row| row.get(0).map_err(StoreError::at("audit_record"))).collect()
    }

    /// The records after number `seq`, in order; at most `limit` of them.
    pub async fn records_after(&mut self, seq: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.send().await?;
        self.declare(Scope::Installation).await?;
        let query = "SELECT seq, record, chain, refusal FROM audit_record
             WHERE seq > $1 ORDER BY seq LIMIT $2";
        let rows = self.session().rows(sql(query).bind(seq).bind(i64::from(limit)), "audit_record").await?;
        Ok(rows.iter().map(crate::decode::audit_row).collect())
    }

    /// The records before number `seq`, the last one first; at most `limit` of them.
    pub async fn records_before(&mut self, seq: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        self.send().await?;
        self.declare(Scope::Installation).await?;
        let query = "SELECT seq, record, chain, refusal FROM audit_record
             WHERE seq < $1 ORDER BY seq DESC LIMIT $2";
        let rows = self.session().rows(sql(query).bind(seq).bind(i64::from(limit)), "audit_record").await?;
        Ok(rows.iter().map(crate::decode::audit_row).collect())
    }

    /// The newest record whose claim lies from `low` to before `high`.
    pub async fn last_claim(&mut self, low: &str, high: &str) -> Result<Option<AuditRow>, StoreError> {
        self.send().await?;
        self.declare(Scope::Installation).await?;
        let query = sql("SELECT seq, record, chain, refusal, claim FROM audit_record
             WHERE claim >= $1 AND claim < $2 ORDER BY claim DESC LIMIT 1")
        .bind(low.as_bytes())
        .bind(high.as_bytes());
        let rows = self.session().rows(query, "audit_record").await?;
        Ok(rows.first().map(crate::decode::audit_row))
    }

    /// Appends a record and, in the same breath, makes the change it tells of. When the change is
    /// [`Lost`], neither is written and the rest of the batch stands.
    ///
    /// A [`StoreError`] spoils the whole batch.
    pub async fn append(
        &mut self,
        record: NewRecord<'_>,
        change: Option<&Mutation>,
    ) -> Result<Result<(), Lost>, StoreError> {
        // A record that claims something stands by itself: whether it can is part of the change.
        if let Some(mutation) = change.or(record.claim.map(|_| &Mutation::Claim)) {
            self.told = None;
            self.views.clear();
            self.send().await?;
            self.declare(mutation.scope()).await?;
            let outcome = self.change(mutation, &record).await?;
            if outcome.is_err() || record.claim.is_some() {
                return Ok(outcome);
            }
        }
        self.wait(&record).await?;
        Ok(Ok(()))
    }

    /// Returns once everything in the batch is on the disk: WAL and `synchronous=FULL` in a file,
    /// `fsync` and `synchronous_commit` on a server.
    ///
    /// After an error the batch is not in the database as this process sees it; whether the disk
    /// kept it nevertheless shows when the database is opened the next time.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        let mut end = "COMMIT".to_owned();
        if self.is_in_file() || self.waiting.len() > WITH_THE_END {
            self.send().await?;
        } else if let Some(insert) = self.insert() {
            if !insert.fits() {
                return Err(StoreError::Unstorable);
            }
            end = insert.written_out() + "; COMMIT";
        }
        self.session().script(end, "commit").await?;
        *self.home = Some(self.connection);
        Ok(())
    }

    /// Makes one change, or takes back what it had done.
    async fn change(
        &mut self,
        mutation: &Mutation,
        record: &NewRecord<'_>,
    ) -> Result<Result<(), Lost>, StoreError> {
        const WHAT: &str = "set a savepoint";
        let mut session = self.session();
        if mutation.only_looks() {
            // One statement writes, and it writes all or nothing.
            let outcome = apply(&mut session, mutation, record.at_ms).await?;
            return match (outcome, record.claim) {
                (Ok(()), Some(claim)) => claimed(&mut session, record, claim).await,
                (outcome, _) => Ok(outcome),
            };
        }
        session.script("SAVEPOINT change".to_owned(), WHAT).await?;
        let mut outcome = match apply(&mut session, mutation, record.at_ms).await {
            Err(error) if error.blames_the_change() => Err(Lost::Invalid),
            outcome => outcome?,
        };
        if let (Ok(()), Some(claim)) = (outcome, record.claim) {
            outcome = claimed(&mut session, record, claim).await?;
        }
        let end = match outcome {
            Ok(()) => "RELEASE SAVEPOINT change",
            Err(_) => "ROLLBACK TO SAVEPOINT change; RELEASE SAVEPOINT change",
        };
        session.script(end.to_owned(), WHAT).await?;
        Ok(outcome)
    }

    /// Says to a server whose rows are meant from here on.
    async fn declare(&mut self, scope: Scope) -> Result<(), StoreError> {
        if matches!(self.connection, Connection::Postgres(_)) && self.scope != scope {
            self.session().script(scope.declaration(), "declare a scope").await?;
            self.scope = scope;
        }
        Ok(())
    }

    /// Keeps a record for a statement that it shares with others.
    async fn wait(&mut self, record: &NewRecord<'_>) -> Result<(), StoreError> {
        self.told = None;
        self.waiting.push(values(record));
        if self.waiting.len() >= TOGETHER { self.send().await } else { Ok(()) }
    }

    /// Writes the records that wait.
    async fn send(&mut self) -> Result<(), StoreError> {
        match self.insert() {
            Some(insert) => self.session().run(insert, APPEND).await.map(drop),
            None => Ok(()),
        }
    }

    /// The statement that writes the records that wait, which wait no longer.
    fn insert(&mut self) -> Option<Statement> {
        if self.waiting.is_empty() {
            return None;
        }
        let rows = placeholders(self.waiting.len(), COLUMNS);
        let text = format!("INSERT INTO audit_record (seq, record, chain, refusal, claim) VALUES {rows}");
        Some(built(text, self.waiting.drain(..).flatten().collect()))
    }

    pub(crate) fn session(&mut self) -> Session<'_> {
        self.connection.session()
    }

    /// Whether it writes to a file.
    pub(crate) fn is_in_file(&self) -> bool {
        matches!(self.connection, Connection::Sqlite(_))
    }
}

/// Writes a record that claims something, unless another record has claimed it.
async fn claimed(
    session: &mut Session<'_>,
    record: &NewRecord<'_>,
    claim: &str,
) -> Result<Result<(), Lost>, StoreError> {
    let refusal = record.refusal.map(|id| *id.as_bytes());
    let insert = sql("INSERT INTO audit_record (seq, record, chain, refusal, claim)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING")
    .bind(record.seq)
    .bind(record.record)
    .bind(record.chain.as_slice())
    .bind(refusal.as_ref().map(|id| id.as_slice()))
    .bind(claim.as_bytes());
    let written = session.run(insert, "append to the log").await?;
    Ok(if written == 1 { Ok(()) } else { Err(Lost::Claimed) })
}
