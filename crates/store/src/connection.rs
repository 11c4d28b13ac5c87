//! The writing connection: to a file or to a server, made when it is needed and looked at before it is
//! used again.

use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::error::StoreError;
use crate::folder::File;
use crate::lease::LeaseQuestion;
use crate::scope::Scope;
use crate::server::Server;
use crate::session::{Row, Session, answered};
use crate::statement::Statement;
use crate::{postgres, sqlite};

const BEGIN: &str = "begin a transaction";
const PREPARE: &str = "prepare statements";

/// How often statements are prepared while others change the tables.
const ATTEMPTS: u32 = 20;

/// Where a database is.
pub(crate) enum Place {
    File(File),
    Server(Server),
}

/// A connection that is nobody else's.
pub(crate) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

impl Place {
    /// A connection on which a write transaction has begun: the idle one, or a new one. A server that went away and
    /// came back left the idle one dead, which beginning on it shows. With it the rows of what was asked ahead, which
    /// a server answers in the same breath, under the lock; a file is asked later, for that costs it nothing.
    pub(crate) async fn begun(
        &self,
        idle: Option<Connection>,
        ahead: impl Iterator<Item = Statement>,
    ) -> Result<(Connection, Vec<Vec<Row>>), StoreError> {
        if let Self::File(file) = self {
            file.still_there()?;
        }
        let begin = self.begin(ahead);
        if let Some(mut idle) = idle {
            match idle.session().message(begin.clone(), BEGIN).await {
                Ok(rows) => return Ok((idle, Self::ahead(rows))),
                Err(StoreError::Away) => {}
                Err(error) => return Err(error),
            }
        }
        let mut fresh = match self {
            Self::File(file) => Connection::Sqlite(sqlite::write(file.path()).await?),
            Self::Server(server) => {
                let mut connection = Connection::Postgres(postgres::write(server).await?);
                connection.prepare().await?;
                connection
            }
        };
        let rows = fresh.session().message(begin, BEGIN).await?;
        Ok((fresh, Self::ahead(rows)))
    }

    /// Without what the statements say that begin a transaction of a server.
    fn ahead(rows: Vec<Vec<Row>>) -> Vec<Vec<Row>> {
        rows.into_iter().skip(3).collect()
    }

    /// How a write transaction begins: with a lock, so that of many processes one writes at a time and
    /// sees all that the one before it wrote. In a server it is the lock of one row, the head of the chain.
    fn begin(&self, ahead: impl Iterator<Item = Statement>) -> String {
        match self {
            Self::File(_) => "BEGIN IMMEDIATE".to_owned(),
            Self::Server(_) => {
                let lock = format!(
                    "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {}; SELECT id FROM chain_head WHERE id = 1 FOR UPDATE",
                    Scope::Installation.declaration()
                );
                let ahead = ahead.map(Statement::written_out);
                std::iter::once(lock).chain(ahead).collect::<Vec<_>>().join("; ")
            }
        }
    }
}

impl Connection {
    pub(crate) fn session(&mut self) -> Session<'_> {
        match self {
            Self::Sqlite(connection) => Session::Sqlite(connection),
            Self::Postgres(connection) => Session::Postgres(connection),
        }
    }

    /// Has a server plan what is asked of it in messages. That looks at several tables at once, and gives way where the
    /// owner of the tables changes them at the same time in another order.
    pub(crate) async fn prepare(&mut self) -> Result<(), StoreError> {
        for _ in 1..ATTEMPTS {
            match self.session().script(LeaseQuestion::prepared(), PREPARE).await {
                Err(StoreError::Conflict) => {}
                outcome => return outcome,
            }
        }
        self.session().script(LeaseQuestion::prepared(), PREPARE).await
    }

    /// Says goodbye. Nothing hangs on the answer.
    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(connection) => drop(connection.close().await),
            Self::Postgres(connection) => drop(answered(connection.close(), "close").await),
        }
    }
}
