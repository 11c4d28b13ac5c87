//! The files that git tracks or would track, and the Rust among them parsed.

use std::path::Path;

use anyhow::Context;
use proc_macro2::TokenStream;

use crate::ambient;

/// One text file of the tree.
#[derive(Debug)]
pub struct File {
    /// Relative to the workspace, with `/` between folders.
    pub path: String,
    /// All of it; files that are not UTF-8 are left out when the tree is read.
    pub text: String,
}

/// A Rust file, parsed.
pub(super) struct Source<'a> {
    pub(super) path: &'a str,
    pub(super) text: &'a str,
    pub(super) tokens: TokenStream,
    pub(super) syntax: syn::File,
}

impl File {
    /// This file parsed, if it is Rust.
    pub(super) fn source(&self) -> Option<anyhow::Result<Source<'_>>> {
        self.path.ends_with(".rs").then(|| Source::parse(&self.path, &self.text))
    }
}

impl<'a> Source<'a> {
    pub(super) fn parse(path: &'a str, text: &'a str) -> anyhow::Result<Self> {
        let syntax = syn::parse_file(text).with_context(|| format!("{path} does not parse"))?;
        let tokens = text.parse().map_err(|_| anyhow::anyhow!("{path} does not tokenize"))?;
        Ok(Self { path, text, tokens, syntax })
    }

    /// True for integration tests, which cargo finds in a crate's `tests` folder.
    pub(super) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests")
    }
}

/// Reads every file that git tracks or would track under `root`.
pub(super) fn read(root: &Path) -> anyhow::Result<Vec<File>> {
    let mut files = Vec::new();
    for path in paths(root)? {
        let bytes = match std::fs::read(root.join(&path)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            bytes => bytes.with_context(|| format!("reading {path}"))?,
        };
        files.extend(String::from_utf8(bytes).ok().map(|text| File { path, text }));
    }
    Ok(files)
}

/// The paths that git tracks or would track under `root`, sorted. A path that was deleted but not
/// yet committed is among them.
pub(crate) fn paths(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut git = ambient::command("git", root);
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let mut paths: Vec<_> = ambient::output_of(git)?.split_terminator('\0').map(str::to_owned).collect();
    paths.sort_unstable();
    paths.dedup();
    Ok(paths)
}

/// Parses fixtures for the checks' tests.
#[cfg(test)]
pub(super) fn fixture(path: &'static str, text: &'static str) -> Source<'static> {
    Source::parse(path, text).unwrap()
}
