//! The one connection that writes. There is one `Writer` for each opened database; it moves into
//! the audit log, and from then on nothing reaches the disk without a record.

use sqlx::{Connection as _, Sqlite, SqliteConnection, Transaction};

use crate::apply::apply;
use crate::connect;
use crate::error::StoreError;
use crate::folder::Place;
use crate::mutation::{Lost, Mutation};
use crate::rows::{AuditRow, NewRecord};

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
    /// Empty after a failure: the next transaction connects anew.
    connection: Option<SqliteConnection>,
}

impl Writer {
    pub(crate) fn new(place: Place, connection: SqliteConnection) -> Self {
        Self { place, connection: Some(connection) }
    }

    /// Takes the database's write lock, waiting for other processes up to
    /// [`BUSY_TIMEOUT`](crate::BUSY_TIMEOUT). What is read in the batch is what the commit builds on.
    ///
    /// After any failure the next call starts from a fresh connection, so that the writer works
    /// again as soon as the database does.
    pub async fn begin(&mut self) -> Result<Batch<'_>, StoreError> {
        if let Err(gone) = self.place.still_there() {
            self.connection = None;
            return Err(gone);
        }
        if self.connection.is_none() {
            self.connection = Some(connect::write(self.place.path()).await?);
        }
        let slot = &mut self.connection;
        let connection = slot.as_mut().ok_or(StoreError::Busy)?;
        let transaction =
            connection.begin_with("BEGIN IMMEDIATE").await.map_err(StoreError::at("begin a transaction"))?;
        Ok(Batch { transaction })
    }

    /// Closes the connection and returns once it is closed. The last connection of all processes
    /// moves what is in the write-ahead log into the database file.
    pub async fn close(mut self) {
        if let Some(connection) = self.connection.take() {
            // What was committed is durable already; a failing clean-up is repeated at the next start.
            let _ = connection.close().await;
        }
    }

    /// Drops a connection after a failure in the middle of a batch.
    pub fn reset(&mut self) {
        self.connection = None;
    }
}

/// One write transaction. Dropped without [`Batch::commit`], it leaves no trace.
pub struct Batch<'w> {
    transaction: Transaction<'w, Sqlite>,
}

impl Batch<'_> {
    /// The last record of the chain, read under the write lock: nobody can append after it but
    /// this batch.
    pub async fn head(&mut self) -> Result<Option<AuditRow>, StoreError> {
        let row =
            sqlx::query("SELECT seq, record, chain, refusal FROM audit_record ORDER BY seq DESC LIMIT 1")
                .fetch_optional(&mut *self.transaction)
                .await
                .map_err(StoreError::at("read the head of the log"))?;
        Ok(row.as_ref().map(crate::decode::audit_row))
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
        let Some(mutation) = change else {
            insert(&mut self.transaction, record).await?;
            return Ok(Ok(()));
        };
        // A nested transaction is a savepoint; dropped, it rolls back to it.
        let mut pair = self.transaction.begin().await.map_err(StoreError::at("set a savepoint"))?;
        let outcome = match apply(&mut pair, mutation, record.at_ms).await {
            Err(error) if error.blames_the_change() => Err(Lost::Invalid),
            outcome => outcome?,
        };
        if let Err(lost) = outcome {
            pair.rollback().await.map_err(StoreError::at("return to a savepoint"))?;
            return Ok(Err(lost));
        }
        insert(&mut pair, record).await?;
        pair.commit().await.map_err(StoreError::at("release a savepoint"))?;
        Ok(Ok(()))
    }

    /// Returns once everything in the batch is on the disk (WAL, `synchronous=FULL`).
    ///
    /// After an error the batch is not in the database as this process sees it; whether the disk
    /// kept it nevertheless shows when the database is opened the next time.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.transaction.commit().await.map_err(StoreError::at("commit"))
    }
}

async fn insert(connection: &mut SqliteConnection, record: NewRecord<'_>) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO audit_record (seq, record, chain, refusal) VALUES ($1, $2, $3, $4)")
        .bind(record.seq)
        .bind(record.record)
        .bind(record.chain.as_slice())
        .bind(record.refusal.map(|id| id.as_bytes().to_vec()))
        .execute(connection)
        .await
        .map_err(StoreError::at("append to the log"))?;
    Ok(())
}
