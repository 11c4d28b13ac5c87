//! K09: many clients, one lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use store::{LeaseQuestion, LeaseView, Mutation};
use types::{Field, Grant, Kind, Record, Refusal, Tenant, Verdict};

use crate::fixture::{Home, SECRET, World, name, plain, random_value};

const CLIENTS: usize = 16;
const LEASES: usize = 500;

const URL: &str = "https://api.weather.example/v1/now";

/// What the vault asks about the lease of a permit.
fn question(world: &World, permit: u64) -> LeaseQuestion {
    LeaseQuestion {
        tenant: Tenant::local(),
        secret: name(SECRET),
        tool: world.grant.tool.clone(),
        history: (format!("secret/local/{SECRET}/"), format!("secret/local/{SECRET}0")),
        revoked: "revoked/local/".into(),
        uses: "use/local/".into(),
        claim: format!("lease/{permit:020}/0"),
        permit: permit as i64,
        known: 1,
    }
}

/// The record of a use.
fn used(question: &LeaseQuestion) -> Record {
    Record::new(Kind::Unseal, Verdict::Allow)
        .with(Field::Of, question.permit)
        .with(Field::Claim, &question.claim)
}

/// What there is to judge by, and nothing recorded.
async fn view(world: &World, permit: u64) -> LeaseView {
    let look = |view: &LeaseView, now_ms| Ok::<_, ()>((Vec::new(), (view.clone(), now_ms)));
    world.audit.lease(question(world, permit), look).await.unwrap().unwrap().0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k09_sixteen_clients_race_for_five_hundred_leases_and_each_has_one_winner() {
    for world in World::both().await {
        let mut permits = Vec::new();
        for _ in 0..LEASES {
            permits.push(world.audit.record(Record::new(Kind::Request, Verdict::Allow)).await.unwrap().get());
        }
        let won: Arc<Vec<AtomicUsize>> = Arc::new((0..LEASES).map(|_| AtomicUsize::new(0)).collect());
        let mut clients = tokio::task::JoinSet::new();
        for client in 0..CLIENTS {
            let (_, audit, _) = world.home.open().await;
            for index in 0..LEASES {
                // Each client begins elsewhere.
                let index = (index + client * 31) % LEASES;
                let (audit, won) = (audit.clone(), won.clone());
                let question = question(&world, permits[index]);
                let record = used(&question);
                clients.spawn(async move {
                    let free = move |view: &LeaseView, _| match view.is_used {
                        false => Ok((vec![record.clone()], ())),
                        true => Err(()),
                    };
                    if audit.lease(question, free).await.unwrap().is_ok() {
                        won[index].fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        }
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
        assert!(won.iter().all(|winners| winners.load(Ordering::Relaxed) == 1));
        audit::Log::new(world.reader.clone()).verify().await.unwrap();
    }
}

/// The vault asks one group of records for both, or two: either way one of them is there first.
#[tokio::test]
async fn k09_of_two_uses_of_one_permit_at_once_one_is_refused() {
    for world in World::both().await {
        for _ in 0..20 {
            let permit = world.permit("GET", URL).await;
            let lease = async || world.vault.lease(&permit, &world.safety).await.map(drop);
            let (one, two) = tokio::join!(lease(), lease());
            let refused: Vec<Refusal> = [one, two].into_iter().filter_map(Result::err).collect();
            assert_eq!(refused.len(), 1);
            assert_eq!(refused[0].rule.id, "vault.lease-used");
        }
        audit::Log::new(world.reader.clone()).verify().await.unwrap();
    }
}

#[tokio::test]
async fn k19_a_bounded_grant_has_its_uses_and_no_more_whoever_asks_at_once() {
    for world in World::both().await {
        world.vault.revoke(&world.grant_id).await.unwrap();
        world.vault.grant(&Grant { max_uses: Some(3), ..world.grant.clone() }).await.unwrap();
        let mut permits = Vec::new();
        for _ in 0..8 {
            permits.push(world.permit("GET", URL).await);
        }
        let mut clients = tokio::task::JoinSet::new();
        for permit in permits {
            let (vault, safety) = (world.vault.clone(), world.safety.clone());
            clients.spawn(async move { vault.lease(&permit, &safety).await.map(drop) });
        }
        let outcomes = clients.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
        let rule = |outcome: &Result<(), Refusal>| outcome.as_ref().err().map(|refusal| refusal.rule.id);
        assert!(outcomes.iter().filter_map(rule).all(|rule| rule == "vault.grant-used-up"));
    }
}

#[tokio::test]
async fn k10_a_lease_is_judged_by_what_the_database_holds_at_that_moment() {
    for world in World::both().await {
        let permit = world.audit.record(Record::new(Kind::Request, Verdict::Allow)).await.unwrap().get();
        let one = view(&world, permit).await;
        let (at_ms, decided) = Record::decode(&one.permit.unwrap().record).unwrap();
        assert_eq!(decided.kind, Kind::Request);
        assert!(audit::now_ms().abs_diff(at_ms) < 60_000);
        assert!(!one.is_used && !one.grants[0].is_revoked && one.grants[0].last_use.is_none());
        let secret = one.secret.unwrap();
        assert!(secret.version == 1 && secret.fingerprints.is_empty() && !secret.sealed.is_empty());
        assert!(view(&world, permit + 1_000_000).await.permit.is_none(), "a permit that is not there");

        // In one breath with what changes it, and before what was asked with it is answered.
        let revoked = format!("revoked/local/{}", world.grant_id);
        let claim = Record::new(Kind::Revoke, Verdict::Done).with(Field::Claim, &revoked);
        let (revoked, two) = tokio::join!(world.audit.change(claim, Mutation::Claim), view(&world, permit));
        revoked.unwrap();
        assert!(two.grants[0].is_revoked, "asked after it was taken back");
        world.vault.put(&name(SECRET), plain(&random_value()), Some(1)).await.unwrap();
        let three = view(&world, permit).await;
        let secret = three.secret.unwrap();
        assert_eq!(secret.version, 2);
        assert!(!secret.fingerprints.is_empty(), "those of a version that is not the known one");
        assert_ne!(three.head.unwrap().seq, two.head.unwrap().seq);
    }
}

/// Whatever goes wrong while a lease is judged is that lease's alone: all records go through one task.
#[tokio::test]
async fn a_judge_that_breaks_down_ends_its_lease_and_not_the_log() {
    for world in World::both().await {
        let permit = world.audit.record(Record::new(Kind::Request, Verdict::Allow)).await.unwrap().get();
        let broken = |_: &LeaseView, _| -> Result<(Vec<Record>, ()), ()> { panic!("a judge of a test") };
        let (judged, recorded) = tokio::join!(
            world.audit.lease(question(&world, permit), broken),
            world.audit.record(Record::new(Kind::Config, Verdict::Done)),
        );
        assert!(matches!(judged, Err(audit::AuditError::Unavailable(_))));
        recorded.unwrap();
        assert!(!view(&world, permit).await.is_used);
    }
}

/// What a leased, audited unseal asks of a server: one message locks the log and tells what the lease is judged by, one
/// writes the record and ends the transaction. Both are shared by all who ask at the same time.
#[tokio::test]
async fn a_leased_unseal_takes_two_round_trips() {
    let server = testkit::Postgres::start(&["-c", "log_statement=all"]);
    let database = server.database();
    let world = World::at(Home::on(database.clone()).await, "bearer", random_value()).await;
    let unseal = async || {
        let permit = world.permit("GET", "https://api.weather.example/v1/now").await;
        // What the call before left to be recorded is written by then.
        world.audit.record(Record::new(Kind::Config, Verdict::Done)).await.unwrap();
        database.admin("SELECT 'begin here'");
        drop(world.vault.lease(&permit, &world.safety).await.unwrap());
        database.admin("SELECT 'end here'");
    };
    unseal().await;
    unseal().await;
    let log = database.log();
    let last = log.rsplit("'begin here'").next().unwrap().split("SELECT 'end here'").next().unwrap();
    // A message is one statement to the log, over several lines; the last is the beginning of the mark.
    let said = last
        .split("LOG:  ")
        .skip(1)
        .filter(|text| text.starts_with("statement: ") || text.starts_with("execute "));
    let messages: Vec<&str> = said.filter(|text| text.trim_end() != "statement:").collect();
    assert_eq!(messages.len(), 2, "{messages:#?}");
    assert!(messages[0].contains("FOR UPDATE") && messages[0].contains("EXECUTE lease_view"));
    assert!(messages[1].contains("INSERT INTO audit_record") && messages[1].contains("; COMMIT"));
}

/// Prints what a leased, audited unseal takes on both databases, beside one durable record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement: cargo test --release -p secrets --test suite cost_of_a_leased -- --ignored --nocapture"]
#[allow(clippy::disallowed_macros, reason = "a measurement is printed")]
async fn cost_of_a_leased_unseal() {
    const ROUNDS: usize = 300;
    for (world, which) in World::both().await.into_iter().zip(["SQLite", "PostgreSQL"]) {
        let (mut records, mut leases) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let permit = world.permit("GET", "https://api.weather.example/v1/now").await;
            let since = std::time::Instant::now();
            world.audit.record(Record::new(Kind::Request, Verdict::Allow)).await.unwrap();
            records.push(since.elapsed());
            let since = std::time::Instant::now();
            drop(world.vault.lease(&permit, &world.safety).await.unwrap());
            leases.push(since.elapsed());
        }
        records.sort();
        leases.sort();
        let (record, lease) = (records[ROUNDS / 2], leases[ROUNDS / 2]);
        println!(
            "{which}: one durable record {record:.1?}; a leased unseal {lease:.1?}; medians of {ROUNDS}"
        );
    }
}
