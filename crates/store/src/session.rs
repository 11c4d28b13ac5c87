//! One connection to either database, and the only place where a statement meets a driver.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt as _};
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{
    AssertSqlSafe, Decode, Either, Executor as _, PgConnection, Postgres, Row as _, Sqlite, SqliteConnection,
    Type,
};

use crate::error::StoreError;
use crate::statement::{Statement, Value};

/// How long one statement may take. The server ends its own after [`STATEMENT_TIMEOUT`]; this is for a
/// server, or a network, that no longer says anything.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// After this a server ends a statement.
pub(crate) const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that something else owns.
pub(crate) enum Session<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// A row of either driver.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// What can be read from a column of either database.
pub(crate) trait Column:
    for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres> + Type<Sqlite> + Type<Postgres>
{
}

impl<T> Column for T where
    T: for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres> + Type<Sqlite> + Type<Postgres>
{
}

/// A statement as one driver's query.
macro_rules! query {
    ($driver:ty, $statement:expr) => {{
        let (text, values) = $statement.parts();
        let mut query = sqlx::query::<$driver>(text);
        for value in values {
            query = match value {
                Value::Integer(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
            };
        }
        query
    }};
}

impl Session<'_> {
    /// Runs a statement; how many rows it changed.
    pub(crate) async fn run(&mut self, statement: Statement, what: &'static str) -> Result<u64, StoreError> {
        if !statement.fits() {
            return Err(StoreError::Unstorable);
        }
        match self {
            Self::Sqlite(connection) => {
                // The one statement is over when it says so: the end of what it says would be one more thing to wait for.
                let mut said = connection.fetch_many(query!(Sqlite, statement));
                while let Some(next) = said.try_next().await.map_err(StoreError::at(what))? {
                    if let Either::Left(done) = next {
                        return Ok(done.rows_affected());
                    }
                }
                Ok(0)
            }
            Self::Postgres(connection) => {
                let done = query!(Postgres, statement).execute(&mut **connection);
                Ok(answered(done, what).await?.rows_affected())
            }
        }
    }

    /// Runs several statements without values in one message.
    pub(crate) async fn script(&mut self, text: String, what: &'static str) -> Result<(), StoreError> {
        let script = sqlx::raw_sql(AssertSqlSafe(text));
        match self {
            Self::Sqlite(connection) => {
                script.execute(&mut **connection).await.map(drop).map_err(StoreError::at(what))
            }
            Self::Postgres(connection) => answered(script.execute(&mut **connection), what).await.map(drop),
        }
    }

    /// The same; the rows of each statement, one after the other.
    pub(crate) async fn message(
        &mut self,
        text: String,
        what: &'static str,
    ) -> Result<Vec<Vec<Row>>, StoreError> {
        let script = sqlx::raw_sql(AssertSqlSafe(text));
        match self {
            Self::Sqlite(connection) => {
                let found = by_statement(script.fetch_many(&mut **connection), Row::Sqlite).await;
                found.map_err(StoreError::at(what))
            }
            Self::Postgres(connection) => {
                let found = by_statement(script.fetch_many(&mut **connection), Row::Postgres);
                answered(found, what).await
            }
        }
    }

    /// Fetches every row of a statement.
    pub(crate) async fn rows(
        &mut self,
        statement: Statement,
        what: &'static str,
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(connection) => {
                let rows = query!(Sqlite, statement).fetch_all(&mut **connection).await;
                Ok(rows.map_err(StoreError::at(what))?.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(connection) => {
                let rows = query!(Postgres, statement).fetch_all(&mut **connection);
                Ok(answered(rows, what).await?.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// The first column of the first row, where there is one.
    pub(crate) async fn scalar<T: Column>(
        &mut self,
        statement: Statement,
        what: &'static str,
    ) -> Result<Option<T>, StoreError> {
        let rows = self.rows(statement, what).await?;
        rows.first().map(|row| row.get(0).map_err(StoreError::at(what))).transpose()
    }
}

impl Row {
    /// A column by its place.
    pub(crate) fn get<T: Column>(&self, place: usize) -> Result<T, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(place),
            Self::Postgres(row) => row.try_get(place),
        }
    }

    /// A column by its name.
    pub(crate) fn named<T: Column>(&self, name: &str) -> Result<T, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(name),
            Self::Postgres(row) => row.try_get(name),
        }
    }
}

/// Sorts what comes back by the statement that it comes from.
async fn by_statement<D, R>(
    found: impl Stream<Item = Result<Either<D, R>, sqlx::Error>>,
    row: fn(R) -> Row,
) -> Result<Vec<Vec<Row>>, sqlx::Error> {
    let (mut found, mut sets, mut rows) = (pin!(found), Vec::new(), Vec::new());
    while let Some(next) = found.try_next().await? {
        match next {
            Either::Right(next) => rows.push(row(next)),
            Either::Left(_) => sets.push(std::mem::take(&mut rows)),
        }
    }
    Ok(sets)
}

/// Waits for a server, but not for ever. A connection that did not answer is in the middle of
/// something; its owner drops it.
pub(crate) async fn answered<T>(
    work: impl Future<Output = Result<T, sqlx::Error>>,
    what: &'static str,
) -> Result<T, StoreError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, work).await {
        Ok(outcome) => outcome.map_err(StoreError::at(what)),
        Err(_) => Err(StoreError::Away),
    }
}
