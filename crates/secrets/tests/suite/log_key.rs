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

/// A sealed key stands for its number alone, and one of another vault for nothing.
#[tokio::test]
async fn l04_a_key_of_the_log_that_was_moved_or_forged_does_not_open() {
    let other = World::new("bearer").await;
    other.vault.first_log_key().await.unwrap();
    let theirs = sealed(&other).await;
    for forge in [None, Some(theirs), Some("AAAA".to_owned()), Some("?".to_owned())] {
        for world in World::both().await {
            world.vault.first_log_key().await.unwrap();
            let sealed = match &forge {
                Some(forged) => forged.clone(),
                None => sealed(&world).await,
            };
            // Before the first one, so that it would be the one that is used.
            let record = Record::new(Kind::Vault, Verdict::Done)
                .with(Field::Sealed, sealed)
                .with(Field::Claim, "log-key/00000000000000000000");
            world.audit.change(record, Mutation::Claim).await.unwrap();
            assert!(matches!(world.vault.log_signer().await, Err(VaultError::LogKey(_))));
        }
    }
}
