//! Decisions about requests of the proxy's clients: what was granted and taken back meanwhile, in another process too.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;

use audit::{Audit, Drain, Entry, Log};
use http::HeaderMap;
use policy::{Asked, Asker, Catalog, Policy, Reach, Run, Settings, Turn};
use safety::Safety;
use store::{GrantRow, Mutation, Reader, Server, Writer};
use testkit::Postgres;
use types::{
    Caller, Field, Grant, HostName, Injection, Kind, PathPrefix, Port, Record, SecretName, SecretUse, Site,
    Target, Tenant, Trace, Verdict,
};

/// How a parent tells a child which database to use.
const PLACE: &str = "IRONCLAW_TEST_DATABASE";

struct World {
    policy: Policy,
    run: Run,
    reader: Reader,
    audit: Audit,
    drain: Drain,
    place: PathBuf,
    _folder: Option<tempfile::TempDir>,
}

impl World {
    /// One on each database.
    async fn both() -> [Self; 2] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("data").join("test.db");
        let database = Postgres::shared();
        let owner = Server::parse(&database.owner()).unwrap();
        store::migrate(&owner, database.runtime_role()).await.unwrap();
        [Self::at(file, Some(folder)).await, Self::at(database.runtime().into(), None).await]
    }

    async fn at(place: PathBuf, folder: Option<tempfile::TempDir>) -> Self {
        let (reader, writer) = open(&place).await;
        let (audit, drain) = Audit::start(writer);
        let safety = Arc::new(Safety::new(Default::default()).unwrap());
        let catalog = Catalog::new(reader.clone(), safety, Tenant::local(), Vec::new());
        let policy = Policy::new(audit.clone(), reader.clone(), catalog, Settings::default()).unwrap();
        let reach = Reach::of_words(["api.example"]).unwrap();
        let run = Run::open(Turn::begin(Trace::off()), Site::Machine, reach, vec![key()]);
        Self { policy, run, reader, audit, drain, place, _folder: folder }
    }

    /// Whether a request may go out with the secret; by which rule not.
    async fn decide(&self) -> Result<(), &'static str> {
        let (_here, asker) = Asker::watched();
        let asked = Asked {
            target: Target::parse("GET", "https://api.example/v1").unwrap(),
            claims: vec![SecretUse { secret: key(), inject: Injection::Bearer }],
            headers: HeaderMap::new(),
            brought: Vec::new(),
            body: None,
            asker,
        };
        self.policy.decide_proxied(&self.run, asked).await.map(drop).map_err(|refusal| refusal.rule.id)
    }

    /// Every record, once the writer has drained.
    async fn close(self) -> Vec<Entry> {
        let Self { policy, run, audit, reader, drain, _folder, .. } = self;
        drop((policy, run, audit));
        drain.finish().await;
        let log = Log::new(reader);
        log.verify().await.unwrap();
        log.tail(u32::MAX).await.unwrap()
    }
}

async fn open(place: &Path) -> (Reader, Writer) {
    match Server::parse(place.to_str().unwrap()) {
        Ok(server) => store::connect(&server).await.unwrap(),
        Err(_) => store::open(place).await.unwrap(),
    }
}

fn key() -> SecretName {
    SecretName::parse("KEY").unwrap()
}

/// The grant of the secret to the proxy, or its end.
fn change(what: &str) -> (Record, Mutation) {
    let ((tool, digest), tenant) = (Caller::proxy_identity(), Tenant::local());
    if what == "revoke" {
        let delete = Mutation::DeleteGrant { tenant, id: "1".to_owned() };
        return (Record::new(Kind::Revoke, Verdict::Done), delete);
    }
    let grant = Grant {
        tool: tool.clone(),
        digest,
        secret: key(),
        host: HostName::parse("api.example").unwrap(),
        port: Port::new(443).unwrap(),
        methods: vec![http::Method::GET],
        path: PathPrefix::parse("/v1").unwrap(),
        inject: Injection::Bearer,
        max_uses: None,
        expires_ms: None,
    };
    let (id, body) = ("1".to_owned(), grant.encode());
    let row = GrantRow { tenant, id, tool, secret: key(), body, mac: Vec::new(), created_ms: 0 };
    (Record::new(Kind::Grant, Verdict::Done), Mutation::PutGrant(row))
}

