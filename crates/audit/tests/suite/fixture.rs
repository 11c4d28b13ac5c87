//! A log in a temporary folder, pairs of a record and its change, and this test binary run again as
//! another process.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use audit::{Audit, Drain, Entry, Log};
use store::{GrantRow, Mutation, Reader, Server, StoreError, Writer};
use testkit::{Database, Postgres};
use types::{Field, Kind, Record, SecretName, Tenant, ToolName, Verdict};

/// How a parent tells a child which database to use.
const PATH: &str = "IRONCLAW_TEST_DATABASE";

pub(crate) struct Fixture {
    pub(crate) audit: Audit,
    pub(crate) drain: Drain,
    pub(crate) reader: Reader,
    path: PathBuf,
    /// Of a log in a file; goes with the fixture.
    _folder: Option<tempfile::TempDir>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = file_in(folder.path());
        Self::at(path, Some(folder)).await
    }

    /// A log on a server.
    pub(crate) async fn on_server() -> Self {
        Self::at(on(&Postgres::shared()).await, None).await
    }

    /// One log on each database.
    pub(crate) async fn both() -> [Self; 2] {
        [Self::new().await, Self::on_server().await]
    }

    async fn at(path: PathBuf, folder: Option<tempfile::TempDir>) -> Self {
        let (reader, writer) = open(&path).await.unwrap();
        let (audit, drain) = Audit::start(writer);
        Self { audit, drain, reader, path, _folder: folder }
    }

    /// Where it is: a path, or the URL of a server in the place of one.
    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub(crate) fn log(&self) -> Log {
        Log::new(self.reader.clone())
    }
}

/// Opens a file, or a server whose URL stands in the place of a path.
pub(crate) async fn open(path: &Path) -> Result<(Reader, Writer), StoreError> {
    match Server::parse(path.to_str().unwrap()) {
        Ok(server) => store::connect(&server).await,
        Err(_) => store::open(path).await,
    }
}

/// Makes the tables in a fresh database; its URL for the role that reads and writes rows.
pub(crate) async fn on(database: &Database) -> PathBuf {
    let owner = Server::parse(&database.owner()).unwrap();
    store::migrate(&owner, database.runtime_role()).await.unwrap();
    database.runtime().into()
}

/// The database inside a temporary folder, in a folder that the store makes and closes to others.
pub(crate) fn file_in(folder: &Path) -> PathBuf {
    folder.join("data").join("ironclaw.db")
}

/// An empty folder, closed to others, and the place of a database in it.
pub(crate) fn empty_place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = file_in(folder.path());
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path.parent().unwrap()).unwrap();
    (folder, path)
}

/// A file that only its owner can read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// A record that can be told from every other one.
pub(crate) fn numbered(number: u64) -> Record {
    Record::new(Kind::Call, Verdict::Allow).with(Field::Count, number)
}

/// A record and the change that belongs to it: a grant with the same number.
pub(crate) fn pair(number: u64) -> (Record, Mutation) {
    let record = Record::new(Kind::Grant, Verdict::Done).with(Field::Count, number);
    let grant = GrantRow {
        tenant: Tenant::local(),
        id: number.to_string(),
        tool: ToolName::parse("weather").unwrap(),
        secret: SecretName::parse("API_KEY").unwrap(),
        body: vec![0xab; 100],
        mac: vec![0xcd; 32],
        created_ms: number,
    };
    (record, Mutation::PutGrant(grant))
}

/// All entries of a log, and the proof that it is whole: the chain verifies, every record of a
/// grant has its grant, and every grant its record.
pub(crate) async fn whole(reader: &Reader) -> Vec<Entry> {
    let log = Log::new(reader.clone());
    let verified = log.verify().await.unwrap();
    let entries = log.tail(u32::MAX).await.unwrap();
    assert_eq!(entries.len() as u64, verified.records);
    let mut told: Vec<String> = entries
        .iter()
        .filter(|entry| entry.record.kind == Kind::Grant)
        .map(|entry| entry.record.field(Field::Count).unwrap().to_owned())
        .collect();
    let grants = reader.all_grants(&Tenant::local()).await.unwrap();
    let mut made: Vec<String> = grants.into_iter().map(|grant| grant.id).collect();
    told.sort();
    made.sort();
    assert_eq!(told, made, "a record without its change, or a change without its record");
    entries
}

/// The number that a numbered record bears.
pub(crate) fn number_of(entry: &Entry) -> u64 {
    entry.record.field(Field::Count).unwrap().parse().unwrap()
}

/// Another process, running one ignored test of this binary on a database.
pub(crate) struct Other {
    pub(crate) child: Child,
    pub(crate) lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    pub(crate) fn start(test: &str, path: &Path) -> Self {
        Self::start_under(&[], test, path)
    }

    /// Runs it under a command that ends by running its arguments.
    pub(crate) fn start_under(command: &[&str], test: &str, path: &Path) -> Self {
        let binary = std::env::current_exe().unwrap();
        let mut words = command.iter().map(std::ffi::OsString::from).collect::<Vec<_>>();
        words.push(binary.into_os_string());
        #[allow(clippy::disallowed_methods, reason = "this test binary again, as another process")]
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env(PATH, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line that begins with a word of ours, without the word.
    pub(crate) fn next(&mut self, word: &str) -> Option<String> {
        self.lines.by_ref().map_while(Result::ok).find_map(|line| said(&line, word))
    }

    /// Waits for the end, which must be a good one.
    pub(crate) fn finish(mut self) {
        drop(self.child.stdin.take());
        let rest: Vec<String> = self.lines.map_while(Result::ok).collect();
        assert!(self.child.wait().unwrap().success(), "{rest:?}");
    }
}

/// What follows our word in a line; the test harness may have begun the line with its own words.
pub(crate) fn said(line: &str, word: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("{word}="))?;
    // A line that the kill cut short lacks its end mark.
    rest.strip_suffix('.').map(str::to_owned)
}

/// In a child: says a word and a value in one write.
pub(crate) fn say(word: &str, value: impl std::fmt::Display) {
    use std::io::Write as _;
    let line = format!("{word}={value}.\n");
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// In a child: the database, or nothing when the test was not started by a parent.
pub(crate) fn told_path() -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "how the parent tells where the database is")]
    std::env::var_os(PATH).map(PathBuf::from)
}
