//! K12: what is left of a secret once it was used. Another process with the allocator of the binary
//! seals and sends hundreds of values and closes everything; then its memory is searched from here.
//!
//! Both its memory, as the kernel shows it in `/proc/PID/mem`, and a core dump of it are searched; the child is
//! not hardened as the program is, which writes no dump at all.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use audit::Audit;
use egress::loopback::{Loopback, reply};
use egress::{Config, Egress, Exception, Message};
use futures_util::StreamExt as _;
use http::StatusCode;
use memchr::memmem;
use policy::{Catalog, Policy, Settings};
use safety::Safety;
use secrets::{Armed, Plain, Unlock, Vault};
use types::{Digest, HostName, Port, SecretName, Target, Tenant, Trace};

use crate::world::{Setup, World, host, scope};

/// Values that are sealed, unsealed and sent, one after the other: a thousand operations of the vault.
const ROUNDS: u64 = 500;
/// As many as show what the other version of HTTP leaves behind.
const ROUNDS_OF_HTTP2: u64 = 60;
/// Requests under one call; the tool of [`Setup`] may send 200.
const PER_CALL: u64 = 100;
/// How the parent tells the child where everything is.
const FOLDER: &str = "IRONCLAW_TEST_FOLDER";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k12_no_value_is_left_in_memory_database_or_log() {
    let name = host();
    let served = types::Host::Name(name.clone());
    let upstream = Loopback::https(&served, |_| reply(StatusCode::OK, "fine"));
    nothing_is_left(name, upstream.await.unwrap(), ROUNDS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k12_http2_leaves_no_value_behind_either() {
    let name = host();
    let served = types::Host::Name(name.clone());
    let upstream = Loopback::http2(&served, |_| reply(StatusCode::OK, "fine"));
    nothing_is_left(name, upstream.await.unwrap(), ROUNDS_OF_HTTP2).await;
}

async fn nothing_is_left(name: HostName, upstream: Loopback, rounds: u64) {
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    let folder = world.folder.path();
    std::fs::write(folder.join("ca.pem"), upstream.ca_pem().unwrap()).unwrap();
    std::fs::write(folder.join("where"), format!("{name} {} {rounds}", upstream.addr())).unwrap();
    let mark = marker(folder);
    let slot_key = std::fs::read(keys(folder).read_dir().unwrap().next().unwrap().unwrap().path()).unwrap();

    let mut other = Other::start(folder);
    other.wait_for("drained");
    let sent = upstream.requests();
    let last = format!("Bearer {}", value(folder, rounds - 1));
    assert_eq!(sent.len() as u64, rounds);
    assert_eq!(sent.last().unwrap().headers()["authorization"], last);
    for (what, needle) in [("a value", mark.as_bytes()), ("the slot's key", &slot_key)] {
        let found = other.search(needle);
        assert!(found.is_empty(), "{what} is still in memory: {found:?}");
        assert!(!other.dump_holds(needle), "{what} is in a core dump");
    }
    let files = everything_under(&folder.join("data"));
    assert!(!files.iter().any(|(_, bytes)| contains(bytes, mark.as_bytes())));
    assert!(!contains(&std::fs::read(folder.join("log")).unwrap(), mark.as_bytes()));

    // The same search finds a value that is there.
    other.tell("keep");
    other.wait_for("kept");
    assert!(!other.search(mark.as_bytes()).is_empty(), "the search finds nothing at all");
    assert!(other.dump_holds(mark.as_bytes()), "the search finds nothing in a dump");
    assert!(files.iter().any(|(_, bytes)| contains(bytes, b"KEY")), "the files hold nothing at all");
    other.tell("end");
    assert!(other.child.wait().unwrap().success());
}

/// What every value of a folder begins with; made anew wherever it is needed, so that it lies nowhere.
fn marker(folder: &Path) -> String {
    Digest::of(folder.as_os_str().as_encoded_bytes()).to_string()[..24].to_owned()
}

fn value(folder: &Path, round: u64) -> String {
    format!("{}-{}", marker(folder), Digest::of(&round.to_be_bytes()))
}

fn keys(folder: &Path) -> PathBuf {
    folder.join("keys")
}

/// Not a test of its own: the process that is searched.
#[test]
#[ignore = "started by the tests above"]
#[allow(clippy::disallowed_methods, reason = "the parent says by the environment where everything is")]
fn child_uses_secrets_and_waits() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else { return };
    // For a person who is not root: `gcore` is no parent of this process.
    let _ = rustix::process::set_ptracer(rustix::process::PTracer::Any);
    let log = std::sync::Mutex::new(std::fs::File::create(folder.join("log")).unwrap());
    tracing_subscriber::fmt().with_writer(log).with_env_filter("trace").init();
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime().block_on(use_and_close(&folder));
    say("drained");
    assert_eq!(told(), "keep");
    let kept = runtime().block_on(one_armed_request(&folder));
    say("kept");
    assert_eq!(told(), "end");
    drop(kept);
}

/// Every part of an installation, opened anew.
struct Parts {
    vault: Arc<Vault>,
    policy: Policy,
    safety: Arc<Safety>,
    audit: Audit,
    drain: audit::Drain,
}

impl Parts {
    async fn open(folder: &Path) -> Self {
        let (reader, writer) = store::open(&folder.join("data").join("test.db")).await.unwrap();
        let (audit, drain) = Audit::start(writer);
        let vault = Vault::open(reader.clone(), audit.clone(), &Unlock::File(keys(folder))).await.unwrap();
        let safety = Arc::new(Safety::new(Default::default()).unwrap());
        safety.learn(vault.known_values().await.unwrap());
        let catalog = Catalog::new(reader.clone(), safety.clone(), Tenant::local(), Vec::new());
        let policy = Policy::new(audit.clone(), reader, catalog, Settings::default()).unwrap();
        Self { vault: Arc::new(vault), policy, safety, audit, drain }
    }

    async fn close(self) {
        let Self { vault, policy, safety, audit, drain } = self;
        drop((vault, policy, safety, audit));
        drain.finish().await;
    }
}

/// Where the parent's server is, and how many values it is to be sent.
fn target(folder: &Path) -> (HostName, Exception, u64) {
    let text = std::fs::read_to_string(folder.join("where")).unwrap();
    let words: Vec<&str> = text.split(' ').collect();
    let [host, address, rounds] = words[..] else { panic!("{text}") };
    let host = HostName::parse(host).unwrap();
    let (port, address) = (Port::new(443).unwrap(), address.parse().unwrap());
    let ca = Some(std::fs::read(folder.join("ca.pem")).unwrap());
    (host.clone(), Exception { host, port, address, ca, containers: false }, rounds.parse().unwrap())
}

/// Seals a value, sends a request with it, and so on; then closes all there is.
async fn use_and_close(folder: &Path) {
    let parts = Parts::open(folder).await;
    let (host, exception, rounds) = target(folder);
    let config = Config { exceptions: vec![exception], ..Config::default() };
    let egress = Egress::new(config, parts.safety.clone(), Some(parts.vault.clone())).unwrap();
    let secret = SecretName::parse("KEY").unwrap();
    let mut call = None;
    for round in 0..rounds {
        if round % PER_CALL == 0 {
            call = Some(scope(&parts.policy, &parts.safety, &Trace::off()).await);
        }
        let new = Plain::new(value(folder, round).into_bytes());
        parts.vault.put(&secret, new, Some(1 + round as i64)).await.unwrap();
        let url = Target::parse("GET", &format!("https://{host}/{round}")).unwrap();
        let permit = parts.policy.decide_request(call.as_ref().unwrap(), url, &[]).await.unwrap();
        let answer = egress.send(permit, Message::default(), &Trace::off()).await.unwrap();
        let mut body = answer.into_body();
        while let Some(piece) = body.next().await {
            piece.unwrap();
        }
    }
    drop((egress, call));
    parts.close().await;
}

/// A request with the value in it, kept.
async fn one_armed_request(folder: &Path) -> http::Request<()> {
    let parts = Parts::open(folder).await;
    let call = scope(&parts.policy, &parts.safety, &Trace::off()).await;
    let (host, ..) = target(folder);
    let url = format!("https://{host}/");
    let permit = parts.policy.decide_request(&call, Target::parse("GET", &url).unwrap(), &[]).await.unwrap();
    let leases = parts.vault.lease(&permit, &parts.safety).await.unwrap();
    let (armed, settlement) =
        secrets::inject(leases, permit, http::Request::get(&url).body(()).unwrap()).unwrap();
    drop(settlement);
    drop(call);
    let kept = disarm(armed);
    parts.close().await;
    kept
}

fn disarm(armed: Armed<()>) -> http::Request<()> {
    #[expect(clippy::disallowed_methods, reason = "the control needs a value that is still there")]
    armed.disarm_for_the_wire()
}

fn say(word: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n> {word}").unwrap();
}

fn told() -> String {
    std::io::stdin().lines().next().unwrap().unwrap()
}

/// The process that is searched.
struct Other {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    #[allow(clippy::disallowed_methods, reason = "this test binary again, as another process")]
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "memory::child_uses_secrets_and_waits", "--ignored", "--nocapture"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    fn wait_for(&mut self, word: &str) {
        let wanted = format!("> {word}");
        let said = self.lines.by_ref().map_while(Result::ok).any(|line| line == wanted);
        assert!(said, "the other process ended before it had {word}");
    }

    fn tell(&mut self, word: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{word}").unwrap();
    }

    /// The mappings of the process in which the bytes stand.
    fn search(&self, needle: &[u8]) -> Vec<String> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let memory = std::fs::File::open(process.join("mem")).unwrap();
        let maps = std::fs::read_to_string(process.join("maps")).unwrap();
        let mut searched = 0;
        let mut found = Vec::new();
        for line in maps.lines().filter(|line| line.contains(" r")) {
            let bounds = line.split(' ').next().and_then(|range| range.split_once('-')).unwrap();
            let bound = |text| u64::from_str_radix(text, 16).unwrap();
            let mut bytes = vec![0; (bound(bounds.1) - bound(bounds.0)) as usize];
            // The kernel's own pages cannot be read.
            if memory.read_exact_at(&mut bytes, bound(bounds.0)).is_ok() {
                searched += bytes.len();
                let count = memmem::find_iter(&bytes, needle).count();
                if count > 0 {
                    found.push(format!("{count} in {line}"));
                }
            }
        }
        assert!(searched > 1 << 20, "no memory could be read");
        found
    }
}

impl Other {
    /// Whether the bytes stand in a core dump, written by gdb's `gcore` while the process waits.
    #[allow(clippy::disallowed_methods, reason = "the tool that writes core dumps")]
    fn dump_holds(&self, needle: &[u8]) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let id = self.child.id().to_string();
        let dumped =
            Command::new("gcore").arg("-o").arg(folder.path().join("core")).arg(&id).output().unwrap();
        let dump = std::fs::read(folder.path().join(format!("core.{id}")));
        let dump =
            dump.unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&dumped.stderr)));
        assert!(dump.starts_with(b"\x7fELF") && dump.len() > 1 << 20, "the dump holds nothing at all");
        contains(&dump, needle)
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    memmem::find(bytes, needle).is_some()
}

fn everything_under(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    files.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}
