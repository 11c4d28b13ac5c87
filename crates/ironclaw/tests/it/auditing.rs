//! `ironclaw audit archive` and `audit export`: old records leave, and records reach other systems.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};

use serde_json::Value;
use testkit::Postgres;

use crate::installation::{Installation, random, random_key};

/// Three days ago, for whoever runs under it.
const THEN: [&str; 3] = ["faketime", "-f", "-3d"];

fn seqs(records: &[Value]) -> Vec<u64> {
    records.iter().map(|record| record["seq"].as_u64().unwrap()).collect()
}

#[test]
fn l10_old_records_move_into_a_file_and_the_log_still_verifies() {
    let installation = Installation::new();
    installation.run_under(&THEN, &["init", "--slot", "file"], "").ok();
    for _ in 0..3 {
        installation.run_under(&THEN, &["secret", "set", "A_KEY"], &random_key()).ok();
    }
    let all = installation.run(&["audit", "export"]).ok().json();
    let checkpoint = installation.run(&["audit", "checkpoint"]).ok().stdout;
    let kept = installation.folder.path().join("kept.checkpoint");
    std::fs::write(&kept, checkpoint).unwrap();
    installation.run_with(&["secret", "set", "B_KEY"], &random_key()).ok();

    let file = installation.folder.path().join("old.archive");
    let file = file.to_str().unwrap();
    let nothing = installation.run(&["audit", "archive", file, "--json"]).ok();
    assert_eq!(nothing.json()[0]["archived"], 0, "nothing is 90 days old");
    assert_eq!(installation.run(&["audit", "archive", file, "--as", "postgres://o@/d?host=/run"]).code, 2);
    let archived =
        installation.run(&["audit", "archive", file, "--days", "2", "--json"]).ok().json().remove(0);
    let last = archived["last"].as_u64().unwrap();
    assert_eq!((archived["first"].as_u64(), archived["archived"].as_u64()), (Some(1), Some(last)));
    assert!(last >= all.len() as u64 - 1, "{archived}");
    assert_eq!(
        installation.run(&["audit", "archive", file, "--days", "2"]).code,
        0,
        "nothing is left to archive"
    );

    let against = ["audit", "verify", "--json", "--against", kept.to_str().unwrap(), "--archive", file];
    let verified = installation.run(&against).ok().json().remove(0);
    assert_eq!(verified["archived"].as_u64(), Some(last));
    assert_eq!(verified["detached"].as_u64().unwrap() + archived["kept"].as_u64().unwrap(), last);
    // What is there and what was there together are all that was.
    let here = seqs(&installation.run(&["audit", "export"]).ok().json());
    let there = installation.run(&["audit", "export", "--archive", file]).ok().json();
    assert_eq!(there, all[..last as usize]);
    assert!(here.iter().filter(|seq| **seq <= last).count() as u64 == archived["kept"].as_u64().unwrap());
    let gone = installation.run(&["audit", "show", "1"]);
    assert!(gone.code == 1 && gone.stderr.contains("audit export --archive"), "{gone:#?}");
    // The secret's head is read from the log: it is there, and so the secret opens and goes on.
    installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
    installation.run(&["vault", "check"]).ok();

    let changed = std::fs::read_to_string(file).unwrap().replacen("\n2 ", "\n2 A", 1);
    std::fs::write(file, changed).unwrap();
    assert_eq!(installation.run(&against).code, 1);
}

