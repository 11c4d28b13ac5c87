//! Builds the container's first process, statically, so that it runs in an image of any distribution, and embeds it.

#![expect(clippy::disallowed_macros, reason = "cargo listens on standard output")]

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let manifest = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let init = manifest.join("../init");
    for changed in ["src", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", init.join(changed).display());
    }
    println!("cargo::rerun-if-changed={}", manifest.join("../../Cargo.lock").display());
    let program = PathBuf::from(variable("OUT_DIR")).join("init");
    if variable("CARGO_CFG_TARGET_OS") == "linux" {
        build(&init, &program);
    } else {
        // There is no engine to run it on.
        std::fs::write(&program, []).expect("OUT_DIR is writable");
    }
}

/// Runs cargo in a target folder of its own; the one of the outer build is locked. A target is named, since
/// without one the flags would hold for procedural macros too, which cannot be static.
#[expect(
    clippy::disallowed_methods,
    reason = "cargo builds a crate of this workspace while building this one"
)]
fn build(init: &Path, program: &Path) {
    let target = variable("TARGET");
    let folder = PathBuf::from(variable("OUT_DIR")).join("init-target");
    let mut cargo = Command::new(variable("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--profile", "init", "--bin", "init", "--target", &target]);
    cargo.arg("--manifest-path").arg(init.join("Cargo.toml")).arg("--target-dir").arg(&folder);
    // What clippy and coverage wrap or add is meant for the outer build.
    for outer in ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(outer);
    }
    cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
    let status = cargo.status().expect("cargo starts, since it started this");
    assert!(status.success(), "the container's first process does not build");
    std::fs::copy(folder.join(target).join("init/init"), program).expect("cargo built it there");
}

#[expect(clippy::disallowed_methods, reason = "cargo speaks to build scripts through the environment")]
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}
