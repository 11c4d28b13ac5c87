//! What a caller of the log can count on.

use audit::{Audit, AuditError, ChangeError, Log, now_ms};
use store::{Lost, NewRecord};
use types::{Digest, Field, Kind, Record, RefusalId, Verdict};

use crate::fixture::{Fixture, file_in, number_of, numbered, on, open, pair, whole};

#[tokio::test]
async fn a_record_can_be_read_under_its_number_as_soon_as_there_is_one() {
    let fixture = Fixture::new().await;
    let before = now_ms();
    for number in 1..=5 {
        let seq = fixture.audit.record(numbered(number)).await.unwrap();
        assert_eq!(seq.get(), number);
        let entry = fixture.log().show(number).await.unwrap().unwrap();
        assert_eq!(number_of(&entry), number);
        assert!((before..=now_ms()).contains(&entry.at_ms));
    }
    assert_eq!(fixture.log().show(0).await.unwrap(), None);
    assert_eq!(fixture.log().show(6).await.unwrap(), None);
    assert_eq!(fixture.log().show(u64::MAX).await.unwrap(), None);
    let tail: Vec<u64> = fixture.log().tail(2).await.unwrap().iter().map(|entry| entry.seq).collect();
    assert_eq!(tail, [4, 5]);
}

#[tokio::test]
async fn a_lost_change_leaves_no_record_and_no_gap() {
    let fixture = Fixture::new().await;
    let tasks: Vec<_> = (0..32)
        .map(|index| {
            let audit = fixture.audit.clone();
            // Each number twice: one of two wins.
            let (record, mutation) = pair(index / 2);
            tokio::spawn(async move { audit.change(record, mutation).await })
        })
        .collect();
    let mut won = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => won += 1,
            Err(error) => assert_eq!(error, ChangeError::Lost(Lost::Exists)),
        }
    }
    assert_eq!(won, 16);
    assert_eq!(whole(&fixture.reader).await.len(), 16);
}

