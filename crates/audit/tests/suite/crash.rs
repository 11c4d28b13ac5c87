//! L05: `kill -9` under load. A process that is killed at any point leaves a log that verifies and in
//! which nothing that it was told is durable is missing.
//!
//! A kill takes the process, not the machine: that the bytes would also survive a power failure is
//! the business of `torn`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit::Audit;

use crate::fixture::{Other, file_in, number_of, numbered, pair, said, say, told_path, whole};

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
        let path = file_in(folder.path());
        let mut other = Other::start("crash::child_records_until_killed", &path);
        other.next("start").unwrap();
        // The moment is chosen by what was acknowledged, from nothing at all to some hundreds.
        for _ in 0..(round * 37) % 150 {
            acknowledged.push(read(&other.next("durable").unwrap()));
        }
        other.child.kill().unwrap();
        other.child.wait().unwrap();
        let rest = other.lines.map_while(Result::ok).filter_map(|line| said(&line, "durable"));
        acknowledged.extend(rest.map(|line| read(&line)));

        let (reader, writer) = store::open(&path).await.unwrap();
        let entries = whole(&reader).await;
        for (number, seq) in &acknowledged {
            let entry = entries.get(*seq as usize - 1).unwrap_or_else(|| panic!("record {seq} is missing"));
            assert_eq!(number_of(entry), *number);
        }
        writer.close().await;
        reader.close().await;
    }
    assert!(acknowledged.len() > 100);
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
    let (reader, writer) = store::open(&path).await.unwrap();
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
