//! Development only: the checks and chores that no compiler does for us.
//!
//! `cargo xtask tidy` holds the shape of the tree (see [`tidy`]); `cargo xtask break` shows that
//! each layer's tests notice when the layer is gone (see [`breaks`]); `cargo xtask guests` holds the
//! committed components to their sources (see [`guests`]); `cargo xtask train-injection` makes the weights of
//! the sanitizer's model (see [`injection`]); `cargo xtask measure` says how big, quick and hungry the program is (see
//! [`measure`]). Nothing here is shipped.

pub mod ambient;
pub mod breaks;
pub mod guests;
pub mod injection;
pub mod measure;
pub mod tidy;

use std::path::{Path, PathBuf};

/// The folder that holds the workspace this program was built from.
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}
