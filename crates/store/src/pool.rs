//! The reading connections of either database.

use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Connection as _, PgPool, Postgres, SqlitePool};

use crate::error::StoreError;
use crate::scope::Scope;
use crate::session::{Row, Session, answered};
use crate::statement::Statement;

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
                let mut connection = pool.acquire().await.map_err(StoreError::at(what))?;
                Session::Sqlite(&mut connection).rows(statement, what).await
            }
            Self::Postgres(pool) => match Self::read(pool, scope, statement.clone(), what).await {
                // A connection that was idle while the server went away and came back.
                Err(StoreError::Away) => Self::read(pool, scope, statement, what).await,
                outcome => outcome,
            },
        }
    }

    /// Reads in a transaction of its own, which ends behind the back of the caller who has the rows.
    async fn read(
        pool: &PgPool,
        scope: &Scope,
        statement: Statement,
        what: &'static str,
    ) -> Result<Vec<Row>, StoreError> {
        let mut connection = answered(pool.acquire(), what).await?;
        let outcome = Self::read_on(&mut connection, scope, statement, what).await;
        if matches!(outcome, Err(StoreError::Away)) {
            // It may be in the middle of an answer; nobody else is to have it.
            drop(connection.detach());
        }
        outcome
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
