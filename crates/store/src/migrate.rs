//! The schema and its history: numbered steps, each stored with the SHA-256 of its text.
//!
//! All steps that a database lacks are taken in one write transaction, so that of two processes
//! that start at once one takes them and the other finds them taken. A database that is ahead of
//! this program, or whose history differs from this program's, is refused rather than guessed at.

use sqlx::{Connection as _, Row as _, Sqlite, SqliteConnection, Transaction};
use types::Digest;

use crate::error::StoreError;

/// The steps in order; the number of a step is its place, counted from 1.
const STEPS: &[&str] = &[include_str!("../migrations/0001_foundation.sql")];

const HISTORY: &str = "CREATE TABLE IF NOT EXISTS schema_step (
    version  BIGINT NOT NULL PRIMARY KEY,
    checksum BYTEA  NOT NULL
)";

/// Brings the database to this program's schema or says why not.
pub(crate) async fn bring_up(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    run(connection, STEPS).await
}

async fn run(connection: &mut SqliteConnection, steps: &[&'static str]) -> Result<(), StoreError> {
    const WHAT: &str = "read the schema";
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(StoreError::at(WHAT))?;
    refuse_hidden_code(&mut transaction).await?;
    sqlx::raw_sql(HISTORY).execute(&mut *transaction).await.map_err(StoreError::at(WHAT))?;
    let taken = taken(&mut transaction, steps).await?;
    for (index, text) in steps.iter().enumerate().skip(taken) {
        sqlx::raw_sql(*text).execute(&mut *transaction).await.map_err(StoreError::at("change the schema"))?;
        sqlx::query("INSERT INTO schema_step (version, checksum) VALUES ($1, $2)")
            .bind(index as i64 + 1)
            .bind(checksum(text))
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::at("change the schema"))?;
    }
    transaction.commit().await.map_err(StoreError::at("change the schema"))
}

/// How many steps the database has behind it, each of them compared with ours.
async fn taken(transaction: &mut Transaction<'_, Sqlite>, steps: &[&str]) -> Result<usize, StoreError> {
    let rows = sqlx::query("SELECT version, checksum FROM schema_step ORDER BY version")
        .fetch_all(&mut **transaction)
        .await
        .map_err(StoreError::at("read the schema"))?;
    let known = steps.len() as i64;
    for (index, row) in rows.iter().enumerate() {
        let expected = index as i64 + 1;
        let version: i64 = row.try_get(0).map_err(StoreError::at("schema_step"))?;
        let stored: Vec<u8> = row.try_get(1).map_err(StoreError::at("schema_step"))?;
        match steps.get(index) {
            None => return Err(StoreError::Newer { found: rows.len() as i64, known }),
            Some(text) if version == expected && stored == checksum(text) => {}
            Some(_) => return Err(StoreError::SchemaChanged { version: expected }),
        }
    }
    Ok(rows.len())
}

fn checksum(text: &str) -> Vec<u8> {
    Digest::of(text.as_bytes()).as_bytes().to_vec()
}

/// A trigger planted in the file would run inside our own transactions.
async fn refuse_hidden_code(transaction: &mut Transaction<'_, Sqlite>) -> Result<(), StoreError> {
    let planted = sqlx::query("SELECT 1 FROM sqlite_schema WHERE type NOT IN ('table', 'index')")
        .fetch_optional(&mut **transaction)
        .await
        .map_err(StoreError::at("read the schema"))?;
    planted.map_or(Ok(()), |_| Err(StoreError::Foreign))
}
