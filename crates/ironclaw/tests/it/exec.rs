//! `ironclaw exec` as people use it, on a real Docker Engine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use egress::loopback::Loopback;
use http::Response;
use serde_json::Value;
use types::Host;

use crate::installation::{Installation, Ran, random, random_key};

/// What Debian ships; that nothing runs without it is a test.
pub(crate) const DEBIAN: &str = "[sandbox]\ndowngrades = [\"unverifiable-runtime\"]\n";

/// A folder that any user may write, since the command is none of the test's.
pub(crate) fn workspace(installation: &Installation) -> PathBuf {
    let folder = installation.folder.path().join("project");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&folder, Some(4242), Some(4242)).unwrap();
    }
    // Root's temporary folder is closed to the user that the command runs as; a mount is not.
    folder
}

pub(crate) fn ready(configuration: &str) -> Installation {
    let installation = Installation::initialised();
    installation.configure(&format!("{DEBIAN}{configuration}"));
    let lock = std::fs::File::create(std::env::temp_dir().join("ironclaw-test-image.lock")).unwrap();
    lock.lock().unwrap();
    installation.run(&["sandbox", "build-image"]).ok();
    installation
}

pub(crate) fn exec(installation: &Installation, options: &[&str], script: &str) -> Ran {
    let folder = workspace(installation);
    let mut arguments = vec!["exec", "--workspace", folder.to_str().unwrap()];
    arguments.extend(options);
    arguments.extend(["--", "sh", "-c", script]);
    installation.run(&arguments)
}

#[test]
fn a_command_runs_and_its_exit_code_is_passed_on() {
    let installation = ready("");
    let ran = exec(&installation, &[], "echo out; echo err >&2; exit 9");
    assert_eq!((ran.code, ran.stdout.as_str()), (9, "out\n"), "{ran:?}");
    assert!(ran.stderr.contains("err\n") && ran.stderr.contains("accepted by your configuration"), "{ran:?}");
    let ran = exec(&installation, &["--policy", "workspace-write"], "echo made > file; echo x > .bashrc");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stderr.contains("moved to ironclaw-quarantine-"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(workspace(&installation).join("file")).unwrap(), "made\n");
    let status = installation.run(&["sandbox", "status", "--json"]).ok().json();
    assert_eq!(status[0]["ready"], true);
}

#[test]
fn without_a_fit_engine_nothing_runs_and_what_mends_it_is_named() {
    let installation = Installation::initialised();
    installation.configure("[sandbox]\nengine = \"/nowhere/docker.sock\"\n");
    let ran = exec(&installation, &[], "echo ran");
    assert_eq!((ran.code, ran.stdout.as_str()), (6, ""), "{ran:?}");
    assert!(ran.stderr.contains("apt-get install docker.io"), "{ran:?}");
    let audit = installation.run(&["audit", "tail"]).ok();
    assert!(audit.stdout.contains("container.unfit"), "{audit:?}");
}

#[tokio::test]
async fn r17_every_request_is_refused_in_json_and_on_the_record() {
    let installation = ready("");
    let host = Host::parse("upstream.example").unwrap();
    let upstream = Loopback::https(&host, |_| Response::new(Default::default())).await.unwrap();
    let port = upstream.addr().port();
    let script = format!(
        "curl -s http://upstream.example/x; curl -s --noproxy '*' http://upstream.example/x; \
         curl -s https://upstream.example/x; echo $?; curl -s --noproxy '*' https://upstream.example/x; echo $?; \
         curl -s --noproxy '*' --max-time 3 https://127.0.0.1:{port}/; echo $?"
    );
    let ran = exec(&installation, &[], &script);
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 5, "{ran:?}");
    for line in &lines[..2] {
        let told: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(told["error"]["code"], "policy.not-allowed");
        assert_eq!(told["error"]["asked"], "GET http://upstream.example/x");
    }
    // Through the proxy the tunnel is refused; without one TLS itself is.
    assert!(lines[2..].iter().all(|code| *code != "0"), "{ran:?}");
    assert_eq!(upstream.connections(), 0);
    let audit = installation.run(&["audit", "tail", "-n", "40"]).ok();
    assert!(audit.stdout.matches("policy.not-allowed").count() >= 4, "{audit:?}");
    installation.run(&["audit", "verify"]).ok();
}

