//! The database: SQLite or PostgreSQL behind narrow repositories, where one method is one transaction.
//!
//! [`open`] and [`connect`] give two halves. The [`Reader`] can be copied and can change nothing. The
//! [`Writer`] exists once and moves into the audit log, so that every change ([`Mutation`]) is written
//! together with its record or not at all. The halves share no method, and neither makes the other.
//!
//! # What is stored
//! The tables are in `migrations/`. What lies in the database proves nothing by itself: secrets are
//! sealed, grants carry an authentication code, and records hang in a hash chain, each checked by
//! the crate that owns it. This crate promises durability, atomicity, order and privacy of the file.
//!
//! # Durability
//! In a file: write-ahead log, `synchronous=FULL`, and a writer that looks at every transaction's start
//! whether the file is still the one it opened. On a server: `fsync`, `full_page_writes` and
//! `synchronous_commit` are looked at on every connection, and `off` is refused. [`Batch::commit`] and
//! [`Writer::append_after`] return after the sync.
//!
//! # One code for both
//! A `Statement` is one SQL text with `$1`, `$2`, ... and its values; `Session` runs it on either driver
//! and is the only place that knows both. The SQL is what both databases share: `BIGINT`, `TEXT` and
//! `BYTEA` columns, ids and times made by the application, `ON CONFLICT`, compare-and-swap by the count
//! of changed rows. There are no triggers, sequences, stored procedures or notifications.
//!
//! What differs: who locks (`BEGIN IMMEDIATE`, or the row of `chain_head` read `FOR UPDATE`), who migrates
//! (whoever opens a file; the owner of the tables on a server), and what separates tenants. On a server
//! every transaction declares its `Scope`, and row-level security, forced on every table, shows it that
//! scope's rows alone; the role of the runtime owns nothing and bypasses nothing, or the start is refused.

mod apply;
mod connection;
mod copy;
mod decode;
mod detach;
mod error;
mod folder;
mod keys;
mod lease;
mod migrate;
mod mutation;
mod pool;
mod postgres;
mod reader;
mod rows;
mod scope;
mod server;
mod session;
mod sqlite;
mod statement;
mod tables;
mod writer;

use std::path::Path;

pub use copy::{Copied, CopyError, copy};
pub use detach::detach;
pub use error::{Exposure, Power, StoreError, Unfit};
pub use lease::{HeldGrant, LeaseQuestion, LeaseView};
pub use mutation::{Charge, Lost, Mutation, StateChange, Use};
pub use reader::Reader;
pub use rows::{
    ApprovalRow, ApprovalState, AuditRow, GrantRow, Meter, NewRecord, RotationRow, RotationState, SecretRow,
    SecretState, SlotRow, TenantKeyRow, ToolRow, ToolState,
};
pub use server::{Server, ServerError};
pub use sqlite::BUSY_TIMEOUT;
pub use writer::{Batch, Writer};

use connection::{Connection, Place};
use pool::Pool;

/// Opens the database file at `path` and brings its schema up to date; makes the file (0600) and its
/// folder (0700) where they are missing.
///
/// Needs a running tokio runtime. A temporary folder is open to others until someone closes it: let
/// this make one inside, as in `open(&temporary.path().join("data/ironclaw.db"))`.
///
/// # Errors
/// [`StoreError::Exposed`] names the command that closes a folder or file which others could touch;
/// [`StoreError::Newer`], [`StoreError::SchemaChanged`] and [`StoreError::Foreign`] refuse a schema that is not
/// this program's.
pub async fn open(path: &Path) -> Result<(Reader, Writer), StoreError> {
    let file = folder::File::prepare(path)?;
    let mut connection = Connection::Sqlite(sqlite::write(file.path()).await?);
    migrate::bring_up_file(&mut connection).await?;
    let pool = sqlite::read(file.path()).await?;
    Ok((Reader::new(Pool::Sqlite(pool)), Writer::new(Place::File(file), connection)))
}

/// Connects to a server whose schema is this program's ([`migrate`] makes it so).
///
/// # Errors
/// [`StoreError::Unfit`] names the setting that would lose what was acknowledged, or the power that the
/// role must not have; [`StoreError::Older`] names the command for the owner of the tables.
pub async fn connect(server: &Server) -> Result<(Reader, Writer), StoreError> {
    let mut connection = Connection::Postgres(postgres::write(server).await?);
    let mut session = connection.session();
    migrate::compare(&mut session).await?;
    postgres::isolated(&mut session, server.user()).await?;
    connection.prepare().await?;
    let pool = postgres::read(server);
    Ok((Reader::new(Pool::Postgres(pool)), Writer::new(Place::Server(server.clone()), connection)))
}

/// The newest schema that this program knows, which every opened database has.
pub fn schema() -> i64 {
    migrate::known()
}

/// Brings a server to this program's schema, connected as the owner of the tables, and gives the role
/// of the runtime its rights. Safe to run again, and by several at once. Says how many steps were missing.
pub async fn migrate(owner: &Server, runtime: &str) -> Result<u32, StoreError> {
    migrate::bring_up_server(owner, runtime).await
}
