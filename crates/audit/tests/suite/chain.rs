//! L01: whatever is done to the table, verification names the first record that is not as written.
//!
//! A good log is read row by row, altered, and written to a second database by the raw writer, which
//! takes any row: what results is what an attacker with the file could leave behind.

use audit::{Broken, Fault, Log};
use proptest::prelude::*;
use store::{AuditRow, NewRecord};
use types::{Digest, Field, Kind, Record, RefusalId, Verdict};

use crate::fixture::{Fixture, empty_place, file_in, numbered, write_private};

const RECORDS: usize = 12;

/// The rows of a good log; every third record is a refusal.
async fn good_rows() -> Vec<AuditRow> {
    let fixture = Fixture::new().await;
    for number in 0..RECORDS as u64 {
        let record = match number % 3 {
            0 => Record::new(Kind::Request, Verdict::Block).with(Field::Refusal, RefusalId::new()),
            _ => numbered(number),
        };
        fixture.audit.record(record).await.unwrap();
    }
    fixture.reader.audit_after(0, 1_000).await.unwrap()
}

/// Writes rows as they are and verifies them.
async fn verdict(rows: &[AuditRow]) -> Result<u64, (u64, Fault)> {
    let folder = tempfile::tempdir().unwrap();
    let (reader, mut writer) = store::open(&file_in(folder.path())).await.unwrap();
    let mut batch = writer.begin().await.unwrap();
    for row in rows {
        let chain = row.chain.as_slice().try_into().unwrap();
        let refusal = row.refusal.clone().map(|id| RefusalId::from_bytes(id.try_into().unwrap()));
        let record = NewRecord { seq: row.seq, record: &row.record, chain, refusal, claim: None, at_ms: 0 };
        batch.append(record, None).await.unwrap().unwrap();
    }
    batch.commit().await.unwrap();
    match Log::new(reader).verify().await {
        Ok(verified) => Ok(verified.records),
        Err(Broken::Record { seq, fault }) => Err((seq, fault)),
        Err(error) => panic!("{error}"),
    }
}

fn blocking<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[tokio::test]
async fn a07_l01_every_column_of_every_record_counts() {
    let good = good_rows().await;
    assert_eq!(verdict(&good).await, Ok(RECORDS as u64));
    for index in 0..RECORDS {
        let seq = index as u64 + 1;
        let bad = |alter: fn(&mut AuditRow)| {
            let mut rows = good.clone();
            alter(&mut rows[index]);
            rows
        };
        // The time is the second to ninth byte of a record.
        let time = bad(|row| row.record[8] ^= 1);
        assert_eq!(verdict(&time).await, Err((seq, Fault::Chain)));
        let cut = bad(|row| row.record.truncate(5));
        assert_eq!(verdict(&cut).await, Err((seq, Fault::Chain)));
        let hash = bad(|row| row.chain[31] ^= 0x80);
        assert_eq!(verdict(&hash).await, Err((seq, Fault::Chain)));
        let index_moved = bad(|row| row.refusal = Some(vec![7; 16]));
        assert_eq!(verdict(&index_moved).await, Err((seq, Fault::Index)));
        if good[index].refusal.is_some() {
            let index_gone = bad(|row| row.refusal = None);
            assert_eq!(verdict(&index_gone).await, Err((seq, Fault::Index)));
        }
    }
}

#[tokio::test]
async fn a07_l01_deleted_inserted_and_moved_records_are_named() {
    let good = good_rows().await;
    for index in 0..RECORDS {
        let seq = index as u64 + 1;
        let mut deleted = good.clone();
        deleted.remove(index);
        let expected = if index + 1 == RECORDS { Ok(seq - 1) } else { Err((seq, Fault::Missing)) };
        // A record cut off at the end shows only against a head kept elsewhere.
        assert_eq!(verdict(&deleted).await, expected);

        // Deleted, with the later ones moved up to close the gap.
        let mut closed = deleted;
        closed[index..].iter_mut().for_each(|row| row.seq -= 1);
        let expected = if index + 1 == RECORDS { Ok(seq - 1) } else { Err((seq, Fault::Chain)) };
        assert_eq!(verdict(&closed).await, expected);

        // A copy put in, with the later ones moved down.
        let mut inserted = good.clone();
        let copy = good[(index + 5) % RECORDS].clone();
        inserted[index..].iter_mut().for_each(|row| row.seq += 1);
        inserted.insert(index, AuditRow { seq: seq as i64, ..copy });
        assert_eq!(verdict(&inserted).await, Err((seq, Fault::Chain)));

        // Two that change places, but for their numbers.
        if index + 1 < RECORDS {
            let mut moved = good.clone();
            moved.swap(index, index + 1);
            (moved[index].seq, moved[index + 1].seq) = (seq as i64, seq as i64 + 1);
            assert_eq!(verdict(&moved).await, Err((seq, Fault::Chain)));
        }
    }
}

