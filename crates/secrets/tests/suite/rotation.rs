//! A new master key: every step durable by itself, everything open at every moment (K08).

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use audit::Audit;
use secrets::recovery;
use secrets::{Progress, SlotKind, Unlock, Vault, VaultError};
use store::Reader;

use crate::fixture::{Home, connect, name, open, plain, random_value};

const PHRASE: &str = "correct horse battery";

/// A vault with two secrets and three slots, and what opens them.
async fn vault(home: &Home) -> (Reader, Audit, Vec<Unlock>) {
    let (reader, audit, _) = home.open().await;
    let vault = Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap();
    for secret in ["ONE_KEY", "TWO_KEY"] {
        vault.put(&name(secret), plain(&random_value()), None).await.unwrap();
    }
    let code = recovery::fresh().unwrap();
    for slot in [Unlock::Passphrase(plain(PHRASE)), Unlock::Recovery(plain(&code))] {
        secrets::add_slot(&reader, &audit, &home.unlock(), &slot).await.unwrap();
    }
    (reader, audit, hands(home))
}

fn hands(home: &Home) -> Vec<Unlock> {
    let code = recovery::fresh().unwrap();
    vec![home.unlock(), Unlock::Passphrase(plain(PHRASE)), Unlock::Recovery(plain(&code))]
}

async fn step(reader: &Reader, audit: &Audit, hands: &[Unlock]) -> Progress {
    secrets::rotate(reader, audit, hands, Duration::ZERO).await.unwrap()
}

/// Opens the vault in both ways that a person has every day, and every version in it.
async fn all_opens(home: &Home, secrets: usize) {
    for unlock in [home.unlock(), Unlock::Passphrase(plain(PHRASE))] {
        let (reader, audit, _) = home.open().await;
        let vault = Vault::open(reader, audit, &unlock).await.unwrap();
        assert_eq!(vault.check().await.unwrap(), secrets);
    }
}

#[tokio::test]
async fn k08_whoever_stops_between_two_steps_leaves_a_vault_that_opens_and_a_rotation_that_goes_on() {
    for home in Home::both().await {
        let (reader, audit, hands) = vault(&home).await;
        let old_key = std::fs::read_dir(home.keys()).unwrap().next().unwrap().unwrap().path();
        let mut steps = Vec::new();
        while steps.last() != Some(&Progress::Finished) {
            steps.push(step(&reader, &audit, &hands).await);
            assert!(steps.len() < 20, "{steps:?}");
            all_opens(&home, 2).await;
        }
        let expected = [
            Progress::Begun { generation: 2 },
            Progress::Followed(SlotKind::File),
            Progress::Followed(SlotKind::Passphrase),
            Progress::Followed(SlotKind::Recovery),
            Progress::Wrapped(1),
            Progress::Switched,
            Progress::Finished,
        ];
        // Opening the vault between two steps makes successors too, so some steps may be done already.
        let mut rest = expected.iter();
        assert!(steps.iter().all(|step| rest.any(|next| next == step)), "{steps:?}");
        let slots = secrets::slots(&reader).await.unwrap();
        assert!(slots.len() == 3 && slots.iter().all(|slot| slot.generation == 2), "{slots:?}");
        assert!(!old_key.exists(), "the key of the old slot is still there");
        assert!(reader.rotation().await.unwrap().is_none());
        // And once more, from there.
        while step(&reader, &audit, &hands).await != Progress::Finished {}
        all_opens(&home, 2).await;
    }
}

const HOME: &str = "IRONCLAW_TEST_HOME";
const SERVER: &str = "IRONCLAW_TEST_SERVER";
const STEPS: usize = 8;

#[tokio::test]
async fn k08_kill_9_anywhere_in_a_rotation() {
    for told in 0..STEPS {
        for home in Home::both().await {
            killed_after(told, &home).await;
        }
    }
}

