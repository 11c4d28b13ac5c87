//! Ctrl-C while a command makes files: it ends, and they do not stay.

use std::io::{BufRead as _, BufReader};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::installation::Installation;

#[test]
fn the_folders_of_a_demo_that_is_interrupted_are_removed() {
    for (command, moment) in [("demo", "The stage"), ("demo", "an installation of its own in"), ("bench", "")]
    {
        for signal in [Signal::INT, Signal::TERM] {
            let installation = Installation::new();
            let folder = installation.folder.path();
            let place = format!("TMPDIR={}", folder.display());
            let mut child = installation.start_under(&["env", &place], &[command]);
            if moment.is_empty() {
                // It prints nothing before its end, so its folder is what tells of it.
                let deadline = Instant::now() + Duration::from_secs(60);
                while folder.read_dir().unwrap().next().is_none() {
                    assert!(Instant::now() < deadline, "it makes no folder");
                    std::thread::yield_now();
                }
            } else {
                let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
                assert!(lines.map_while(Result::ok).any(|line| line.contains(moment)));
            }
            kill_process(Pid::from_child(&child), signal).unwrap();
            let ended = child.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(128 + signal.as_raw()), "{command} {moment}: {ended:?}");
            let left: Vec<_> = folder.read_dir().unwrap().collect();
            assert!(left.is_empty(), "{command} {moment}: {left:?}");
        }
    }
}

#[test]
fn a_backup_that_is_interrupted_leaves_no_file_that_looks_like_one() {
    let installation = Installation::initialised();
    let file = installation.folder.path().join("vault.backup");
    let passphrase = installation.folder.path().join("passphrase");
    std::fs::write(&passphrase, "a long passphrase of some words").unwrap();
    let arguments =
        ["vault", "backup", file.to_str().unwrap(), "--passphrase-file", passphrase.to_str().unwrap()];
    let child = installation.start_under(&["env"], &arguments);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(Instant::now() < deadline, "it makes no file");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = child.wait_with_output().unwrap();
    // The signal may come after all of it is written.
    assert_eq!(file.exists(), ended.status.success(), "{ended:?}");
    assert!(ended.status.success() || ended.status.code() == Some(130), "{ended:?}");
}
