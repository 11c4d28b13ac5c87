//! The schema and its history: numbered steps, each stored with the SHA-256 of its text.
//!
//! All steps that a database lacks are taken in one write transaction, so that of two processes
//! that start at once one takes them and the other finds them taken. A database that is ahead of
//! this program, or whose history differs from this program's, is refused rather than guessed at.
//!
//! A file is brought up to date when it is opened. On a server that is the business of the tables' owner,
//! since the role that reads and writes rows must not own them: [`bring_up_server`] also gives that role
//! its rights and the tables their row-level security.

use types::Digest;

use crate::connection::Connection;
use crate::error::{StoreError, Unfit};
use crate::postgres;
use crate::server::Server;
use crate::session::Session;
use crate::statement::sql;
use crate::tables::{TABLES, isolate};

/// The steps in order; the number of a step is its place, counted from 1.
const STEPS: &[&str] = &[
    include_str!("../migrations/0001_foundation.sql"),
    include_str!("../migrations/0002_head.sql"),
    include_str!("../migrations/0003_vault.sql"),
];

const HISTORY: &str = "CREATE TABLE IF NOT EXISTS schema_step (
    version  BIGINT NOT NULL PRIMARY KEY,
    checksum BYTEA  NOT NULL
)";

/// How often two processes that migrate one server at once may get in each other's way.
const ATTEMPTS: u32 = 20;

/// The newest schema of this program.
pub(crate) fn known() -> i64 {
    STEPS.len() as i64
}

/// Brings a file to this program's schema or says why not.
pub(crate) async fn bring_up_file(connection: &mut Connection) -> Result<(), StoreError> {
    let mut session = connection.session();
    session.script("BEGIN IMMEDIATE".to_owned(), "read the schema").await?;
    refuse_hidden_code(&mut session).await?;
    take_missing(&mut session).await?;
    session.script("COMMIT".to_owned(), "change the schema").await
}

/// Brings a server to this program's schema, as the owner of the tables, and gives `role` the right to
/// read and write rows. Safe to run again, and at once with others; how many steps were missing.
pub(crate) async fn bring_up_server(owner: &Server, role: &str) -> Result<u32, StoreError> {
    let mut attempt = 0;
    loop {
        // A connection of its own for each attempt: the one before may stand in a failed transaction.
        let mut connection = Connection::Postgres(postgres::connect(owner).await?);
        let outcome = take_on_server(&mut connection.session(), role).await;
        connection.close().await;
        attempt += 1;
        match outcome {
            Err(error) if attempt < ATTEMPTS && raced(&error) => {}
            outcome => return outcome,
        }
    }
}

/// Whether somebody else was making the same thing at the same time.
fn raced(error: &StoreError) -> bool {
    match error {
        StoreError::Conflict => true,
        // A unique key, a schema, a table or a row of the catalog that is there by now (SQLSTATE).
        StoreError::Failed { code, .. } => matches!(code.as_str(), "23505" | "42P06" | "42P07" | "XX000"),
        _ => false,
    }
}

async fn take_on_server(session: &mut Session<'_>, role: &str) -> Result<u32, StoreError> {
    const WHAT: &str = "change the schema";
    let exists = sql("SELECT 1 FROM pg_roles WHERE rolname = $1").bind(role);
    if session.rows(exists, WHAT).await?.is_empty() {
        return Err(StoreError::Unfit(Unfit::NoRole));
    }
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    session.script("BEGIN; CREATE SCHEMA IF NOT EXISTS ironclaw".to_owned(), WHAT).await?;
    let missing = take_missing(session).await?;
    let mut rights = format!("GRANT USAGE ON SCHEMA ironclaw TO {role};\n");
    rights.extend(TABLES.iter().map(|(table, isolation)| isolate(table, *isolation, &role)));
    session.script(rights, WHAT).await?;
    session.script("COMMIT".to_owned(), WHAT).await?;
    Ok(missing)
}

/// Takes the missing steps in the transaction that the session is in. A step's row is written before
/// the step is taken, so that on a server its key makes a second process wait for the first.
async fn take_missing(session: &mut Session<'_>) -> Result<u32, StoreError> {
    const WHAT: &str = "change the schema";
    session.script(HISTORY.to_owned(), WHAT).await?;
    let taken = taken(session).await?;
    let mut missing = 0;
    for (index, text) in STEPS.iter().enumerate().skip(taken) {
        let step = sql("INSERT INTO schema_step (version, checksum) VALUES ($1, $2)")
            .bind(index as i64 + 1)
            .bind(checksum(text).as_bytes());
        session.run(step, WHAT).await?;
        session.script((*text).to_owned(), WHAT).await?;
        missing += 1;
    }
    Ok(missing)
}

/// Whether a server has exactly this program's schema.
pub(crate) async fn compare(session: &mut Session<'_>) -> Result<(), StoreError> {
    let known = known();
    let found = match taken(session).await {
        Ok(found) => found as i64,
        // There is no such table, or none that this role may know of.
        Err(StoreError::Failed { code, .. }) if code == "42P01" => {
            let hidden = "SELECT 1 FROM pg_namespace
                 WHERE nspname = 'ironclaw' AND NOT has_schema_privilege(oid, 'USAGE')";
            if !session.rows(sql(hidden), "read the schema").await?.is_empty() {
                return Err(StoreError::Unfit(Unfit::NotGranted));
            }
            0
        }
        Err(error) => return Err(error),
    };
    if found < known { Err(StoreError::Older { found, known }) } else { Ok(()) }
}

/// How many steps the database has behind it, each of them compared with ours.
pub(crate) async fn taken(session: &mut Session<'_>) -> Result<usize, StoreError> {
    const WHAT: &str = "schema_step";
    let rows = session.rows(sql("SELECT version, checksum FROM schema_step ORDER BY version"), WHAT).await?;
    for (index, row) in rows.iter().enumerate() {
        let expected = index as i64 + 1;
        let version: i64 = row.get(0).map_err(StoreError::at(WHAT))?;
        let stored: Vec<u8> = row.get(1).map_err(StoreError::at(WHAT))?;
        match STEPS.get(index) {
            None => return Err(StoreError::Newer { found: rows.len() as i64, known: known() }),
            Some(text) if version == expected && stored == checksum(text).as_bytes() => {}
            Some(_) => return Err(StoreError::SchemaChanged { version: expected }),
        }
    }
    Ok(rows.len())
}

fn checksum(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// A trigger planted in the file would run inside our own transactions.
async fn refuse_hidden_code(session: &mut Session<'_>) -> Result<(), StoreError> {
    let planted = sql("SELECT 1 FROM sqlite_schema WHERE type NOT IN ('table', 'index')");
    let planted = session.rows(planted, "read the schema").await?;
    if planted.is_empty() { Ok(()) } else { Err(StoreError::Foreign) }
}