#[test]
fn a_secret_that_does_not_exist_is_said_to_be_missing() {
    let installation = Installation::initialised();
    let grant = [
        "secret",
        "grant",
        "NOPE",
        "--tool",
        "proxy",
        "--host",
        "a.example",
        "--path",
        "/",
        "--inject",
        "bearer",
    ];
    let ran = installation.run(&grant);
    assert!(ran.code == 5 && ran.stderr.contains("NOPE"), "{ran:?}");
    let ran = exec(&installation, &["--secret", "NOPE"], "true");
    assert!(ran.code == 5 && ran.stderr.contains("ironclaw secret set NOPE"), "{ran:?}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the program under test is a process")]
fn a_command_runs_in_an_installation_whose_home_has_a_long_name() {
    let installation = ready("");
    let (folder, deep) = (workspace(&installation), installation.folder.path().join("n".repeat(120)));
    std::fs::rename(installation.home(), &deep).unwrap();
    let arguments =
        ["--home", deep.to_str().unwrap(), "exec", "--workspace", folder.to_str().unwrap(), "--", "true"];
    let ran = std::process::Command::new(env!("CARGO_BIN_EXE_ironclaw")).args(arguments).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
}

#[test]
fn c01_a_value_of_the_vault_is_not_inside_and_is_not_printed() {
    let installation = ready("");
    let key = random_key();
    installation.run_with(&["secret", "set", "A_KEY"], &key).ok();
    let ran = exec(&installation, &[], "env; cat /proc/*/environ 2>/dev/null; ls -R /.ironclaw");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stdout.contains(&key));

    std::fs::write(workspace(&installation).join("notes"), format!("before\n{key}\nafter\n")).unwrap();
    let ran = exec(&installation, &[], "cat notes; sleep 600");
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(!ran.stdout.contains(&key) && !ran.stderr.contains(&key), "{ran:?}");
    // The owner is told as of every leak, and the record is of its own kind.
    assert!(ran.stderr.contains("ALERT (critical): leaks.known-value"), "{ran:?}");
    let tail = installation.run(&["--json", "audit", "tail", "-n", "20"]).ok();
    let of = |kind: &str| {
        let known =
            |record: &Value| record["kind"] == kind && record["fields"]["rule"] == "leaks.known-value";
        tail.json().iter().filter(|record| known(record)).count()
    };
    assert_eq!((of("release"), of("alert"), of("config")), (1, 1, 0), "{tail:?}");

    let folder = workspace(&installation);
    let ran = installation.run(&["exec", "--workspace", folder.to_str().unwrap(), "--", "echo", &key]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
}

