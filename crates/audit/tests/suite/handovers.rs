//! L04: the key that seals is exchanged, by whoever has it and by nobody else.

use audit::checkpoint::{CheckpointError, Signed, Signer};
use audit::{Against, Audit, Broken, ChangeError, Fault, Log};
use store::{Lost, Mutation};
use types::{Field, Kind, Record};

use crate::fixture::{Fixture, numbered, open};

fn signer(seed: u8) -> Signer {
    Signer::from_seed(&[seed; 32]).unwrap()
}

async fn started(fixture: &Fixture, key: u8) -> (Audit, audit::Drain) {
    Audit::start_sealed(open(&fixture.path()).await.unwrap().1, signer(key))
}

async fn record(audit: &Audit, first: u64) {
    for number in first..first + 20 {
        audit.record(numbered(number)).await.unwrap();
    }
}

/// A log that key 1 sealed, then 2, then 3; and a checkpoint of each time.
async fn exchanged(fixture: &Fixture) -> Vec<Signed> {
    let mut kept = Vec::new();
    for key in 1..=3 {
        let (audit, drain) = started(fixture, key).await;
        record(&audit, u64::from(key) * 100).await;
        if key < 3 {
            audit.hand_over(signer(key + 1)).await.unwrap();
            record(&audit, u64::from(key) * 100 + 50).await;
        }
        drop(audit);
        drain.finish().await;
        let verified = fixture.log().verify().await.unwrap();
        kept.push(signer((key + 1).min(3)).sign(verified.records, verified.root));
    }
    kept
}

async fn against(log: &Log, key: u8, checkpoint: Option<&Signed>) -> Result<u64, Broken> {
    let against = Against { key: Some(signer(key).verifier().clone()), checkpoint: checkpoint.cloned() };
    log.verify_against(&against).await.map(|verified| verified.records)
}

#[tokio::test]
async fn l04_whoever_trusts_one_of_the_keys_can_check_all_of_the_log() {
    for fixture in Fixture::both().await {
        let kept = exchanged(&fixture).await;
        let log = fixture.log();
        let records = log.verify().await.unwrap().records;
        for key in 1..=3 {
            for checkpoint in kept.iter().map(Some).chain([None]) {
                assert_eq!(against(&log, key, checkpoint).await, Ok(records));
            }
        }
        assert!(matches!(against(&log, 4, None).await, Err(Broken::Record { fault: Fault::Key, .. })));
        let forged = signer(4).sign(records, log.verify().await.unwrap().root);
        assert_eq!(against(&log, 3, Some(&forged)).await, Err(Broken::Checkpoint(CheckpointError::Key)));
        assert_eq!(log.handovers().await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn l04_a_process_with_the_old_key_goes_on_recording_and_seals_no_more() {
    for fixture in Fixture::both().await {
        let (old, drain_old) = started(&fixture, 1).await;
        record(&old, 0).await;
        let (new, drain_new) = started(&fixture, 1).await;
        new.hand_over(signer(2)).await.unwrap();
        for round in 0..3 {
            record(&old, 1_000 + round * 100).await;
            record(&new, 2_000 + round * 100).await;
        }
        // Nor can it hand over what is no longer its own.
        let again = old.hand_over(signer(3)).await;
        assert!(matches!(again, Err(ChangeError::Lost(Lost::Changed))), "{again:?}");
        drop((old, new));
        drain_old.finish().await;
        drain_new.finish().await;
        for key in 1..=2 {
            against(&fixture.log(), key, None).await.unwrap();
        }
        assert_eq!(fixture.log().last_seal().await.unwrap().unwrap().origin, signer(2).verifier().name());
    }
}

#[tokio::test]
async fn l04_a_seal_or_a_handover_by_the_wrong_key_is_named() {
    // A seal of the old key after the handover, by somebody who has it and writes past this program.
    for fixture in Fixture::both().await {
        exchanged(&fixture).await;
        let log = fixture.log();
        let (records, root) = {
            let verified = log.verify().await.unwrap();
            (verified.records, verified.root)
        };
        let last = log.tail(100).await.unwrap();
        let seal = last.iter().rev().find(|entry| entry.record.kind == Kind::Checkpoint).unwrap();
        let old = signer(1).sign(records, root).to_string();
        let signature = old.trim_end().rsplit(' ').next().unwrap().to_owned();
        let mut forged = Record::new(Kind::Checkpoint, seal.record.verdict)
            .with(Field::Actor, signer(1).verifier().name())
            .with(Field::Count, records)
            .with(Field::Digest, root)
            .with(Field::Signature, signature);
        forged = forged.with(Field::Peaks, seal.record.field(Field::Peaks).unwrap());
        let (audit, drain) = Audit::start(open(&fixture.path()).await.unwrap().1);
        audit.record(forged).await.unwrap();
        drop(audit);
        drain.finish().await;
        let found = log.verify().await;
        let is_named = |fault: Fault| matches!(fault, Fault::Key | Fault::Seal);
        assert!(
            matches!(found, Err(Broken::Record { seq, fault }) if seq == records + 1 && is_named(fault)),
            "{found:?}"
        );
    }
    // A handover in the right place to a key of somebody's own, which the key in force did not sign; and a real
    // one that was moved there.
    for (fixture, is_moved) in Fixture::both().await.into_iter().zip([false, true]) {
        exchanged(&fixture).await;
        let log = fixture.log();
        let verified = log.verify().await.unwrap();
        let records = verified.records;
        let stranger = signer(4).verifier().to_string();
        let real =
            log.tail(1_000).await.unwrap().into_iter().find(|entry| entry.record.kind == Kind::Signing);
        let real = real.unwrap().record;
        let mut forged = Record::new(Kind::Signing, real.verdict);
        for (field, value) in real.fields() {
            let value = match field {
                Field::Claim => format!("signing/{records:020}"),
                Field::Count => records.to_string(),
                Field::Key if !is_moved => signer(3).verifier().to_string(),
                Field::Successor if !is_moved => stranger.clone(),
                Field::Digest if !is_moved => verified.root.to_string(),
                _ => value.clone(),
            };
            forged = forged.with(*field, value);
        }
        let (audit, drain) = Audit::start(open(&fixture.path()).await.unwrap().1);
        audit.change(forged, Mutation::Claim).await.unwrap();
        drop(audit);
        drain.finish().await;
        let found = log.verify().await;
        assert_eq!(found, Err(Broken::Record { seq: records + 1, fault: Fault::Key }));
    }
}
