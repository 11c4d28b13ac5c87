//! The vault without a request: made once, opened by its key alone, every change recorded, nothing
//! in clear.

use std::fs;

use audit::Log;
use proptest::prelude::*;
use safety::{Channel, Safety};
use secrets::crypto::OpenError;
use secrets::slot::SlotError;
use secrets::{Plain, SlotKind, Unlock, ValueError, Vault, VaultError};
use store::{Lost, Mutation, SecretRow, SecretState};
use types::{Field, Kind, Record, SecretName, Tenant, Verdict};

use crate::fixture::{Home, SECRET, World, name, open, plain, random_value};

fn error<T>(outcome: Result<T, VaultError>) -> VaultError {
    outcome.err().expect("it was not refused")
}

/// Puts a row of the attacker's making where a secret's next version belongs.
async fn plant(audit: &audit::Audit, row: SecretRow, expected: Option<i64>) {
    let record = Record::new(Kind::Secret, Verdict::Done);
    audit.change(record, Mutation::PutSecret { row, expected }).await.unwrap();
}

#[tokio::test]
async fn secrets_are_put_listed_replaced_and_destroyed_each_on_record() {
    let home = Home::new();
    let (reader, audit, _drain) = open(home.path()).await;
    let vault = Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap();
    let key = name("API_KEY");
    vault.put(&key, plain(&random_value()), None).await.unwrap();
    assert!(matches!(
        error(vault.put(&key, plain(&random_value()), None).await),
        VaultError::Lost { lost: Lost::Exists, .. }
    ));
    vault.put(&key, plain(&random_value()), Some(1)).await.unwrap();
    assert!(matches!(
        error(vault.put(&key, plain(&random_value()), Some(1)).await),
        VaultError::Lost { lost: Lost::Changed, .. }
    ));
    let listed = vault.list().await.unwrap();
    assert_eq!(
        (listed.len(), &listed[0].name, listed[0].version, listed[0].state),
        (1, &key, 2, SecretState::Current)
    );
    vault.delete(&key, 2).await.unwrap();
    assert!(vault.list().await.unwrap().is_empty());
    assert!(matches!(error(vault.delete(&key, 2).await), VaultError::NoSecret(_)));
    vault.put(&key, plain(&random_value()), None).await.unwrap();
    assert_eq!(vault.list().await.unwrap()[0].version, 3, "a version number came back");

    let log = Log::new(reader).tail(20).await.unwrap();
    let of = |entry: &audit::Entry, field| entry.record.field(field).unwrap_or_default().to_owned();
    let mut changes: Vec<_> = log
        .iter()
        .filter(|entry| entry.record.kind == Kind::Secret)
        .map(|entry| (of(entry, Field::Secret), of(entry, Field::Version), of(entry, Field::State)))
        .collect();
    changes.sort();
    let change = |version: &str, state: &str| ("API_KEY".to_owned(), version.to_owned(), state.to_owned());
    assert_eq!(
        changes,
        [change("1", "current"), change("2", "current"), change("2", "destroyed"), change("3", "current")]
    );
}

#[tokio::test]
async fn the_vault_opens_again_by_its_key_and_by_no_other() {
    let home = Home::new();
    let (reader, audit, _drain) = open(home.path()).await;
    assert!(matches!(
        error(Vault::open(reader.clone(), audit.clone(), &home.unlock()).await),
        VaultError::None
    ));
    let vault = Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap();
    vault.put(&name("API_KEY"), plain(&random_value()), None).await.unwrap();
    let again = Vault::open(reader.clone(), audit.clone(), &home.unlock()).await.unwrap();
    assert!(!again.known_values().await.unwrap().is_empty());
    let slots = secrets::slots(&reader).await.unwrap();
    assert_eq!((slots.len(), slots[0].kind), (1, SlotKind::File));

    let other = Unlock::Passphrase(plain("not what it was made with"));
    assert!(matches!(
        error(Vault::open(reader.clone(), audit.clone(), &other).await),
        VaultError::Slot(SlotError::None(SlotKind::Passphrase))
    ));
    let refused = error(Vault::create(reader.clone(), &audit, &other).await);
    assert!(matches!(&refused, VaultError::Exists(kinds) if kinds == &[SlotKind::File]), "{refused}");

    let file = fs::read_dir(home.keys()).unwrap().next().unwrap().unwrap().path();
    fs::write(&file, [1; 32]).unwrap();
    for outcome in [
        Vault::open(reader.clone(), audit.clone(), &home.unlock()).await,
        Vault::create(reader.clone(), &audit, &home.unlock()).await,
    ] {
        assert!(matches!(error(outcome), VaultError::Slot(SlotError::WrongKey(SlotKind::File))));
    }
}