#[test]
fn m03_of_what_was_moved_a_program_is_told_every_name_and_the_record_keeps_each() {
    let installation = ready("");
    let planted = "for n in $(seq 1 12); do mkdir d$n; echo x > d$n/AGENTS.md; done; echo 'a b' > 'a b.txt'";
    let write = ["--json", "--policy", "workspace-write"];
    let ran = exec(&installation, &write, planted).ok();
    let account = ran.json().pop().unwrap();
    let mut names: Vec<_> =
        account["quarantined"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    names.sort_unstable();
    assert!(
        names.len() == 12 && names[0] == "d1/AGENTS.md" && account["quarantined_more"] == 0,
        "{account:#}"
    );
    assert!(workspace(&installation).join(account["quarantine"].as_str().unwrap()).join("origins").exists());
    let records = installation.run(&["--json", "audit", "tail"]).ok().json();
    let settled = records.iter().rfind(|record| record["kind"] == "settle").unwrap();
    assert_eq!(settled["fields"]["path"].as_array().map(Vec::len), Some(8), "{settled:#}");
    assert_eq!(settled["fields"]["count"], "12");
    // Where nothing was moved there is no folder to name.
    let account = exec(&installation, &write, "true").ok().json().pop().unwrap();
    assert!(
        account["quarantine"].is_null() && account["quarantined"] == serde_json::json!([]),
        "{account:#}"
    );
}

#[test]
fn m03_another_name_of_a_hook_is_not_written_either() {
    let installation = ready("");
    let folder = workspace(&installation);
    std::fs::create_dir_all(folder.join(".git/hooks")).unwrap();
    std::fs::create_dir(folder.join("scripts")).unwrap();
    std::fs::write(folder.join("scripts/pre-commit"), "honest\n").unwrap();
    std::fs::hard_link(folder.join("scripts/pre-commit"), folder.join(".git/hooks/pre-commit")).unwrap();
    for path in ["scripts", "scripts/pre-commit"] {
        std::fs::set_permissions(folder.join(path), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    let script = "echo evil >> scripts/pre-commit; mv scripts/pre-commit x; rm -f scripts/pre-commit; ln scripts/pre-commit y; true";
    exec(&installation, &["--policy", "workspace-write"], script).ok();
    assert_eq!(std::fs::read_to_string(folder.join(".git/hooks/pre-commit")).unwrap(), "honest\n");
    assert!(folder.join("scripts/pre-commit").exists() && !folder.join("y").exists());
}

#[test]
fn what_is_printed_is_seen_while_the_command_goes_on() {
    use std::io::Read as _;
    let installation = ready("");
    let folder = workspace(&installation);
    // Shorter than what is held back for the sake of a value that could go on, with a silence before each.
    let script = "while [ ! -e first ]; do sleep 0.02; done; sleep 0.3; echo hello; \
                  while [ ! -e second ]; do sleep 0.02; done; sleep 0.3; echo bye; \
                  while [ ! -e third ]; do sleep 0.02; done";
    let arguments = ["exec", "--workspace", folder.to_str().unwrap(), "--", "sh", "-c", script];
    let mut program = installation.start_under(&["env"], &arguments);
    drop(program.stdin.take());
    let mut stdout = program.stdout.take().unwrap();
    let (to, printed) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut piece = [0; 64];
        while let Ok(length @ 1..) = stdout.read(&mut piece) {
            let _ = to.send(String::from_utf8_lossy(&piece[..length]).into_owned());
        }
    });
    let minute = std::time::Duration::from_secs(60);
    for (file, line) in [("first", "hello\n"), ("second", "bye\n")] {
        std::fs::write(folder.join(file), "").unwrap();
        assert_eq!(printed.recv_timeout(minute).as_deref(), Ok(line));
    }
    std::fs::write(folder.join("third"), "").unwrap();
    let ended = program.wait_with_output().unwrap();
    assert!(ended.status.success(), "{ended:?}");
}

/// A program that runs a command in the workspace, to be killed.
#[allow(clippy::disallowed_methods, reason = "the program under test is a process that is killed")]
pub(crate) fn running(installation: &Installation, options: &[&str], script: &str) -> std::process::Child {
    std::process::Command::new(env!("CARGO_BIN_EXE_ironclaw"))
        .arg("--home")
        .arg(installation.home())
        .args(["exec", "--workspace", workspace(installation).to_str().unwrap()])
        .args(options)
        .args(["--", "sh", "-c", script])
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap()
}

/// Waits until something is so; false when it does not come to that.
pub(crate) fn until(is_so: impl Fn() -> bool) -> bool {
    (0..600).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        is_so()
    })
}

/// The processes of this machine whose command line is so.
fn processes(is_so: impl Fn(&[u8]) -> bool) -> Vec<rustix::process::Pid> {
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let folder = entry.unwrap().path();
        let line = std::fs::read(folder.join("cmdline")).ok()?;
        let number = folder.file_name()?.to_str()?.parse().ok()?;
        is_so(&line).then(|| rustix::process::Pid::from_raw(number))?
    };
    std::fs::read_dir("/proc").unwrap().filter_map(of).collect()
}

/// Whether a shell runs this script somewhere on the machine.
fn runs(script: &str) -> bool {
    let command = format!("sh\0-c\0{script}\0");
    !processes(|line| line == command.as_bytes()).is_empty()
}

#[test]
fn r14_a_run_ends_with_the_program_that_answers_for_it() {
    let installation = ready("");
    let script = format!("sleep 600; : {}", random("86"));
    let mut program = running(&installation, &[], &script);
    assert!(until(|| runs(&script)), "the command did not start");
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(until(|| !runs(&script)), "the command outlived the program");
}

