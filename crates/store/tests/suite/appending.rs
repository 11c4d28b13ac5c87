//! Appending in one statement: only where the log still ends as the caller believes.

use store::NewRecord;

use crate::fixture::{Fixture, open};

fn record(seq: i64, chain: &[u8; 32]) -> NewRecord<'_> {
    NewRecord { seq, record: b"a record", chain, refusal: None, claim: None, at_ms: 0 }
}

#[tokio::test]
async fn l11_records_are_appended_after_the_link_that_was_named_or_not_at_all() {
    for mut fixture in Fixture::both().await {
        let address = fixture.place.address();
        let is_file = !address.starts_with("postgres");
        let (_, mut other) = open(&address).await.unwrap();
        let first = [1; 32];
        let mut batch = fixture.writer.begin().await.unwrap();
        batch.append(record(1, &first), None).await.unwrap().unwrap();
        batch.commit().await.unwrap();
        // Numbers that are free, after another link: a gap would be in the chain.
        let wrong = fixture.writer.append_after(&[9; 32], &[record(3, &[3; 32])]).await;
        assert_eq!((wrong, fixture.records().await), (Ok(false), 1));
        // A server is never written to in this way.
        let two = [record(2, &[2; 32]), record(3, &[3; 32])];
        assert_eq!(fixture.writer.append_after(&first, &two).await, Ok(is_file));
        assert_eq!(fixture.records().await, if is_file { 3 } else { 1 });
        // Whoever knows an older end is told so.
        assert_eq!(other.append_after(&first, &[record(4, &[4; 32])]).await, Ok(false));
        assert_eq!(other.append_after(&[3; 32], &[record(4, &[4; 32])]).await, Ok(is_file));
        assert_eq!(fixture.records().await, if is_file { 4 } else { 1 });
    }
}
