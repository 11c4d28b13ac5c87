//! `ironclaw sandbox build-image` with each of its builders, to the end and to an early one.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Signal, kill_process};

use crate::engine::ask;
use crate::exec::{exec, ready};
use crate::installation::Installation;
use crate::registry::SMALL;

/// Waits for up to a minute.
fn eventually(what: &str, is: impl Fn() -> bool) {
    let came = (0..3000).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        is()
    });
    assert!(came, "{what}");
}

/// Numbers of a process: its own, its parent's and its group's.
fn processes() -> Vec<(u32, u32, u32)> {
    let of = |entry: std::fs::DirEntry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The words after the name in brackets, which may hold anything (proc(5)): state, parent, group.
        let mut words = stat.rsplit(')').next()?.split_whitespace();
        let is_dead = words.next()? == "Z";
        Some((number, words.next()?.parse().ok()?, words.next()?.parse().ok()?)).filter(|_| !is_dead)
    };
    std::fs::read_dir("/proc").unwrap().filter_map(|entry| of(entry.ok()?)).collect()
}

/// Those that a process started, and those that they started.
fn below(program: u32) -> Vec<(u32, u32, u32)> {
    let all = processes();
    let mut found = vec![(program, 0, 0)];
    let mut next = 0;
    while let Some((parent, ..)) = found.get(next).copied() {
        found.extend(all.iter().filter(|(_, of, _)| *of == parent));
        next += 1;
    }
    found.split_off(1)
}

fn is_running(process: &(u32, u32, u32), word: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{}/cmdline", process.0)).is_ok_and(|line| line.contains(word))
}

/// Images that were imported and have no name: what an import leaves that came to no good end.
fn nameless() -> Vec<String> {
    let images = ask("GET", "/images/json", &[], &[]).json();
    let is_nameless = |image: &&serde_json::Value| {
        let has = |list: &str| {
            image[list]
                .as_array()
                .is_some_and(|all| all.iter().any(|name| !name.as_str().unwrap().contains("<none>")))
        };
        !has("RepoTags") && !has("RepoDigests") && image["ParentId"] == "" && image["Labels"][SMALL].is_null()
    };
    let images = images.as_array().unwrap().iter().filter(is_nameless);
    images.map(|image| image["Id"].as_str().unwrap().to_owned()).collect()
}

/// A folder with every program of this machine but mmdebstrap.
fn without_mmdebstrap(installation: &Installation) -> String {
    let folder = installation.folder.path().join("bin");
    std::fs::create_dir(&folder).unwrap();
    for program in std::fs::read_dir("/usr/bin").unwrap() {
        let (path, name) = program.map(|program| (program.path(), program.file_name())).unwrap();
        if name != "mmdebstrap" {
            std::os::unix::fs::symlink(path, folder.join(name)).unwrap();
        }
    }
    format!("PATH={}", folder.display())
}

/// What is in a folder, but for what belongs there.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    found
        .filter(|path| !["image", "installation"].map(Some).contains(&path.file_name().unwrap().to_str()))
        .collect()
}

