//! L02 to L04: what a chain cannot show by itself, shown by seals in it and by checkpoints kept elsewhere.

use audit::checkpoint::{CheckpointError, Signed, Signer};
use audit::{Against, Audit, Broken, Fault, Log, chain, merkle};
use store::{AuditRow, NewRecord, Reader, Writer};
use types::{Digest, Kind};

use crate::fixture::{Fixture, file_in, numbered, open};

fn signer(seed: u8) -> Signer {
    Signer::from_seed(&[seed; 32]).unwrap()
}

/// What an owner kept elsewhere: the key, and the checkpoint where there is one.
fn kept(checkpoint: Option<&Signed>) -> Against {
    Against { key: Some(signer(1).verifier().clone()), checkpoint: checkpoint.cloned() }
}

/// Records so many, and lets the log seal its end.
async fn record(writer: Writer, key: u8, first: u64, count: u64) {
    let (audit, drain) = Audit::start_sealed(writer, signer(key));
    let tasks: Vec<_> = (first..first + count)
        .map(|number| {
            let audit = audit.clone();
            tokio::spawn(async move { audit.record(numbered(number)).await.unwrap() })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    drop(audit);
    drain.finish().await;
}

async fn rows(reader: &Reader) -> Vec<AuditRow> {
    reader.audit_after(0, 100_000).await.unwrap()
}

/// A second database that holds these rows, whatever they are.
async fn lay(rows: &[AuditRow]) -> (tempfile::TempDir, Reader, Writer) {
    let folder = tempfile::tempdir().unwrap();
    let (reader, mut writer) = store::open(&file_in(folder.path())).await.unwrap();
    let mut batch = writer.begin().await.unwrap();
    for row in rows {
        let chain = row.chain.as_slice().try_into().unwrap();
        let record =
            NewRecord { seq: row.seq, record: &row.record, chain, refusal: None, claim: None, at_ms: 0 };
        batch.append(record, None).await.unwrap().unwrap();
    }
    batch.commit().await.unwrap();
    (folder, reader, writer)
}

async fn verdict(rows: &[AuditRow], against: &Against) -> Result<u64, Broken> {
    let (_folder, reader, _writer) = lay(rows).await;
    Log::new(reader).verify_against(against).await.map(|verified| verified.records)
}

/// A sealed log with 300 records before its first seal and 300 after it, and its checkpoint.
async fn sealed() -> (Vec<AuditRow>, Signed) {
    let folder = tempfile::tempdir().unwrap();
    let path = file_in(folder.path());
    for part in 0..2 {
        let (_, writer) = store::open(&path).await.unwrap();
        record(writer, 1, part * 300, 300).await;
    }
    let (reader, _writer) = store::open(&path).await.unwrap();
    let verified = Log::new(reader.clone()).verify_against(&kept(None)).await.unwrap();
    (rows(&reader).await, signer(1).sign(verified.records, verified.root))
}

/// The numbers of the seals in a log.
fn seals(rows: &[AuditRow]) -> Vec<u64> {
    let kind = |row: &&AuditRow| types::Record::decode(&row.record).unwrap().1.kind == Kind::Checkpoint;
    rows.iter().filter(kind).map(|row| row.seq as u64).collect()
}

/// Changes what a record says and links all that follows anew, as whoever has the database could.
fn rewritten(rows: &[AuditRow], seq: u64) -> Vec<AuditRow> {
    let mut rows = rows.to_vec();
    rows[seq as usize - 1].record = numbered(999_999).encode(1);
    let mut head = chain::genesis();
    for row in &mut rows {
        head = chain::link(&head, row.seq as u64, &row.record);
        row.chain = head.as_bytes().to_vec();
    }
    rows
}

#[tokio::test]
async fn a_log_is_sealed_as_it_grows_and_at_its_end_and_goes_on_from_there() {
    for fixture in Fixture::both().await {
        let path = fixture.path();
        for part in 0..3 {
            let (_, writer) = open(&path).await.unwrap();
            record(writer, 1, part * 2_500, 2_500).await;
        }
        // A start at which nothing is recorded seals nothing.
        let (reader, writer) = open(&path).await.unwrap();
        record(writer, 1, 0, 0).await;
        let log = Log::new(reader.clone());
        let verified = log.verify_against(&kept(None)).await.unwrap();
        let seals = seals(&rows(&reader).await);
        assert_eq!(verified.records, 7_500 + seals.len() as u64);
        assert!(seals.len() >= 9, "{seals:?}");
        assert!(seals.windows(2).all(|pair| pair[1] - pair[0] <= 1_500), "{seals:?}");
        assert_eq!(seals.last(), Some(&verified.records));
        assert_eq!(verified.sealed.unwrap().size, verified.records - 1);
        assert_eq!(log.last_seal().await.unwrap().unwrap().size, verified.records - 1);
    }
}

#[tokio::test]
async fn a_log_of_one_record_is_sealed() {
    for fixture in Fixture::both().await {
        let (reader, writer) = open(&fixture.path()).await.unwrap();
        record(writer, 1, 0, 1).await;
        assert_eq!(seals(&rows(&reader).await), [2]);
        Log::new(reader).verify_against(&kept(None)).await.unwrap();
    }
}

/// However much was recorded since, by processes that do not seal.
#[tokio::test]
async fn the_last_seal_is_found_wherever_it_stands() {
    for fixture in Fixture::both().await {
        let (reader, writer) = open(&fixture.path()).await.unwrap();
        let log = Log::new(reader);
        assert_eq!(log.last_seal().await.unwrap(), None);
        record(writer, 1, 0, 10).await;
        let (_, writer) = open(&fixture.path()).await.unwrap();
        let (audit, drain) = Audit::start(writer);
        for number in 10..13_000 {
            audit.record_detached(numbered(number));
            if number % 512 == 0 {
                audit.record(numbered(number)).await.unwrap();
            }
        }
        drop(audit);
        drain.finish().await;
        assert!(log.verify().await.unwrap().records > 12_000);
        assert_eq!(log.last_seal().await.unwrap().unwrap().size, 10);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l11_two_writers_that_seal_one_log_fit_together() {
    for fixture in Fixture::both().await {
        let (_, first) = open(&fixture.path()).await.unwrap();
        let (reader, second) = open(&fixture.path()).await.unwrap();
        tokio::join!(record(first, 1, 0, 2_000), record(second, 1, 2_000, 2_000));
        let verified = Log::new(reader.clone()).verify_against(&kept(None)).await.unwrap();
        let seals = seals(&rows(&reader).await).len() as u64;
        assert_eq!(verified.records, 4_000 + seals);
        assert!(seals >= 4);
    }
}

#[tokio::test]
async fn l02_a_log_that_was_cut_is_shorter_than_its_checkpoint() {
    let (rows, checkpoint) = sealed().await;
    let all = rows.len() as u64;
    assert_eq!(verdict(&rows, &kept(Some(&checkpoint))).await, Ok(all));
    for left in [0, 1, 300, 301, all - 1] {
        let cut = &rows[..left as usize];
        // By itself it is a good log.
        assert_eq!(verdict(cut, &kept(None)).await, Ok(left));
        let found = verdict(cut, &kept(Some(&checkpoint))).await;
        assert_eq!(found, Err(Broken::Truncated { first: left + 1, size: all }));
    }
}

#[tokio::test]
async fn l02_a_log_that_was_rewritten_whole_is_found_by_its_seals_and_by_the_checkpoint() {
    let (rows, checkpoint) = sealed().await;
    let first_seal = seals(&rows)[0];
    for seq in [1, 150, first_seal + 1, first_seal + 200] {
        let found = verdict(&rewritten(&rows, seq), &Against::default()).await;
        let seal = seals(&rows).into_iter().find(|seal| *seal > seq).unwrap();
        assert_eq!(found, Err(Broken::Record { seq: seal, fault: Fault::Seal }), "{seq}");
    }
    // Without its seals, or with those of another key, it is a good chain; of another log.
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = store::open(&file_in(folder.path())).await.unwrap();
    record(writer, 2, 0, 1_000).await;
    let other = self::rows(&reader).await;
    let found = verdict(&other, &kept(Some(&checkpoint))).await;
    assert_eq!(found, Err(Broken::Record { seq: seals(&other)[0], fault: Fault::Key }));
    let unsealed: Vec<AuditRow> = other[..900].to_vec();
    let found = verdict(&unsealed, &kept(Some(&checkpoint))).await;
    assert_eq!(found, Err(Broken::Forked { first: 1, size: checkpoint.checkpoint.size }));
}

#[tokio::test]
async fn l03_a_second_continuation_of_an_old_state_is_found() {
    let (rows, checkpoint) = sealed().await;
    let first_seal = seals(&rows)[0];
    // The database is put back to what it was after the first part, and goes on with the right key.
    let (_folder, reader, writer) = lay(&rows[..first_seal as usize + 50]).await;
    record(writer, 1, 5_000, 600).await;
    let log = Log::new(reader);
    log.verify_against(&kept(None)).await.unwrap();
    let found = log.verify_against(&kept(Some(&checkpoint))).await;
    let Err(Broken::Forked { first, size }) = found else { panic!("{found:?}") };
    assert_eq!(size, checkpoint.checkpoint.size);
    assert!((first_seal..=first_seal + 51).contains(&first), "{first}");
}

#[tokio::test]
async fn l04_a_seal_of_another_key_is_named_whatever_it_seals() {
    let folder = tempfile::tempdir().unwrap();
    let path = file_in(folder.path());
    for key in [1, 2] {
        let (_, writer) = store::open(&path).await.unwrap();
        record(writer, key, 0, 10).await;
    }
    let (reader, _writer) = store::open(&path).await.unwrap();
    let last = seals(&rows(&reader).await)[1];
    for against in [kept(None), Against::default()] {
        let found = Log::new(reader.clone()).verify_against(&against).await;
        assert_eq!(found, Err(Broken::Record { seq: last, fault: Fault::Key }));
    }
    // A checkpoint of another key is no evidence for or against anything.
    let theirs = signer(2).sign(1, Digest::of(b"root"));
    let found = Log::new(reader).verify_against(&kept(Some(&theirs))).await;
    assert_eq!(found, Err(Broken::Checkpoint(CheckpointError::Key)));
}

#[tokio::test]
async fn a_record_is_proved_to_be_in_the_log_and_an_old_log_to_be_its_beginning() {
    let (rows, _) = sealed().await;
    let (_folder, reader, _writer) = lay(&rows).await;
    let log = Log::new(reader);
    let verified = log.verify().await.unwrap();
    for seq in [1, 2, 300, 301, verified.records] {
        let ranges = merkle::inclusion(seq - 1, verified.records).unwrap();
        let proof = log.roots(&ranges).await.unwrap();
        let chain = &rows[seq as usize - 1].chain;
        assert!(merkle::is_included(chain, seq - 1, verified.records, &proof, &verified.root));
        assert!(!merkle::is_included(chain, seq, verified.records, &proof, &verified.root));
    }
    let old = seals(&rows)[0];
    let before = log.roots(std::slice::from_ref(&(0..old))).await.unwrap()[0];
    let ranges = merkle::consistency(old, verified.records).unwrap();
    let proof = log.roots(&ranges).await.unwrap();
    assert!(merkle::is_consistent((old, &before), (verified.records, &verified.root), &proof));
    let other = Digest::of(b"other");
    assert!(!merkle::is_consistent((old, &other), (verified.records, &verified.root), &proof));
}
