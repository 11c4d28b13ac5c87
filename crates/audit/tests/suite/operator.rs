//! L01 to L03 on a server: what its operator, whom no policy and no grant binds, does to the table of a log is
//! found. The same is done to a file in `chain` and `seals`, byte by byte.

use audit::checkpoint::{Signed, Signer};
use audit::{Against, Audit, Broken, Fault, Log};
use store::Reader;
use testkit::{Database, Postgres};

use crate::fixture::{numbered, on, open};

/// Records before the seal at the end of a log.
const RECORDS: u64 = 12;

fn signer(seed: u8) -> Signer {
    Signer::from_seed(&[seed; 32]).unwrap()
}

/// Records so many more, and seals the end.
async fn record(database: &Database, key: u8, first: u64) -> Reader {
    let url = std::path::PathBuf::from(database.runtime());
    let (reader, writer) = open(&url).await.unwrap();
    let (audit, drain) = Audit::start_sealed(writer, signer(key));
    for number in first..first + RECORDS {
        audit.record(numbered(number)).await.unwrap();
    }
    drop(audit);
    drain.finish().await;
    reader
}

/// A sealed log on a server, and a checkpoint of it that was kept elsewhere.
async fn sealed() -> (Database, Reader, Signed) {
    let database = Postgres::shared();
    on(&database).await;
    let reader = record(&database, 1, 1).await;
    let verified = Log::new(reader.clone()).verify().await.unwrap();
    assert_eq!(verified.records, RECORDS + 1);
    (database, reader, signer(1).sign(verified.records, verified.root))
}

async fn verdict(reader: &Reader, checkpoint: Option<&Signed>) -> Result<u64, Broken> {
    let key = Some(signer(1).verifier().clone());
    let against = Against { key, checkpoint: checkpoint.cloned() };
    Log::new(reader.clone()).verify_against(&against).await.map(|verified| verified.records)
}

#[tokio::test]
async fn l01_what_an_operator_changes_deletes_inserts_or_moves_is_named() {
    let flipped = |place: &str| {
        format!(
            "UPDATE ironclaw.audit_record SET record = set_byte(record, {place}, get_byte(record, {place}) # 1) WHERE seq = 5"
        )
    };
    let bad = |seq, fault| Err(Broken::Record { seq, fault });
    for (sql, expected) in [
        (flipped("length(record) - 1"), bad(5, Fault::Chain)),
        // The time is the second to ninth byte of a record.
        (flipped("8"), bad(5, Fault::Chain)),
        ("UPDATE ironclaw.audit_record SET chain = set_byte(chain, 0, get_byte(chain, 0) # 1) WHERE seq = 5".into(), bad(5, Fault::Chain)),
        ("UPDATE ironclaw.audit_record SET refusal = decode(repeat('07', 16), 'hex') WHERE seq = 5".into(), bad(5, Fault::Index)),
        ("DELETE FROM ironclaw.audit_record WHERE seq = 5".into(), bad(5, Fault::Missing)),
        (
            "UPDATE ironclaw.audit_record SET seq = seq + 1000 WHERE seq >= 5;
             INSERT INTO ironclaw.audit_record (seq, record, chain) SELECT 5, record, chain FROM ironclaw.audit_record WHERE seq = 3;
             UPDATE ironclaw.audit_record SET seq = seq - 999 WHERE seq > 1000".into(),
            bad(5, Fault::Chain),
        ),
        (
            "UPDATE ironclaw.audit_record SET seq = 1000 WHERE seq = 5; UPDATE ironclaw.audit_record SET seq = 5 WHERE seq = 6;
             UPDATE ironclaw.audit_record SET seq = 6 WHERE seq = 1000".into(),
            bad(5, Fault::Chain),
        ),
    ] {
        let (database, reader, _) = sealed().await;
        database.admin(&sql);
        assert_eq!(verdict(&reader, None).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn l02_what_an_operator_cuts_or_replaces_contradicts_the_checkpoint() {
    for left in [0, 1, RECORDS] {
        let (database, reader, checkpoint) = sealed().await;
        database.admin(&format!("DELETE FROM ironclaw.audit_record WHERE seq > {left}"));
        assert_eq!(verdict(&reader, None).await, Ok(left), "by itself it is a good log");
        let size = RECORDS + 1;
        assert_eq!(
            verdict(&reader, Some(&checkpoint)).await,
            Err(Broken::Truncated { first: left + 1, size })
        );
    }
    let (database, reader, checkpoint) = sealed().await;
    database.admin("DELETE FROM ironclaw.audit_record");
    record(&database, 2, 1).await;
    let found = verdict(&reader, Some(&checkpoint)).await;
    assert_eq!(found, Err(Broken::Record { seq: RECORDS + 1, fault: Fault::Key }), "another valid chain");
}

#[tokio::test]
async fn l03_a_log_that_an_operator_put_back_and_that_went_on_is_found() {
    let (database, reader, checkpoint) = sealed().await;
    database.admin("DELETE FROM ironclaw.audit_record WHERE seq > 6");
    record(&database, 1, 100).await;
    assert!(verdict(&reader, None).await.is_ok(), "by itself it is a good log");
    let found = verdict(&reader, Some(&checkpoint)).await;
    assert_eq!(found, Err(Broken::Forked { first: 1, size: RECORDS + 1 }));
}