#[test]
fn an_image_that_is_ended_while_it_is_made_leaves_nothing_behind() {
    let installation = ready("");
    // Nobody makes a base image meanwhile.
    let lock = std::fs::File::create(std::env::temp_dir().join("ironclaw-test-image.lock")).unwrap();
    lock.lock().unwrap();
    let others = without_mmdebstrap(&installation);
    let temporary = installation.folder.path().join("tmp");
    std::fs::create_dir(&temporary).unwrap();
    for folder in [installation.folder.path(), &temporary] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let own = installation.home().join("data/sandbox");
    let (there, temporary_is) = (nameless(), format!("TMPDIR={}", temporary.display()));
    let is_root = rustix::process::geteuid().is_root();
    let builders = [("mmdebstrap", "PATH=/usr/bin:/bin"), ("debootstrap", &others)];
    // Only root can use debootstrap.
    for (builder, path) in builders.into_iter().take(if is_root { 2 } else { 1 }) {
        for (moment, signal, code) in [("apt", Signal::INT, 130), ("dpkg", Signal::TERM, 143)] {
            // debootstrap has no apt.
            let moment = if (builder, moment) == ("debootstrap", "apt") { "wget" } else { moment };
            let program = installation
                .start_under(&["env", path, &temporary_is], &["sandbox", "build-image", "--again"]);
            eventually(&format!("{builder} did not come to {moment}"), || {
                below(program.id()).iter().any(|process| is_running(process, moment))
            });
            let started = below(program.id());
            assert!(started.iter().any(|process| is_running(process, builder)), "{builder} {started:?}");
            let group = started[0].2;
            kill_process(Pid::from_child(&program), signal).unwrap();
            let ended = program.wait_with_output().unwrap();
            assert_eq!(ended.status.code(), Some(code), "{builder} {moment}: {ended:?}");
            let lives = |process: &(u32, u32, u32)| {
                process.2 == group || started.iter().any(|one| one.0 == process.0)
            };
            let left: Vec<_> = processes().into_iter().filter(lives).collect();
            assert!(left.is_empty(), "{builder} {moment}: {left:?}");
            let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
            assert!(
                !mounts.contains(installation.folder.path().to_str().unwrap()),
                "{builder} {moment}: {mounts}"
            );
            let left = [entries(&temporary), entries(&own)].concat();
            assert!(left.is_empty(), "{builder} {moment}: {left:?}");
            assert_eq!(nameless(), there, "{builder} {moment}");
        }
    }
    let audit = installation.run(&["audit", "tail"]).ok();
    assert!(audit.stdout.contains("it was ended before its end"), "{audit:?}");
}

#[test]
fn a_builder_that_fails_leaves_no_half_image() {
    let installation = Installation::initialised();
    installation.configure(crate::exec::DEBIAN);
    let there = nameless();
    // It writes what looks like a whole archive, and fails.
    let folder = installation.folder.path().join("bin");
    std::fs::create_dir(&folder).unwrap();
    let script = "#!/bin/sh\ntar --numeric-owner -c -C /usr/share/debootstrap .\nexit 9\n";
    std::fs::write(folder.join("mmdebstrap"), script).unwrap();
    std::fs::set_permissions(folder.join("mmdebstrap"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("PATH={}:/usr/bin:/bin", folder.display());
    let ran = installation.run_under(&["env", &path], &["sandbox", "build-image", "--again"], "");
    assert_eq!(ran.code, 6, "{ran:?}");
    assert!(ran.stderr.contains("making the image failed"), "{ran:?}");
    assert_eq!(nameless(), there);
    assert!(!installation.home().join("data/sandbox/image").exists());
}

#[test]
fn where_mmdebstrap_is_missing_debootstrap_makes_the_image() {
    let installation = Installation::initialised();
    installation.configure(crate::exec::DEBIAN);
    let others = without_mmdebstrap(&installation);
    let build = ["sandbox", "build-image", "--again", "--include", "busybox-static"];
    let ran = installation.run_under(&["env", &others], &build, "");
    if !rustix::process::geteuid().is_root() {
        assert!(ran.code == 6 && ran.stderr.contains("apt-get install mmdebstrap"), "{ran:?}");
        return;
    }
    let ran = ran.ok();
    let ran_in = exec(
        &installation,
        &[],
        "git --version; curl --version; python3 -c 'print(7)'; busybox true; ls /usr/share/doc; stat -c %u:%a /tmp/.. /etc/shadow",
    );
    assert!(ran_in.code == 0 && ran_in.stdout.contains("git version"), "{ran:?} {ran_in:?}");
    assert!(ran_in.stdout.ends_with("7\n0:755\n0:640\n"), "{ran_in:?}");
    assert!(
        entries(&installation.home().join("data/sandbox"))
            .iter()
            .all(|path| !path.to_string_lossy().contains("build-"))
    );
    let image = std::fs::read_to_string(installation.home().join("data/sandbox/image")).unwrap();
    ask("DELETE", &format!("/images/{}", image.trim()), &[("force", "1")], &[]).ok();
    // Without either there is none, and what mends it is said.
    let neither = format!("PATH={}", installation.folder.path().display());
    let ran = installation.run_under(&["/usr/bin/env", &neither], &build, "");
    assert!(ran.code == 6 && ran.stderr.contains("apt-get install mmdebstrap"), "{ran:?}");
}