#[test]
fn m03_what_a_command_planted_whose_program_was_killed_is_put_away_before_the_next_one() {
    let installation = ready("");
    let folder = workspace(&installation);
    let own = |path: &std::path::Path| {
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(path, Some(4242), Some(4242)).unwrap();
        }
    };
    std::fs::create_dir(folder.join(".git")).unwrap();
    std::fs::write(folder.join(".git/config"), "[core]\n").unwrap();
    own(&folder.join(".git"));
    let script = format!(
        "mkdir .git/hooks; echo evil > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout; \
         d=$(printf 'a\\033]0;x\\007'); mkdir \"$d\"; echo evil > \"$d/.bashrc\"; touch planted; sleep 600; : {}",
        random("86")
    );
    let mut program = running(&installation, &["--policy", "workspace-write"], &script);
    assert!(until(|| folder.join("planted").exists()), "the command did not start");
    program.kill().unwrap();
    program.wait().unwrap();
    // The hook is live, and nobody who saw it come is.
    assert!(folder.join(".git/hooks/post-checkout").exists());

    // Whatever the next command is, and though it changes nothing, and works in a folder of this one.
    std::fs::create_dir(folder.join("src")).unwrap();
    let inner = folder.join("src");
    let next = installation.run(&["exec", "--workspace", inner.to_str().unwrap(), "--", "true"]).ok();
    assert!(!folder.join(".git/hooks").exists(), "{next:?}");
    assert!(!runs(&script), "the command outlived what it left");
    let told = next.stderr.lines().find(|line| line.contains("was cut off")).unwrap();
    assert!(told.contains("\".git/hooks\"") && told.contains("moved to ironclaw-quarantine-"), "{told}");
    assert!(told.contains(r"a\u{1b}]0;x\u{7}/.bashrc") && !next.stderr.contains('\u{1b}'), "{told}");
    let quarantine = told.split(' ').find(|word| word.starts_with("ironclaw-quarantine-")).unwrap();
    let quarantine = quarantine.trim_end_matches('/');
    let moved = std::fs::read_dir(folder.join(quarantine)).unwrap().map(|entry| entry.unwrap().path());
    let (origins, moved): (Vec<PathBuf>, Vec<PathBuf>) = moved.partition(|path| path.ends_with("origins"));
    let origins = std::fs::read_to_string(&origins[0]).unwrap();
    assert!(
        origins.contains(" '.git/hooks'\n") && origins.contains(r" $'a\x1b]0;x\x07/.bashrc'"),
        "{origins}"
    );
    assert!(moved.iter().any(|path| path.join("post-checkout").exists()) && moved.len() == 2, "{moved:?}");
    assert_eq!(std::fs::read_to_string(folder.join(".git/config")).unwrap(), "[core]\n");

    let records = installation.run(&["--json", "audit", "tail", "-n", "50"]).ok().json();
    let of = |kind: &str, verdict: &str| {
        let is = |record: &&serde_json::Value| record["kind"] == kind && record["verdict"] == verdict;
        records.iter().filter(is).cloned().collect::<Vec<_>>()
    };
    let abandoned = of("settle", "abandoned");
    assert_eq!(abandoned.len(), 1, "{records:#?}");
    assert_eq!(abandoned[0]["fields"]["count"], "2");
    assert_eq!(abandoned[0]["fields"]["of"], of("command", "allow")[0]["seq"].to_string());
    installation.run(&["audit", "verify"]).ok();
    // Once.
    let again = exec(&installation, &["--policy", "workspace-write"], "true").ok();
    assert!(!again.stderr.contains("ironclaw-quarantine-"), "{again:?}");
    let notes = std::fs::read_dir(installation.home().join("data/sandbox")).unwrap();
    let notes = notes
        .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|ending| ending == "run"));
    assert_eq!(notes.count(), 0);
}

