//! Folders that git uses as its own though their names do not say so: where a file `.git` leads to
//! (`git init --separate-git-dir`, submodules, worktrees), and repositories without a working tree.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use crate::safe::is_repository;

/// The longest file `.git` that is read: a word and a path.
const LONGEST: u64 = 8192;

/// Those of a workspace, by the names in it that are guarded. No command can have changed one of these files: where they
/// stand they are read-only, and new ones are moved away.
pub(super) fn folders(root: &Path, guarded: &BTreeMap<PathBuf, Option<PathBuf>>) -> BTreeSet<PathBuf> {
    let git_of = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        let above = path.parent()?;
        if name.eq_ignore_ascii_case("head") {
            is_repository(&root.join(above)).then(|| above.to_owned())
        } else if name.eq_ignore_ascii_case(".git") {
            let led = root.join(above).join(led_to(&root.join(path))?).canonicalize().ok()?;
            Some(led.strip_prefix(root).ok()?.to_owned())
        } else {
            None
        }
    };
    // What a link leads to is guarded as a whole.
    let files = guarded.iter().filter(|(_, link)| link.is_none()).map(|(path, _)| path);
    files.filter_map(git_of).filter(|folder| !folder.as_os_str().is_empty()).collect()
}

/// What a file `.git` says (gitrepository-layout).
fn led_to(file: &Path) -> Option<PathBuf> {
    // A command is not at work, and what is no regular file was refused.
    let mut said = String::new();
    std::fs::File::open(file).ok()?.take(LONGEST).read_to_string(&mut said).ok()?;
    Some(PathBuf::from(said.strip_prefix("gitdir:")?.trim()))
}