#[tokio::test]
async fn k06_no_new_master_key_while_anything_old_exists() {
    for home in Home::both().await {
        let (reader, audit, _drain) = home.open().await;
        Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap();
        let before = reader.slots().await.unwrap();
        fs::remove_dir_all(home.keys()).unwrap();
        let refused = error(Vault::create(reader.clone(), &audit, &home.unlock()).await);
        assert!(matches!(refused, VaultError::Slot(SlotError::File(_))), "{refused}");
        assert!(reader.slots().await.unwrap() == before);
        assert!(!home.keys().exists(), "a new key was written");
    }
    for home in Home::both().await {
        // Sealed rows without any slot or wrapped key: somebody emptied those tables.
        let (reader, audit, _drain) = home.open().await;
        let row = SecretRow {
            tenant: Tenant::local(),
            name: name("API_KEY"),
            version: 1,
            state: SecretState::Current,
            sealed: vec![1; 200],
            fingerprints: vec![1; 200],
            created_ms: 0,
        };
        plant(&audit, row, None).await;
        let refused = error(Vault::create(reader.clone(), &audit, &home.unlock()).await);
        assert!(matches!(refused, VaultError::KeysMissing), "{refused}");
        assert!(reader.slots().await.unwrap().is_empty() && !home.keys().exists());
    }
}

async fn three_of_each() -> Vec<Home> {
    let mut homes = Vec::new();
    for _ in 0..3 {
        homes.extend(Home::both().await);
    }
    homes
}

#[tokio::test(flavor = "multi_thread")]
async fn k07_two_at_once_make_one_master_key_and_both_work() {
    for home in three_of_each().await {
        let create = async |key: &str| {
            let (reader, audit, _drain) = home.open().await;
            let vault = Vault::create(reader, &audit, &home.unlock()).await.unwrap();
            vault.put(&name(key), plain(&random_value()), None).await.unwrap();
            vault
        };
        let (one, two) = tokio::join!(create("ONE_KEY"), create("TWO_KEY"));
        for vault in [&one, &two] {
            assert_eq!(vault.list().await.unwrap().len(), 2);
            assert!(vault.known_values().await.is_ok(), "sealed under two keys");
        }
        let (reader, ..) = home.open().await;
        assert_eq!(reader.slots().await.unwrap().len(), 1);
        assert_eq!(fs::read_dir(home.keys()).unwrap().count(), 1, "the loser's key file is still there");
    }
}

