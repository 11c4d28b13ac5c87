//! A crash between any two writes to the disk, and in the middle of any one.
//!
//! What SQLite has written when the power fails is a beginning of the write-ahead log, possibly with
//! a torn last frame, or a database file into which part of that log was already moved. Each such
//! state is made here from a real log and opened: the chain must verify, hold a beginning of what was
//! recorded, and every record must have its change.

use std::path::Path;

use audit::{Audit, Entry};
use store::{Reader, Writer};

use crate::fixture::{Fixture, empty_place, numbered, pair, whole, write_private};

/// Sizes in the write-ahead log (sqlite.org/fileformat2.html#walformat).
const HEADER: usize = 32;
const FRAME: usize = 24 + PAGE;
const PAGE: usize = 4096;

/// A database and its log as they lie on the disk while in use, and everything recorded in them.
struct Workload {
    database: Vec<u8>,
    log: Vec<u8>,
    entries: Vec<Entry>,
    groups: usize,
    fixture: Fixture,
}

/// Single records, changes, and groups of both in one transaction.
async fn workload() -> Workload {
    let fixture = Fixture::new().await;
    let mut number = 0;
    let mut groups = 0;
    for size in [1, 1, 3, 8, 1, 2, 30, 1, 5, 1, 12, 1] {
        let tasks: Vec<_> =
            (0..size).map(|_| tokio::spawn(one(fixture.audit.clone(), next(&mut number)))).collect();
        for task in tasks {
            task.await.unwrap();
        }
        groups += 1;
    }
    let path = fixture.path();
    let entries = whole(&fixture.reader).await;
    let database = std::fs::read(&path).unwrap();
    let log = std::fs::read(path.with_extension("db-wal")).unwrap();
    assert!(log.len() < 1000 * FRAME, "nothing may have been moved into the database yet");
    assert_eq!((log.len() - HEADER) % FRAME, 0);
    Workload { database, log, entries, groups, fixture }
}

fn next(number: &mut u64) -> u64 {
    *number += 1;
    *number
}

async fn one(audit: Audit, number: u64) {
    if number.is_multiple_of(2) {
        audit.record(numbered(number)).await.unwrap();
    } else {
        let (record, mutation) = pair(number);
        audit.change(record, mutation).await.unwrap();
    }
}

/// Opens a database and log as a crash left them; how many records survived.
async fn survivors(database: &[u8], log: &[u8], all: &[Entry]) -> usize {
    let (_folder, path) = empty_place();
    lay(&path, database, log);
    let (reader, writer) = store::open(&path).await.unwrap();
    let entries = whole(&reader).await;
    assert_eq!(entries, all[..entries.len()], "a beginning of what was recorded");
    goes_on(reader, writer, entries.len() as u64).await;
    entries.len()
}

fn lay(path: &Path, database: &[u8], log: &[u8]) {
    write_private(path, database);
    if !log.is_empty() {
        write_private(&path.with_extension("db-wal"), log);
    }
}

/// The log that was found can be continued.
async fn goes_on(reader: Reader, writer: Writer, records: u64) {
    let (audit, drain) = Audit::start(writer);
    let seq = audit.record(numbered(u64::MAX)).await.unwrap();
    assert_eq!(seq.get(), records + 1);
    drop(audit);
    drain.finish().await;
    reader.close().await;
}

#[tokio::test]
async fn l05_a_crash_between_any_two_writes_leaves_a_beginning_that_verifies() {
    let work = workload().await;
    let mut seen = std::collections::BTreeSet::new();
    let mut before = 0;
    for end in (HEADER..=work.log.len()).step_by(FRAME) {
        let found = survivors(&work.database, &work.log[..end], &work.entries).await;
        assert!(found >= before, "a longer log holds no less");
        before = found;
        seen.insert(found);
    }
    assert_eq!(before, work.entries.len());
    // Every group appeared as a whole, at some frame: each was one transaction.
    assert!(seen.len() > work.groups / 2 && seen.len() <= work.groups + 1, "{seen:?}");
}

#[tokio::test]
async fn l05_a_crash_in_the_middle_of_a_write_leaves_a_beginning_that_verifies() {
    let work = workload().await;
    let frames = (work.log.len() - HEADER) / FRAME;
    for frame in (0..frames).step_by(3) {
        let start = HEADER + frame * FRAME;
        let inside = start + 1 + (frame * 997) % (FRAME - 1);
        let cut = survivors(&work.database, &work.log[..inside], &work.entries).await;
        // The file has its length already, but the bytes are not there yet.
        let mut zeroed = work.log.clone();
        zeroed[inside..].fill(0);
        assert_eq!(survivors(&work.database, &zeroed, &work.entries).await, cut);
        // The sectors arrived in another order: the end of the frame before its beginning.
        let mut holed = work.log[..start + FRAME].to_vec();
        holed[start..start + FRAME / 2].fill(0xff);
        assert_eq!(survivors(&work.database, &holed, &work.entries).await, cut);
    }
    // Not even the header of the log arrived.
    for end in [0, 1, 31] {
        survivors(&work.database, &work.log[..end], &work.entries).await;
    }
}

#[tokio::test]
async fn l05_a_crash_while_the_log_is_moved_into_the_database_loses_nothing() {
    let Workload { database: before, log, entries, fixture, .. } = workload().await;
    let path = fixture.path();
    drop(fixture.audit);
    fixture.drain.finish().await;
    fixture.reader.close().await;
    let after = std::fs::read(&path).unwrap();
    assert!(after.len() > before.len());
    for end in (0..=after.len()).step_by(PAGE / 2) {
        let mut half = after[..end].to_vec();
        if let Some(rest) = before.get(end..) {
            half.extend_from_slice(rest);
        }
        assert_eq!(survivors(&half, &log, &entries).await, entries.len());
    }
    assert_eq!(survivors(&after, &[], &entries).await, entries.len());
}
