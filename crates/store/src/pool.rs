//! The reading connections of either database.

use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Connection as _, PgPool, Postgres, SqlitePool};

use crate::error::StoreError;
use crate::scope::Scope;
use crate::session::{Row, Session, answered};
use crate::statement::Statement;

/// How long a read goes on to look for a connection that is alive.
const PATIENCE: Duration = Duration::from_secs(2);

/// Connections on which nothing can be changed.
#[derive(Clone)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Pool {
    /// Every row of one statement, which sees one moment of the database and one scope of it.
    pub(crate) async fn rows(
        &self,
        scope: &Scope,
        statement: Statement,
        what: &'static str,
    ) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(pool) => {
                let mut connection = pool.acquire().await.map_err(|error| match error {
                    sqlx::Error::PoolTimedOut => StoreError::Busy,
                    error => StoreError::from_driver(&error, what),
                })?;
                Session::Sqlite(&mut connection).rows(statement, what).await
            }
            Self::Postgres(pool) => Self::read(pool, scope, statement, what).await,
        }
    }

    /// Reads in a transaction of its own, which ends behind the back of the caller who has the rows.
    async fn read(
        pool: &PgPool,
        scope: &Scope,
        statement: Statement,
        what: &'static str,
    ) -> Result<Vec<Row>, StoreError> {
        let began = Instant::now();
        loop {
            let mut connection = answered(pool.acquire(), what).await?;
            match Self::read_on(&mut connection, scope, statement.clone(), what).await {
                Err(StoreError::Away) => {
                    // It may be in the middle of an answer; nobody else is to have it.
                    drop(connection.detach());
                    // The others that were idle while the server went away and came back are dead too.
                    if began.elapsed() > PATIENCE {
                        return Err(StoreError::Away);
                    }
                }
                outcome => return outcome,
            }
        }
    }

    async fn read_on(
        connection: &mut PoolConnection<Postgres>,
        scope: &Scope,
        statement: Statement,
        what: &'static str,
    ) -> Result<Vec<Row>, StoreError> {
        let begin = AssertSqlSafe(format!("BEGIN READ ONLY; {}", scope.declaration()));
        let mut transaction = answered(connection.begin_with(begin), what).await?;
        Session::Postgres(&mut transaction).rows(statement, what).await
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}
