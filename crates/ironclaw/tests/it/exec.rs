//! `ironclaw exec` as people use it, on a real Docker Engine.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use egress::loopback::Loopback;
use http::Response;
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

    let folder = workspace(&installation);
    let ran = installation.run(&["exec", "--workspace", folder.to_str().unwrap(), "--", "echo", &key]);
    assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:?}");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the program under test is a process that is killed")]
fn r14_a_run_ends_with_the_program_that_answers_for_it() {
    let installation = ready("");
    let folder = workspace(&installation);
    let mark = random("86");
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_ironclaw"))
        .arg("--home")
        .arg(installation.home())
        .args([
            "exec",
            "--workspace",
            folder.to_str().unwrap(),
            "--",
            "sh",
            "-c",
            &format!("sleep 600; : {mark}"),
        ])
        .stdin(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let inside = || {
        let of = |entry: std::io::Result<std::fs::DirEntry>| {
            std::fs::read(entry.unwrap().path().join("cmdline")).ok()
        };
        let command = format!("sh\0-c\0sleep 600; : {mark}\0");
        std::fs::read_dir("/proc").unwrap().filter_map(of).any(|line| line == command.as_bytes())
    };
    let until = |what: bool| {
        (0..600).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(50));
            inside() == what
        })
    };
    assert!(until(true), "the command did not start");
    program.kill().unwrap();
    program.wait().unwrap();
    assert!(until(false), "the command outlived the program");
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
