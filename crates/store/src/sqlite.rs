//! How a database file is opened: the settings on which durability and isolation rest, in one place.

use std::path::Path;
use std::time::{Duration, Instant};

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, SqliteConnection};

use crate::error::StoreError;

/// How long a transaction waits for another process to finish its own. A group commit takes
/// milliseconds; who holds the lock for longer is stuck, and waiting more would hang every effect.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Readers at once. Queries take microseconds, and a personal installation has few readers.
const READERS: u32 = 4;

/// The writing connection. The file must exist.
pub(crate) async fn write(path: &Path) -> Result<SqliteConnection, StoreError> {
    let options = settings(path);
    let start = Instant::now();
    loop {
        // Turning a fresh file to WAL does not wait for others who are doing the same; we do.
        match options.connect().await.map_err(StoreError::at("open the database")) {
            Err(StoreError::Busy) if start.elapsed() < BUSY_TIMEOUT => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(mut connection) => {
                durable(&mut connection).await?;
                return Ok(connection);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Asks the connection what it really does: a file system without shared memory leaves WAL off
/// without an error.
async fn durable(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    const WHAT: &str = "write ahead with full synchronisation";
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::at(WHAT))?;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(&mut *connection)
        .await
        .map_err(StoreError::at(WHAT))?;
    // 2 is FULL (sqlite.org/pragma.html#pragma_synchronous).
    if journal == "wal" && synchronous == 2 { Ok(()) } else { Err(StoreError::failed(WHAT)) }
}

/// The reading connections. SQLite itself refuses every write on them.
pub(crate) async fn read(path: &Path) -> Result<SqlitePool, StoreError> {
    SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(BUSY_TIMEOUT)
        .connect_with(settings(path).pragma("query_only", "on"))
        .await
        .map_err(StoreError::at("open the database"))
}

fn settings(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(false)
        .busy_timeout(BUSY_TIMEOUT)
        // With WAL and FULL, a commit returns after its frames are synced to the disk.
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // On macOS only this reaches the disk itself; elsewhere it changes nothing.
        .pragma("fullfsync", "on")
        .pragma("checkpoint_fullfsync", "on")
        .foreign_keys(true)
        // What is deleted is overwritten, so that a destroyed secret leaves no sealed bytes behind.
        .pragma("secure_delete", "on")
        // A schema is data from the file: functions in it may not reach outside the database.
        .pragma("trusted_schema", "off")
        .pragma("cell_size_check", "on")
        // No temporary files beside the database or in /tmp.
        .pragma("temp_store", "memory")
        // A statement's text is ours, but its log line would also say when and how often.
        .disable_statement_logging()
}
