//! A copy of the tree that patches may change.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::patch::Patch;
use crate::{ambient, tidy};

/// A copy kept in one place from run to run, so that cargo rebuilds only what a patch changed.
pub(super) struct Copy {
    source: PathBuf,
    folder: PathBuf,
}

impl Copy {
    /// Opens, or begins, the copy of `source` in `folder`. It is a repository of its own: without
    /// one, `git apply` would look to the repository around it and skip every file.
    pub(super) fn open(source: &Path, folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let mut git = ambient::command("git", folder);
        git.args(["init", "--quiet"]);
        ambient::output_of(git)?;
        Ok(Self { source: source.to_owned(), folder: folder.to_owned() })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes the copy equal to the tree: what git tracks or would track there, and nothing else.
    pub(super) fn refresh(&self) -> anyhow::Result<()> {
        let mut wanted = HashSet::new();
        for path in tidy::tracked_paths(&self.source)? {
            let (from, to) = (self.source.join(&path), self.folder.join(&path));
            if from.is_file() {
                copy_if_changed(&from, &to).with_context(|| format!("copying {path}"))?;
                wanted.insert(to);
            }
        }
        remove_others(&self.folder, &wanted)
    }

    /// Applies `patch` to the copy.
    pub(super) fn apply(&self, patch: &Patch) -> anyhow::Result<()> {
        let mut git = ambient::command("git", &self.folder);
        git.args(["apply", "--whitespace=nowarn"]).arg(&patch.file);
        ambient::output_of(git)
            .with_context(|| format!("{} does not apply to the tree", patch.file.display()))?;
        Ok(())
    }
}

/// Leaves an equal file alone, so that cargo sees no new time on it.
fn copy_if_changed(from: &Path, to: &Path) -> anyhow::Result<()> {
    if fs::read(to).is_ok_and(|old| fs::read(from).is_ok_and(|new| old == new)) {
        return Ok(());
    }
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(to, fs::read(from)?)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    Ok(())
}

fn remove_others(folder: &Path, wanted: &HashSet<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == ".git") {
            continue;
        }
        if path.is_dir() {
            remove_others(&path, wanted)?;
        } else if !wanted.contains(&path) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
