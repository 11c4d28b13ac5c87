//! The workspace's crates as `cargo metadata` tells them.

use std::path::Path;

use anyhow::Context;
use cargo_metadata::{DependencyKind, MetadataCommand};

use super::Finding;

/// One crate of the workspace.
#[derive(Debug)]
pub struct Member {
    /// As in its `Cargo.toml`.
    pub name: String,
    /// Direct dependencies by package name, with development ones told apart.
    pub dependencies: Vec<Dependency>,
    /// Whether it takes the workspace's lints.
    pub inherits_lints: bool,
}

/// A direct dependency.
#[derive(Debug)]
pub struct Dependency {
    /// The package's own name, whatever it is renamed to.
    pub name: String,
    /// True under `[dev-dependencies]`.
    pub development: bool,
}

/// Asks cargo for the crates of the workspace at `root`, in order of name.
pub(super) fn read(root: &Path) -> anyhow::Result<Vec<Member>> {
    let metadata = MetadataCommand::new()
        .manifest_path(root.join("Cargo.toml"))
        .no_deps()
        .other_options(["--locked".to_owned()])
        .exec()
        .context("cargo metadata")?;
    metadata.workspace_packages().into_iter().map(member).collect()
}

fn member(package: &cargo_metadata::Package) -> anyhow::Result<Member> {
    let manifest: toml::Table = toml::from_str(&std::fs::read_to_string(&package.manifest_path)?)?;
    let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    Ok(Member {
        name: package.name.to_string(),
        dependencies: package
            .dependencies
            .iter()
            .map(|dependency| Dependency {
                name: dependency.name.clone(),
                development: dependency.kind == DependencyKind::Development,
            })
            .collect(),
        inherits_lints: inherits.and_then(toml::Value::as_bool) == Some(true),
    })
}

/// Every crate takes the workspace's lints, among them documented public items and no unsafe code.
pub(super) fn check_lints(members: &[Member]) -> Vec<Finding> {
    members
        .iter()
        .filter(|member| !member.inherits_lints)
        .map(|member| Finding::new("lints", &member.name, "lacks `[lints] workspace = true`"))
        .collect()
}

/// A crate for the checks' tests; a dependency that starts with `dev:` is for development.
#[cfg(test)]
pub(super) fn fixture(name: &str, dependencies: &[&str]) -> Member {
    let dependency = |text: &&str| Dependency {
        name: text.trim_start_matches("dev:").to_owned(),
        development: text.starts_with("dev:"),
    };
    Member {
        name: name.to_owned(),
        dependencies: dependencies.iter().map(dependency).collect(),
        inherits_lints: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_the_lints_is_named() {
        let mut member = fixture("policy", &[]);
        assert_eq!(check_lints(std::slice::from_ref(&member)), []);
        member.inherits_lints = false;
        assert_eq!(check_lints(&[member])[0].place, "policy");
    }
}
