//! `cargo xtask break`: is each layer's test able to notice that the layer is gone?
//!
//! Every file `breaks/NAME.patch` takes one layer away in a copy of the tree. Either the build must
//! fail (the way around does not type-check) or the named test must (the attack succeeds and the
//! test says so). The same test must pass in the untouched copy. Nothing is ever switched at run
//! time, and the tree itself is not touched.

mod copy;
mod judge;
mod patch;
mod run;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::ambient::say;
use copy::Copy;
use judge::{Notice, judge};
use patch::Patch;
use run::{Outcome, Runner};

/// A run without names is complete only if each of these layers has a patch.
const LAYERS: &[&str] = &["safety", "policy", "wasm", "egress", "vault", "leaks", "output", "audit"];

/// Applies the patches of these names (every one, if there are none) and prints a line for each;
/// true if all were noticed.
///
/// # Errors
/// If a patch has no valid head or does not apply, if its test is missing or fails in the
/// untouched copy, or if cargo or git cannot be run.
pub fn run(root: &Path, names: &[String]) -> anyhow::Result<bool> {
    run_in(&target_folder(root)?, root, names)
}

/// Works in `target/break`: the copy and what is built from it stay there for the next run.
fn run_in(target: &Path, root: &Path, names: &[String]) -> anyhow::Result<bool> {
    let patches = choose(patch::read_all(&root.join("breaks"))?, names)?;
    let bench = target.join("break");
    fs::create_dir_all(&bench)?;
    let lock = File::create(bench.join("lock"))?;
    lock.lock().context("waiting for another run to end")?;

    let copy = Copy::open(root, &bench.join("tree"))?;
    let runner = Runner::new(copy.folder(), &bench.join("target"));
    runner.begin_with(target)?;
    copy.refresh()?;
    pass_untouched(&runner, &patches)?;
    let mut all_noticed = !names.is_empty() || report_uncovered(&patches);
    for patch in &patches {
        copy.refresh()?;
        copy.apply(patch)?;
        let notice = judge(patch, &runner.outcome(&patch.test)?);
        say(&format!("{}: {notice}", patch.name));
        all_noticed &= notice == Notice::Noticed;
    }
    copy.refresh()?;
    Ok(all_noticed)
}

fn choose(patches: Vec<Patch>, names: &[String]) -> anyhow::Result<Vec<Patch>> {
    anyhow::ensure!(!patches.is_empty(), "there is no patch in breaks/");
    for name in names {
        anyhow::ensure!(patches.iter().any(|patch| patch.name == *name), "there is no breaks/{name}.patch");
    }
    let chosen = |patch: &Patch| names.is_empty() || names.contains(&patch.name);
    Ok(patches.into_iter().filter(chosen).collect())
}

/// Where cargo builds for `root`: the copies are built in a folder of their own beneath it.
fn target_folder(root: &Path) -> anyhow::Result<PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .context("cargo metadata")?;
    Ok(metadata.target_directory.into_std_path_buf())
}

/// Every test that a patch names passes while nothing is broken.
fn pass_untouched(runner: &Runner, patches: &[Patch]) -> anyhow::Result<()> {
    let tests: BTreeSet<_> = patches.iter().map(|patch| &patch.test).collect();
    for test in tests {
        match runner.outcome(test)? {
            Outcome::Passed => {}
            Outcome::BuildFailed(errors) => {
                anyhow::bail!("{test}: the untouched tree does not build\n{errors}")
            }
            Outcome::Failed => anyhow::bail!("{test}: fails in the untouched tree"),
            Outcome::TimedOut => anyhow::bail!("{test}: does not end in the untouched tree"),
            Outcome::NoSuchTest => anyhow::bail!("{test}: names no test"),
        }
    }
    Ok(())
}

/// Prints the layers that no patch takes away; true if there is none.
fn report_uncovered(patches: &[Patch]) -> bool {
    let uncovered = LAYERS.iter().filter(|layer| !patches.iter().any(|patch| patch.layer == **layer));
    uncovered.map(|layer| say(&format!("{layer}: NOT NOTICED (no patch takes this layer away)"))).count() == 0
}

#[cfg(test)]
mod tests;
