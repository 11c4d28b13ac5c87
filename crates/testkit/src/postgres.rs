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
/// copy, and ends it at the end of its standard input. Words: the folder of the programs; the addresses to listen
/// on with TLS, or twice nothing (the certificate is for the first); settings. Where the data have a disk of their
/// own, its folder is in the environment.
const SUPERVISOR: &str = r#"
set -eu
umask 077
programs=$1; address=$2; other=$3; shift 3
kept=/tmp/ironclaw-pg-kept-$(id -u)$(printf %s "$programs" | tr / -)
home=${IRONCLAW_PG_HOME:-$(mktemp -d /tmp/ironclaw-pg.XXXXXX)}
trap 'rm -rf "$home"/* 2>/dev/null; rm -rf "$home"' EXIT
cd "$home"
listen="-c listen_addresses="
if [ -n "$address" ]; then
  ec="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
  openssl req -x509 $ec -days 2 -subj /CN=authority -keyout ca.key -out ca.pem \
    -addext basicConstraints=critical,CA:TRUE 2>/dev/null
  openssl req $ec -subj /CN=server -keyout server.key -out server.csr 2>/dev/null
  echo "subjectAltName=IP:$address" >names
  openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -days 2 -extfile names -out server.pem 2>/dev/null
  printf 'local all all trust\nhostssl all all 127.0.0.0/8 scram-sha-256\n' >hba
  listen="-c listen_addresses=$address,$other -c ssl=on -c ssl_cert_file=$home/server.pem"
  listen="$listen -c ssl_key_file=$home/server.key -c hba_file=$home/hba"
fi
if [ -d "$kept" ] && [ -O "$kept" ]; then
  mkdir -p data
  cp -a "$kept/." data
else
  mkdir -p data
  "$programs/initdb" -D data -U postgres -A trust -E UTF8 --locale=C --no-instructions >&2
  cp -a data keep
  mv -T keep "$kept" 2>/dev/null || rm -rf keep
fi
serve() {
  "$programs/pg_ctl" -D data -s -w -t 60 -l server.log \
    -o "-k $home $listen -c max_connections=200 $settings" start || { cat server.log >&2; exit 1; }
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
    fill) cat /dev/zero >data/ballast 2>/dev/null || true ;;
    free) rm -f data/ballast ;;
  esac
  echo "$word"
done
stop immediate
"#;

/// Gives the data a disk of their own, of a size, which nobody else sees; then runs what follows in its words, as
/// whom these say. Words: the size, the user.
const DISK: &str = r#"
set -eu
size=$1; user=$2; shift 2
home=$(mktemp -d /tmp/ironclaw-pg.XXXXXX)
mkdir "$home/data"
mount -t tmpfs -o "size=$size,mode=0700" tmpfs "$home/data"
chown "$user" "$home" "$home/data"
IRONCLAW_PG_HOME=$home exec "$@"
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
        Self::supervised(as_unprivileged(), ["", ""], settings)
    }

    /// A server that also listens on two addresses of the loopback network, with TLS and passwords (SCRAM). Its
    /// certificate is for the first address alone, by an authority whose certificate is at [`Database::authority`].
    pub fn start_over_tls(settings: &[&str]) -> (Self, [String; 2]) {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed) as u8;
        let [_, _, high, low] = std::process::id().to_be_bytes();
        // Addresses of this process and server: the port is the same for all.
        let addresses =
            [1, 2].map(|last| format!("127.{}.{high}.{low}", number.wrapping_mul(2) % 120 + 10 + last));
        (Self::supervised(as_unprivileged(), addresses.each_ref().map(String::as_str), settings), addresses)
    }

    /// A server whose data lie on a disk of their own, of a size as in `120m`. Needs to be root, or sudo.
    pub fn start_on_disk(size: &str, settings: &[&str]) -> Self {
        let is_root = rustix::process::geteuid().is_root();
        let user =
            if is_root { "postgres".to_owned() } else { rustix::process::geteuid().as_raw().to_string() };
        let first = if is_root { "env" } else { "sudo" };
        #[allow(clippy::disallowed_methods, reason = "the server's supervisor, for tests")]
        let mut command = Command::new(first);
        command.args(["unshare", "--mount", "sh", "-c", DISK, "sh", size, &user]);
        let drop = ["--reuid", &user, "--clear-groups", "--no-new-privs"];
        command.arg("setpriv").args(drop).args(is_root.then_some("--regid=postgres")).current_dir("/tmp");
        Self::supervised(command, ["", ""], settings)
    }

    fn supervised(mut command: Command, addresses: [&str; 2], settings: &[&str]) -> Self {
        let programs = programs();
        command.args(["sh", "-c", SUPERVISOR, "sh"]).arg(&programs).args(addresses).args(settings);
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

    /// Fills the rest of its disk.
    pub fn fill_disk(&mut self) {
        self.order("fill");
    }

    /// Gives the room back.
    pub fn free_disk(&mut self) {
        self.order("free");
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
        // What a disk of its own was mounted on.
        let _ = std::fs::remove_dir_all(&self.home);
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

    /// The certificate of the authority of a server with TLS.
    pub fn authority(&self) -> PathBuf {
        self.socket.join("ca.pem")
    }

    /// What the server has written to its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.socket.join("server.log")).unwrap()
    }

    /// The folder of the server's files: tables, write-ahead log and all.
    pub fn files(&self) -> PathBuf {
        self.socket.join("data")
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