#[tokio::test]
async fn l01_a_record_rewritten_with_its_hash_is_contradicted_by_the_next() {
    let good = good_rows().await;
    let mut rows = good.clone();
    rows[4].record = numbered(999).encode(1);
    let before = Digest::from_bytes(rows[3].chain.clone().try_into().unwrap());
    rows[4].chain = audit::chain::link(&before, 5, &rows[4].record).as_bytes().to_vec();
    rows[4].refusal = None;
    assert_eq!(verdict(&rows).await, Err((6, Fault::Chain)));
}

#[tokio::test]
async fn l01_bytes_that_are_no_record_are_named_even_when_the_chain_holds() {
    let mut rows = good_rows().await;
    rows.truncate(5);
    let before = Digest::from_bytes(rows[4].chain.clone().try_into().unwrap());
    let record = b"not a record".to_vec();
    let chain = audit::chain::link(&before, 6, &record).as_bytes().to_vec();
    rows.push(AuditRow { seq: 6, record, chain, refusal: None, claim: None });
    assert_eq!(verdict(&rows).await, Err((6, Fault::Unreadable)));
}

#[tokio::test]
async fn l01_bytes_flipped_in_the_file_itself_are_found() {
    let fixture = Fixture::new().await;
    let id = RefusalId::new();
    for number in 1..=3 {
        fixture.audit.record(numbered(number)).await.unwrap();
    }
    let refusal = Record::new(Kind::Request, Verdict::Block).with(Field::Refusal, id);
    fixture.audit.record(refusal).await.unwrap();
    fixture.audit.record(numbered(5)).await.unwrap();
    let rows = fixture.reader.audit_after(0, 10).await.unwrap();
    let path = fixture.path();
    drop(fixture.audit);
    fixture.drain.finish().await;
    // The last connection moves the write-ahead log into the file.
    fixture.reader.close().await;
    let file = std::fs::read(&path).unwrap();
    for (needle, seq) in [(&rows[1].record, 2), (&rows[2].chain, 3), (&rows[3].record, 4)] {
        let (_folder, copy) = empty_place();
        let mut bytes = file.clone();
        let at = bytes.windows(needle.len()).position(|window| window == needle.as_slice()).unwrap();
        bytes[at + needle.len() - 1] ^= 1;
        write_private(&copy, &bytes);
        let (reader, _writer) = store::open(&copy).await.unwrap();
        let broken = Log::new(reader).verify().await.unwrap_err();
        assert!(matches!(broken, Broken::Record { seq: found, .. } if found == seq), "{seq}: {broken}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// One byte of one record or hash, anywhere.
    #[test]
    fn l01_any_changed_byte_is_named(row in 0..RECORDS, at in any::<prop::sample::Index>(), flip in 1u8..=255, hash: bool) {
        let found = blocking(async {
            let mut rows = good_rows().await;
            let bytes = if hash { &mut rows[row].chain } else { &mut rows[row].record };
            let index = at.index(bytes.len());
            bytes[index] ^= flip;
            verdict(&rows).await
        });
        prop_assert_eq!(found, Err((row as u64 + 1, Fault::Chain)));
    }

    /// Any order but the right one.
    #[test]
    fn l01_any_other_order_is_named(order in Just((0..RECORDS).collect::<Vec<_>>()).prop_shuffle()) {
        let found = blocking(async {
            let good = good_rows().await;
            let rows: Vec<AuditRow> = order.iter().enumerate()
                .map(|(place, index)| AuditRow { seq: place as i64 + 1, ..good[*index].clone() })
                .collect();
            verdict(&rows).await
        });
        let first = order.iter().enumerate().position(|(place, index)| place != *index);
        prop_assert_eq!(found, first.map_or(Ok(RECORDS as u64), |place| Err((place as u64 + 1, Fault::Chain))));
    }
}
