//! `cargo xtask tidy`, under `cargo test`.

#[test]
fn the_tree_is_tidy() {
    let findings = xtask::tidy::run(&xtask::workspace_root()).unwrap();
    let lines: Vec<_> = findings.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
