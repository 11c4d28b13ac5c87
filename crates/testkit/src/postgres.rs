//! The server, and databases in it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Owns the tables of every database.
const OWNER: &str = "ironclaw_owner";
/// Reads and writes rows.
const RUNTIME: &str = "ironclaw_runtime";

/// Copies a cluster that is kept between runs, or makes it where there is none of one's own; serves the
/// copy, and ends it at the end of its standard input. Words: the folder of the programs, and settings.
const SUPERVISOR: &str = r#"
set -eu
umask 077
programs=$1; shift
kept=/tmp/ironclaw-pg-kept-$(id -u)$(printf %s "$programs" | tr / -)
home=$(mktemp -d /tmp/ironclaw-pg.XXXXXX)
trap 'rm -rf "$home"' EXIT
cd "$home"
if [ -d "$kept" ] && [ -O "$kept" ]; then
  cp -a "$kept" data
else
  "$programs/initdb" -D data -U postgres -A trust -E UTF8 --locale=C --no-instructions >&2
  cp -a data keep
  mv -T keep "$kept" 2>/dev/null || rm -rf keep
fi
serve() {
  "$programs/pg_ctl" -D data -s -w -t 60 -l server.log \
    -o "-k $home -c listen_addresses= -c max_connections=200 $settings" start || { cat server.log >&2; exit 1; }
}
stop() { "$programs/pg_ctl" -D data -s -w -m "$1" stop || true; }
settings="$*"
serve
echo "$home"
while read -r word; do
  case $word in
    stop) stop fast ;;
    kill) stop immediate ;;
    start) serve ;;
  esac
  echo "$word"
done
stop immediate
"#;

/// A running server. The one of [`Postgres::shared`] lives as long as the process.
pub struct Postgres {
    programs: PathBuf,
    home: PathBuf,
    supervisor: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<std::process::ChildStdout>,
}

/// A fresh database with the two roles that an installation has.
#[derive(Clone, Debug)]
pub struct Database {
    /// The folder of the socket.
    pub socket: PathBuf,
    /// The database's name.
    pub name: String,
    programs: PathBuf,
}

static NUMBER: AtomicU32 = AtomicU32::new(0);

impl Postgres {
    /// The server of this process, and a fresh database in it.
    pub fn shared() -> Database {
        static SERVER: OnceLock<Database> = OnceLock::new();
        let first = SERVER.get_or_init(|| {
            let server = Self::start(&[]);
            let first = server.database();
            // Kept for the process's life; the supervisor sees its end.
            std::mem::forget(server);
            first
        });
        first.beside()
    }

    /// A server of one's own, with further settings: `["-c", "fsync=off"]`.
    pub fn start(settings: &[&str]) -> Self {
        let programs = programs();
        let mut command = as_unprivileged();
        command.args(["sh", "-c", SUPERVISOR, "sh"]).arg(&programs).args(settings);
        // Not what the test inherited: a runner waits until every copy of those is closed.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut supervisor = command.spawn().unwrap();
        let orders = supervisor.stdin.take();
        let mut answers = BufReader::new(supervisor.stdout.take().unwrap());
        let mut home = String::new();
        answers.read_line(&mut home).unwrap();
        if home.is_empty() {
            let output = supervisor.wait_with_output().unwrap();
            panic!("PostgreSQL does not start: {}", String::from_utf8_lossy(&output.stderr));
        }
        let server = Self { programs, home: home.trim().into(), supervisor, orders, answers };
        let admin = server.named("postgres");
        admin.admin(&format!("CREATE ROLE {OWNER} LOGIN; CREATE ROLE {RUNTIME} LOGIN"));
        server
    }

    /// A fresh database.
    pub fn database(&self) -> Database {
        self.named("postgres").beside()
    }

    /// Ends the server in good order, as an operator would.
    pub fn stop(&mut self) {
        self.order("stop");
    }

    /// Ends the server without any order, as a crash would.
    pub fn kill(&mut self) {
        self.order("kill");
    }

    /// Starts it again on the same data.
    pub fn start_again(&mut self) {
        self.order("start");
    }

    fn order(&mut self, word: &str) {
        writeln!(self.orders.as_mut().unwrap(), "{word}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), word);
    }

    fn named(&self, name: &str) -> Database {
        Database { socket: self.home.clone(), name: name.to_owned(), programs: self.programs.clone() }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.orders.take());
        self.supervisor.wait().unwrap();
    }
}

impl Database {
    /// A further fresh database of the same server.
    pub fn beside(&self) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test_{}_{number}", std::process::id());
        self.admin(&format!("CREATE DATABASE {name}"));
        let fresh = Self { name, ..self.clone() };
        fresh.admin(&format!("GRANT CREATE ON DATABASE {} TO {OWNER}", fresh.name));
        fresh
    }

    /// The URL for the owner of the tables.
    pub fn owner(&self) -> String {
        self.url(OWNER)
    }

    /// The URL for the role that reads and writes rows.
    pub fn runtime(&self) -> String {
        self.url(RUNTIME)
    }

    /// The name of the role that reads and writes rows.
    pub fn runtime_role(&self) -> &'static str {
        RUNTIME
    }

    /// The URL for any role.
    pub fn url(&self, role: &str) -> String {
        format!("postgres://{role}@/{}?host={}", self.name, self.socket.display())
    }

    /// Runs SQL as superuser, whom no policy binds; the rows, one a line, columns apart by `|`.
    pub fn admin(&self, sql: &str) -> String {
        match self.psql("postgres", sql) {
            Ok(rows) => rows,
            Err(error) => panic!("{sql}: {error}"),
        }
    }

    /// Runs SQL as a role: the rows, or what the server said against it.
    pub fn psql(&self, role: &str, sql: &str) -> Result<String, String> {
        #[allow(clippy::disallowed_methods, reason = "PostgreSQL's own client, for tests")]
        let output = Command::new(self.programs.join("psql"))
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", role, "-d", &self.name, "-h"])
            .arg(&self.socket)
            .args(["-c", sql])
            .env("PGCONNECT_TIMEOUT", "10")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

/// The folder with `initdb`, `postgres` and `psql` of the newest version on this machine.
fn programs() -> PathBuf {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for base in ["/usr/lib/postgresql", "/usr/local/lib/postgresql", "/opt/homebrew/opt"] {
        for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let version = name.trim_start_matches("postgresql@").parse().unwrap_or(0);
            found.push((version, entry.path().join("bin")));
        }
    }
    found.extend(["/usr/bin", "/usr/local/bin", "/usr/pgsql/bin"].map(|folder| (0, folder.into())));
    found.retain(|(_, folder)| ["initdb", "postgres", "psql"].iter().all(|name| folder.join(name).exists()));
    found.sort();
    match found.pop() {
        Some((_, folder)) => folder,
        None => panic!("PostgreSQL's server is not installed; scripts/install-test-needs installs it"),
    }
}

/// The beginning of a command that runs as somebody who is not root.
fn as_unprivileged() -> Command {
    let words: &[&str] = if rustix::process::geteuid().is_root() {
        &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--no-new-privs"]
    } else {
        &["env"]
    };
    #[allow(clippy::disallowed_methods, reason = "the server's supervisor, for tests")]
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).current_dir("/tmp");
    command
}
