//! The database: SQLite behind narrow repositories, where one method is one transaction.
//!
//! [`open`] gives two halves. The [`Reader`] can be copied and can change nothing. The [`Writer`]
//! exists once and moves into the audit log, so that every change ([`Mutation`]) is written
//! together with its record or not at all. The halves share no method, and neither makes the other.
//!
//! # What is stored
//! The tables are in `migrations/`. What lies in the file proves nothing by itself: secrets are
//! sealed, grants carry an authentication code, and records hang in a hash chain, each checked by
//! the crate that owns it. This crate promises durability, atomicity, order and privacy of the file.
//!
//! # Durability
//! Write-ahead log, `synchronous=FULL`, and a writer that looks at every transaction's start
//! whether the file is still the one it opened. [`Batch::commit`] returns after the sync.
//!
//! # PostgreSQL
//! The SQL here is the part that both databases share: `$1` placeholders bound in order, `BIGINT`,
//! `TEXT` and `BYTEA` columns, ids and times made by the application, `ON CONFLICT`, compare-and-swap
//! by the count of changed rows. There are no triggers, sequences or stored procedures. A second database needs
//! - an enum of two pools in [`Reader`] and of two connections in [`Writer`], and one macro in the few
//!   places that execute a statement (`Reader::rows`, `run`, `exists`, `insert`, the scalars of `apply`), since
//!   `sqlx` binds and decodes by driver type;
//! - instead of `BEGIN IMMEDIATE`, a row of its own that holds the head of the chain and is read `FOR UPDATE`;
//! - `sqlite_schema` and the pragmas of `connect` replaced by the start-up checks of roles and settings, and
//!   the tenant set for each transaction.

mod apply;
mod connect;
mod decode;
mod error;
mod folder;
mod migrate;
mod mutation;
mod reader;
mod rows;
mod writer;

use std::path::Path;

pub use connect::BUSY_TIMEOUT;
pub use error::{Exposure, StoreError};
pub use mutation::{Charge, Lost, Mutation, Use};
pub use reader::Reader;
pub use rows::{
    ApprovalRow, ApprovalState, AuditRow, GrantRow, Meter, NewRecord, SecretRow, SecretState, SlotRow,
    TenantKeyRow, ToolRow, ToolState,
};
pub use writer::{Batch, Writer};

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
    let place = folder::Place::prepare(path)?;
    let mut connection = connect::write(place.path()).await?;
    migrate::bring_up(&mut connection).await?;
    let pool = connect::read(place.path()).await?;
    Ok((Reader::new(pool), Writer::new(place, connection)))
}
