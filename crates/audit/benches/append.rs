//! What a durable record costs: alone, and when 64 tasks record at once; and how fast a chain is verified.
//!
//! `cargo bench -p audit`. Each figure stands beside its floor, the disk's own sync, measured in the
//! same run on the same file system. Durability is as in the product: WAL, `synchronous=FULL`.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says so by panicking")]

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use audit::{Audit, Log};
use types::{Field, Kind, Record, TurnId, Verdict};

const ALONE: usize = 500;
const TASKS: usize = 64;
const EACH: usize = 1_500;

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/ironclaw.db");
    let (reader, writer) = store::open(&path).await.unwrap();
    let (audit, drain) = Audit::start(writer);

    let (floor, alone) = alone(&audit, folder.path()).await;
    let together = together(&audit).await;
    let log = Log::new(reader.clone());
    drop(audit);
    drain.finish().await;

    let start = Instant::now();
    let verified = log.verify().await.unwrap();
    let verify = verified.records as f64 / start.elapsed().as_secs_f64();
    reader.close().await;
    let size = std::fs::metadata(&path).unwrap().len() / verified.records;

    let mut out = std::io::stdout();
    writeln!(out, "sync of one 4 KiB write (floor)   {floor:>12.1?}   median of {ALONE}").unwrap();
    let ratio = alone.as_secs_f64() / floor.as_secs_f64();
    writeln!(
        out,
        "one durable record, alone         {alone:>12.1?}   median of {ALONE}, {ratio:.1} x the floor"
    )
    .unwrap();
    let count = TASKS * EACH;
    writeln!(out, "{TASKS} tasks, durable records         {together:>10.0}/s   {count} records").unwrap();
    writeln!(out, "verify                            {verify:>10.0}/s   {} records", verified.records)
        .unwrap();
    writeln!(out, "size in the database              {size:>10} B   a record").unwrap();
}

fn record(count: usize) -> Record {
    Record::new(Kind::Request, Verdict::Allow)
        .of_turn(TurnId::new())
        .with(Field::Actor, "tool weather")
        .with(Field::Target, "GET https://api.weather.com/v1/forecast")
        .with(Field::Rule, "policy.grant")
        .with(Field::Count, count)
}

/// Medians of the disk's own sync and of one record, taken in turn.
async fn alone(audit: &Audit, folder: &Path) -> (Duration, Duration) {
    // Like the write-ahead log after its first round: overwritten in place, its length unchanged.
    let mut file = File::create(folder.join("floor")).unwrap();
    let (mut floor, mut alone) = (Vec::with_capacity(ALONE), Vec::with_capacity(ALONE));
    for count in 0..ALONE {
        let start = Instant::now();
        file.rewind().unwrap();
        file.write_all(&[count as u8; 4096]).unwrap();
        file.sync_data().unwrap();
        floor.push(start.elapsed());
        let start = Instant::now();
        audit.record(record(count)).await.unwrap();
        alone.push(start.elapsed());
    }
    (median(floor), median(alone))
}

/// Records a second, over all tasks.
async fn together(audit: &Audit) -> f64 {
    let start = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let audit = audit.clone();
            tokio::spawn(async move {
                for count in 0..EACH {
                    audit.record(record(count)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    (TASKS * EACH) as f64 / start.elapsed().as_secs_f64()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
