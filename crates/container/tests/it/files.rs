//! F01 to F06, M01 to M03: what a command finds of the host's files, what it may leave there.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use container::{Ended, RunError, Running, rules};
use tokio::sync::mpsc;
use types::{Confinement, Field, Kind, Verdict};

use crate::world::{World, collect, unique};

#[tokio::test]
async fn f01_a_link_out_of_the_workspace_leads_nowhere_on_the_host() {
    let world = World::new().await;
    let outside = tempfile::tempdir().unwrap();
    let secret = unique("host-secret-");
    std::fs::write(outside.path().join("key"), &secret).unwrap();
    symlink(outside.path(), world.workspace.path().join("out")).unwrap();
    symlink(outside.path().join("key"), world.workspace.path().join("key")).unwrap();
    world.own();
    let ran = world
        .writing("cat key out/key; echo owned > key; echo owned > out/key; cat /etc/hostname; true")
        .await;
    assert!(!ran.out.contains(&secret), "{ran:?}");
    assert!(ran.out.contains("sandbox"), "{ran:?}");
    assert_eq!(std::fs::read_to_string(outside.path().join("key")).unwrap(), secret);
}

/// A folder of the host that everybody may write, with a secret in a file `pulse`.
fn outside() -> (tempfile::TempDir, String) {
    let outside = tempfile::tempdir().unwrap();
    std::fs::set_permissions(outside.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let secret = unique("host-secret-");
    std::fs::write(outside.path().join("pulse"), &secret).unwrap();
    (outside, secret)
}

/// What a command prints on both streams, and how it ends.
async fn all_of(running: Running) -> (String, Ended) {
    let Running { stdout, stderr, stdin, control: _control, outcome, .. } = running;
    drop(stdin);
    let (out, err) = tokio::join!(collect(stdout), collect(stderr));
    (out + &err, outcome.wait().await.unwrap().ended)
}

#[tokio::test]
async fn f01_a_part_that_is_swapped_between_check_and_mount_never_starts() {
    let world = World::new().await;
    let (outside, secret) = outside();
    world.write("pkg/pulse", "inside");
    std::fs::create_dir(world.workspace.path().join("g")).unwrap();
    // What some program obeys is behind a link, so the folder that the link leads into is a mount of its own.
    symlink("../pkg/pulse", world.workspace.path().join("g/AGENTS.md")).unwrap();
    world.own();
    let script = "cat pkg/pulse; echo owned > pkg/owned; echo owned > owned; cat g/AGENTS.md";
    let (outlet, _connections) = mpsc::channel(1);
    let argv = ["sh", "-c", script];
    let running = world.start(&argv, Confinement::WorkspaceWrite, outlet).await.unwrap();
    // The container is created and not started: nothing else of this runtime has run since.
    let pkg = world.workspace.path().join("pkg");
    std::fs::rename(&pkg, world.workspace.path().join("was")).unwrap();
    symlink(outside.path(), &pkg).unwrap();
    let (printed, ended) = all_of(running).await;
    assert_eq!(ended, Ended::Stopped(&rules::SWAPPED), "{printed}");
    assert!(!printed.contains(&secret), "{printed}");
    assert!(!outside.path().join("owned").exists() && world.read("owned").is_none());
    let records = world.records().await;
    let settled = records.iter().find(|entry| entry.record.kind == Kind::Settle).unwrap();
    assert_eq!(settled.record.field(Field::Rule), Some(rules::SWAPPED.id));
}

#[tokio::test]
async fn f01_a_workspace_that_is_swapped_between_check_and_mount_never_starts() {
    for confinement in [Confinement::ReadOnly, Confinement::WorkspaceWrite] {
        let mut world = World::new().await;
        let (outside, secret) = outside();
        let around = tempfile::tempdir().unwrap();
        world.workspace = tempfile::tempdir_in(around.path()).unwrap();
        world.write("pulse", "inside");
        let (outlet, _connections) = mpsc::channel(1);
        let argv = ["sh", "-c", "cat pulse; echo owned > owned"];
        let running = world.start(&argv, confinement, outlet).await.unwrap();
        let (folder, was) = (world.workspace.path(), around.path().join("was"));
        std::fs::rename(folder, &was).unwrap();
        symlink(outside.path(), folder).unwrap();
        let (printed, ended) = all_of(running).await;
        assert_eq!(ended, Ended::Stopped(&rules::SWAPPED), "{printed}");
        assert!(!printed.contains(&secret), "{printed}");
        assert!(!outside.path().join("owned").exists() && !was.join("owned").exists());
        std::fs::remove_file(folder).unwrap();
        std::fs::rename(was, folder).unwrap();
    }
}

#[tokio::test]
async fn f01_a_command_in_an_enclosing_workspace_swaps_nothing_into_another_run() {
    let mut world = World::new().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let (outside, secret) = outside();
    let inner = tempfile::tempdir_in(world.workspace.path()).unwrap();
    let enclosing = std::mem::replace(&mut world.workspace, inner);
    std::fs::set_permissions(enclosing.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    world.write("pkg/pulse", "inside");
    world.write("g/file", "");
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(enclosing.path(), Some(4242), Some(4242)).unwrap();
    }
    let name = world.workspace.path().file_name().unwrap().to_str().unwrap().to_owned();
    let swap = format!(
        "touch ready; while [ ! -e go ]; do sleep 0.02; done; mv {name}/pkg {name}/was && ln -s {} {name}/pkg && touch done; sleep 600",
        outside.path().display()
    );
    // It is of another installation, which does not see the notes of this one.
    let own = std::mem::replace(&mut world.config.folder, elsewhere.path().to_owned());
    let inner = std::mem::replace(&mut world.workspace, enclosing);
    let (outlet, _hostile_connections) = mpsc::channel(1);
    let hostile = world.start(&["sh", "-c", &swap], Confinement::WorkspaceWrite, outlet).await.unwrap();
    let enclosing = std::mem::replace(&mut world.workspace, inner);
    world.config.folder = own;
    let appears = async |name: &str| {
        for _ in 0..1500 {
            if enclosing.path().join(name).exists() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the hostile command did not come to {name}");
    };
    appears("ready").await;
    // Made now, so that what it leads to is a mount of the second command's and none of the hostile one's.
    symlink("../pkg/pulse", world.workspace.path().join("g/AGENTS.md")).unwrap();

    let (outlet, _connections) = mpsc::channel(1);
    let argv = ["sh", "-c", "cat pkg/pulse; echo owned > pkg/owned"];
    let running = world.start(&argv, Confinement::WorkspaceWrite, outlet).await.unwrap();
    // This runtime waits while the hostile command swaps, so that the mount is made after it.
    std::fs::write(enclosing.path().join("go"), "").unwrap();
    let swapped = (0..1500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        enclosing.path().join("done").exists()
    });
    assert!(swapped, "the hostile command did not swap");
    let (printed, ended) = all_of(running).await;
    assert_eq!(ended, Ended::Stopped(&rules::SWAPPED), "{printed}");
    assert!(!printed.contains(&secret) && !outside.path().join("owned").exists(), "{printed}");
    hostile.control.stop(&rules::TIME);
    hostile.finished().await.unwrap();
}

#[tokio::test]
async fn f01_two_commands_of_which_one_writes_are_not_in_one_workspace() {
    let world = World::new().await;
    let refused = async |confinement| match world.run(&["true"], confinement).await {
        Err(RunError::Refused(refusal)) => assert_eq!(refusal.rule.id, rules::BUSY.id),
        other => panic!("{other:?}"),
    };
    let (outlet, _connections) = mpsc::channel(1);
    let writes = world.start(&["sleep", "600"], Confinement::WorkspaceWrite, outlet).await.unwrap();
    refused(Confinement::WorkspaceWrite).await;
    refused(Confinement::ReadOnly).await;
    writes.control.stop(&rules::TIME);
    writes.finished().await.unwrap();
    let (outlet, _connections) = mpsc::channel(1);
    let reads = world.start(&["sleep", "600"], Confinement::ReadOnly, outlet).await.unwrap();
    refused(Confinement::WorkspaceWrite).await;
    assert_eq!(world.read_only("exit 3").await.ended, Ended::Exited(3));
    reads.control.stop(&rules::TIME);
    reads.finished().await.unwrap();
    assert_eq!(world.writing("exit 4").await.ended, Ended::Exited(4));
}

#[tokio::test]
async fn f01_a_command_that_writes_is_alone_in_every_folder_around_and_inside_its_own() {
    let world = World::new().await;
    world.write("a/b/file", "");
    let inner = world.workspace.path().join("a/b");
    let refused = async |world: &World, place: &Path| match world.run_at(place, Confinement::ReadOnly).await {
        Err(RunError::Refused(refusal)) => assert_eq!(refusal.rule.id, rules::BUSY.id),
        other => panic!("{other:?}"),
    };
    let whole = world.workspace.path().to_owned();
    for (at, other) in [(&whole, &inner), (&inner, &whole)] {
        let (outlet, _connections) = mpsc::channel(1);
        let writes =
            world.start_at(at, &["sleep", "600"], Confinement::WorkspaceWrite, outlet).await.unwrap();
        refused(&world, other).await;
        writes.control.stop(&rules::TIME);
        writes.finished().await.unwrap();
        assert_eq!(world.run_at(other, Confinement::WorkspaceWrite).await.unwrap().ended, Ended::Exited(0));
    }
    // One that reads goes beside one that reads.
    let (outlet, _connections) = mpsc::channel(1);
    let reads = world.start_at(&whole, &["sleep", "600"], Confinement::ReadOnly, outlet).await.unwrap();
    assert_eq!(world.run_at(&inner, Confinement::ReadOnly).await.unwrap().ended, Ended::Exited(0));
    reads.control.stop(&rules::TIME);
    reads.finished().await.unwrap();
}

#[tokio::test]
async fn f01_a_workspace_that_became_a_link_since_the_decision_is_refused() {
    let mut world = World::new().await;
    let around = tempfile::tempdir().unwrap();
    world.workspace = tempfile::tempdir_in(around.path()).unwrap();
    world.own();
    let (outlet, _connections) = mpsc::channel(1);
    let permit = world.permit(&["true"], Confinement::ReadOnly).await.unwrap();
    let was = around.path().join("was");
    std::fs::rename(world.workspace.path(), &was).unwrap();
    symlink(&was, world.workspace.path()).unwrap();
    match world.sandbox().start_toward(permit, container::Inside::default(), outlet).await.map(|_| ()) {
        Err(RunError::Refused(refusal)) => assert_eq!(refusal.rule.id, rules::SWAPPED.id),
        other => panic!("{other:?}"),
    }
    std::fs::remove_file(world.workspace.path()).unwrap();
    std::fs::rename(was, world.workspace.path()).unwrap();
}

#[tokio::test]
async fn f02_m03_what_programs_obey_stays_as_it_was_and_what_is_new_is_moved_away() {
    let world = World::new().await;
    world.write(".git/config", "[core]\n");
    world.write(".git/hooks/pre-push", "#!/bin/sh\n");
    world.write(".git/HEAD", "ref: refs/heads/main\n");
    world.write("sub/.vscode/tasks.json", "{}");
    world.write("src/main.c", "int main;");
    let ran = world
        .writing(
            "echo evil > .git/hooks/pre-commit; echo evil >> .git/config; rm -rf .git/hooks; mv .git/hooks .git/x; \
             mv .git x; rm -rf .git; ln -f .git/config alias; mv sub y; echo evil > sub/.vscode/tasks.json; \
             echo ref > .git/refs; echo changed > src/main.c; echo new > src/new.c; \
             mkdir -p deep/down/.git/hooks && echo evil > deep/down/.git/hooks/post-checkout; \
             for d in rebase-merge rebase-apply sequencer; do mkdir .git/$d; echo 'exec evil' > .git/$d/git-rebase-todo; done; \
             echo evil > .bashrc; echo evil > .mcp.json; mkdir -p a/.VSCode; ln -s /tmp .envrc; true",
        )
        .await;
    assert_eq!(ran.ended, Ended::Exited(0), "{ran:?}");
    // The workspace itself was changed as a command may.
    assert_eq!(world.read("src/main.c").as_deref(), Some("changed\n"));
    assert_eq!(world.read("src/new.c").as_deref(), Some("new\n"));
    // What existed is as it was, under its own name.
    assert_eq!(world.read(".git/config").as_deref(), Some("[core]\n"), "{ran:?}");
    assert_eq!(world.read(".git/hooks/pre-push").as_deref(), Some("#!/bin/sh\n"));
    assert_eq!(world.read(".git/hooks/pre-commit"), None);
    assert_eq!(world.read("sub/.vscode/tasks.json").as_deref(), Some("{}"));
    // What is new and would be obeyed is out of the way.
    let expected = [
        ".bashrc",
        ".envrc",
        ".git/rebase-apply",
        ".git/rebase-merge",
        ".git/sequencer",
        ".mcp.json",
        "a/.VSCode",
        "deep/down/.git/hooks",
    ];
    for gone in expected {
        assert!(world.workspace.path().join(gone).symlink_metadata().is_err(), "{gone}");
    }
    let mut moved = ran.quarantined.clone();
    moved.sort();
    assert_eq!(moved, expected.map(PathBuf::from));
    let records = world.records().await;
    let settled = records.iter().find(|entry| entry.record.kind == Kind::Settle).unwrap();
    assert_eq!(settled.record.field(Field::Count), Some("8"));
}

#[tokio::test]
async fn f03_a_read_only_run_changes_nothing_anywhere() {
    let world = World::new().await;
    world.write("kept", "as it was");
    let script = "for target in /workspace/new /workspace/kept /etc/passwd /usr/bin/sh /new /proc/sys/kernel/core_pattern \
        /proc/sys/vm/drop_caches /sys/kernel/uevent_helper /proc/sysrq-trigger /sys/fs/cgroup/x /.ironclaw/init; do \
        (echo x > $target) 2>/dev/null && echo WROTE $target; done; \
        mount -o remount,rw /workspace 2>/dev/null && echo REMOUNTED; mount -t tmpfs x /mnt 2>/dev/null && echo MOUNTED; \
        mkdir /tmp/u /tmp/w; mount -t overlay -o lowerdir=/workspace,upperdir=/tmp/u,workdir=/tmp/w x /mnt 2>/dev/null && echo OVERLAID; \
        chmod 777 /workspace/kept 2>/dev/null && echo CHANGED; rm -f /workspace/kept 2>/dev/null && echo REMOVED; \
        echo fine > /tmp/x && cat /tmp/x $HOME/../sandbox/y 2>/dev/null; id -u";
    let ran = world.read_only(script).await;
    let out: Vec<&str> = ran.out.lines().collect();
    assert_eq!(out.len(), 2, "{ran:?}");
    assert_eq!(out[0], "fine");
    assert_ne!(out[1], "0");
    assert_eq!(world.read("kept").as_deref(), Some("as it was"));
}

#[tokio::test]
async fn f04_no_privilege_is_kept_gained_or_carried_out() {
    let world = World::new().await;
    let script = r#"
        cp /bin/cat tool; chmod u+s tool; chmod g+s tool; chmod 4755 tool; install -m 4755 /bin/cat other
        mknod device c 1 1; mknod /tmp/device b 8 0; ln /etc/passwd passwd; ln /.ironclaw/init init
        perl -e 'open(F, ">", "/proc/sys/kernel/core_pattern") and print "CORE\n";
            my $name = "made"; my $fd = syscall(257, -100, $name, 0101, 04755); print $fd < 0 ? "refused\n" : "MADE\n"'
        grep -E '^(Cap(Inh|Prm|Eff|Bnd|Amb)|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\t' ' '
        ulimit -c
        find . -perm /6000 -o -type b -o -type c
    "#;
    let ran = world.writing(script).await;
    let none = "0000000000000000";
    let expected = format!(
        "refused\nCapInh: {none}\nCapPrm: {none}\nCapEff: {none}\nCapBnd: {none}\nCapAmb: {none}\nNoNewPrivs: 1\nSeccomp: 2\n0\n"
    );
    assert_eq!(ran.out, expected, "{ran:?}");
    let names: Vec<_> =
        std::fs::read_dir(world.workspace.path()).unwrap().map(|entry| entry.unwrap()).collect();
    for entry in &names {
        let found = entry.path().symlink_metadata().unwrap();
        assert!(found.is_file() && found.mode() & 0o6000 == 0 && found.nlink() == 1, "{entry:?}");
    }
}

#[tokio::test]
async fn f05_nothing_that_a_command_started_outlives_it() {
    let world = World::new().await;
    let mark = unique("7777");
    let script = format!(
        "(setsid nohup sleep {mark} >/dev/null 2>&1 &); (trap '' TERM HUP INT; sleep {mark} & wait) & exit 5"
    );
    let ran = world.read_only(&script).await;
    assert_eq!(ran.ended, Ended::Exited(5), "{ran:?}");
    let alive = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.unwrap().path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).contains(&mark).then_some(line)
    });
    assert_eq!(alive.count(), 0);
}