#[tokio::test]
async fn k01_k02_rows_open_only_where_they_were_sealed() {
    type Change = fn(&mut SecretRow);
    let moved: [(Change, Option<i64>); 3] = [
        (|row| row.name = name("B_KEY"), None),
        (|row| row.name = name("a_key"), None),
        (|row| row.version = 2, Some(1)),
    ];
    let twice = moved.iter().flat_map(|each| [*each, *each]);
    for ((change, expected), home) in twice.zip(three_of_each().await) {
        let (reader, audit, _drain) = home.open().await;
        let vault = Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap();
        vault.put(&name("A_KEY"), plain(&random_value()), None).await.unwrap();
        assert!(vault.known_values().await.is_ok());
        let mut row = reader.secret(&Tenant::local(), &name("A_KEY")).await.unwrap().unwrap();
        change(&mut row);
        plant(&audit, row.clone(), expected).await;
        match error(vault.known_values().await) {
            VaultError::Row { name, version, error } => {
                assert_eq!((name, version, error), (row.name, row.version, OpenError::Binding));
            }
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn k03_the_wrapped_tenant_key_cannot_be_changed_or_moved() {
    for home in Home::both().await {
        let (reader, audit, _drain) = home.open().await;
        Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap();
        let row = reader.tenant_wraps(&Tenant::local()).await.unwrap().remove(0);
        let slot = reader.slots().await.unwrap().remove(0);
        let mut candidates: Vec<Vec<u8>> = vec![Vec::new(), slot.wrapped];
        candidates.extend((0..row.wrapped.len()).step_by(7).map(|index| {
            let mut wrapped = row.wrapped.clone();
            wrapped[index] ^= 0x10;
            wrapped
        }));
        for wrapped in candidates {
            let change = Mutation::RewrapTenantKey {
                row: store::TenantKeyRow { wrapped, ..row.clone() },
                expected: row.generation,
            };
            audit.change(Record::new(Kind::Vault, Verdict::Done), change).await.unwrap();
            let refused = error(Vault::open(reader.clone(), audit.clone(), &home.unlock()).await);
            assert!(matches!(refused, VaultError::TenantKey(_)), "{refused}");
        }
    }
}

#[tokio::test]
async fn k11_weak_values_are_refused_with_the_reason_and_nothing_is_stored() {
    for home in Home::both().await {
        let (reader, audit, _drain) = home.open().await;
        let vault = Vault::create(reader, &audit, &home.unlock()).await.unwrap();
        let long = "k9".repeat(Plain::MAX);
        for bad in ["", "short", "password", "aaaaaaaaaaaaaaaa", "line\r\nbreak: x", "nul\0nul\0nul", &long] {
            let refused = error(vault.put(&name("API_KEY"), plain(bad), None).await);
            assert!(matches!(refused, VaultError::Value(_)), "{refused}");
            assert!(bad.len() < 8 || !refused.to_string().contains(bad));
        }
        let crlf = error(vault.put(&name("API_KEY"), plain("x-token\r\nX-Evil: 1"), None).await);
        assert!(matches!(crlf, VaultError::Value(ValueError::LineBreak)));
        assert!(vault.list().await.unwrap().is_empty());
        for bad in ["", "A\0B", "A\r\nB", "../A", "A B", "\u{410}_KEY", &"A".repeat(1 << 20)] {
            assert!(SecretName::parse(bad).is_err(), "{bad:?}");
        }
    }
}

#[tokio::test]
async fn k12_the_value_is_in_no_file_and_no_record() {
    let home = Home::new();
    let (reader, audit, _drain) = open(home.path()).await;
    let vault = Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap();
    let value = random_value();
    vault.put(&name("API_KEY"), plain(&value), None).await.unwrap();
    let twice = error(vault.put(&name("API_KEY"), plain(&value), None).await);
    assert!(!format!("{twice} {twice:?}").contains(&value));
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    let found = |needle: &str| {
        walk(home.path())
            .iter()
            .any(|bytes| bytes.windows(needle.len()).any(|part| part == needle.as_bytes()))
    };
    for needle in [value.as_str(), &value[..16], &hex, &hex[..32]] {
        assert!(!found(needle), "the value lies in a file");
    }
    assert!(found("API_KEY"), "the search finds nothing at all");
}

/// A server that logs every statement with its values, at its most talkative, and keeps all it writes.
#[tokio::test]
async fn k12_the_value_is_in_no_log_and_no_file_of_a_server() {
    let talkative = [
        "-c",
        "log_statement=all",
        "-c",
        "log_min_duration_statement=0",
        "-c",
        "log_parameter_max_length=-1",
        "-c",
        "log_parameter_max_length_on_error=-1",
        "-c",
        "log_min_messages=debug1",
    ];
    let server = testkit::Postgres::start(&talkative);
    let database = server.database();
    let (value, second) = (random_value(), random_value());
    let world = World::at(Home::on(database.clone()).await, "bearer", value.clone()).await;
    for _ in 0..20 {
        let permit = world.permit("GET", "https://api.weather.example/v1/now").await;
        drop(world.vault.lease(&permit, &world.safety).await.unwrap());
    }
    world.vault.put(&name(SECRET), plain(&second), Some(1)).await.unwrap();
    world.vault.rollback(&name(SECRET)).await.unwrap();
    let hands = [world.home.unlock()];
    let step = async || secrets::rotate(&world.reader, &world.audit, &hands, std::time::Duration::ZERO).await;
    while step().await.unwrap() != secrets::Progress::Finished {}
    // An error of the database quotes what it was given.
    assert!(world.vault.put(&name(SECRET), plain(&second), None).await.is_err());
    world.vault.delete(&name(SECRET), 1).await.unwrap();
    let control = random_value();
    database.admin(&format!("CREATE TABLE public.control AS SELECT '{control}' AS text; CHECKPOINT"));

    let mut everything = walk(&database.files());
    everything.push(database.log().into_bytes());
    let slot_key =
        fs::read(fs::read_dir(world.home.keys()).unwrap().next().unwrap().unwrap().path()).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let found = |needle: &[u8]| {
        everything.iter().filter(|bytes| memchr::memmem::find(bytes, needle).is_some()).count()
    };
    for bytes in [value.as_bytes(), second.as_bytes(), &slot_key] {
        assert_eq!((found(&bytes[..16]), found(hex(&bytes[..16]).as_bytes())), (0, 0), "a value lies there");
    }
    assert!(
        found(control.as_bytes()) >= 3,
        "a table, the write-ahead log and the log of the server are searched"
    );
    assert!(database.log().contains(SECRET) && database.log().contains("parameters: $1"));
}

fn walk(folder: &std::path::Path) -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(walk(&path));
        } else {
            files.push(fs::read(&path).unwrap());
        }
    }
    files
}

