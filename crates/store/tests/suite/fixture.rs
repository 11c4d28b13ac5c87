//! A store in a temporary folder, and the attacker's way in: SQL on the file itself.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use store::{Lost, Mutation, NewRecord, Reader, StoreError, Writer};

pub(crate) struct Fixture {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    folder: tempfile::TempDir,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let folder = private_folder();
        let (reader, writer) = store::open(&file_in(folder.path())).await.unwrap();
        Self { reader, writer, folder }
    }

    pub(crate) fn path(&self) -> PathBuf {
        file_in(self.folder.path())
    }

    /// One change with its record, at a time in milliseconds.
    pub(crate) async fn change_at(&mut self, mutation: Mutation, at_ms: u64) -> Result<(), Lost> {
        let mut batch = self.writer.begin().await.unwrap();
        let seq = batch.head().await.unwrap().map_or(0, |head| head.seq) + 1;
        let record = NewRecord { seq, record: b"a record", chain: &[7; 32], refusal: None, at_ms };
        let outcome = batch.append(record, Some(&mutation)).await.unwrap();
        batch.commit().await.unwrap();
        outcome
    }

    pub(crate) async fn change(&mut self, mutation: Mutation) -> Result<(), Lost> {
        self.change_at(mutation, 0).await
    }

    /// How many records there are.
    pub(crate) async fn records(&self) -> usize {
        self.reader.audit_after(0, 10_000).await.unwrap().len()
    }
}

/// A temporary folder that nobody else can enter.
pub(crate) fn private_folder() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir().unwrap()
}

pub(crate) fn file_in(folder: &Path) -> PathBuf {
    folder.join("ironclaw.db")
}

/// Runs SQL on a database file behind the store's back.
pub(crate) async fn sql(path: &Path, text: &str) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// The error of opening a file that must not open.
pub(crate) async fn refused(path: &Path) -> StoreError {
    match store::open(path).await {
        Ok(_) => panic!("the store opened"),
        Err(error) => error,
    }
}
