//! Questions at a real terminal, which `script` of util-linux makes.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use crate::installation::Installation;

/// What the owner does when the question stands there.
struct AtTerminal {
    code: i32,
    screen: String,
}

const PROMPT: &str = "[y/N] ";

/// Asks for a file to be written. `before` is typed before the question; each of `keys` when its first part is what
/// the screen shows last.
#[allow(clippy::disallowed_methods, reason = "the program under test is a process")]
fn write_a_file(installation: &Installation, before: &str, keys: &[(&str, &str)]) -> AtTerminal {
    let workspace = installation.folder.path().join("work");
    std::fs::create_dir_all(&workspace).unwrap();
    installation.configure(&format!(
        "[tools.write_file]\npermission = \"ask\"\n[workspace]\ndir = \"{}\"\n",
        workspace.display()
    ));
    let command = format!(
        "stty cols 120; exec {} --home {} ask 'write \"milk\" to list.txt'",
        env!("CARGO_BIN_EXE_ironclaw"),
        installation.home().display()
    );
    let mut child = Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .env("HOME", installation.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    keyboard.write_all(before.as_bytes()).unwrap();
    let mut shown = Vec::new();
    let mut byte = [0];
    for (last, keys) in keys {
        while !shown.ends_with(last.as_bytes()) && screen.read(&mut byte).unwrap() == 1 {
            shown.push(byte[0]);
        }
        keyboard.write_all(keys.as_bytes()).unwrap();
    }
    screen.read_to_end(&mut shown).unwrap();
    let code = child.wait().unwrap().code().unwrap();
    drop(keyboard);
    AtTerminal { code, screen: String::from_utf8_lossy(&shown).into_owned() }
}

fn written(installation: &Installation) -> bool {
    installation.folder.path().join("work/list.txt").exists()
}

#[test]
fn a_typed_yes_runs_the_call() {
    let installation = Installation::initialised();
    let ran = write_a_file(&installation, "", &[(PROMPT, "y\r")]);
    assert!(ran.code == 0 && written(&installation), "{}", ran.screen);
    assert!(ran.screen.contains("list.txt") && ran.screen.contains("bytes of arguments"), "{}", ran.screen);
    let folder = installation.folder.path().join("work").canonicalize().unwrap();
    assert!(ran.screen.contains(&format!("folder     {folder:?}")), "{}", ran.screen);
}

#[test]
fn neither_a_paste_nor_what_was_typed_before_answers() {
    // The key after a paste comes when the paste is drawn: what comes in the same breath is part of it.
    let pasted = [(PROMPT, "\u{1b}[200~y\r\u{1b}[201~"), ("bytes]", "\r")];
    for (before, keys) in [("", &pasted[..]), ("y\ry\ry\r", &[(PROMPT, "\r")]), ("", &[(PROMPT, "yess\r")])] {
        let installation = Installation::initialised();
        let ran = write_a_file(&installation, before, keys);
        assert!(ran.code == 3 && !written(&installation), "{before:?} {keys:?}: {} {}", ran.code, ran.screen);
        assert!(ran.screen.contains("policy.declined"), "{}", ran.screen);
    }
}

#[test]
fn ctrl_c_at_the_question_ends_the_turn() {
    let installation = Installation::initialised();
    let ran = write_a_file(&installation, "", &[(PROMPT, "\u{3}")]);
    assert!(ran.code == 1 && !written(&installation), "{}", ran.screen);
    assert!(ran.screen.contains("abandoned"), "{}", ran.screen);
    installation.run(&["audit", "verify"]).ok();
}