#[tokio::test]
async fn known_values_find_every_version_even_a_destroyed_one() {
    let home = Home::new();
    let (reader, audit, _drain) = open(home.path()).await;
    let vault = Vault::create(reader, &audit, &home.unlock()).await.unwrap();
    let (old, new, other) = (random_value(), random_value(), random_value());
    let key = name("API_KEY");
    vault.put(&key, plain(&old), None).await.unwrap();
    vault.put(&key, plain(&new), Some(1)).await.unwrap();
    vault.delete(&key, 2).await.unwrap();
    let safety = Safety::new(Default::default()).unwrap();
    let blocks = |value: &str| safety.scan_bytes(format!("got {value} back").as_bytes(), Channel::Response);
    assert!(blocks(&old).is_ok());
    safety.learn(vault.known_values().await.unwrap());
    assert!(blocks(&old).is_err() && blocks(&new).is_err());
    assert!(blocks(&other).is_ok());
}

#[tokio::test]
async fn a_passphrase_slot_keeps_a_vault() {
    let home = Home::new();
    let (reader, audit, _drain) = open(home.path()).await;
    let unlock = || Unlock::Passphrase(plain("correct horse battery"));
    Vault::create(reader.clone(), &audit, &unlock()).await.unwrap();
    Vault::open(reader.clone(), audit.clone(), &unlock()).await.unwrap();
    let wrong = Unlock::Passphrase(plain("correct horse batterz"));
    let refused = error(Vault::open(reader, audit, &wrong).await);
    assert!(matches!(refused, VaultError::Slot(SlotError::WrongKey(SlotKind::Passphrase))), "{refused}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn mutated_rows_never_open_and_never_panic(
        index in any::<prop::sample::Index>(), bit in 0u8..8, cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let home = Home::new();
            let (reader, audit, _drain) = open(home.path()).await;
            let vault = Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap();
            vault.put(&name("A_KEY"), plain(&random_value()), None).await.unwrap();
            let mut row = reader.secret(&Tenant::local(), &name("A_KEY")).await.unwrap().unwrap();
            (row.name, row.version) = (name("B_KEY"), 1);
            match cut {
                Some(cut) => row.fingerprints.truncate(cut.index(row.fingerprints.len())),
                None => {
                    let index = index.index(row.fingerprints.len());
                    row.fingerprints[index] ^= 1 << bit;
                }
            }
            plant(&audit, row, None).await;
            assert!(matches!(vault.known_values().await, Err(VaultError::Row { .. })));
        });
    }
}
