//! The vault through the command line: slots, rotation, versions, import, backup.

use std::fs;

use serde_json::Value;

use crate::installation::{Installation, random, random_key};

impl Installation {
    fn slots(&self) -> Vec<Value> {
        let status = self.run(&["--json", "vault", "slots", "list"]).ok().json().remove(0);
        status["slots"].as_array().unwrap().clone()
    }

    fn checked(&self) -> u64 {
        self.run(&["--json", "vault", "check"]).ok().json()[0]["opened"].as_u64().unwrap()
    }

    fn states(&self, secret: &str) -> Vec<String> {
        let versions = self.run(&["--json", "secret", "versions", secret]).ok().json();
        versions.iter().map(|version| version["state"].as_str().unwrap().to_owned()).collect()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[test]
fn a_recovery_code_is_printed_once_and_a_rotation_prints_a_new_one() {
    let installation = Installation::initialised();
    installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
    let added = installation.run(&["--json", "vault", "slots", "add", "recovery"]).ok().json().remove(0);
    let code = added["recovery_code"].as_str().unwrap().to_owned();
    assert_eq!(code.len(), 39);
    assert!(!installation.run(&["vault", "slots", "list"]).ok().stdout.contains(&code));
    let disk = installation.everything_on_disk();
    assert!(!disk.windows(code.len()).any(|part| part == code.as_bytes()), "the code lies in a file");

    let rotated = installation.run(&["--json", "vault", "rotate"]).ok().json();
    let state = |step: &Value| step["state"].as_str().unwrap().to_owned();
    assert_eq!(state(rotated.last().unwrap()), "finished");
    let new = rotated.iter().find_map(|step| step["recovery_code"].as_str()).unwrap();
    assert_ne!(new, code);
    let slots = installation.slots();
    assert!(slots.len() == 2 && slots.iter().all(|slot| slot["generation"] == 2), "{slots:?}");
    assert_eq!(installation.checked(), 1);
    installation.run(&["audit", "verify"]).ok();
}

#[test]
fn slots_are_removed_by_id_and_the_last_one_stays() {
    let installation = Installation::initialised();
    let phrase = installation.file("phrase", "correct horse battery\n");
    installation.run(&["vault", "slots", "add", "passphrase", "--passphrase-file", &phrase]).ok();
    let slots = installation.slots();
    let of = |kind: &str| slots.iter().find(|slot| slot["kind"] == kind).unwrap()["id"].as_str().unwrap();
    assert_eq!(installation.run(&["vault", "slots", "remove", "nothing"]).code, 5);
    installation.run(&["vault", "slots", "remove", of("passphrase")]).ok();
    let last = installation.run(&["vault", "slots", "remove", of("file")]);
    assert_eq!(last.code, 2, "{last:?}");
    assert_eq!(installation.run(&["vault", "slots", "add", "systemd"]).code, 6, "no credential was given");
    assert_eq!(installation.slots().len(), 1);
}

#[test]
fn versions_go_back_off_on_and_away() {
    let installation = Installation::initialised();
    for _ in 0..2 {
        installation.run_with(&["secret", "set", "A_KEY"], &random_key()).ok();
    }
    assert_eq!(installation.states("A_KEY"), ["previous", "current"]);
    installation.run(&["secret", "rollback", "A_KEY"]).ok();
    assert_eq!(installation.states("A_KEY"), ["current", "previous"]);
    installation.run(&["secret", "disable", "A_KEY"]).ok();
    installation.run(&["secret", "enable", "A_KEY"]).ok();
    assert_eq!(installation.run(&["secret", "destroy", "A_KEY", "1"]).code, 2, "it is in use");
    installation.run(&["secret", "destroy", "A_KEY", "2"]).ok();
    assert_eq!(installation.states("A_KEY"), ["current", "destroyed"]);
    assert_eq!(installation.run(&["secret", "rollback", "A_KEY"]).code, 5);
    assert_eq!(installation.run(&["secret", "enable", "NOTHING"]).code, 5);
    assert_eq!(installation.checked(), 1);
}

#[test]
fn an_env_file_is_imported_without_showing_a_value() {
    let installation = Installation::initialised();
    let (one, two) = (random_key(), random_key());
    let text =
        format!("# services\nexport ONE_KEY={one}\nTWO_KEY='{two}$x' # note\nWEAK_KEY=password\nNOTE=\n");
    let file = installation.file("services.env", &text);
    let dry = installation.run(&["--json", "secret", "import", &file, "--dry-run"]);
    assert!(installation.run(&["--json", "secret", "list"]).ok().stdout.is_empty());
    let ran = installation.run(&["--json", "secret", "import", &file]);
    assert_eq!((dry.code, ran.code), (1, 1), "two values are refused: {ran:?}");
    for output in [&dry.stdout, &dry.stderr, &ran.stdout, &ran.stderr] {
        assert!(!output.contains(&one) && !output.contains(&two), "a value is shown");
    }
    let state = |secret: &str| {
        let lines = ran.json();
        lines.iter().find(|line| line["secret"] == secret).unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (state("ONE_KEY"), state("WEAK_KEY"), state("NOTE")),
        ("stored".into(), "refused".into(), "refused".into())
    );
    assert_eq!(ran.json().last().unwrap()["stored"], 2);
    let again = installation.run(&["--json", "secret", "import", &file]).json();
    assert_eq!(again.last().unwrap()["stored"], 0);
    let replaced = installation.run(&["--json", "secret", "import", &file, "--replace"]).json();
    assert_eq!(replaced.last().unwrap()["stored"], 2);
    assert_eq!(installation.states("TWO_KEY"), ["previous", "current"]);

    let variable = installation.file("variable.env", &format!("A_KEY=x{one}$HOME\n"));
    let refused = installation.run(&["secret", "import", &variable]);
    assert!(refused.code == 2 && refused.stderr.contains("line 1"), "{refused:?}");
    let broken = installation.file("broken.env", &format!("A_KEY=\"{one}\n"));
    let refused = installation.run(&["secret", "import", &broken]);
    assert!(refused.code == 2 && !refused.stderr.contains(&one), "{refused:?}");
}

#[test]
fn a_backup_comes_back_on_another_machine() {
    let here = Installation::initialised();
    let value = random_key();
    here.run_with(&["secret", "set", "A_KEY"], &value).ok();
    let phrase = here.file("phrase", "a passphrase for paper\n");
    let backup = here.folder.path().join("vault.backup");
    let backup = backup.to_str().unwrap();
    here.run(&["vault", "backup", backup, "--passphrase-file", &phrase]).ok();
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(backup).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(here.run(&["vault", "backup", backup, "--passphrase-file", &phrase]).code, 2, "it exists");
    let bytes = fs::read(backup).unwrap();
    assert!(!bytes.windows(16).any(|part| part == &value.as_bytes()[..16]));

    let there = Installation::initialised();
    let wrong = there.file("wrong", "another passphrase\n");
    assert_eq!(there.run(&["vault", "restore", backup, "--passphrase-file", &wrong]).code, 1);
    there.run(&["vault", "restore", backup, "--passphrase-file", &phrase, "--dry-run"]).ok();
    assert_eq!(there.checked(), 0);
    let done = there
        .run(&["--json", "vault", "restore", backup, "--passphrase-file", &phrase])
        .ok()
        .json()
        .remove(0);
    assert_eq!(done["restored"], serde_json::json!(["A_KEY"]));
    assert_eq!(there.checked(), 1);
    there.run(&["secret", "delete", "A_KEY"]).ok();
    let kept = there
        .run(&["--json", "vault", "restore", backup, "--passphrase-file", &phrase])
        .ok()
        .json()
        .remove(0);
    assert_eq!(kept["destroyed"], serde_json::json!(["A_KEY"]));
}

/// A token that is about to end is renewed before anything is asked of the agent, and by hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_renewed_by_hand_and_by_themselves() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let mut installation = Installation::initialised();
    let (host, first) = (format!("{}.example", random("login")), random_key());
    let given = std::sync::Arc::new(AtomicU32::new(0));
    let (count, stem) = (given.clone(), first.clone());
    let service = installation
        .service(&host, move |request| {
            assert_eq!(request.uri().path(), "/oauth/token");
            let number = count.fetch_add(1, Ordering::SeqCst);
            // The first one is good for a moment only.
            let life = if number == 0 { 1 } else { 3600 };
            let answer =
                format!(r#"{{"access_token":"{stem}-{number}","token_type":"bearer","expires_in":{life}}}"#);
            egress::loopback::reply(http::StatusCode::OK, answer)
        })
        .await;
    let refresh = random_key();
    installation.run_with(&["secret", "set", "A_REFRESH", "--days", "30"], &refresh).ok();
    let missing = installation.run(&["secret", "refresh", "A_TOKEN"]);
    assert!(missing.code == 1 && missing.stderr.contains("--inject refresh:A_TOKEN:"), "{missing:#?}");
    let to = |tool, inject| {
        [
            "secret",
            "grant",
            "A_REFRESH",
            "--tool",
            tool,
            "--host",
            &host,
            "--path",
            "/oauth/token",
            "--inject",
            inject,
        ]
        .map(str::to_owned)
    };
    let grant = |tool, inject| {
        let words = to(tool, inject);
        installation.run(&words.each_ref().map(String::as_str))
    };
    assert_eq!(grant("agent", "refresh:A_TOKEN:id").code, 2);
    assert_eq!(grant("vault", "bearer").code, 2);
    grant("vault", "refresh:A_TOKEN:my-client").ok();

    let renewed = installation.run(&["--json", "secret", "refresh", "A_TOKEN"]).ok();
    assert_eq!(renewed.json()[0]["refresh_token_replaced"], Value::Null);
    let again = installation.run(&["secret", "refresh", "A_TOKEN"]);
    assert!(again.code == 1 && again.stderr.contains("less than a minute ago"), "{again:#?}");
    assert_eq!(
        service.requests()[0].body(),
        &format!("grant_type=refresh_token&refresh_token={refresh}&client_id=my-client")
    );
    let listed = installation.run(&["--json", "secret", "list"]).ok().json();
    let of = |name: &str| listed.iter().find(|row| row["secret"] == name).unwrap()["expires_ms"].as_u64();
    assert!(of("A_TOKEN") < of("A_REFRESH"));
    for ran in [
        &renewed,
        &again,
        &installation.run(&["audit", "export"]),
        &installation.run(&["secret", "show", "A_TOKEN"]),
    ] {
        assert!(!format!("{ran:?}").contains(&first), "a token is shown");
    }
    assert!(!installation.everything_on_disk().windows(20).any(|part| part == &first.as_bytes()[..20]));
    installation.run(&["audit", "verify"]).ok();

    // A token that is not there yet is fetched when an agent starts.
    grant("vault", "refresh:B_TOKEN:my-client").ok();
    installation.run(&["ask", "hello"]);
    assert_eq!(given.load(Ordering::SeqCst), 2);
    let listed = installation.run(&["--json", "secret", "list"]).ok().json();
    assert!(listed.iter().any(|row| row["secret"] == "B_TOKEN" && row["expires_ms"].as_u64().is_some()));
}

/// An endpoint that has replaced a refresh token and is slow to say so, while the program is told to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_token_that_is_under_way_when_the_program_is_told_to_end_is_not_lost() {
    use rustix::process::{Pid, Signal, kill_process};
    use std::sync::{Mutex, mpsc};
    for (command, signal) in [
        (&["secret", "refresh", "A_TOKEN"][..], Signal::INT),
        (&["secret", "refresh", "A_TOKEN"], Signal::TERM),
        (&["proxy", "--listen", "127.0.0.1:0", "--ca", "ca.pem"], Signal::TERM),
    ] {
        let mut installation = Installation::initialised();
        let host = format!("{}.example", random("login"));
        let ((arrived, asked), (go, may_answer)) = (mpsc::channel(), mpsc::channel::<()>());
        let (arrived, may_answer) = (Mutex::new(arrived), Mutex::new(may_answer));
        let answer = format!(
            r#"{{"access_token":"{}","refresh_token":"{}","expires_in":3600}}"#,
            random_key(),
            random_key()
        );
        let _service = installation
            .service(&host, move |_| {
                arrived.lock().unwrap().send(()).unwrap();
                may_answer.lock().unwrap().recv().unwrap();
                egress::loopback::reply(http::StatusCode::OK, answer.clone())
            })
            .await;
        installation.run_with(&["secret", "set", "A_REFRESH"], &random_key()).ok();
        installation
            .run(&[
                "secret",
                "grant",
                "A_REFRESH",
                "--tool",
                "vault",
                "--host",
                &host,
                "--path",
                "/token",
                "--inject",
                "refresh:A_TOKEN:id",
            ])
            .ok();
        let mut words = command.to_vec();
        let ca = installation.file("ca.pem", "");
        words.iter_mut().filter(|word| **word == "ca.pem").for_each(|word| *word = &ca);
        let mut child = installation.start_under(&["env"], &words);
        asked.recv_timeout(std::time::Duration::from_secs(60)).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        // It has heard of it once it says that it waits.
        let mut said = String::new();
        let stderr = child.stderr.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut said).unwrap();
        assert!(said.contains("waits for the answer of a token endpoint"), "{said}");
        go.send(()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(1));
        assert_eq!(installation.states("A_REFRESH"), ["previous", "current"]);
        assert_eq!(installation.states("A_TOKEN"), ["current"]);
        installation.run(&["audit", "verify"]).ok();
    }
}

