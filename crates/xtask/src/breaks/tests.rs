//! The whole runner on a small project of its own: a door with one guard.

use super::*;

const MANIFEST: &str = "[package]\nname = \"door\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n";

const DOOR: &str = "\
/// Proof of a check.
pub struct Pass(());

pub fn check(age: u8) -> Option<Pass> {
    (age >= 18).then_some(Pass(()))
}

pub fn enter(_pass: Pass) {}
";

const DOOR_TESTS: &str = "\
#[test]
fn a_child_is_refused() {
    assert!(door::check(7).is_none());
}
";

/// A project in a folder of its own with one patch for each `(name, head, from, to)`.
fn project(patches: &[(&str, &str, &str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("src")).unwrap();
    fs::create_dir(root.join("breaks")).unwrap();
    fs::write(root.join("Cargo.toml"), MANIFEST).unwrap();
    fs::write(root.join("src/lib.rs"), DOOR).unwrap();
    fs::create_dir(root.join("tests")).unwrap();
    fs::write(root.join("tests/door-tests.rs"), DOOR_TESTS).unwrap();
    fs::write(root.join(".gitignore"), "/target\n").unwrap();
    let mut git = crate::ambient::command("git", root);
    git.args(["init", "--quiet"]);
    crate::ambient::output_of(git).unwrap();
    for (name, head, from, to) in patches {
        fs::write(root.join(format!("breaks/{name}.patch")), format!("{head}\n{}", diff(from, to))).unwrap();
    }
    folder
}

/// A diff that changes the line `from` of the door into `to`; where there is no such line, one
/// that fits no door.
fn diff(from: &str, to: &str) -> String {
    let known = DOOR.lines().any(|line| line == from);
    let lines: Vec<_> = if known { DOOR.lines().collect() } else { vec![from] };
    let body: String = lines
        .iter()
        .map(|line| if *line == from { format!("-{from}\n+{to}\n") } else { format!(" {line}\n") })
        .collect();
    format!("--- a/src/lib.rs\n+++ b/src/lib.rs\n@@ -1,{0} +1,{0} @@\n{body}", lines.len())
}

const NO_CHECK: (&str, &str) = ("    (age >= 18).then_some(Pass(()))", "    (age < 200).then_some(Pass(()))");
const TEST: &str = "layer: policy\nexpect: test-fails\ntest: door-tests a_child_is_refused\n";

fn run_one(head: &str, (from, to): (&str, &str)) -> anyhow::Result<bool> {
    let folder = project(&[("only", head, from, to)]);
    let outcome = run_in(&folder.path().join("target"), folder.path(), &["only".to_owned()]);
    assert_eq!(fs::read_to_string(folder.path().join("src/lib.rs")).unwrap(), DOOR);
    outcome
}

#[test]
fn a_missing_check_is_noticed_by_its_test() {
    assert!(run_one(TEST, NO_CHECK).unwrap());
}

#[test]
fn a_change_that_no_test_minds_is_not_noticed() {
    assert!(!run_one(TEST, ("pub fn enter(_pass: Pass) {}", "pub fn enter(_used: Pass) {}")).unwrap());
}

#[test]
fn a_way_around_that_does_not_type_check_is_noticed_by_its_error_only() {
    let head =
        |error| format!("layer: policy\nexpect: build-fails\nerror: {error}\ntest: door-tests a_child\n");
    let around = ("pub fn enter(_pass: Pass) {}", "pub fn enter(_pass: Pass) { enter(3) }");
    assert!(run_one(&head("E0308"), around).unwrap());
    assert!(!run_one(&head("E0382"), around).unwrap());
    assert!(!run_one(&head("E0308"), NO_CHECK).unwrap());
}

#[test]
fn a_patch_that_does_not_apply_or_names_no_test_is_an_error() {
    let unfit = run_one(TEST, ("pub fn gone() {}", "pub fn here() {}")).unwrap_err();
    assert!(unfit.to_string().contains("does not apply"), "{unfit:?}");
    let nameless = run_one(&TEST.replace("a_child", "no_such"), NO_CHECK).unwrap_err();
    assert!(nameless.to_string().contains("names no test"), "{nameless:?}");
}

#[test]
fn a_layer_without_a_patch_is_not_noticed() {
    let folder = project(&[("only", TEST, NO_CHECK.0, NO_CHECK.1)]);
    let run = |names: &[String]| run_in(&folder.path().join("target"), folder.path(), names);
    assert!(!run(&[]).unwrap());
    assert!(run(&["other".to_owned()]).is_err());
}
