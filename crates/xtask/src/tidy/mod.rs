//! `cargo xtask tidy`: the shape of the tree, checked where no reviewer looks.
//!
//! Every check is a pure function from what was read to [`Finding`]s, in a module of its own with
//! tests that see it fail. There is no exemption comment: a number or a table is changed in a
//! commit that says why. `tests/tidy.rs` runs the same checks under `cargo test`.

mod allows;
mod files;
mod graph;
mod headers;
mod members;
mod owners;
mod paths;
mod promises;
mod sizes;
mod tests_by_name;
mod tiers;
mod tokens;
mod unsafe_sites;
mod words;

use std::fmt;
use std::path::Path;

pub use files::File;
pub(crate) use files::paths as tracked_paths;
pub use graph::Built;
pub use members::Member;

/// One thing that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The check that found it.
    pub check: &'static str,
    /// A file with its line, or a crate.
    pub place: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Finding {
    fn new(check: &'static str, place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { check, place: place.into(), message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.check, self.place, self.message)
    }
}

/// Runs every check on the workspace at `root`; an empty list means tidy.
///
/// # Errors
/// If the tree cannot be read: `git` or `cargo` is missing, `Cargo.lock` is stale, a Rust file
/// does not parse.
pub fn run(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let files = files::read(root)?;
    let sources = files.iter().filter_map(File::source).collect::<anyhow::Result<Vec<_>>>()?;
    let members = members::read(root)?;
    let built = graph::read(root)?;
    let text = |path: &str| files.iter().find(|file| file.path == path).map(|file| file.text.as_str());
    Ok([
        tiers::check(&members),
        owners::check(&members),
        members::check_lints(&members),
        graph::check(&built),
        headers::check(&sources),
        sizes::check(&sources),
        allows::check(&sources),
        words::check(&files),
        paths::check(&files),
        unsafe_sites::check(&sources, text("ARCHITECTURE.md")),
        promises::check(&tests_by_name::collect(&sources), text("SPECIFICATION.md")),
    ]
    .concat())
}
