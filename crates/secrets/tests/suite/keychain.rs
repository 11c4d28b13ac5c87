//! The keychain slot against a real Secret Service: every test runs once more inside
//! `scripts/with-keychain`, beside a keychain of its own. Where the programs for that are missing the
//! test fails and says how to install them.
#![cfg(target_os = "linux")]

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use secret_service::EncryptionType;
use secret_service::blocking::SecretService;
use secrets::keychain::{KeychainError, probe};
use secrets::slot::SlotError;
use secrets::{KeychainState, SlotKind, Unlock, Vault, VaultError};

use crate::fixture::{Home, name, open, plain, random_value};

/// Names the test that a process was started for.
const INSIDE: &str = "IRONCLAW_TEST_KEYCHAIN";
/// The home folder that a second process is to use.
const CHILD: &str = "IRONCLAW_TEST_KEYCHAIN_CHILD";

/// Runs a test's body beside a keychain: here, if this process was started for it, otherwise in one
/// that is.
fn beside_a_keychain<F: Future<Output = ()>>(test: &str, body: impl FnOnce() -> F) {
    if variable(INSIDE).as_deref() == Some(test) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(body());
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/with-keychain");
    let output = again(Some(&script), test).output().unwrap();
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// This test once more, in another process.
fn again(script: Option<&Path>, test: &str) -> Command {
    let this = std::env::current_exe().unwrap();
    #[allow(clippy::disallowed_methods, reason = "a test starts itself again")]
    let mut command = Command::new(script.unwrap_or(&this));
    if script.is_some() {
        command.arg(&this);
    }
    command.args([&format!("keychain::{test}"), "--exact", "--nocapture"]).env(INSIDE, test);
    command
}

#[allow(clippy::disallowed_methods, reason = "a test that started itself again must know")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Something done to the keychain itself, on a thread that may block.
async fn at_the_keychain(action: impl FnOnce(&SecretService<'_>) + Send + 'static) {
    let act = || action(&SecretService::connect(EncryptionType::Dh).unwrap());
    tokio::task::spawn_blocking(act).await.unwrap();
}

/// How many entries the keychain holds for us.
fn entries(service: &SecretService<'_>) -> usize {
    service.search_items(HashMap::from([("service", "ironclaw")])).unwrap().unlocked.len()
}

fn keychain_error<T>(outcome: Result<T, VaultError>) -> KeychainError {
    match outcome.err() {
        Some(VaultError::Slot(SlotError::Keychain(error))) => error,
        Some(other) => panic!("{other}"),
        None => panic!("it was not refused"),
    }
}

#[test]
fn the_keychain_opens_the_vault_and_the_database_alone_does_not() {
    beside_a_keychain("the_keychain_opens_the_vault_and_the_database_alone_does_not", async || {
        assert_eq!(probe().await, KeychainState::Ready);
        let home = Home::new();
        let (reader, audit, _drain) = open(home.path()).await;
        let vault = Vault::create(reader.clone(), &audit, &Unlock::Keychain).await.unwrap();
        vault.put(&name("API_KEY"), plain(&random_value()), None).await.unwrap();
        let again = Vault::open(reader.clone(), audit.clone(), &Unlock::Keychain).await.unwrap();
        assert!(!again.known_values().await.unwrap().is_empty());
        assert_eq!(secrets::slots(&reader).await.unwrap()[0].kind, SlotKind::Keychain);
        at_the_keychain(|service| assert_eq!(entries(service), 1)).await;
    });
}

#[test]
fn k06_a_locked_keychain_is_said_to_be_locked_and_no_new_key_is_made() {
    beside_a_keychain("k06_a_locked_keychain_is_said_to_be_locked_and_no_new_key_is_made", async || {
        let home = Home::new();
        let (reader, audit, _drain) = open(home.path()).await;
        Vault::create(reader.clone(), &audit, &Unlock::Keychain).await.unwrap();
        let before = reader.slots().await.unwrap();
        at_the_keychain(|service| service.get_default_collection().unwrap().lock().unwrap()).await;

        assert_eq!(probe().await, KeychainState::Locked);
        let opened = Vault::open(reader.clone(), audit.clone(), &Unlock::Keychain).await;
        assert_eq!(keychain_error(opened), KeychainError::Locked);
        let created = Vault::create(reader.clone(), &audit, &Unlock::Keychain).await;
        assert_eq!(keychain_error(created), KeychainError::Locked);
        assert!(reader.slots().await.unwrap() == before);
        assert_eq!(probe().await, KeychainState::Locked, "somebody was asked to unlock it");

        // A first start with a locked keychain makes no vault either.
        let fresh = Home::new();
        let (reader, audit, _drain) = open(fresh.path()).await;
        let created = Vault::create(reader.clone(), &audit, &Unlock::Keychain).await;
        assert_eq!(keychain_error(created), KeychainError::Locked);
        assert!(reader.slots().await.unwrap().is_empty());
    });
}

#[test]
fn k06_a_keychain_without_the_entry_is_no_reason_for_a_new_key() {
    beside_a_keychain("k06_a_keychain_without_the_entry_is_no_reason_for_a_new_key", async || {
        let home = Home::new();
        let (reader, audit, _drain) = open(home.path()).await;
        Vault::create(reader.clone(), &audit, &Unlock::Keychain).await.unwrap();
        let before = reader.slots().await.unwrap();
        at_the_keychain(|service| {
            let found = service.search_items(HashMap::from([("service", "ironclaw")])).unwrap();
            found.unlocked[0].delete().unwrap();
        })
        .await;
        let opened = Vault::open(reader.clone(), audit.clone(), &Unlock::Keychain).await;
        assert_eq!(keychain_error(opened), KeychainError::NoEntry);
        let created = Vault::create(reader.clone(), &audit, &Unlock::Keychain).await;
        assert_eq!(keychain_error(created), KeychainError::NoEntry);
        assert!(reader.slots().await.unwrap() == before);
        at_the_keychain(|service| assert_eq!(entries(service), 0, "a new key was written")).await;
    });
}

#[test]
fn k06_another_key_in_the_entry_is_a_wrong_key() {
    beside_a_keychain("k06_another_key_in_the_entry_is_a_wrong_key", async || {
        let home = Home::new();
        let (reader, audit, _drain) = open(home.path()).await;
        Vault::create(reader.clone(), &audit, &Unlock::Keychain).await.unwrap();
        for (key, wrong) in [(vec![7; 32], true), (vec![7; 31], false), (Vec::new(), false)] {
            at_the_keychain(move |service| {
                let found = service.search_items(HashMap::from([("service", "ironclaw")])).unwrap();
                found.unlocked[0].set_secret(&key, "application/octet-stream").unwrap();
            })
            .await;
            match Vault::open(reader.clone(), audit.clone(), &Unlock::Keychain).await.err() {
                Some(VaultError::Slot(SlotError::WrongKey(SlotKind::Keychain))) => assert!(wrong),
                Some(VaultError::Slot(SlotError::Keychain(KeychainError::Failed))) => assert!(!wrong),
                Some(other) => panic!("{other}"),
                None => panic!("another key opened the vault"),
            }
        }
    });
}

#[test]
fn k06_without_a_keychain_nothing_is_made() {
    const TEST: &str = "k06_without_a_keychain_nothing_is_made";
    if variable(INSIDE).as_deref() == Some(TEST) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(async {
            assert_eq!(probe().await, KeychainState::Absent);
            let home = Home::new();
            let (reader, audit, _drain) = open(home.path()).await;
            let created = Vault::create(reader.clone(), &audit, &Unlock::Keychain).await;
            assert_eq!(keychain_error(created), KeychainError::Absent);
            assert!(reader.slots().await.unwrap().is_empty());
        });
    }
    let nowhere = tempfile::tempdir().unwrap();
    let bus = format!("unix:path={}", nowhere.path().join("bus").display());
    let output = again(None, TEST).env("DBUS_SESSION_BUS_ADDRESS", bus).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn k07_two_processes_at_once_make_one_master_key_and_both_work() {
    const TEST: &str = "k07_two_processes_at_once_make_one_master_key_and_both_work";
    if let Some(home) = variable(CHILD) {
        return initialise(Path::new(&home));
    }
    beside_a_keychain(TEST, async || {
        let home = Home::new();
        let start =
            || again(None, TEST).env(CHILD, home.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut children = [start().unwrap(), start().unwrap()];
        for child in &mut children {
            let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
            assert!(lines.any(|line| line.unwrap().contains("ready")));
        }
        for child in &mut children {
            child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        }
        for child in &mut children {
            assert!(Child::wait(child).unwrap().success());
        }
        let (reader, audit, _drain) = open(home.path()).await;
        assert_eq!(reader.slots().await.unwrap().len(), 1);
        let vault = Vault::open(reader, audit, &Unlock::Keychain).await.unwrap();
        assert_eq!(vault.list().await.unwrap().len(), 2);
        assert!(vault.known_values().await.is_ok(), "sealed under two keys");
        at_the_keychain(|service| assert_eq!(entries(service), 1, "the loser's key is still there")).await;
    });
}

/// What each of the two processes does.
fn initialise(home: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (reader, audit, _drain) = open(home).await;
        std::io::stdout().write_all(b"ready\n").unwrap();
        std::io::stdin().read_line(&mut String::new()).unwrap();
        let vault = Vault::create(reader, &audit, &Unlock::Keychain).await.unwrap();
        let mine = format!("KEY_{}", std::process::id());
        vault.put(&name(&mine), plain(&random_value()), None).await.unwrap();
    });
}