#[tokio::test]
async fn f06_full_access_needs_the_configuration_as_well() {
    let world = World::new().await;
    let refusal = world.permit(&["true"], Confinement::FullAccess).await.unwrap_err();
    assert_eq!(refusal.rule.id, "policy.full-access");
    let records = world.records().await;
    assert_eq!(records.last().unwrap().record.verdict, Verdict::Block);
}

#[tokio::test]
async fn m01_m02_a_folder_that_gives_too_much_is_never_lent() {
    let mut world = World::new().await;
    let _service = std::os::unix::net::UnixListener::bind(world.workspace.path().join("agent.sock")).unwrap();
    world.own();
    let refused = world.run(&["true"], Confinement::WorkspaceWrite).await.unwrap_err();
    let RunError::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert_eq!(refusal.rule.id, rules::WORKSPACE.id);
    std::fs::remove_file(world.workspace.path().join("agent.sock")).unwrap();

    // A key folder, wherever it is.
    let keys = tempfile::Builder::new().prefix("keys").tempdir().unwrap();
    std::fs::create_dir(keys.path().join(".ssh")).unwrap();
    world.workspace = tempfile::tempdir_in(keys.path().join(".ssh")).unwrap();
    world.own();
    let refused = world.run(&["true"], Confinement::ReadOnly).await.unwrap_err();
    assert!(matches!(refused, RunError::Refused(refusal) if refusal.rule.id == rules::WORKSPACE.id));
}

#[tokio::test]
async fn what_a_command_makes_belongs_to_the_owner_of_the_workspace() {
    let world = World::new().await;
    let owner = world.workspace.path().metadata().unwrap();
    world.writing("mkdir -p made/deep && echo x > made/deep/file").await.ok();
    for path in ["made", "made/deep", "made/deep/file"] {
        let found = world.workspace.path().join(path).metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (owner.uid(), owner.gid()), "{path}");
    }
}

#[tokio::test]
async fn a_folder_of_roots_is_not_lent_for_writing() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new().await;
    std::os::unix::fs::chown(world.workspace.path(), Some(0), Some(0)).unwrap();
    let refused = world.run(&["true"], Confinement::WorkspaceWrite).await.unwrap_err();
    let RunError::Refused(refusal) = refused else { panic!("{refused:?}") };
    assert!(refusal.widen.unwrap().contains("chown"));
    assert_ne!(world.read_only("id -u").await.ok().trim(), "0");
}
