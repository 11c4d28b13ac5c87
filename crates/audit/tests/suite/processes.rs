//! L11: several writers on one database make one chain, because each reads the head inside its write
//! transaction.

use std::collections::BTreeMap;

use audit::Audit;

use crate::fixture::{Fixture, Other, number_of, numbered, open, pair, say, told_path, whole};

const EACH: u64 = 200;

/// Records a range of numbers from 16 tasks; the number of each record.
async fn record_range(audit: &Audit, first: u64) -> BTreeMap<u64, u64> {
    let tasks: Vec<_> = (first..first + EACH)
        .map(|number| {
            let audit = audit.clone();
            tokio::spawn(async move {
                let seq = if number.is_multiple_of(2) {
                    audit.record(numbered(number)).await.unwrap()
                } else {
                    let (record, mutation) = pair(number);
                    audit.change(record, mutation).await.unwrap()
                };
                (seq.get(), number)
            })
        })
        .collect();
    let mut recorded = BTreeMap::new();
    for task in tasks {
        let (seq, number) = task.await.unwrap();
        assert_eq!(recorded.insert(seq, number), None, "one number for two records");
    }
    recorded
}

#[tokio::test]
async fn l11_processes_that_append_at_once_make_one_chain() {
    for fixture in Fixture::both().await {
        let path = fixture.path();
        let mut others: Vec<Other> =
            (0..2).map(|_| Other::start("processes::child_records_a_range", &path)).collect();
        for (index, other) in others.iter_mut().enumerate() {
            other.next("ready").unwrap();
            use std::io::Write as _;
            writeln!(other.child.stdin.as_mut().unwrap(), "{}", (index as u64 + 1) * EACH).unwrap();
        }
        let mut all = record_range(&fixture.audit, 0).await;
        for mut other in others {
            for _ in 0..EACH {
                let line = other.next("durable").unwrap();
                let (seq, number) = line.split_once('@').unwrap();
                assert_eq!(all.insert(seq.parse().unwrap(), number.parse().unwrap()), None);
            }
            other.finish();
        }
        let entries = whole(&fixture.reader).await;
        let found: BTreeMap<u64, u64> = entries.iter().map(|entry| (entry.seq, number_of(entry))).collect();
        assert_eq!(found, all);
    }
}

/// Not a test of its own: the other processes of the one above.
#[tokio::test]
#[ignore = "started by l11_processes_that_append_at_once_make_one_chain"]
async fn child_records_a_range() {
    let Some(path) = told_path() else { return };
    let (_reader, writer) = open(&path).await.unwrap();
    let (audit, drain) = Audit::start(writer);
    say("ready", 0);
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    for (seq, number) in record_range(&audit, line.trim().parse().unwrap()).await {
        say("durable", format_args!("{seq}@{number}"));
    }
    drop(audit);
    drain.finish().await;
}

/// K10: how old a permit is, is told by one clock, that of the server, whatever the processes' say.
#[tokio::test]
async fn k10_a_process_whose_clock_is_wrong_records_by_the_clock_of_the_server() {
    let fixture = Fixture::on_server().await;
    fixture.audit.record(numbered(1)).await.unwrap();
    let tomorrow = ["env", "FAKETIME_DONT_FAKE_MONOTONIC=1", "faketime", "-f", "+1d"];
    let mut other = Other::start_under(&tomorrow, "processes::child_says_the_time", &fixture.path());
    let believed: u64 = other.next("believed").unwrap().parse().unwrap();
    other.finish();
    fixture.audit.record(numbered(3)).await.unwrap();
    let now = audit::now_ms();
    const HOUR: u64 = 60 * 60 * 1000;
    assert!(believed > now + 23 * HOUR, "the other process knows the time");
    let entries = whole(&fixture.reader).await;
    assert_eq!(entries.iter().map(number_of).collect::<Vec<_>>(), [1, 2, 3], "the clock went back");
    assert!(entries.is_sorted_by_key(|entry| entry.at_ms));
    assert!(entries.iter().all(|entry| entry.at_ms.abs_diff(now) < HOUR));
}

/// Not a test of its own: the other process of the one above.
#[tokio::test]
#[ignore = "started by k10_a_process_whose_clock_is_wrong_records_by_the_clock_of_the_server"]
async fn child_says_the_time() {
    let Some(path) = told_path() else { return };
    let (_reader, writer) = open(&path).await.unwrap();
    let (audit, drain) = Audit::start(writer);
    audit.record(numbered(2)).await.unwrap();
    say("believed", audit::now_ms());
    drop(audit);
    drain.finish().await;
}

#[tokio::test]
async fn l11_a_writer_with_an_old_head_continues_the_newest_one() {
    for fixture in Fixture::both().await {
        let (_reader, writer) = open(&fixture.path()).await.unwrap();
        let (second, _drain) = Audit::start(writer);
        for round in 0..10 {
            let first = fixture.audit.record(numbered(round * 2)).await.unwrap();
            let next = second.record(numbered(round * 2 + 1)).await.unwrap();
            assert_eq!((first.get(), next.get()), (round * 2 + 1, round * 2 + 2));
        }
        assert_eq!(whole(&fixture.reader).await.len(), 20);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l11_two_stores_of_one_process_under_load_make_one_chain() {
    for fixture in Fixture::both().await {
        let (_reader, writer) = open(&fixture.path()).await.unwrap();
        let (second, _drain) = Audit::start(writer);
        let (mut all, more) = tokio::join!(record_range(&fixture.audit, 0), record_range(&second, EACH));
        all.extend(more);
        let entries = whole(&fixture.reader).await;
        assert_eq!(
            entries.iter().map(|entry| (entry.seq, number_of(entry))).collect::<BTreeMap<_, _>>(),
            all
        );
        assert_eq!(all.len() as u64, 2 * EACH);
    }
}
