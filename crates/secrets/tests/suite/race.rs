//! K09: many clients, one lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use audit::ChangeError;
use store::{Lost, Mutation};
use types::{Field, Kind, Record, Verdict};

use crate::fixture::{Home, SECRET, World, random_value};

const CLIENTS: usize = 16;
const LEASES: usize = 500;

/// What the vault hands to the log when a lease is used.
fn using(permit: u64, head: &str) -> (Record, Mutation) {
    let record = Record::new(Kind::Unseal, Verdict::Allow)
        .with(Field::Of, permit)
        .with(Field::Claim, format!("lease/{permit:020}/0"));
    let history = (format!("secret/local/{SECRET}/"), format!("secret/local/{SECRET}0"));
    let head = head.to_owned();
    (
        record,
        Mutation::UseLease {
            head,
            history,
            revoked: "revoked/local/none".into(),
            permit,
            lifetime_ms: 600_000,
            ends_ms: None,
        },
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k09_sixteen_clients_race_for_five_hundred_leases_and_each_has_one_winner() {
    for world in World::both().await {
        let history = (format!("secret/local/{SECRET}/"), format!("secret/local/{SECRET}0"));
        let newest = world.reader.last_claim(&history.0, &history.1).await.unwrap().unwrap();
        let head = String::from_utf8(newest.claim.unwrap()).unwrap();
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
                let (audit, won, (record, change)) =
                    (audit.clone(), won.clone(), using(permits[index], &head));
                clients.spawn(async move {
                    match audit.change(record, change).await {
                        Ok(_) => drop(won[index].fetch_add(1, Ordering::Relaxed)),
                        Err(ChangeError::Lost(Lost::Claimed)) => {}
                        Err(error) => panic!("{error}"),
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

#[tokio::test]
async fn k10_a_lease_that_is_late_stale_or_revoked_is_refused_by_the_database() {
    for world in World::both().await {
        let permit = world.audit.record(Record::new(Kind::Request, Verdict::Allow)).await.unwrap().get();
        let history = (format!("secret/local/{SECRET}/"), format!("secret/local/{SECRET}0"));
        let newest = world.reader.last_claim(&history.0, &history.1).await.unwrap().unwrap();
        let head = String::from_utf8(newest.claim.unwrap()).unwrap();
        let lost = async |(record, change): (Record, Mutation)| match world.audit.change(record, change).await
        {
            Err(ChangeError::Lost(lost)) => Some(lost),
            _ => None,
        };
        let stale = format!("secret/local/{SECRET}/{:020}", 99);
        assert_eq!(lost(using(permit, &stale)).await, Some(Lost::Changed));
        assert_eq!(
            lost(using(permit + 1_000_000, &head)).await,
            Some(Lost::Expired),
            "a permit that is not there"
        );
        let Mutation::UseLease { head, history, revoked, permit, .. } = using(permit, &head).1 else {
            unreachable!()
        };
        let record = || using(permit, &head).0;
        // The permit's record is at least a millisecond old by now: time passes with each sync.
        let late = Mutation::UseLease {
            head: head.clone(),
            history: history.clone(),
            revoked: revoked.clone(),
            permit: 1,
            lifetime_ms: 0,
            ends_ms: None,
        };
        assert_eq!(lost((record(), late)).await, Some(Lost::Expired));
        let ended = Mutation::UseLease {
            head: head.clone(),
            history: history.clone(),
            revoked: revoked.clone(),
            permit,
            lifetime_ms: 600_000,
            ends_ms: Some(audit::now_ms() - 60_000),
        };
        assert_eq!(lost((record(), ended)).await, Some(Lost::Ended), "a grant that has ended");
        let claim = Record::new(Kind::Revoke, Verdict::Done).with(Field::Claim, &revoked);
        world.audit.change(claim, Mutation::Claim).await.unwrap();
        assert_eq!(lost(using(permit, &head)).await, Some(Lost::Missing));
    }
}

/// What a leased, audited unseal asks of a server, statement by statement: two to read, five to write. Those that begin
/// and end the write are shared by all who write at the same time.
#[tokio::test]
async fn a_leased_unseal_takes_one_read_and_one_short_transaction() {
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
    let said = |line: &&str| line.contains("LOG:  statement: ") || line.contains("LOG:  execute ");
    let statements: Vec<&str> = last.lines().filter(said).collect();
    // The end of the reading transaction is told behind the caller's back, or not before the next one; and the last
    // line is the beginning of the mark.
    let is_ours = |line: &&&str| !line.ends_with("ROLLBACK") && !line.trim_end().ends_with("statement:");
    let waited: Vec<&&str> = statements.iter().filter(is_ours).collect();
    assert_eq!(waited.len(), 7, "{statements:#?}");
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