#[tokio::test]
async fn a_refusal_is_found_by_its_id() {
    let fixture = Fixture::new().await;
    let id = RefusalId::new();
    fixture.audit.record(numbered(1)).await.unwrap();
    let refusal = Record::new(Kind::Request, Verdict::Block).with(Field::Refusal, id);
    let seq = fixture.audit.record(refusal).await.unwrap();
    let found = fixture.log().by_refusal(id).await.unwrap();
    assert_eq!(found.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [seq.get()]);
    assert!(fixture.log().by_refusal(RefusalId::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn detached_records_are_written_before_the_log_closes() {
    let fixture = Fixture::new().await;
    for number in 0..100 {
        fixture.audit.record_detached(numbered(number));
    }
    drop(fixture.audit);
    fixture.drain.finish().await;
    let entries = whole(&fixture.reader).await;
    assert_eq!(entries.iter().map(number_of).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn detached_records_beyond_the_queue_are_counted_and_the_count_is_recorded() {
    let fixture = Fixture::new().await;
    // On this runtime of one thread the writer task cannot run before the first await.
    for number in 0..5_000 {
        fixture.audit.record_detached(numbered(number));
    }
    fixture.audit.record(numbered(5_000)).await.unwrap();
    drop(fixture.audit);
    fixture.drain.finish().await;
    let entries = whole(&fixture.reader).await;
    let lost: u64 = entries.iter().filter(|entry| entry.record.kind == Kind::Loss).map(number_of).sum();
    let kept = entries.iter().filter(|entry| entry.record.kind == Kind::Call).count() as u64;
    assert!(lost > 0);
    assert_eq!(lost + kept, 5_001);
}

#[tokio::test]
async fn a_cancelled_caller_does_not_disturb_the_others() {
    let fixture = Fixture::new().await;
    for number in 0..50 {
        let audit = fixture.audit.clone();
        let task = tokio::spawn(async move { audit.record(numbered(number)).await });
        tokio::task::yield_now().await;
        task.abort();
    }
    fixture.audit.record(numbered(50)).await.unwrap();
    let entries = whole(&fixture.reader).await;
    assert_eq!(number_of(entries.last().unwrap()), 50);
}

#[tokio::test]
async fn after_the_end_there_are_no_records() {
    let folder = tempfile::tempdir().unwrap();
    let (_reader, writer) = store::open(&file_in(folder.path())).await.unwrap();
    // The task ends with its runtime.
    let audit = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { Audit::start(writer).0 })
    })
    .join()
    .unwrap();
    assert_eq!(audit.record(numbered(1)).await, Err(AuditError::Closed));
    audit.record_detached(numbered(2));
}

#[tokio::test]
async fn l09_a_clock_that_went_back_is_recorded_and_the_order_kept() {
    const DAY: u64 = 24 * 60 * 60 * 1000;
    for fixture in Fixture::both().await {
        let (reader, mut writer) = open(&fixture.path()).await.unwrap();
        // The last record was written when the clock was a day ahead.
        let tomorrow = numbered(1).encode(now_ms() + DAY);
        let chain = audit::chain::link(&audit::chain::genesis(), 1, &tomorrow);
        let row = NewRecord {
            seq: 1,
            record: &tomorrow,
            chain: chain.as_bytes(),
            refusal: None,
            claim: None,
            at_ms: 0,
        };
        let mut batch = writer.begin().await.unwrap();
        batch.append(row, None).await.unwrap().unwrap();
        batch.commit().await.unwrap();

        let (audit, _drain) = Audit::start(writer);
        assert_eq!(audit.record(numbered(2)).await.unwrap().get(), 3);
        assert_eq!(audit.record(numbered(3)).await.unwrap().get(), 4);
        let entries = whole(&reader).await;
        let kinds: Vec<Kind> = entries.iter().map(|entry| entry.record.kind).collect();
        assert_eq!(kinds, [Kind::Call, Kind::Clock, Kind::Call, Kind::Call]);
        let jump: u64 = entries[1].record.field(Field::Micros).unwrap().parse().unwrap();
        assert!((DAY - 60_000..=DAY).contains(&(jump / 1000)), "{jump}");
        assert!(entries[0].at_ms > entries[1].at_ms && entries[1].at_ms <= entries[3].at_ms);
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_continued_is_refused_not_papered_over() {
    for damaged in [b"no record".as_slice(), b""] {
        let folder = tempfile::tempdir().unwrap();
        let (reader, mut writer) = store::open(&file_in(folder.path())).await.unwrap();
        let row =
            NewRecord { seq: 1, record: damaged, chain: &[1; 32], refusal: None, claim: None, at_ms: 0 };
        let mut batch = writer.begin().await.unwrap();
        batch.append(row, None).await.unwrap().unwrap();
        batch.commit().await.unwrap();
        let (audit, _drain) = Audit::start(writer);
        assert_eq!(audit.record(numbered(1)).await, Err(AuditError::Head));
        assert_eq!(reader.audit_after(0, 10).await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn l07_a_huge_or_hostile_value_is_bounded_and_reads_back() {
    for fixture in Fixture::both().await {
        let mut record = Record::new(Kind::Alert, Verdict::Block);
        for value in ["\u{1b}[2J\nforged", &"x".repeat(10_000_000), "\0\u{202e}"] {
            record = record.with(Field::Reason, value);
        }
        for _ in 0..100 {
            record = record.with(Field::Reason, "\u{10ffff}".repeat(1_000));
        }
        let seq = fixture.audit.record(record.clone()).await.unwrap();
        let entry = fixture.log().show(seq.get()).await.unwrap().unwrap();
        assert_eq!(entry.record, record);
        assert!(record.encode(0).len() < 40_000);
        assert_eq!(fixture.log().verify().await.unwrap().records, 1);
    }
}

#[tokio::test]
async fn an_empty_log_verifies() {
    let fixture = Fixture::new().await;
    let verified = Log::new(fixture.reader.clone()).verify().await.unwrap();
    assert_eq!((verified.records, verified.head), (0, audit::chain::genesis()));
    assert_ne!(verified.head, Digest::from_bytes([0; 32]));
}

/// A record for which nobody waits shares the sync of the next one for which somebody does, and needs none.
#[tokio::test]
async fn a_detached_record_waits_a_moment_for_company() {
    const ROUNDS: u64 = 20;
    let server = testkit::Postgres::start(&["-c", "log_statement=all"]);
    let database = server.database();
    let (reader, writer) = open(&on(&database).await).await.unwrap();
    let (audit, drain) = Audit::start(writer);
    let groups = || database.log().matches("INSERT INTO audit_record").count() as u64;
    for round in 0..ROUNDS {
        audit.record_detached(numbered(2 * round));
        // The task takes it.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        audit.record(numbered(2 * round + 1)).await.unwrap();
    }
    let shared = groups();
    assert!(shared < ROUNDS * 3 / 2, "{shared} groups for {ROUNDS} pairs");
    assert_eq!(whole(&reader).await.len() as u64, 2 * ROUNDS);
    audit.record_detached(numbered(2 * ROUNDS));
    let mut looks = 0;
    while groups() == shared {
        looks += 1;
        assert!(looks < 1000, "it waits for ever");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    drop(audit);
    drain.finish().await;
}