/// K12: the program itself, while it runs.
#[test]
#[allow(clippy::disallowed_methods, reason = "the program under test is a process")]
fn k12_the_program_writes_no_core_dump() {
    use std::io::Read as _;
    let installation = Installation::initialised();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_ironclaw"))
        .args(["--home", installation.home().to_str().unwrap(), "scan", "leaks", "-", "--json"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // It waits for its input; that it has come so far shows in its second thread.
    let process = format!("/proc/{}", child.id());
    while fs::read_dir(format!("{process}/task")).unwrap().count() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "it ended");
        std::thread::yield_now();
    }
    let limits = fs::read_to_string(format!("{process}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    drop(child.stdin.take());
    let mut rest = String::new();
    child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(child.wait().unwrap().success(), "{rest}");
}

#[test]
fn secrets_are_listed_in_columns() {
    let installation = Installation::new();
    installation.run(&["init", "--slot", "file"]).ok();
    for name in ["A", "A_MUCH_LONGER_NAME"] {
        installation.run_with(&["secret", "set", name], &random_key()).ok();
    }
    let listed = installation.run(&["secret", "list"]).ok().stdout;
    let columns: Vec<_> = listed.lines().map(|line| (line.find("version"), line.find("grants"))).collect();
    assert!(columns.len() == 2 && columns[0] == columns[1] && columns[0].0.is_some(), "{listed}");
}
