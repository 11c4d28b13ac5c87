//! Values of secrets as people bring them: too weak, with line breaks, pasted at a prompt.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::installation::{Installation, random_key};

/// A key as a service gives it out in a file: several lines.
fn pem() -> String {
    let lines: String = (0..6).map(|_| format!("{}\n", random_key())).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----\n")
}

#[test]
fn a_value_that_cannot_be_a_secret_is_a_refusal_on_record() {
    let installation = Installation::initialised();
    for (value, why) in [
        ("short", "shorter than 8 bytes"),
        ("password1", "too simple"),
        (&"x1".repeat(10_000), "longer than 16384 bytes"),
    ] {
        let ran = installation.run_with(&["secret", "set", "A_KEY"], value);
        assert_eq!(ran.code, 3, "{ran:#?}");
        assert!(
            ran.stderr.contains("refused by vault.value-refused") && ran.stderr.contains(why),
            "{ran:#?}"
        );
        let file = installation.folder.path().join("value");
        std::fs::write(&file, value).unwrap();
        let from_file = ["--json", "secret", "set", "A_KEY", "--from-file", file.to_str().unwrap()];
        let ran = installation.run(&from_file);
        assert_eq!((ran.code, ran.stdout.as_str()), (3, ""), "{ran:#?}");
        let refusal: Value = serde_json::from_str(&ran.stderr).unwrap();
        assert_eq!(refusal["refused"], "vault.value-refused");
        let explained = installation.run(&["policy", "explain", refusal["id"].as_str().unwrap()]).ok();
        assert!(explained.stdout.contains("vault.value-refused"), "{explained:#?}");
    }
    assert_eq!(installation.run(&["secret", "set", "A_KEY", "--from-file", "/nowhere"]).code, 5);
    assert_eq!(installation.run(&["secret", "import", "/nowhere"]).code, 5);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the advice is commands for a shell")]
fn the_advice_on_line_breaks_works_as_it_is_written() {
    let installation = Installation::initialised();
    let json = format!("{{\n  \"type\": \"account\",\n  \"private_key\": \"{}\"\n}}\n", random_key());
    for (value, which) in [(pem(), 0), (json, 1)] {
        let file = installation.folder.path().join("value");
        std::fs::write(&file, &value).unwrap();
        let ran = installation.run_with(&["secret", "set", "A_KEY"], &value);
        assert_eq!(ran.code, 3, "{ran:#?}");
        let advice: Vec<&str> = ran
            .stderr
            .lines()
            .filter_map(|line| Some(line.split_once(": ")?.1))
            .filter(|line| line.contains('|'))
            .collect();
        let advice = advice[which].rsplit_once(": ").map_or(advice[which], |(_, command)| command);
        let home = installation.home();
        let program = format!("{} --home {}", env!("CARGO_BIN_EXE_ironclaw"), home.display());
        let command = advice
            .replace("FILE", file.to_str().unwrap())
            .replace("ironclaw secret", &format!("{program} secret"));
        let output = Command::new("sh").args(["-c", &command]).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
    assert_eq!(installation.run(&["--json", "secret", "list"]).ok().json()[0]["version"], 2);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the program under test is a process")]
fn a_paste_of_several_lines_at_the_prompt_is_refused_and_no_line_of_it_stays() {
    let installation = Installation::initialised();
    // `cat` stands for the shell that reads on when the command has ended.
    let command = format!(
        "{} --home {} secret set A_KEY; echo code=$?; stty -a | grep -o ' -*echo '; exec cat",
        env!("CARGO_BIN_EXE_ironclaw"),
        installation.home().display()
    );
    let paste = pem().replace('\n', "\r");
    let key = random_key();
    for (typed, code, says) in [
        (paste.clone(), "code=3", "base64"),
        (format!("\u{1b}[200~{paste}\u{1b}[201~\r"), "code=3", "base64"),
        (format!("{key}\u{3}"), "code=1", "abandoned"),
        (format!("x{key}\u{7f}\u{15}{key}\r"), "code=0", "stored as version 1"),
        (format!("\u{1b}[200~{key}\r\u{1b}[201~\r"), "code=0", "stored as version 2"),
    ] {
        let mut child = Command::new("script")
            .args(["-q", "-e", "-c", &command, "/dev/null"])
            .env("HOME", installation.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut shown = Vec::new();
        let mut read_until = |shown: &mut Vec<u8>, last: &str| {
            let mut byte = [0];
            while !shown.ends_with(last.as_bytes()) && screen.read(&mut byte).unwrap() == 1 {
                shown.push(byte[0]);
            }
        };
        read_until(&mut shown, "Value of A_KEY: ");
        keyboard.write_all(typed.as_bytes()).unwrap();
        read_until(&mut shown, "echo \r\n");
        // An end of input, for the program that reads on.
        keyboard.write_all(b"\r\x04").unwrap();
        screen.read_to_end(&mut shown).unwrap();
        drop(keyboard);
        child.wait().unwrap();
        let shown = String::from_utf8_lossy(&shown);
        assert!(shown.contains(code) && shown.contains(says), "{shown}");
        assert!(shown.contains(" echo "), "the terminal is given back: {shown}");
        for line in paste.split('\r').chain([key.as_str()]).filter(|line| !line.is_empty()) {
            assert!(!shown.contains(line), "{shown}");
        }
    }
}
