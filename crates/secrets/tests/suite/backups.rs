//! A backup under a passphrase, brought back here and elsewhere.

use secrets::backup::BackupError;
use secrets::{Vault, VaultError};

use crate::fixture::{Home, SECRET, World, name, plain, random_value};

const PHRASE: &str = "a long passphrase";

fn fault<T>(outcome: Result<T, VaultError>) -> BackupError {
    match outcome.err() {
        Some(VaultError::Backup(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_backup_comes_back_in_another_vault_with_its_grants() {
    let [file, server] = World::both().await;
    let [other_file, other_server] = Home::both().await;
    for (world, other) in [(file, other_server), (server, other_file)] {
        world.vault.put(&name("OFF_KEY"), plain(&random_value()), None).await.unwrap();
        world.vault.disable(&name("OFF_KEY")).await.unwrap();
        let bytes = world.vault.backup(&plain(PHRASE)).await.unwrap();
        assert!(!bytes.windows(16).any(|part| part == &world.value.as_bytes()[..16]));

        let (reader, audit, _) = other.open().await;
        let vault = Vault::create(reader, &audit, &other.unlock()).await.unwrap();
        let dry = vault.restore(&bytes, &plain(PHRASE), false, true).await.unwrap();
        assert!(vault.list().await.unwrap().is_empty());
        let done = vault.restore(&bytes, &plain(PHRASE), false, false).await.unwrap();
        assert_eq!(dry, done);
        assert_eq!((done.secrets.len(), done.grants), (2, 1));
        let listed = vault.list().await.unwrap();
        let states: Vec<&str> = listed.iter().map(|info| info.state.as_str()).collect();
        assert_eq!(states, ["disabled", "current"]);
        assert_eq!(vault.check().await.unwrap(), 2);
        assert_eq!(vault.grants().await.unwrap()[0].grant.as_ref(), Some(&world.grant));
        // A second time there is nothing to bring back.
        let again = vault.restore(&bytes, &plain(PHRASE), false, false).await.unwrap();
        assert_eq!((again.secrets.len(), again.kept.len(), again.grants), (0, 2, 0));
    }
}

#[tokio::test]
async fn k18_what_was_destroyed_here_stays_destroyed_unless_the_owner_says_otherwise() {
    for world in World::both().await {
        let bytes = world.vault.backup(&plain(PHRASE)).await.unwrap();
        world.vault.delete(&name(SECRET), 1).await.unwrap();
        let restored = world.vault.restore(&bytes, &plain(PHRASE), false, false).await.unwrap();
        assert_eq!((restored.secrets.len(), &restored.destroyed[..]), (0, &[name(SECRET)][..]));
        assert!(world.vault.list().await.unwrap().is_empty());
        let revived = world.vault.restore(&bytes, &plain(PHRASE), true, false).await.unwrap();
        assert_eq!((revived.secrets.len(), revived.grants), (1, 1));
        assert_eq!(world.vault.list().await.unwrap()[0].version, 2);
    }
}

#[tokio::test]
async fn k03_a_wrong_passphrase_and_a_changed_file_are_told_apart() {
    let world = World::new("bearer").await;
    let bytes = world.vault.backup(&plain(PHRASE)).await.unwrap();
    let restore =
        async |bytes: &[u8], phrase| fault(world.vault.restore(bytes, &plain(phrase), false, true).await);
    assert_eq!(fault(world.vault.backup(&plain("too short")).await), BackupError::Short);
    assert_eq!(restore(&bytes, "another passphrase").await, BackupError::Passphrase);
    assert_eq!(restore(b"", PHRASE).await, BackupError::Format);
    assert_eq!(restore(&bytes[1..], PHRASE).await, BackupError::Format);
    for (at, cut) in [(bytes.len() - 1, None), (bytes.len() / 2, None), (0, Some(bytes.len() - 1))] {
        let mut changed = bytes.clone();
        match cut {
            Some(length) => changed.truncate(length),
            None => changed[at] ^= 1,
        }
        assert!(matches!(restore(&changed, PHRASE).await, BackupError::Altered), "{at}");
    }
}
