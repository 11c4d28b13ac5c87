//! The key that seals the audit log, kept in the vault (L04).

use audit::Log;
use secrets::VaultError;
use store::Mutation;
use types::{Field, Kind, Record, Verdict};

use crate::fixture::World;

#[tokio::test]
async fn l04_a_key_of_the_log_is_made_once_kept_sealed_and_the_same_for_every_node() {
    for world in World::both().await {
        assert!(world.vault.log_signer().await.unwrap().is_none());
        let others = [world.home.vault().await, world.home.vault().await];
        let made =
            tokio::join!(world.vault.first_log_key(), others[0].first_log_key(), others[1].first_log_key());
        let key = made.0.unwrap().verifier().clone();
        assert_eq!(made.1.unwrap().verifier(), &key);
        assert_eq!(made.2.unwrap().verifier(), &key);
        // One that is to follow is kept, and not in force before the log says so.
        let next = world.vault.next_log_key().await.unwrap();
        let signer = others[0].log_signer().await.unwrap().unwrap();
        assert_eq!(signer.verifier(), &key);
        world.audit.seal_with(signer).await.unwrap();
        let verifier = next.verifier().clone();
        world.audit.hand_over(next).await.unwrap();
        assert_eq!(others[1].log_signer().await.unwrap().unwrap().verifier(), &verifier);
        Log::new(world.reader.clone()).verify().await.unwrap();
    }
}

/// What the newest key of a log is sealed as.
async fn sealed(world: &World) -> String {
    let row = world.reader.last_claim("log-key/", "log-key0").await.unwrap().unwrap();
    Record::decode(&row.record).unwrap().1.field(Field::Sealed).unwrap().to_owned()
}

/// Puts a record of a key before all others, so that it would be the one that is used.
async fn forge(world: &World, sealed: &str) {
    let record = Record::new(Kind::Vault, Verdict::Done)
        .with(Field::Sealed, sealed)
        .with(Field::Claim, "log-key/00000000000000000000");
    world.audit.change(record, Mutation::Claim).await.unwrap();
}

#[tokio::test]
async fn l04_a_record_that_holds_no_key_of_the_log_is_said_to_hold_none() {
    for forged in ["AAAA", "?"] {
        for world in World::both().await {
            world.vault.first_log_key().await.unwrap();
            forge(&world, forged).await;
            assert!(matches!(world.vault.log_signer().await, Err(VaultError::LogKey(_))));
        }
    }
}

/// A sealed key stands for its number alone, and one of another vault, which may share the log, for nothing.
#[tokio::test]
async fn l04_a_key_of_the_log_that_was_moved_or_is_of_another_vault_is_passed_over() {
    let other = World::new("bearer").await;
    other.vault.first_log_key().await.unwrap();
    let theirs = sealed(&other).await;
    for forged in [None, Some(theirs)] {
        for world in World::both().await {
            let ours = world.vault.first_log_key().await.unwrap().verifier().clone();
            let forged = match &forged {
                Some(forged) => forged.clone(),
                None => sealed(&world).await,
            };
            forge(&world, &forged).await;
            assert_eq!(world.vault.log_signer().await.unwrap().unwrap().verifier(), &ours);
        }
    }
    // Nor does one come to be the key of the log by standing where ours would.
    let world = World::new("bearer").await;
    let record = Record::new(Kind::Vault, Verdict::Done)
        .with(Field::Sealed, sealed(&other).await)
        .with(Field::Claim, "log-key/00000000000000000001");
    world.audit.change(record, Mutation::Claim).await.unwrap();
    assert!(world.vault.log_signer().await.unwrap().is_none());
    assert!(matches!(world.vault.first_log_key().await, Err(VaultError::Changed(_))));
}
