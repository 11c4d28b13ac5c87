//! L05: `kill -9` under load. A process that is killed at any point leaves a log that verifies and in
//! which nothing that it was told is durable is missing.
//!
//! A kill takes the process, not the machine: that the bytes would also survive a power failure is
//! the business of `torn`.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit::{Audit, AuditError};
use testkit::Postgres;

use crate::fixture::{Other, file_in, number_of, numbered, on, open, pair, said, say, told_path, whole};

const ROUNDS: u64 = 40;

#[tokio::test]
async fn l05_nothing_acknowledged_is_missing_after_kill_9_under_load() {
    let mut folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        // Every fourth round begins with no database at all.
        if round % 4 == 0 {
            folder = tempfile::tempdir().unwrap();
            acknowledged.clear();
        }
        killed_under_load(&file_in(folder.path()), round, &mut acknowledged).await;
    }
    assert!(acknowledged.len() > 100);
    let path = on(&Postgres::shared()).await;
    acknowledged.clear();
    for round in 0..ROUNDS / 4 {
        killed_under_load(&path, round, &mut acknowledged).await;
    }
    assert!(acknowledged.len() > 100);
}

/// The other way round: the server is ended without any order while this process goes on.
#[tokio::test]
async fn l05_l06_nothing_acknowledged_is_missing_after_the_server_was_killed_under_load() {
    let mut server = Postgres::start(&[]);
    let path = on(&server.database()).await;
    let (reader, writer) = open(&path).await.unwrap();
    let (audit, _drain) = Audit::start(writer);
    let mut acknowledged = Vec::new();
    for round in 0..4u64 {
        let tasks: Vec<_> = (0..16)
            .map(|task| tokio::spawn(record_until_refused(audit.clone(), (round * 16 + task) * 10_000)))
            .collect();
        // The kill comes while everyone records.
        while reader
            .audit_last(1)
            .await
            .unwrap()
            .first()
            .is_none_or(|row| row.seq < acknowledged.len() as i64 + 100)
        {
            tokio::task::yield_now().await;
        }
        server.kill();
        for task in tasks {
            acknowledged.extend(task.await.unwrap());
        }
        server.start_again();
        // The same handle, without a restart of this process.
        let seq = audit.record(numbered(u64::MAX - round)).await.unwrap();
        acknowledged.push((u64::MAX - round, seq.get()));
    }
    let entries = whole(&reader).await;
    assert!(acknowledged.len() > 400);
    for (number, seq) in acknowledged {
        assert_eq!(number_of(&entries[seq as usize - 1]), number);
    }
}

/// Records from `first` on until the log refuses; what it acknowledged.
async fn record_until_refused(audit: Audit, first: u64) -> Vec<(u64, u64)> {
    let mut acknowledged = Vec::new();
    for number in first..first + 10_000 {
        match audit.record(numbered(number)).await {
            Ok(seq) => acknowledged.push((number, seq.get())),
            Err(AuditError::Unavailable(_) | AuditError::Uncertain(_)) => return acknowledged,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the server was never away");
}

/// One process that records until it is killed, and the log that it leaves.
async fn killed_under_load(path: &Path, round: u64, acknowledged: &mut Vec<(u64, u64)>) {
    let mut other = Other::start("crash::child_records_until_killed", path);
    other.next("start").unwrap();
    // The moment is chosen by what was acknowledged, from nothing at all to some hundreds.
    for _ in 0..(round * 37) % 150 {
        acknowledged.push(read(&other.next("durable").unwrap()));
    }
    other.child.kill().unwrap();
    other.child.wait().unwrap();
    let rest = other.lines.map_while(Result::ok).filter_map(|line| said(&line, "durable"));
    acknowledged.extend(rest.map(|line| read(&line)));

    let (reader, writer) = open(path).await.unwrap();
    let entries = whole(&reader).await;
    for (number, seq) in &*acknowledged {
        let entry = entries.get(*seq as usize - 1).unwrap_or_else(|| panic!("record {seq} is missing"));
        assert_eq!(number_of(entry), *number);
    }
    writer.close().await;
    reader.close().await;
}

fn read(line: &str) -> (u64, u64) {
    let (number, seq) = line.split_once('@').unwrap();
    (number.parse().unwrap(), seq.parse().unwrap())
}

/// Not a test of its own: the other process of the one above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by l05_nothing_acknowledged_is_missing_after_kill_9_under_load"]
async fn child_records_until_killed() {
    let Some(path) = told_path() else { return };
    say("start", 0);
    let (reader, writer) = open(&path).await.unwrap();
    let numbers = Arc::new(AtomicU64::new(
        reader.audit_last(1).await.unwrap().first().map_or(0, |row| row.seq as u64 * 100),
    ));
    let (audit, drain) = Audit::start(writer);
    for _ in 0..16 {
        tokio::spawn(record_forever(audit.clone(), numbers.clone()));
    }
    // Ends only if the parent dies without killing.
    let waiting = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
    let _ = waiting.await;
    drop(drain);
    std::process::exit(0);
}

async fn record_forever(audit: Audit, numbers: Arc<AtomicU64>) {
    loop {
        let number = numbers.fetch_add(1, Ordering::Relaxed);
        let seq = if number.is_multiple_of(2) {
            audit.record(numbered(number)).await.unwrap()
        } else {
            let (record, mutation) = pair(number);
            audit.change(record, mutation).await.unwrap()
        };
        say("durable", format_args!("{number}@{seq}"));
    }
}
