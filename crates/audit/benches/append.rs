//! What a durable record costs: alone, and when 64 tasks record at once; and how fast a million records are
//! verified; on SQLite and on PostgreSQL in one run.
//!
//! `cargo bench -p audit`. Each figure stands beside its floor, the disk's own sync, measured in the
//! same run on the same file system. Durability is as in the product.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says so by panicking")]

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use audit::checkpoint::Signer;
use audit::{Audit, Log};
use store::{Reader, Server, Writer};
use testkit::Postgres;

mod records;

use records::{fill, record};

const ALONE: usize = 500;
const TASKS: usize = 64;
const EACH: usize = 1_500;
/// Records that are verified, unless a number is given: `cargo bench -p audit -- 200000`.
const MILLION: usize = 1_000_000;

fn say(line: &str) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
}

#[tokio::main]
async fn main() {
    say("SQLite, WAL, synchronous=FULL");
    {
        // Gone before the server is measured, or the disk would still be busy with it.
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data/ironclaw.db");
        measure(store::open(&path).await.unwrap(), folder.path()).await;
    }

    let folder = tempfile::tempdir().unwrap();
    let server = Postgres::start(&[]);
    let database = server.database();
    let owner = Server::parse(&database.owner()).unwrap();
    store::migrate(&owner, database.runtime_role()).await.unwrap();
    let version = database.admin("SHOW server_version");
    say(&format!("\nPostgreSQL {version}, fsync=on, synchronous_commit=on, Unix socket"));
    let runtime = Server::parse(&database.runtime()).unwrap();
    measure(store::connect(&runtime).await.unwrap(), folder.path()).await;
}

async fn measure((reader, writer): (Reader, Writer), folder: &Path) {
    // Sealed, as in the product.
    let signer = Signer::from_seed(&[7; 32]).unwrap();
    let (audit, drain) = Audit::start_sealed(writer, signer);
    let (floor, alone) = alone(&audit, folder).await;
    let together = together(&audit).await;
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

    let total = total();
    fill(&audit, total.saturating_sub(ALONE + TASKS * EACH)).await;
    drop(audit);
    drain.finish().await;
    let start = Instant::now();
    let verified = Log::new(reader.clone()).verify().await.unwrap();
    let took = start.elapsed();
    assert!(verified.records > total as u64);
    let rate = verified.records as f64 / took.as_secs_f64();
    writeln!(
        out,
        "verify                            {rate:>10.0}/s   {} records in {took:.2?}",
        verified.records
    )
    .unwrap();
    reader.close().await;
}

fn total() -> usize {
    std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(MILLION)
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