/// Another process rotates without end and is killed after so many steps, in the middle of the next.
async fn killed_after(told: usize, home: &Home) {
    // Without the passphrase, whose slowness would say nothing here.
    let (reader, audit, _) = home.open().await;
    let vault = Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap();
    vault.put(&name("ONE_KEY"), plain(&random_value()), None).await.unwrap();
    let hands = quick_hands(home.path());
    secrets::add_slot(&reader, &audit, &hands[0], &hands[1]).await.unwrap();
    let all_opens = async || assert_eq!(home.vault().await.check().await.unwrap(), 1);
    #[allow(clippy::disallowed_methods, reason = "this test binary again, as another process")]
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "rotation::child_rotates_for_ever", "--ignored", "--nocapture"])
        .env(HOME, home.path())
        .env(SERVER, home.url().unwrap_or_default())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let did = lines.map_while(Result::ok).filter(|line| line.contains("> did")).take(told).count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(did, told);
    all_opens().await;
    while step(&reader, &audit, &hands).await != Progress::Finished {}
    all_opens().await;
    audit::Log::new(reader).verify().await.unwrap();
}

fn quick_hands(folder: &Path) -> [Unlock; 2] {
    let code = recovery::fresh().unwrap();
    [Unlock::File(folder.join("keys")), Unlock::Recovery(plain(&code))]
}

/// Not a test of its own: the process that is killed.
#[tokio::test]
#[ignore = "started by k08_kill_9_anywhere_in_a_rotation"]
#[allow(clippy::disallowed_methods, reason = "the parent says by the environment where the vault is")]
async fn child_rotates_for_ever() {
    let Some(folder) = std::env::var_os(HOME).map(PathBuf::from) else { return };
    let (reader, audit, _drain) = match std::env::var(SERVER).ok().filter(|url| !url.is_empty()) {
        Some(url) => connect(&url).await,
        None => open(&folder).await,
    };
    let hands = quick_hands(&folder);
    loop {
        step(&reader, &audit, &hands).await;
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n> did").unwrap();
    }
}

#[tokio::test]
async fn a_slot_that_does_not_open_here_holds_the_switch_up_until_it_opens_or_goes() {
    for home in Home::both().await {
        let (reader, audit, _) = vault(&home).await;
        let here = [home.unlock()];
        let waiting = loop {
            match step(&reader, &audit, &here).await {
                Progress::Waits(slots) => break slots,
                Progress::Switched => panic!("switched although two slots would be left behind"),
                _ => {}
            }
        };
        let kinds: Vec<SlotKind> = waiting.iter().map(|slot| slot.kind).collect();
        assert_eq!(kinds, [SlotKind::Passphrase, SlotKind::Recovery]);
        // Somebody opens the vault with the passphrase: its slot follows by itself.
        let phrase = Unlock::Passphrase(plain(PHRASE));
        Vault::open(reader.clone(), audit.clone(), &phrase).await.unwrap();
        let Progress::Waits(left) = step(&reader, &audit, &here).await else { panic!("it does not wait") };
        assert_eq!(left.len(), 1);
        secrets::remove_slot(&reader, &audit, &here[0], &left[0].id, None).await.unwrap();
        assert_eq!(step(&reader, &audit, &here).await, Progress::Switched);
        // Within the time of grace both keys are there; nothing is removed.
        let grace = secrets::rotate(&reader, &audit, &here, Duration::from_secs(3600)).await.unwrap();
        assert!(matches!(grace, Progress::Grace(until) if until > audit::now_ms()));
        assert_eq!(step(&reader, &audit, &here).await, Progress::Finished);
        all_opens(&home, 2).await;
    }
}

/// Two nodes of one installation, each with a key of its own that the other cannot reach.
#[tokio::test]
async fn k08_no_key_is_in_force_before_every_node_has_proved_that_it_holds_it() {
    let [_, one] = Home::both().await;
    let two = one.another_node();
    let (reader, audit, _) = one.open().await;
    let vault = Vault::create(reader.clone(), &audit, &one.unlock()).await.unwrap();
    vault.put(&name("ONE_KEY"), plain(&random_value()), None).await.unwrap();
    secrets::add_slot(&reader, &audit, &one.unlock(), &two.unlock()).await.unwrap();
    let running = two.vault().await;
    let here = [one.unlock()];
    let left = loop {
        match step(&reader, &audit, &here).await {
            Progress::Waits(left) => break left,
            Progress::Switched => panic!("in force although the other node has not proved anything"),
            _ => {}
        }
    };
    assert_eq!(left.len(), 1);
    for _ in 0..3 {
        assert!(matches!(step(&reader, &audit, &here).await, Progress::Waits(_)));
    }
    // The other node, killed in between or not, opens what is in force and with it makes its proof.
    assert_eq!(two.vault().await.check().await.unwrap(), 1);
    assert_eq!(step(&reader, &audit, &here).await, Progress::Switched);
    // Both work in the time of grace and after it, and so does the node that was running all along.
    let all_work = async || {
        for node in [&one, &two] {
            assert_eq!(node.vault().await.check().await.unwrap(), 1);
        }
        assert_eq!(running.check().await.unwrap(), 1);
    };
    all_work().await;
    assert_eq!(step(&reader, &audit, &here).await, Progress::Finished);
    all_work().await;
    assert!(secrets::slots(&reader).await.unwrap().iter().all(|slot| slot.generation == 2));
}