#[test]
fn m03_a_command_that_lives_on_is_ended_before_what_it_plants_is_put_away() {
    let installation = ready("");
    let folder = workspace(&installation);
    let script = format!("while :; do mkdir -p .vscode; touch planted; sleep 0.01; done; : {}", random("86"));
    let mut program = running(&installation, &["--policy", "workspace-write"], &script);
    assert!(until(|| folder.join("planted").exists()), "the command did not start");
    // Stopped, the container's first process does not see that the program is gone, so nothing ends.
    let first = processes(|line| {
        line.starts_with(b"/.ironclaw/init\0run\0") && line.ends_with(format!("\0{script}\0").as_bytes())
    });
    let [first] = first[..] else { panic!("{first:?}") };
    rustix::process::kill_process(first, rustix::process::Signal::STOP).unwrap();
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(runs(&script), "the command ended by itself");
    let next = exec(&installation, &[], "true").ok();
    assert!(!runs(&script), "the command lives on: {next:?}");
    assert!(next.stderr.contains("\".vscode\"") && !folder.join(".vscode").exists(), "{next:?}");
}

#[test]
fn m03_what_was_planted_is_found_under_another_name_and_a_new_folder_is_left_alone() {
    let installation = ready("");
    let folder = workspace(&installation);
    let script = format!("mkdir .husky; touch planted; sleep 600; : {}", random("86"));
    let mut program = running(&installation, &["--policy", "workspace-write"], &script);
    assert!(until(|| folder.join("planted").exists()), "the command did not start");
    // While it runs, none that would change what it sees, or see what it changes, goes beside it.
    let beside = exec(&installation, &[], "true");
    assert!(beside.code == 3 && beside.stderr.contains("container.busy"), "{beside:?}");
    std::fs::create_dir(folder.join("inner")).unwrap();
    let inner = folder.join("inner");
    let inside = installation.run(&["exec", "--workspace", inner.to_str().unwrap(), "--", "true"]);
    assert!(inside.code == 3 && inside.stderr.contains("container.busy"), "{inside:?}");
    program.kill().unwrap();
    program.wait().unwrap();
    let was = folder.with_extension("was");
    std::fs::rename(&folder, &was).unwrap();
    std::fs::create_dir_all(workspace(&installation).join(".vscode")).unwrap();
    let next = exec(&installation, &[], "true").ok();
    assert!(folder.join(".vscode").exists() && !next.stderr.contains("ironclaw-quarantine-"), "{next:?}");
    // What it left is put away wherever it has gone, once somebody comes to it.
    assert!(was.join(".husky").exists());
    let inner = was.join("inner");
    let moved = installation.run(&["exec", "--workspace", inner.to_str().unwrap(), "--", "true"]).ok();
    assert!(!was.join(".husky").exists() && moved.stderr.contains("ironclaw-quarantine-"), "{moved:?}");
    let audit = installation.run(&["audit", "tail"]).ok();
    assert!(audit.stdout.contains("nobody saw the end of the command"), "{audit:?}");
    // Nothing of the killed run stays beside its note. What clears it up runs beside a command, and may not come to its end.
    let names = || {
        let sandbox = std::fs::read_dir(installation.home().join("data/sandbox")).unwrap();
        sandbox.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    let own = |name: &String| ["image", "installation"].contains(&name.as_str()) || name.starts_with("init-");
    let cleared = (0..20).any(|_| {
        exec(&installation, &[], "true").ok();
        names().iter().all(own)
    });
    assert!(cleared, "{:?}", names());
}

#[test]
fn f06_full_access_is_refused_without_the_configuration_and_shouted_with_it() {
    let installation = Installation::initialised();
    let mark = random("mark");
    let ran = exec(&installation, &["--policy", "full-access"], &format!("echo {mark}"));
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
    assert!(ran.stderr.contains("policy.full-access"), "{ran:?}");

    installation.configure("[sandbox]\nfull_access = true\n");
    let ran = exec(&installation, &["--policy", "full-access"], &format!("echo {mark}; exit 4"));
    assert_eq!((ran.code, ran.stdout.trim()), (4, mark.as_str()), "{ran:?}");
    assert!(ran.stderr.contains("!!! full access"), "{ran:?}");
    let doctor = installation.run(&["doctor"]);
    assert!(doctor.stdout.contains("FULL ACCESS IS ALLOWED"), "{doctor:?}");
    let audit = installation.run(&["audit", "tail"]).ok();
    assert!(audit.stdout.contains("full-access"), "{audit:?}");
}
