//! Wrong input: the exit code, and an error that says what to do.

use crate::installation::Installation;

#[test]
fn exit_codes_are_those_that_scripts_rely_on() {
    let installation = Installation::initialised();
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["--version"], 0),
        (&["frobnicate"], 2),
        (&["ask"], 2),
        (&["secret", "set", "not a name"], 2),
        (&["secret", "show", "NOTHING"], 5),
        (&["secret", "delete", "NOTHING"], 5),
        (&["tool", "show", "nothing"], 5),
        (&["tool", "install", "/nowhere"], 5),
        (&["tool", "call", "nothing", "{}"], 3),
        (&["tool", "call", "notes", "not json"], 2),
        (&["policy", "check", "nothing"], 3),
        (&["policy", "explain", "0199c6f2-3d41-7b02-8d0e-5a1f6a1b2c3d"], 5),
        (&["audit", "show", "999999"], 5),
        (&["audit", "verify"], 0),
        (&["vault", "status"], 0),
        (&["config", "explain", "budget"], 0),
    ] {
        let ran = installation.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {ran:#?}");
        if code != 0 {
            assert!(!ran.stderr.trim().is_empty(), "{arguments:?} says nothing");
        }
    }
}

#[test]
fn with_json_every_failure_is_one_object_on_standard_error_with_its_code() {
    let installation = Installation::initialised();
    for (arguments, code) in [
        (&["scan"][..], 2),
        (&["secret"], 2),
        (&["frobnicate"], 2),
        (&["ask"], 2),
        (&["config", "explain", "nothing"], 2),
        (&["tool", "show", "nothing"], 5),
        (&["tool", "install", "/nowhere"], 5),
        (&["ask", "hello", "--file", "/nowhere"], 5),
        (&["secret", "set", "A_KEY", "--from-file", "/nowhere"], 5),
        (&["secret", "import", "/nowhere"], 5),
        (&["vault", "restore", "/nowhere", "--passphrase-file", "/nowhere"], 5),
        (&["vault", "slots", "add", "passphrase", "--passphrase-file", "/nowhere"], 5),
        (&["audit", "verify", "--against", "/nowhere"], 5),
        (&["audit", "verify", "--archive", "/nowhere"], 5),
        (&["audit", "export", "--archive", "/nowhere"], 5),
        (&["config", "validate", "/nowhere"], 5),
        (&["eval", "flows", "/nowhere"], 5),
        (&["scan", "leaks", "/nowhere"], 5),
        (&["scan", "leaks", "--baseline", "/nowhere", "/dev/null"], 5),
    ] {
        let ran = installation.run(&[&["--json"], arguments].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{arguments:?}: {ran:#?}");
        let object: serde_json::Value =
            serde_json::from_str(&ran.stderr).unwrap_or_else(|_| panic!("{arguments:?}: {ran:#?}"));
        assert_eq!(object["code"], code, "{arguments:?}: {object}");
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let installation = Installation::new();
    for command in [
        "demo",
        "init",
        "ask",
        "chat",
        "tool",
        "secret",
        "vault",
        "db",
        "scan",
        "eval",
        "policy",
        "approvals",
        "audit",
        "config",
        "doctor",
        "completions",
        "man",
    ] {
        let ran = installation.run(&[command, "--help"]).ok();
        assert!(ran.stdout.contains("Example:"), "{command}");
    }
}

#[test]
fn a_mistyped_key_is_refused_with_a_suggestion() {
    let installation = Installation::initialised();
    installation.configure("[budget]\ncals = 3\n");
    let ran = installation.run(&["ask", "hello"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("did you mean budget.calls?"), "{}", ran.stderr);
}

#[test]
fn when_nothing_matches_it_says_so_and_lists_what_it_can_do() {
    let installation = Installation::initialised();
    let ran = installation.run(&["ask", "Compose a symphony"]).ok();
    assert!(ran.stdout.contains("notes"), "{}", ran.stdout);
}

#[test]
fn init_is_safe_to_run_again_and_a_secret_is_never_shown() {
    let installation = Installation::initialised();
    installation.run(&["init", "--slot", "file"]).ok();
    let value = crate::installation::random_key();
    installation.run_with(&["secret", "set", "A_KEY"], &format!("{value}\n")).ok();
    for arguments in [
        &["secret", "list"][..],
        &["secret", "show", "A_KEY"],
        &["--json", "secret", "list"],
        &["vault", "status"],
    ] {
        let ran = installation.run(arguments).ok();
        assert!(!ran.stdout.contains(&value) && !ran.stderr.contains(&value));
    }
}

#[test]
fn a_data_folder_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let installation = Installation::initialised();
    let data = installation.home().join("data");
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = installation.run(&["ask", "hello"]);
    assert_eq!(ran.code, 6);
    assert!(ran.stderr.contains("chmod 700"), "{}", ran.stderr);
}