/// L10: between the record of an archive and its end this program may be killed; the next archive ends the one before.
#[tokio::test]
async fn l10_an_archive_that_was_interrupted_is_ended_by_the_next_one() {
    let installation = Installation::new();
    installation.run_under(&THEN, &["init", "--slot", "file"], "").ok();
    for _ in 0..3 {
        installation.run_under(&THEN, &["secret", "set", "A_KEY"], &random_key()).ok();
    }
    let file = installation.folder.path().join("old.archive");
    let (reader, writer) = store::open(&installation.home().join("data/ironclaw.db")).await.unwrap();
    let archive =
        audit::Log::new(reader).write_archive(1, 5, std::fs::File::create(&file).unwrap()).await.unwrap();
    let (audit, drain) = audit::Audit::start(writer);
    audit.change(archive.record(), store::Mutation::Claim).await.unwrap();
    drop(audit);
    drain.finish().await;
    let detached =
        || installation.run(&["audit", "verify", "--json"]).ok().json()[0]["detached"].as_u64().unwrap();
    assert_eq!(detached(), 0);
    let next = installation.folder.path().join("next.archive");
    installation.run(&["audit", "archive", next.to_str().unwrap(), "--through", "5"]).ok();
    assert_eq!(detached() + archive.kept, 5);
    assert!(!next.exists(), "nothing but the rest of the first one");
    let file = file.to_str().unwrap();
    installation.run(&["audit", "verify", "--archive", file]).ok();
}

#[test]
fn l10_on_a_server_the_owner_of_the_tables_archives() {
    let installation = Installation::new();
    let database = Postgres::shared();
    installation.configure(&format!("[store]\nurl = \"{}\"\n", database.runtime()));
    installation.run(&["db", "migrate", "--as", &database.owner()]).ok();
    installation.run(&["init", "--slot", "file"]).ok();
    installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
    let file = installation.folder.path().join("old.archive");
    let file = file.to_str().unwrap();
    let refused = installation.run(&["audit", "archive", file]);
    assert!(refused.code == 2 && refused.stderr.contains("--as"), "{refused:#?}");
    // Records bear the server's time, so it is this program for which three days have gone by.
    let later = ["faketime", "-f", "+3d"];
    let archive = ["audit", "archive", file, "--days", "2", "--json", "--as", &database.owner()];
    let archived = installation.run_under(&later, &archive, "").ok().json().remove(0);
    assert!(archived["archived"].as_u64().unwrap() > 1, "{archived}");
    let verified = installation.run(&["audit", "verify", "--archive", file, "--json"]).ok().json().remove(0);
    assert_eq!(verified["archived"], archived["archived"]);
    assert!(verified["detached"].as_u64() > Some(0));
    installation.run(&["vault", "check"]).ok();
}

