//! W15 to W17, M03: the folder of a tool, and a person's.

use std::os::unix::fs::symlink;

use types::limits::{Bytes, ToolLimits};
use workspace::{SafeFolder, Surroundings, Workspace, WorkspaceError, WorkspacePath};

use crate::guest::committed;
use crate::world::World;

const NOTES: &str = include_str!("../../../../guests/notes/manifest.toml");

fn path(text: &str) -> WorkspacePath {
    WorkspacePath::parse(text).unwrap()
}

#[tokio::test]
async fn w10_notes_are_kept_in_the_tools_own_folder() {
    let world = World::new().await;
    world.install(NOTES, &committed("notes")).await;
    world.install(&NOTES.replace("\"notes\"", "\"others\""), &committed("notes")).await;
    let add = r#"{"action":"add","text":"buy milk"}"#;
    assert_eq!(world.call("notes", add).await.unwrap(), r#"{"added":1}"#);
    assert_eq!(world.call("notes", add).await.unwrap(), r#"{"added":2}"#);
    assert_eq!(world.call("notes", r#"{"action":"remove","number":1}"#).await.unwrap(), r#"{"removed":1}"#);
    let list = r#"{"action":"list"}"#;
    assert_eq!(world.call("notes", list).await.unwrap(), r#"{"notes":[{"number":2,"text":"buy milk"}]}"#);
    assert_eq!(
        world.call("others", list).await.unwrap(),
        r#"{"notes":[]}"#,
        "another tool has another folder"
    );
}

#[tokio::test]
async fn a_tool_that_asked_for_no_workspace_has_none() {
    let world = World::new().await;
    world.install(&NOTES.replace("workspace = true", ""), &committed("notes")).await;
    let failure = world.failure("notes", r#"{"action":"list"}"#).await;
    assert_eq!(failure, "this tool was given no workspace");
}

#[test]
fn w16_links_are_never_followed() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "outside").unwrap();
    let inside = tempfile::tempdir().unwrap();
    let workspace = Workspace::of_tool(inside.path(), &ToolLimits::DEFAULT).unwrap();
    workspace.write(&path("real/file"), b"inside").unwrap();
    symlink(outside.path(), inside.path().join("folder")).unwrap();
    symlink(outside.path().join("secret"), inside.path().join("file")).unwrap();
    symlink(inside.path().join("real"), inside.path().join("alias")).unwrap();
    for name in ["folder/secret", "file", "alias/file"] {
        assert_eq!(workspace.read(&path(name), Bytes::mib(1)), Err(WorkspaceError::NotFound), "{name}");
        assert!(workspace.write(&path(name), b"changed").is_err(), "{name}");
    }
    assert_eq!(workspace.list(Some(&path("folder"))), Err(WorkspaceError::NotFound));
    let names: Vec<_> = workspace.list(None).unwrap().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["real"]);
    workspace.remove(&path("file")).unwrap();
    assert_eq!(std::fs::read(outside.path().join("secret")).unwrap(), b"outside");
    assert_eq!(workspace.read(&path("real/file"), Bytes::mib(1)).unwrap(), b"inside");
}

#[test]
fn w16_a_link_that_is_swapped_in_is_not_followed_either() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("file"), "outside").unwrap();
    let inside = tempfile::tempdir().unwrap();
    let workspace = Workspace::of_tool(inside.path(), &ToolLimits::DEFAULT).unwrap();
    workspace.write(&path("swapped/file"), b"inside").unwrap();
    let (at, link) = (inside.path().join("swapped"), inside.path().join("link"));
    symlink(outside.path(), &link).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use rustix::fs::{CWD, RenameFlags, renameat_with};
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                renameat_with(CWD, &at, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for _ in 0..2_000 {
            if let Ok(content) = workspace.read(&path("swapped/file"), Bytes::mib(1)) {
                assert_eq!(content, b"inside");
            }
            // A write lands in the folder that was opened, or fails.
            let _ = workspace.write(&path("swapped/other"), b"x");
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert!(!outside.path().join("other").exists());
}

#[test]
fn w16_a_fifo_does_not_hold_a_call() {
    let inside = tempfile::tempdir().unwrap();
    let workspace = Workspace::of_tool(inside.path(), &ToolLimits::DEFAULT).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, inside.path().join("pipe"), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
    assert_eq!(workspace.read(&path("pipe"), Bytes::mib(1)), Err(WorkspaceError::NotFound));
}

#[test]
fn w17_files_and_bytes_are_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let limits = ToolLimits { workspace: Bytes::kib(10), files: 20, ..ToolLimits::DEFAULT };
    let workspace = Workspace::of_tool(folder.path(), &limits).unwrap();
    let quota = Err(WorkspaceError::Quota { bytes: Bytes::kib(10), files: 20 });
    assert_eq!(workspace.write(&path("huge"), &vec![0; 11 << 10]), quota);
    workspace.write(&path("large"), &vec![0; 10 << 10]).unwrap();
    workspace.write(&path("large"), &vec![1; 10 << 10]).unwrap();
    assert_eq!(workspace.write(&path("one"), b"x"), quota);
    workspace.remove(&path("large")).unwrap();
    let written = (0..1000).take_while(|n| workspace.write(&path(&format!("f{n}")), b"").is_ok()).count();
    assert_eq!(written, 20);
    assert_eq!(workspace.usage().unwrap(), (Bytes(0), 20));
}

#[test]
fn m03_guarded_files_are_not_written_and_credentials_not_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join(".git/hooks")).unwrap();
    std::fs::write(folder.path().join(".env"), "KEY=value").unwrap();
    let workspace = Workspace::open(SafeFolder::check(folder.path(), &Surroundings::default()).unwrap());
    for name in [".git/hooks/pre-commit", "sub/.git/config", ".mcp.json", "CLAUDE.md", ".bashrc", ".env"] {
        let written = workspace.write(&path(name), b"x");
        assert!(matches!(written, Err(WorkspaceError::Guarded(_))), "{name}: {written:?}");
    }
    assert!(matches!(workspace.remove(&path(".git/hooks")), Err(WorkspaceError::Guarded(_))));
    let read = workspace.read(&path(".env"), Bytes::mib(1));
    assert!(matches!(read, Err(WorkspaceError::Credential(_))), "{read:?}");
    workspace.write(&path("src/main.rs"), b"fn main() {}").unwrap();
    assert_eq!(workspace.read(&path("src/main.rs"), Bytes::mib(1)).unwrap(), b"fn main() {}");
    assert_eq!(workspace.read(&path("src/main.rs"), Bytes(3)), Err(WorkspaceError::TooLarge(Bytes(3))));
}