/// This test binary again, as another process on the same database.
struct Owner {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Owner {
    fn start(world: &World) -> Self {
        #[allow(clippy::disallowed_methods, reason = "this test binary again, as another process")]
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "proxied::child_grants_and_revokes", "--ignored", "--nocapture"])
            .env(PLACE, &world.place)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Has it give the grant or take it back; that is durable now.
    fn does(&mut self, what: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{what}").unwrap();
        let done = format!("done={what}.");
        assert!(self.lines.by_ref().map_while(Result::ok).any(|line| line.ends_with(&done)));
    }

    fn finish(mut self) {
        drop(self.child.stdin.take());
        let rest: Vec<String> = self.lines.map_while(Result::ok).collect();
        assert!(self.child.wait().unwrap().success(), "{rest:?}");
    }
}

/// Not a test of its own: the other process of the ones below.
#[tokio::test]
#[ignore = "started by the tests of this file"]
async fn child_grants_and_revokes() {
    #[allow(clippy::disallowed_methods, reason = "how the parent tells where the database is")]
    let Some(place) = std::env::var_os(PLACE) else { return };
    let (_reader, writer) = open(Path::new(&place)).await;
    let (audit, drain) = Audit::start(writer);
    for line in std::io::stdin().lock().lines() {
        let what = line.unwrap();
        let (record, mutation) = change(&what);
        audit.change(record, mutation).await.unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "done={what}.").and_then(|()| out.flush()).unwrap();
    }
    drop(audit);
    drain.finish().await;
}

#[tokio::test]
async fn c19_what_another_process_grants_or_takes_back_holds_for_the_next_request() {
    for world in World::both().await {
        let mut owner = Owner::start(&world);
        assert_eq!(world.decide().await, Err("policy.secret-not-granted"));
        for round in 0..20 {
            owner.does("grant");
            // The second and the third rest on what is remembered.
            for _ in 0..3 {
                assert_eq!(world.decide().await, Ok(()), "{round}");
            }
            owner.does("revoke");
            for _ in 0..2 {
                assert_eq!(world.decide().await, Err("policy.secret-not-granted"), "{round}");
            }
        }
        owner.finish();
        world.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn c19_no_permit_stands_in_the_log_between_the_end_of_its_grant_and_the_next_one() {
    for world in World::both().await {
        let mut owner = Owner::start(&world);
        let world = Arc::new(world);
        let (permitted, permits) = tokio::sync::watch::channel(0_u32);
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let (world, permitted) = (world.clone(), permitted.clone());
                tokio::spawn(async move {
                    loop {
                        if world.decide().await.is_ok() {
                            permitted.send_modify(|permits| *permits += 1_u32);
                        }
                    }
                })
            })
            .collect();
        for _ in 0..20 {
            let before = *permits.borrow();
            tokio::task::block_in_place(|| owner.does("grant"));
            permits.clone().wait_for(|permits| *permits > before).await.unwrap();
            tokio::task::block_in_place(|| owner.does("revoke"));
        }
        owner.finish();
        for task in asking {
            task.abort();
            let _ = task.await;
        }
        let (mut is_granted, mut recorded) = (false, 0);
        for Entry { seq, record, .. } in Arc::into_inner(world).unwrap().close().await {
            match (record.kind, record.verdict) {
                (Kind::Grant, _) => is_granted = true,
                (Kind::Revoke, _) => is_granted = false,
                (Kind::Request, Verdict::Allow) => {
                    assert_eq!(record.field(Field::Secret), Some("KEY"));
                    assert!(is_granted, "record {seq}");
                    recorded += 1;
                }
                _ => {}
            }
        }
        assert!(recorded > 0);
    }
}
