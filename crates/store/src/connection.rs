//! The writing connection: to a file or to a server, made when it is needed and looked at before it is
//! used again.

use sqlx::{Connection as _, PgConnection, SqliteConnection};

use crate::error::StoreError;
use crate::folder::File;
use crate::scope::Scope;
use crate::server::Server;
use crate::session::{Session, answered};
use crate::{postgres, sqlite};

const BEGIN: &str = "begin a transaction";

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
    /// came back left the idle one dead, which beginning on it shows.
    pub(crate) async fn begun(&self, idle: Option<Connection>) -> Result<Connection, StoreError> {
        if let Self::File(file) = self {
            file.still_there()?;
        }
        if let Some(mut idle) = idle {
            match idle.session().script(self.begin(), BEGIN).await {
                Ok(()) => return Ok(idle),
                Err(StoreError::Away) => {}
                Err(error) => return Err(error),
            }
        }
        let mut fresh = match self {
            Self::File(file) => Connection::Sqlite(sqlite::write(file.path()).await?),
            Self::Server(server) => Connection::Postgres(postgres::write(server).await?),
        };
        fresh.session().script(self.begin(), BEGIN).await?;
        Ok(fresh)
    }

    /// How a write transaction begins: with a lock, so that of many processes one writes at a time and
    /// sees all that the one before it wrote. In a server it is the lock of one row, the head of the chain.
    fn begin(&self) -> String {
        match self {
            Self::File(_) => "BEGIN IMMEDIATE".to_owned(),
            Self::Server(_) => format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {}; SELECT id FROM chain_head WHERE id = 1 FOR UPDATE",
                Scope::Installation.declaration()
            ),
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

    /// Says goodbye. Nothing hangs on the answer.
    pub(crate) async fn close(self) {
        match self {
            Self::Sqlite(connection) => drop(connection.close().await),
            Self::Postgres(connection) => drop(answered(connection.close(), "close").await),
        }
    }
}