/// Last night's copy of the database is worth nothing once the key that opened it is gone (K18).
#[tokio::test]
async fn k18_after_an_exchange_no_older_copy_of_the_database_opens() {
    let home = Home::new();
    let (reader, audit, drain) = home.open().await;
    let vault = Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap();
    vault.put(&name("ONE_KEY"), plain(&random_value()), None).await.unwrap();
    let data = home.path().join("data");
    let copy = |to: &Path| {
        for file in ["ironclaw.db", "ironclaw.db-wal"] {
            let bytes = std::fs::read(data.join(file)).unwrap_or_default();
            std::fs::write(to.join(file), bytes).unwrap();
        }
    };
    let night = tempfile::tempdir().unwrap();
    copy(night.path());
    vault.delete(&name("ONE_KEY"), 1).await.unwrap();
    let hands = [home.unlock()];
    while step(&reader, &audit, &hands).await != Progress::Finished {}
    drop((vault, audit));
    reader.close().await;
    drain.finish().await;

    for file in ["ironclaw.db", "ironclaw.db-wal"] {
        std::fs::copy(night.path().join(file), data.join(file)).unwrap();
        let closed = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(data.join(file), closed).unwrap();
    }
    let (reader, audit, _) = home.open().await;
    let opened = Vault::open(reader, audit, &home.unlock()).await;
    let refused = opened.err().unwrap();
    assert!(matches!(refused, VaultError::Slot(_)), "{refused:?}");
}

#[tokio::test]
async fn a_rotation_that_is_given_up_leaves_the_old_key() {
    for home in Home::both().await {
        let (reader, audit, hands) = vault(&home).await;
        for _ in 0..4 {
            step(&reader, &audit, &hands).await;
        }
        secrets::abort_rotation(&reader, &audit, &hands).await.unwrap();
        let slots = secrets::slots(&reader).await.unwrap();
        assert!(slots.len() == 3 && slots.iter().all(|slot| slot.generation == 1), "{slots:?}");
        assert_eq!(std::fs::read_dir(home.keys()).unwrap().count(), 1, "the new slot's key is still there");
        all_opens(&home, 2).await;
        let refused = secrets::abort_rotation(&reader, &audit, &hands).await;
        assert!(matches!(refused, Err(VaultError::Changed(_))));
    }
}

#[tokio::test]
async fn slots_are_added_and_removed_and_the_last_one_that_opens_stays() {
    for home in Home::both().await {
        let (reader, audit, _) = vault(&home).await;
        let slots = secrets::slots(&reader).await.unwrap();
        let kinds: Vec<SlotKind> = slots.iter().map(|slot| slot.kind).collect();
        assert_eq!(kinds, [SlotKind::File, SlotKind::Passphrase, SlotKind::Recovery]);
        let file = home.unlock();
        // Only what opens another slot may remove one.
        let refused = secrets::remove_slot(&reader, &audit, &file, &slots[0].id, Some(&file)).await;
        assert!(matches!(refused, Err(VaultError::Slot(_))));
        let phrase = Unlock::Passphrase(plain(PHRASE));
        secrets::remove_slot(&reader, &audit, &phrase, &slots[0].id, Some(&file)).await.unwrap();
        assert_eq!(std::fs::read_dir(home.keys()).unwrap().count(), 0);
        let refused = secrets::remove_slot(&reader, &audit, &phrase, "no such id", None).await;
        assert!(matches!(refused, Err(VaultError::NoSlot)));
        let vault = Vault::open(reader, audit, &phrase).await.unwrap();
        assert_eq!(vault.check().await.unwrap(), 2);
    }
}
