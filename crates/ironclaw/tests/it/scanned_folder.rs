//! `scan` of what folders and files really hold: other encodings, pipes, links, what nobody may read, what has no end.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::installation::{Installation, Ran};
use crate::scan::token;

/// A folder with a secret in `found.txt`, beside the folder of the installation.
fn folder(installation: &Installation) -> PathBuf {
    let folder = installation.folder.path().join("in");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("found.txt"), token()).unwrap();
    folder
}

fn pipe(at: &Path) {
    mknodat(CWD, at, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

/// The names that were not read, with why.
fn skipped(ran: &Ran, folder: &Path) -> Vec<(String, String)> {
    let folder = format!("{}/", folder.display());
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let objects = ran.json();
    let skipped = objects.iter().filter(|object| object["skipped"].is_string());
    skipped.map(|object| (word(&object["input"]).replace(&folder, ""), word(&object["skipped"]))).collect()
}

#[test]
fn a_secret_is_found_and_placed_in_every_encoding_that_a_mark_names() {
    let installation = Installation::new();
    let token = token();
    let text = format!("x = \u{e9}\u{1f600}\r\nTOKEN = \"{token}\"\r\n");
    let wide = |unit: fn(u16) -> [u8; 2], mark: &str| -> Vec<u8> {
        format!("{mark}{text}").encode_utf16().flat_map(unit).collect()
    };
    let four = |c: char| u32::from(c).to_le_bytes();
    for (name, bytes, width) in [
        ("utf-8", format!("\u{feff}{text}").into_bytes(), 1),
        ("utf-16le", wide(u16::to_le_bytes, "\u{feff}"), 2),
        ("utf-16be", wide(u16::to_be_bytes, "\u{feff}"), 2),
        ("utf-16le-unmarked", wide(u16::to_le_bytes, ""), 2),
        ("utf-32le", format!("\u{feff}{text}").chars().flat_map(four).collect(), 4),
    ] {
        let folder = installation.folder.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("a.txt");
        std::fs::write(&file, &bytes).unwrap();
        for input in [&file, &folder] {
            let ran = installation.run(&["scan", "leaks", input.to_str().unwrap()]);
            assert_eq!(ran.code, 4, "{name}: {ran:#?}");
            assert!(
                ran.stdout.starts_with(&format!("{}:2:10 high github-pat ", file.display())),
                "{name}: {ran:#?}"
            );
        }
        let finding =
            &installation.run(&["--json", "scan", "leaks", file.to_str().unwrap()]).json()[0]["findings"][0];
        let offset = |key: &str| usize::try_from(finding[key].as_u64().unwrap()).unwrap();
        let span = &bytes[offset("start")..offset("end")];
        assert_eq!(span.len(), width * token.len(), "{name}");
        let plain: Vec<u8> = span.iter().copied().filter(|byte| *byte != 0).collect();
        assert_eq!(plain, token.as_bytes(), "{name}");
    }
}

#[test]
fn what_is_not_read_is_counted_and_named_and_has_no_verdict() {
    let installation = Installation::new();
    let folder = folder(&installation);
    std::fs::create_dir_all(folder.join(".git")).unwrap();
    std::fs::create_dir_all(folder.join("build/deep")).unwrap();
    std::fs::write(folder.join(".gitignore"), "build/\n*.log\n").unwrap();
    std::fs::write(folder.join("build/deep/out.txt"), token()).unwrap();
    std::fs::write(folder.join("run.log"), token()).unwrap();
    std::fs::write(folder.join("image.bin"), b"\x7fELF\0\0\0").unwrap();
    symlink("found.txt", folder.join("alias")).unwrap();
    pipe(&folder.join("pipe"));
    let input = folder.to_str().unwrap();
    let ran = installation.run(&["--json", "scan", "leaks", input]);
    let named = |name: &str, why: &str| (name.to_owned(), why.to_owned());
    let mut all = skipped(&ran, &folder);
    all.sort();
    let expected = [
        named("alias", "link"),
        named("build", "git-ignored"),
        named("image.bin", "binary"),
        named("pipe", "special"),
        named("run.log", "git-ignored"),
    ];
    assert_eq!(all, expected, "{ran:#?}");
    let none = ran.json().into_iter().find(|object| object["skipped"] == "binary").unwrap();
    assert_eq!((&none["verdict"], &none["findings"]), (&Value::Null, &json!([])));
    assert!(ran.stderr.is_empty(), "{ran:#?}");
    let ran = installation.run(&["scan", "leaks", input]);
    assert!(ran.stdout.ends_with("1 finding in 2 inputs; 5 not read\n"), "{ran:#?}");
    let counts = "not read: 1 binary file, 2 names that git ignores, 1 link, 1 pipe, socket or device; which: --verbose";
    assert!(ran.stderr.contains(counts), "{ran:#?}");
    let ran = installation.run(&["scan", "leaks", "--verbose", input]);
    for name in
        ["alias is not read: 1 link", "build is not read: 1 name that git ignores", "image.bin is not read"]
    {
        assert!(ran.stderr.contains(name), "{name}: {ran:#?}");
    }
    let ran = installation.run(&["scan", "leaks", "--ignored", input]);
    assert!(ran.stdout.ends_with("3 findings in 4 inputs; 3 not read\n"), "{ran:#?}");
    let ran = installation.run(&["scan", "leaks", "--format", "sarif", input]);
    let notes = &ran.json()[0]["runs"][0]["invocations"][0]["toolExecutionNotifications"];
    assert_eq!(notes.as_array().map(Vec::len), Some(5), "{notes}");
}

#[test]
fn a_folder_of_pipes_sockets_and_links_in_circles_is_read_to_its_end() {
    let installation = Installation::new();
    let folder = folder(&installation);
    pipe(&folder.join("pipe"));
    let _socket = UnixListener::bind(folder.join("socket")).unwrap();
    symlink("nowhere", folder.join("dangling")).unwrap();
    symlink("../in", folder.join("circle")).unwrap();
    symlink("self", folder.join("self")).unwrap();
    symlink("/dev/zero", folder.join("endless")).unwrap();
    let ran = installation.run(&["scan", "prompt", folder.to_str().unwrap()]).ok();
    assert!(ran.stdout.contains("0 findings in 1 input; 6 not read"), "{ran:#?}");
    // Named itself, a link is what it leads to; one that leads nowhere is not there.
    let named = |name: &str| installation.run(&["scan", "leaks", folder.join(name).to_str().unwrap()]);
    assert_eq!(named("circle").code, 4);
    assert_eq!(named("dangling").code, 5);
    assert_eq!(named("self").code, 1);
}

#[test]
fn rules_of_git_that_have_no_end_or_never_begin_hold_nothing_up() {
    let installation = Installation::new();
    let folder = folder(&installation);
    for name in ["zero", "pipe/inner", "exclude/.git/info", "tree", "own", "rules"] {
        std::fs::create_dir_all(folder.join(name)).unwrap();
        std::fs::create_dir_all(folder.join(name.split('/').next().unwrap()).join(".git")).ok();
    }
    symlink("/dev/zero", folder.join("zero/.gitignore")).unwrap();
    pipe(&folder.join("pipe/.gitignore"));
    pipe(&folder.join("exclude/.git/info/exclude"));
    std::fs::remove_dir(folder.join("tree/.git")).unwrap();
    std::fs::write(folder.join("tree/.git"), format!("gitdir: {}\n", folder.join("own").display())).unwrap();
    pipe(&folder.join("own/commondir"));
    std::fs::write(folder.join("rules/.gitignore"), "ignored\n").unwrap();
    for name in ["zero/a", "pipe/inner/a", "exclude/a", "tree/a", "rules/ignored"] {
        std::fs::write(folder.join(name), token()).unwrap();
    }
    let ran = installation.run(&["scan", "leaks", folder.to_str().unwrap()]);
    let prefix = format!("{}/", folder.display());
    let mut files: Vec<&str> =
        ran.stdout.lines().filter_map(|line| line.strip_prefix(&prefix)?.split(':').next()).collect();
    files.sort_unstable();
    assert_eq!(files, ["exclude/a", "found.txt", "pipe/inner/a", "tree/a", "zero/a"], "{ran:#?}");
    for name in ["zero", "pipe"] {
        let ran = installation.run(&["scan", "leaks", folder.join(name).to_str().unwrap()]);
        assert_eq!(ran.code, 4, "{name}: {ran:#?}");
    }
}

#[test]
fn what_nobody_may_read_fails_the_scan_and_is_named() {
    let installation = Installation::new();
    let folder = installation.folder.path().join("in");
    std::fs::create_dir_all(folder.join("closed")).unwrap();
    std::fs::write(folder.join("secret.txt"), "x").unwrap();
    std::fs::set_permissions(folder.join("secret.txt"), std::fs::Permissions::from_mode(0o000)).unwrap();
    std::fs::set_permissions(folder.join("closed"), std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads what nobody may, but for a root without these capabilities.
    let mut under = vec!["env"];
    if rustix::process::geteuid().is_root() {
        under = vec!["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
    }
    let ran = installation.run_under(&under, &["scan", "leaks", "--json", folder.to_str().unwrap()], "");
    std::fs::set_permissions(folder.join("closed"), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(ran.code, 1, "{ran:#?}");
    let errors: Vec<Value> = ran.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
}

#[test]
fn a_file_that_is_not_there_is_one_object_on_standard_error() {
    let installation = Installation::new();
    for command in [&["scan", "leaks"][..], &["scan", "prompt"], &["eval", "leaks"], &["config", "validate"]]
    {
        let ran = installation.run(&[&["--json"], command, &["/nowhere/at/all"]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (5, ""), "{command:?}: {ran:#?}");
        let object: Value = serde_json::from_str(&ran.stderr).unwrap();
        assert_eq!(object["code"], 5, "{object}");
        assert!(object["error"].as_str().unwrap().contains("/nowhere/at/all"), "{object}");
    }
}

#[test]
fn ten_thousand_files_are_read_one_after_another() {
    let installation = Installation::new();
    let folder = folder(&installation);
    for number in 0..10_000 {
        let below = folder.join(format!("{}", number / 500));
        if number % 500 == 0 {
            std::fs::create_dir(&below).unwrap();
        }
        std::fs::write(below.join(format!("{number}.txt")), "a line of text\n").unwrap();
    }
    let ran = installation.run(&["scan", "leaks", folder.to_str().unwrap()]);
    assert_eq!(ran.code, 4);
    assert!(ran.stdout.ends_with("1 finding in 10001 inputs\n"), "{ran:#?}");
}

#[test]
fn ctrl_c_ends_a_scan_of_an_input_that_never_ends() {
    let installation = Installation::new();
    let mut child = installation.start_under(&["env"], &["scan", "leaks", "-", "/nowhere"]);
    let mut input = child.stdin.take().unwrap();
    // More than a pipe holds: so the program is reading when this is done.
    input.write_all("a line of text\n".repeat(1 << 18).as_bytes()).unwrap();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = child.wait().unwrap();
    assert_eq!(ended.signal(), Some(Signal::INT.as_raw()), "{ended:?}");
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
    assert!(said.is_empty(), "{said}");
    assert!(!installation.home().exists());
    assert_eq!(installation.folder.path().read_dir().unwrap().count(), 0, "no file is left");
}

#[test]
fn an_entry_whose_day_is_over_is_named_where_it_would_have_held() {
    let installation = Installation::new();
    let folder = folder(&installation);
    let file = folder.join("found.txt");
    let file = file.to_str().unwrap();
    let print =
        installation.run(&["scan", "leaks", "--json", file]).json()[0]["findings"][0]["fingerprint"].clone();
    let print = print.as_str().unwrap();
    installation.configure(&format!("[[safety.allow]]\nfingerprint = \"{print}\"\nuntil = \"2020-01-31\"\n"));
    let ran = installation.run(&["scan", "leaks", file]);
    assert_eq!(ran.code, 4, "{ran:#?}");
    assert!(ran.stdout.contains("accepted until 2020-01-31, which is over"), "{ran:#?}");
    let json = installation.run(&["scan", "leaks", "--json", file]).json();
    assert_eq!(json[0]["findings"][0]["allow_ended"], "2020-01-31");
    let sarif = installation.run(&["scan", "leaks", "--format", "sarif", file]).json();
    let message = sarif[0]["runs"][0]["results"][0]["message"]["markdown"].as_str().unwrap();
    assert!(message.contains("accepted until 2020-01-31"), "{message}");
    let doctor = installation.run(&["--json", "doctor"]).json();
    let check = doctor.iter().find(|check| check["check"] == "accepted").unwrap();
    assert_eq!(check["state"], "warn");
    assert!(check["detail"].as_str().unwrap().contains(&format!("{print} (2020-01-31)")), "{check}");
    let valid = installation.run(&["--json", "config", "validate"]).ok().json();
    assert_eq!(valid[0]["ended"], json!([{ "fingerprint": print, "until": "2020-01-31" }]));
}

#[test]
fn the_entry_that_a_finding_names_accepts_it() {
    let installation = Installation::new();
    let folder = folder(&installation);
    let file = folder.join("found.txt");
    let file = file.to_str().unwrap();
    let entry =
        installation.run(&["scan", "leaks", "--json", file]).json()[0]["findings"][0]["allow"].clone();
    installation.configure(entry.as_str().unwrap());
    installation.run(&["scan", "leaks", file]).ok();
}

#[test]
fn a_baseline_that_could_not_be_read_again_is_not_written() {
    let installation = Installation::new();
    let folder = folder(&installation);
    let baseline = installation.folder.path().join("baseline.json");
    // A long name is in every entry, so a few files with many findings make a long baseline.
    let deep = folder.join(["a".repeat(250), "b".repeat(250), "c".repeat(250)].join("/"));
    std::fs::create_dir_all(&deep).unwrap();
    for number in 0..3 {
        let many: String = (0..8000).map(|_| format!("{}\n", token())).collect();
        std::fs::write(deep.join(format!("{number}.txt")), many).unwrap();
    }
    let at = baseline.to_str().unwrap();
    let ran = installation.run(&["scan", "leaks", "--write-baseline", at, folder.to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{ran:#?}");
    assert!(ran.stderr.contains("16 MiB") && ran.stderr.contains("24001 findings"), "{ran:#?}");
    assert!(!baseline.exists());
    let one = deep.join("0.txt");
    installation.run(&["scan", "leaks", "--write-baseline", at, one.to_str().unwrap()]).ok();
    installation.run(&["scan", "leaks", "--baseline", at, one.to_str().unwrap()]).ok();
}

#[test]
fn names_that_are_no_text_are_scanned_too() {
    let installation = Installation::new();
    let folder = folder(&installation);
    let name = <OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"a\xff\xfeb.txt");
    std::fs::write(folder.join(name), token()).unwrap();
    let ran = installation.run(&["scan", "leaks", folder.to_str().unwrap()]);
    assert!(ran.stdout.ends_with("2 findings in 2 inputs\n"), "{ran:#?}");
}
