//! K15 and L06: a server that goes away, comes back, or cuts a connection in the middle.

use std::time::{Duration, Instant};

use store::{Lost, Mutation, NewRecord, StoreError};
use testkit::Postgres;

use crate::fixture::{Fixture, migrate, open};
use crate::mutations::slot;

const RECORD: NewRecord<'static> =
    NewRecord { seq: 1, record: b"r", chain: &[0; 32], refusal: None, claim: None, at_ms: 0 };

#[tokio::test]
async fn k15_a_connection_cut_in_the_middle_leaves_the_old_state_and_the_next_change_succeeds() {
    let mut fixture = Fixture::on_server().await;
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let mut batch = fixture.writer.begin().await.unwrap();
    batch.append(RECORD, Some(&Mutation::AddSlot(slot("a")))).await.unwrap().unwrap();
    match &fixture.place {
        crate::fixture::Place::Server(database) => assert_ne!(database.admin(cut), "0"),
        crate::fixture::Place::File(_) => unreachable!(),
    }
    assert_eq!(batch.commit().await, Err(StoreError::Away));
    assert_eq!(fixture.records().await, 0);
    assert!(fixture.reader.slots().await.unwrap().is_empty());
    fixture.change(Mutation::AddSlot(slot("a"))).await.unwrap();
    assert_eq!(fixture.change(Mutation::AddSlot(slot("a"))).await, Err(Lost::Exists));

    // Idle connections of readers and writer are cut too, and nobody notices.
    assert_ne!(fixture.database().admin(cut), "0");
    assert_eq!(fixture.reader.slots().await.unwrap().len(), 1);
    fixture.change(Mutation::AddSlot(slot("b"))).await.unwrap();
    assert_eq!(fixture.records().await, 2);
}

#[tokio::test]
async fn l06_a_server_that_is_away_refuses_at_once_and_serves_again_when_it_returns() {
    let mut server = Postgres::start(&[]);
    let database = server.database();
    migrate(&database).await;
    let (reader, mut writer) = open(&database.runtime()).await.unwrap();
    for crash in [false, true] {
        assert!(reader.slots().await.unwrap().is_empty());
        writer.begin().await.unwrap().commit().await.unwrap();
        if crash {
            server.kill()
        } else {
            server.stop()
        };
        let began = Instant::now();
        assert_eq!(writer.begin().await.err(), Some(StoreError::Away));
        assert_eq!(reader.slots().await.err(), Some(StoreError::Away));
        assert_eq!(open(&database.runtime()).await.err(), Some(StoreError::Away));
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
        server.start_again();
        assert!(reader.slots().await.unwrap().is_empty());
        writer.begin().await.unwrap().commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_writer_that_is_stuck_holds_up_the_others_only_so_long() {
    let mut fixture = Fixture::on_server().await;
    let (_, mut second) = open(&fixture.place.address()).await.unwrap();
    let stuck = fixture.writer.begin().await.unwrap();
    let began = Instant::now();
    assert_eq!(second.begin().await.err(), Some(StoreError::Busy));
    assert!(began.elapsed() >= store::BUSY_TIMEOUT && began.elapsed() < 3 * store::BUSY_TIMEOUT);
    drop(stuck);
    second.begin().await.unwrap().commit().await.unwrap();
}
