//! `ironclaw sandbox prune` among installations that live, that were cut off, and that are gone.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::engine::{ask, containers};
use crate::exec::{exec, ready, running, until, workspace};
use crate::installation::{Installation, random};
use crate::registry::small_image;

/// One test at a time removes what it finds.
fn alone() -> std::fs::File {
    let lock = std::fs::File::create(std::env::temp_dir().join("ironclaw-test-prune.lock")).unwrap();
    lock.lock().unwrap();
    lock
}

/// Runs a command until it has begun, and kills the program; the container ends, and stays.
fn cut_off(installation: &Installation) -> String {
    let folder = workspace(installation);
    let begun = folder.join("begun");
    let script = "echo evil > .bashrc; touch begun; sleep 600";
    let mut program = running(installation, &["--policy", "workspace-write"], script);
    assert!(until(|| begun.exists()), "the command did not start");
    kill_process(Pid::from_child(&program), Signal::KILL).unwrap();
    program.wait().unwrap();
    let ended = || containers(installation).into_iter().find(|container| container["State"] == "exited");
    assert!(until(|| ended().is_some()), "the container did not end");
    ended().unwrap()["Names"][0].as_str().unwrap().trim_start_matches('/').to_owned()
}

fn notes(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| !["image", "installation"].contains(&name.to_str().unwrap())).count()
}

#[test]
fn what_was_cut_off_is_removed_and_nothing_that_lives_or_is_anothers() {
    let _alone = alone();
    let (own, other, gone) = (ready(""), ready(""), ready(""));
    // One of this installation that runs.
    let elsewhere = own.folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::set_permissions(&elsewhere, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let arguments = ["exec", "--workspace", elsewhere.to_str().unwrap(), "--", "sleep", "600"];
    let mut living = own.start_under(&["env"], &arguments);
    let runs = || containers(&own).iter().any(|container| container["State"] == "running");
    assert!(until(runs), "the command did not start");
    let (cut, theirs, orphan) = (cut_off(&own), cut_off(&other), cut_off(&gone));
    std::fs::remove_dir_all(gone.home()).unwrap();
    let sandbox = own.home().join("data/sandbox");
    std::fs::create_dir(sandbox.join("build-0-cut-off")).unwrap();

    // Nobody is there to say yes.
    let asked = own.run(&["sandbox", "prune"]);
    assert_eq!(asked.code, 1, "{asked:?}");
    for name in [&cut, &orphan] {
        assert!(asked.stderr.contains(&format!("container  {name}")), "{asked:?}");
    }
    assert!(!asked.stderr.contains(&theirs) && asked.stderr.contains("build-0-cut-off"), "{asked:?}");
    assert_eq!(containers(&own).len(), 2);

    let pruned = own.run(&["sandbox", "prune", "--yes", "--json"]).ok();
    let gone_now = &pruned.json()[0];
    let has = |list: &str, name: &str| {
        gone_now[list].as_array().unwrap().iter().any(|one| one.as_str().unwrap().contains(name))
    };
    assert!(
        has("containers", &cut) && has("containers", &orphan) && !has("containers", &theirs),
        "{pruned:?}"
    );
    assert!(
        has("workspaces", workspace(&own).to_str().unwrap()) && has("files", "build-0-cut-off"),
        "{pruned:?}"
    );
    assert!(pruned.stderr.contains("was cut off") && !workspace(&own).join(".bashrc").exists(), "{pruned:?}");
    assert!(runs() && containers(&own).len() == 1 && containers(&other).len() == 1);
    assert_eq!(ask("GET", &format!("/containers/{orphan}/json"), &[], &[]).status, 404);
    let records = own.run(&["audit", "tail", "-n", "50", "--json"]).ok().json();
    let abandoned = records.iter().filter(|record| record["verdict"] == "abandoned").count();
    assert_eq!(abandoned, 1, "{records:?}");

    // What others left meanwhile may be there.
    let again = own.run(&["sandbox", "prune", "--yes"]).ok();
    assert!(![&cut, &orphan, &theirs].iter().any(|name| again.stdout.contains(*name)), "{again:?}");
    assert!(!again.stdout.contains("note ") && !again.stdout.contains("file "), "{again:?}");
    kill_process(Pid::from_child(&living), Signal::TERM).unwrap();
    living.wait().unwrap();
    // Nothing stays but the first process of containers.
    assert_eq!(notes(&sandbox), 1);
    // The other installation puts in order what is its own.
    assert!(workspace(&other).join(".bashrc").exists());
    assert!(other.run(&["sandbox", "prune", "--yes"]).ok().stdout.contains(&theirs));
    assert!(containers(&other).is_empty() && !workspace(&other).join(".bashrc").exists());
    own.run(&["audit", "verify"]).ok();
}

#[test]
fn base_images_that_were_replaced_are_removed_and_no_other() {
    let _alone = alone();
    let own = ready("");
    exec(&own, &[], "true").ok();
    let name = std::fs::read_to_string(own.home().join("data/sandbox/installation")).unwrap();
    let label = |of: &str| format!("LABEL org.ironclaw.base={of}");
    let replaced = small_image(&random("a"), &[&label(&name)]);
    let anothers = small_image(&random("b"), &[&label(&random("c"))]);
    let named = small_image(&random("d"), &[&label(&name)]);
    ask("POST", &format!("/images/{named}/tag"), &[("repo", &random("mine-"))], &[]).ok();
    let used = small_image(&random("e"), &[&label(&name)]);
    own.run(&["sandbox", "build-image", "--from", &used]).ok();
    assert!(!own.run(&["sandbox", "prune", "--yes"]).ok().stdout.contains("sha256:"));
    let pruned = own.run(&["sandbox", "prune", "--images", "--yes", "--json"]).ok().json();
    let images = pruned[0]["images"].as_array().unwrap();
    assert_eq!((images.len(), &images[0]["image"]), (1, &serde_json::json!(replaced)), "{pruned:?}");
    let is_there = |id: &str| ask("GET", &format!("/images/{id}/json"), &[], &[]).status == 200;
    assert_eq!([&replaced, &anothers, &named, &used].map(|id| is_there(id)), [false, true, true, true]);
    for id in [&anothers, &named, &used] {
        ask("DELETE", &format!("/images/{id}"), &[("force", "1")], &[]).ok();
    }
}