#[test]
fn records_are_exported_as_logs_of_opentelemetry() {
    let installation = Installation::initialised();
    installation.run(&["ask", "hello"]);
    let records = installation.run(&["audit", "export"]).ok().json();
    let lines = installation.run(&["audit", "export", "--format", "otlp"]).ok().json();
    let logs: Vec<&Value> = lines
        .iter()
        .flat_map(|line| line["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap())
        .collect();
    assert!(logs.len() >= records.len());
    for (log, record) in logs.iter().zip(&records) {
        let attribute = |key: &str| {
            let all = log["attributes"].as_array().unwrap();
            all.iter().find(|attribute| attribute["key"] == key).map(|attribute| attribute["value"].clone())
        };
        assert_eq!(attribute("ironclaw.seq").unwrap()["intValue"], record["seq"].to_string());
        assert_eq!(attribute("ironclaw.chain").unwrap()["stringValue"], record["chain"]);
        assert_eq!(log["timeUnixNano"], format!("{}000000", record["at_ms"]));
        // Hex digits of sixteen bytes, or none.
        let trace = log["traceId"].as_str().unwrap();
        assert!(
            matches!(trace.len(), 0 | 32) && trace.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{trace}"
        );
        assert_eq!(trace.is_empty(), record["turn"].is_null());
    }
    assert!(logs.iter().any(|log| log["traceId"] != ""));
}

/// L08: the log is the spool of every export. A reader that stops reading, or goes, holds nobody up.
#[test]
fn l08_a_dead_reader_of_an_export_blocks_nothing_and_loses_nothing() {
    let installation = Installation::initialised();
    let mut following =
        installation.start_under(&["env"], &["audit", "export", "--format", "otlp", "--follow"]);
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with(r#"{"resourceLogs""#));
    // From here on nobody reads what it prints, and everybody goes on recording.
    for _ in 0..5 {
        installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
    }
    let so_far = installation.run(&["audit", "verify", "--json"]).ok().json()[0]["records"].as_u64().unwrap();
    let all = installation.run(&["audit", "export"]).ok().json();
    assert!(all.len() as u64 >= so_far, "everything is there for whoever asks later");
    // The reader goes; so does the export, at the next record.
    drop(lines);
    let mut rounds = 0;
    while following.try_wait().unwrap().is_none() {
        installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
        rounds += 1;
        assert!(rounds < 200, "it goes on although nobody reads");
    }
    assert!(following.wait().unwrap().success());
}

/// What a collector does with the records that it is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mood {
    Takes,
    IsDown,
    Hangs,
    RefusesOne,
    CannotReadMany,
}

impl Mood {
    /// The status and the body of an answer to so many records.
    fn answer(self, records: usize) -> (u16, &'static str) {
        match self {
            Self::IsDown => (503, ""),
            Self::CannotReadMany if records > 1 => (413, ""),
            Self::RefusesOne => (200, r#"{"partialSuccess":{"rejectedLogRecords":"1"}}"#),
            Self::Hangs | Self::Takes | Self::CannotReadMany => (200, "{}"),
        }
    }
}

/// The numbers of the records in a request to a collector.
fn handed(request: &http::Request<bytes::Bytes>) -> Vec<u64> {
    assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/v1/logs"));
    assert_eq!(request.headers()["content-type"], "application/json");
    let body: Value = serde_json::from_slice(request.body()).unwrap();
    let records = body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
    let seq = |record: &Value| {
        let all = record["attributes"].as_array().unwrap();
        let seq = all.iter().find(|attribute| attribute["key"] == "ironclaw.seq").unwrap();
        seq["value"]["intValue"].as_str().unwrap().parse::<u64>().unwrap()
    };
    records.iter().map(seq).collect()
}

/// L08: a collector that is down, that hangs, that takes some and that comes back, with the log in a file and on a
/// server. Everybody goes on recording, and in the end it has every record, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l08_a_collector_that_is_dead_slow_and_back_holds_up_nobody_and_has_everything() {
    use std::sync::{Arc, Mutex, mpsc};
    for on_a_server in [false, true] {
        let mut installation = Installation::new();
        let host = format!("{}.example", random("collector"));
        let (mood, taken) = (Arc::new(Mutex::new(Mood::IsDown)), Arc::new(Mutex::new(Vec::new())));
        let ((arrived, asked), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
        let (arrived, released) = (Mutex::new(arrived), Mutex::new(released));
        let (now, all) = (mood.clone(), taken.clone());
        let service = installation
            .service(&host, move |request| {
                let mood = *now.lock().unwrap();
                let numbers = handed(&request);
                if mood == Mood::Hangs {
                    arrived.lock().unwrap().send(()).unwrap();
                    let _ = released.lock().unwrap().recv();
                }
                let (status, answer) = mood.answer(numbers.len());
                if status == 200 {
                    all.lock().unwrap().extend(numbers);
                }
                egress::loopback::reply(http::StatusCode::from_u16(status).unwrap(), answer)
            })
            .await;
        let export = format!("[export]\nurl = \"https://{host}/v1/logs\"\n");
        let database = on_a_server.then(Postgres::shared);
        match &database {
            None => installation.configure(&export),
            Some(database) => {
                installation.configure(&format!("{export}[store]\nurl = \"{}\"\n", database.runtime()));
                installation.run(&["db", "migrate", "--as", &database.owner()]).ok();
            }
        }
        installation.run(&["init", "--slot", "file"]).ok();
        let push = || installation.run(&["audit", "export", "--push", "--json"]);
        let set = || installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
        let is = |other| *mood.lock().unwrap() = other;
        set();

        // Dead: said so, nothing counted as handed over, nobody held up.
        let dead = push();
        assert!(dead.code == 1 && dead.stderr.contains("status 503"), "{dead:#?}");
        assert!(dead.stderr.contains("records wait in the log, from number 1"), "{dead:#?}");
        set();
        assert!(taken.lock().unwrap().is_empty());

        // Slow: while it holds one request, others record as ever.
        is(Mood::Hangs);
        let mut following = installation.start_under(&["env"], &["audit", "export", "--push", "--follow"]);
        asked.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        for _ in 0..3 {
            set();
        }
        installation.run(&["audit", "verify"]).ok();
        assert!(taken.lock().unwrap().is_empty(), "it still holds the first one");
        is(Mood::Takes);
        release.send(()).unwrap();
        let mut rounds = 0;
        while taken.lock().unwrap().len() < 8 {
            rounds += 1;
            assert!(rounds < 300, "it was never handed more");
            set();
        }
        following.kill().unwrap();
        following.wait().unwrap();

        // Back: all of it, without a gap. What was on its way when the other one was killed may come twice.
        let done = push().ok().json().remove(0);
        let last = done["last"].as_u64().unwrap();
        let numbers: BTreeSet<u64> = taken.lock().unwrap().iter().copied().collect();
        assert!(numbers.iter().copied().eq(1..=last), "{numbers:?}");
        let sent = service.requests().len();
        assert_eq!(push().ok().json()[0]["exported"], 0, "its own records are no news");
        assert_eq!(service.requests().len(), sent);

        // One that is not taken, and one by one: counted, and the next time goes on behind it.
        set();
        is(Mood::RefusesOne);
        push().ok();
        set();
        is(Mood::CannotReadMany);
        assert!(push().ok().json()[0]["exported"].as_u64() > Some(1));
        let records = installation.run(&["audit", "export"]).ok().json();
        let exports: Vec<&Value> = records.iter().filter(|record| record["kind"] == "export").collect();
        assert!(exports.iter().any(|record| record["verdict"] == "warn"
            && record["fields"]["reason"].as_str().unwrap().starts_with("1 not taken")));
        assert!(exports.iter().any(|record| record["fields"]["count"] == "1"));
        installation.run(&["audit", "verify"]).ok();
    }
}

/// L08: what handing records over leaves behind is never more to hand over, whatever the collector makes of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l08_a_collector_that_takes_nothing_does_not_make_the_log_grow_for_ever() {
    let mut installation = Installation::new();
    let host = format!("{}.example", random("collector"));
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let service = installation
        .service(&host, move |_| {
            // So that also a client that would never end does.
            let is_over = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) >= 2000;
            let status = if is_over { http::StatusCode::OK } else { http::StatusCode::BAD_REQUEST };
            egress::loopback::reply(status, "{}")
        })
        .await;
    installation.configure(&format!("[export]\nurl = \"https://{host}/v1/logs\"\n"));
    installation.run(&["init", "--slot", "file"]).ok();
    for _ in 0..20 {
        installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
    }
    let records = installation.run(&["audit", "export"]).ok().json().len();
    assert!(records >= 30, "{records}");
    assert_eq!(installation.run(&["audit", "export", "--push", "--json"]).ok().json()[0]["exported"], 0);
    let requests = service.requests().len();
    // Of each record: at most all that follow together, half of them, and so on to one, and one without its fields.
    assert!(requests <= records * 10, "{requests} requests for {records} records");
}

/// The key of a collector is a secret like any other; and a record that holds what may not leave goes without it, and
/// keeps none of the others back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l08_what_may_not_leave_is_withheld_and_the_key_of_the_collector_comes_from_the_vault() {
    let mut installation = Installation::new();
    let host = format!("{}.example", random("collector"));
    let service = installation.service(&host, |_| egress::loopback::reply(http::StatusCode::OK, "{}")).await;
    installation.configure(&format!("[export]\nurl = \"https://{host}/v1/logs\"\nkey = \"COLLECTOR_KEY\"\n"));
    installation.run(&["init", "--slot", "file"]).ok();
    let key = random_key();
    installation.run_with(&["secret", "set", "COLLECTOR_KEY"], &key).ok();
    let refused = installation.run(&["audit", "export", "--push"]);
    assert!(refused.code == 3 && refused.stderr.contains("--tool log"), "{refused:#?}");
    assert_eq!(service.requests().len(), 0);
    let grant = [
        "secret",
        "grant",
        "COLLECTOR_KEY",
        "--tool",
        "log",
        "--host",
        &host,
        "--method",
        "POST",
        "--inject",
        "bearer",
    ];
    installation.run(&grant).ok();
    // A value of the vault that happens to stand in a record.
    let chain = installation.run(&["audit", "export"]).ok().json()[1]["chain"].as_str().unwrap().to_owned();
    installation.run_with(&["secret", "set", "ODD_KEY"], &chain).ok();
    installation.run(&["audit", "export", "--push"]).ok();
    let requests = service.requests();
    assert!(
        requests.iter().all(|request| request.headers()["authorization"] == format!("Bearer {key}").as_str())
    );
    let all: Vec<String> =
        requests.iter().map(|request| String::from_utf8_lossy(request.body()).into_owned()).collect();
    assert!(all.iter().all(|body| !body.contains(&chain)));
    assert!(all.iter().any(|body| body.contains(r#""intValue":"2""#)), "it is there, without what it says");
    let records = installation.run(&["audit", "export"]).ok().json();
    let withheld = |record: &&Value| {
        record["fields"]["reason"].as_str().is_some_and(|text| text.contains("1 sent without fields"))
    };
    assert_eq!(records.iter().filter(withheld).count(), 1);
    assert!(!format!("{records:?}").contains(&key));
}

#[test]
fn l04_the_key_of_the_log_is_exchanged_and_what_was_kept_stays_good() {
    let installation = Installation::initialised();
    let public = installation.home().join("config/keys/audit-signing.pub");
    let known = || std::fs::read_to_string(&public).unwrap().trim_end().to_owned();
    let old = known();
    let kept = installation.run(&["audit", "checkpoint", "--json"]).ok().json().remove(0);
    assert_eq!(kept["key"], old);
    let file = installation.folder.path().join("kept.checkpoint");
    std::fs::write(&file, kept["checkpoint"].as_str().unwrap()).unwrap();
    let rotated = installation.run(&["audit", "rotate-key", "--json"]).ok().json().remove(0);
    assert_eq!(rotated["before"], kept["key"]);
    assert_eq!(rotated["key"], known());
    assert_ne!(known(), old);
    installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
    for key in [&rotated["before"], &rotated["key"]] {
        let key = key.as_str().unwrap();
        installation.run(&["audit", "verify", "--against", file.to_str().unwrap(), "--key", key]).ok();
    }
    installation.run(&["audit", "verify", "--against", file.to_str().unwrap()]).ok();

    // Another machine, or one that was killed right after the handover, knows the old key: it learns the new one.
    std::fs::write(&public, &old).unwrap();
    installation.run(&["audit", "verify"]).ok();
    installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
    assert_eq!(rotated["key"], known());
    // A log whose keys have nothing to do with the one that this machine knows is another log.
    let stranger = Installation::initialised();
    let theirs = stranger.home().join("config/keys/audit-signing.pub");
    std::fs::copy(theirs, &public).unwrap();
    let refused = installation.run_with(&["secret", "set", "A_KEY"], &random_key());
    assert!(refused.code == 6 && refused.stderr.contains("it is another log"), "{refused:#?}");
    assert_ne!(installation.run(&["audit", "verify"]).code, 0);
    std::fs::remove_file(&public).unwrap();
    installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
    assert_eq!(rotated["key"], known());
}

/// An installation from before the vault kept the key: it lies in a file, and moves in when the vault is opened.
#[test]
fn l04_a_key_that_lies_in_a_file_moves_into_the_vault() {
    let private = |path: &std::path::Path, bytes: &[u8]| {
        std::fs::write(path, bytes).unwrap();
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    };
    for is_exchanged in [false, true] {
        let installation = Installation::new();
        installation.run(&["audit", "tail"]).ok();
        let keys = installation.home().join("config/keys");
        let folder = |path: &std::path::Path| {
            std::fs::create_dir_all(path).unwrap();
            std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        };
        folder(&keys);
        let seed: [u8; 32] = *types::Digest::of(random_key().as_bytes()).as_bytes();
        // The next one of an exchange that never was is no key of the log, and goes too.
        let name = "audit-signing";
        private(&keys.join(name), &seed);
        if is_exchanged {
            private(&keys.join("audit-signing.next"), types::Digest::of(&seed).as_bytes());
        }
        let signer = audit::checkpoint::Signer::from_seed(&seed).unwrap();
        // Sealed without the vault, as ever.
        for _ in 0..2 {
            installation.run(&["tool", "call", "missing", "{}"]);
        }
        let before = installation.run(&["audit", "verify", "--json"]).ok().json().remove(0);
        assert!(before["sealed"].as_u64() > Some(0), "{before}");

        let told = installation.run(&["doctor"]);
        assert!(
            told.stdout.contains("lies in") && told.stdout.contains("until the vault is opened"),
            "{told:#?}"
        );
        let moved = installation.run(&["init", "--slot", "file"]).ok();
        assert!(moved.stderr.contains("kept in the vault now"), "{moved:#?}");
        assert!(!keys.join(name).exists() && !keys.join("audit-signing.next").exists());
        let on_disk = installation.everything_on_disk();
        assert!(!on_disk.windows(seed.len()).any(|part| part == seed), "the key lies in a file still");
        let checkpoint = installation.run(&["audit", "checkpoint", "--json"]).ok().json().remove(0);
        assert_eq!(checkpoint["key"], signer.verifier().to_string());
        let records = installation.run(&["audit", "export"]).ok().json();
        let told = |record: &&Value| record["fields"]["state"] == "key of the log kept";
        assert_eq!(records.iter().filter(told).count(), 1);
        installation.run(&["audit", "verify", "--key", &signer.verifier().to_string()]).ok();
        // Not told again, and not made again.
        assert!(!installation.run(&["audit", "checkpoint"]).ok().stderr.contains("kept in the vault now"));
    }
}

/// Who does not open the vault records as ever; who opens it seals what they recorded, too.
#[test]
fn what_is_recorded_while_the_vault_is_locked_is_sealed_when_it_is_opened() {
    let installation = Installation::initialised();
    let state = || {
        let state = installation.run(&["audit", "verify", "--json"]).ok().json().remove(0);
        (state["records"].as_u64().unwrap(), state["sealed"].as_u64().unwrap())
    };
    let (before, sealed) = state();
    assert!(sealed > 0);
    let tool =
        installation.run(&["tool", "list", "--json"]).ok().json()[0]["tool"].as_str().unwrap().to_owned();
    installation.run(&["tool", "remove", &tool]).ok();
    let (locked, still) = state();
    assert!(locked > before && still == sealed, "{before} {sealed} {locked} {still}");
    installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
    let (_, after) = state();
    assert!(after >= locked, "{after} of {locked}");
}

#[test]
fn a_value_that_was_found_somewhere_is_traced_in_the_log() {
    let installation = Installation::initialised();
    let (value, other) = (random_key(), random_key());
    installation.run_with(&["secret", "set", "A_KEY"], &value).ok();
    installation.run_with(&["secret", "set", "B_KEY"], &other).ok();
    installation.run(&["secret", "delete", "A_KEY"]).ok();
    let found = installation.run_with(&["audit", "find", "--json"], &value).ok();
    let records = found.json();
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["kind"], &records[0]["fields"]["secret"]), (&"secret".into(), &"A_KEY".into()));
    assert!(!found.stdout.contains(&value));
    assert_eq!(installation.run_with(&["audit", "find"], &random_key()).code, 5);
}
