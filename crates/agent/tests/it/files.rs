//! The built-in file tools: one folder, no way out of it, and nothing in it is policy.

use std::os::unix::net::UnixListener;

use agent::Files;
use serde_json::json;
use types::{Field, Kind};
use workspace::Surroundings;

use crate::server::{calls, says, scripted};
use crate::world::{World, host, reply, rules};

#[test]
fn m01_m02_an_unsafe_workspace_is_refused_by_rule() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    std::fs::create_dir_all(home.join("data")).unwrap();
    std::fs::create_dir_all(home.join("project")).unwrap();
    std::os::unix::fs::symlink(&home, folder.path().join("link")).unwrap();
    let around = Surroundings { home: Some(home.clone()), own: vec![home.join("data")] };
    for place in
        [std::path::Path::new("/"), &home, folder.path(), &folder.path().join("link"), &home.join("data")]
    {
        let refusal = Files::open(place, &around).unwrap_err().refusal();
        assert_eq!(refusal.rule.id, "files.unsafe-workspace", "{}", place.display());
        assert!(refusal.widen.is_some());
    }
    let project = home.join("project");
    assert!(Files::open(&project, &around).is_ok());
    let _listener = UnixListener::bind(project.join("agent.sock")).unwrap();
    assert!(Files::open(&project, &around).is_err());
}

#[test]
fn the_three_tools_pass_their_own_screening() {
    let safety = safety::Safety::new(Default::default()).unwrap();
    let tools = Files::tools(std::path::Path::new("/w"), &safety);
    let names: Vec<_> = tools.iter().map(|tool| tool.manifest.name.as_str()).collect();
    assert_eq!(names, ["read_file", "write_file", "list_dir"]);
    assert_eq!(tools.iter().filter(|tool| tool.manifest.changes_things()).count(), 1);
    // An approval names the digest: in another folder it is for another tool.
    let elsewhere = Files::tools(std::path::Path::new("/x"), &safety);
    assert!(tools.iter().zip(&elsewhere).all(|(one, other)| one.digest != other.digest));
}

#[tokio::test]
async fn files_are_listed_read_and_written_inside_the_folder() {
    let world = World::offline().await;
    world.file("docs/guide.md", "How to begin.");
    world.file("README.txt", "Read me.");
    assert_eq!(reply(&world.ask("list the files").await), "README.txt (8 bytes)\ndocs/");
    assert_eq!(reply(&world.ask("show docs/guide.md").await), "How to begin.");
    assert_eq!(reply(&world.ask("open the README").await), "Read me.");
    assert_eq!(reply(&world.ask("write \"buy milk\" to lists/today.txt").await), "wrote 8 bytes");
    assert_eq!(std::fs::read_to_string(world.workspace().join("lists/today.txt")).unwrap(), "buy milk");
    let log = world.close().await;
    let paths: Vec<_> = log
        .iter()
        .filter(|entry| entry.record.kind == Kind::Settle)
        .filter_map(|entry| entry.record.field(Field::Path))
        .collect();
    assert_eq!(paths, [".", "docs/guide.md", "README", "lists/today.txt"]);
}

#[tokio::test]
async fn m03_what_leads_out_or_is_obeyed_is_refused() {
    let read = |path: &str| ("read_file", json!({"path": path}).to_string());
    let write = |path: &str| ("write_file", json!({"path": path, "content": "x"}).to_string());
    for ((tool, arguments), rule) in [
        (read("../secret"), "files.outside"),
        (read("/etc/passwd"), "files.outside"),
        (read("a/../../b"), "files.outside"),
        (read("keys/id_rsa"), "files.credential-file"),
        (read(".env.production"), "files.credential-file"),
        (write(".git/hooks/pre-commit"), "files.guarded"),
        (write("deep/down/.GIT/config"), "files.guarded"),
        (write("CLAUDE.md"), "files.guarded"),
        (write(".bashrc"), "files.guarded"),
        (write("../x"), "files.outside"),
    ] {
        let host = host();
        let server = scripted(&host, vec![calls(&[(tool, &arguments)]), says("No.")]).await;
        let world = World::with_model(&host, &server).await;
        let outcome = world.ask("Do it").await;
        assert_eq!(rules(&outcome), [rule], "{tool} {arguments}");
        assert!(!world.workspace().join(".git").exists());
    }
}

#[tokio::test]
async fn links_and_what_is_not_text_are_not_read() {
    let world = World::offline().await;
    std::fs::write(world.folder().join("outside.txt"), "the outside").unwrap();
    std::os::unix::fs::symlink(world.folder().join("outside.txt"), world.workspace().join("link.txt"))
        .unwrap();
    std::os::unix::fs::symlink(world.folder(), world.workspace().join("up")).unwrap();
    std::fs::write(world.workspace().join("image.png"), [0x89, b'P', 0xff, 0xfe]).unwrap();
    for request in ["read link.txt", "read up/outside.txt", "read image.png", "read gone.txt"] {
        let outcome = world.ask(request).await;
        assert!(reply(&outcome).starts_with("read_file failed: "), "{request}: {}", reply(&outcome));
        assert_eq!(outcome.failure, Some(agent::Failure::Tool));
    }
}

#[tokio::test]
async fn m04_nothing_in_the_workspace_is_policy() {
    let world = World::offline().await;
    world.file("ironclaw.toml", "[tools.read_file]\npermission = \"never\"\n[safety]\nowner = \"block\"");
    world.file("policies/own.cedar", "forbid (principal, action, resource);");
    world.file("config.toml", "[tools.read_file]\npermission = \"never\"");
    world.file("manifest.toml", "name = \"read_file\"");
    world.file("a.txt", "alpha");
    let outcome = world.ask("read a.txt").await;
    assert_eq!((reply(&outcome), rules(&outcome)), ("alpha", vec![]));
    assert!(matches!(rules(&world.ask("read .env").await)[..], ["files.credential-file"]));
}
