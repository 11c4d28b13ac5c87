//! A store on either database, and the attacker's way in: SQL behind the store's back.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};
use store::{Lost, Mutation, NewRecord, Reader, Server, StoreError, Writer};
use testkit::{Database, Postgres};

/// Where a store is.
pub(crate) enum Place {
    File(tempfile::TempDir),
    Server(Database),
}

pub(crate) struct Fixture {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) place: Place,
}

impl Place {
    /// A place for each of the two databases, on which nothing is yet.
    pub(crate) fn both() -> [Self; 2] {
        [Self::File(private_folder()), Self::Server(Postgres::shared())]
    }

    /// What another process needs to open it.
    pub(crate) fn address(&self) -> String {
        match self {
            Self::File(folder) => file_in(folder.path()).display().to_string(),
            Self::Server(database) => database.runtime(),
        }
    }

    /// As whom another process makes the tables; empty for a file.
    pub(crate) fn owner(&self) -> String {
        match self {
            Self::File(_) => String::new(),
            Self::Server(database) => database.owner(),
        }
    }

    /// Runs SQL behind the store's back.
    pub(crate) async fn sql(&self, text: &str) {
        match self {
            Self::File(folder) => sql(&file_in(folder.path()), text).await,
            Self::Server(database) => drop(database.admin(&format!("SET search_path = ironclaw; {text}"))),
        }
    }

    pub(crate) async fn refused(&self) -> StoreError {
        match open(&self.address()).await {
            Ok(_) => panic!("the store opened"),
            Err(error) => error,
        }
    }
}

impl Fixture {
    /// A store in a file.
    pub(crate) async fn new() -> Self {
        Self::on(Place::File(private_folder())).await
    }

    /// A store on a server.
    pub(crate) async fn on_server() -> Self {
        Self::on(Place::Server(Postgres::shared())).await
    }

    /// One store on each database.
    pub(crate) async fn both() -> [Self; 2] {
        [Self::new().await, Self::on_server().await]
    }

    async fn on(place: Place) -> Self {
        if let Place::Server(database) = &place {
            migrate(database).await;
        }
        let (reader, writer) = open(&place.address()).await.unwrap();
        Self { reader, writer, place }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.place.address().into()
    }

    pub(crate) fn database(&self) -> &Database {
        match &self.place {
            Place::Server(database) => database,
            Place::File(_) => panic!("a file has no server"),
        }
    }

    /// One change with its record, at a time in milliseconds.
    pub(crate) async fn change_at(&mut self, mutation: Mutation, at_ms: u64) -> Result<(), Lost> {
        let mut batch = self.writer.begin().await.unwrap();
        let seq = batch.head().await.unwrap().map_or(0, |head| head.seq) + 1;
        let record =
            NewRecord { seq, record: b"a record", chain: &[7; 32], refusal: None, claim: None, at_ms };
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

/// Opens a file or a server by its address.
pub(crate) async fn open(address: &str) -> Result<(Reader, Writer), StoreError> {
    match Server::parse(address) {
        Ok(server) => store::connect(&server).await,
        Err(_) => store::open(address.as_ref()).await,
    }
}

/// Makes the tables, as their owner.
pub(crate) async fn migrate(database: &Database) -> u32 {
    let owner = Server::parse(&database.owner()).unwrap();
    store::migrate(&owner, database.runtime_role()).await.unwrap()
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
