//! What is really compiled for this host, whoever asked for it.
//!
//! `cargo tree` answers with the features cargo resolved; `cargo metadata` also lists packages
//! behind optional features that nobody turned on.

use std::path::Path;

use super::Finding;
use crate::ambient;

/// Packages that must not be compiled in, with the reason.
const BANNED: &[(&str, &str)] = &[
    ("native-tls", "TLS is rustls with aws-lc-rs"),
    ("openssl", "TLS is rustls with aws-lc-rs"),
    ("openssl-sys", "TLS is rustls with aws-lc-rs"),
    ("reqwest", "the network is reached through egress"),
    ("ring", "cryptography is aws-lc-rs, one provider for TLS and the vault"),
    ("ureq", "the network is reached through egress"),
];

/// Features that must stay off, with the reason.
const FEATURES_OFF: &[(&str, &str, &str)] = &[(
    "wasmtime-wasi-http",
    "default-send-request",
    "it gives a guest's request a default way out that is not egress",
)];

/// One package as it is compiled for this host.
#[derive(Debug)]
pub struct Built {
    /// Package name.
    pub name: String,
    /// The features that are on.
    pub features: Vec<String>,
}

/// Asks cargo what it compiles for the workspace at `root`, tests and build scripts included.
pub(super) fn read(root: &Path) -> anyhow::Result<Vec<Built>> {
    let mut cargo = ambient::command("cargo", root);
    cargo.args(["tree", "--workspace", "--locked", "--edges", "normal,build,dev"]);
    cargo.args(["--prefix", "none", "--format", "{p}|{f}"]);
    Ok(ambient::output_of(cargo)?.lines().filter_map(built).collect())
}

/// Parses `name v1.2.3 (proc-macro)|one,two (*)`.
fn built(line: &str) -> Option<Built> {
    let (package, features) = line.trim_end_matches(" (*)").split_once('|')?;
    let name = package.split(' ').next()?.to_owned();
    let features = features.split(',').filter(|feature| !feature.is_empty());
    Some(Built { name, features: features.map(str::to_owned).collect() })
}

pub(super) fn check(built: &[Built]) -> Vec<Finding> {
    let mut findings: Vec<_> = built.iter().flat_map(check_one).collect();
    findings.dedup();
    findings.extend(
        FEATURES_OFF
            .iter()
            .filter(|(package, ..)| !built.iter().any(|built| built.name == *package))
            .map(|(package, ..)| Finding::new("graph", *package, "is watched but no longer compiled")),
    );
    findings
}

fn check_one(built: &Built) -> Vec<Finding> {
    let banned = BANNED
        .iter()
        .filter(|(name, _)| *name == built.name)
        .map(|(name, reason)| Finding::new("graph", *name, format!("is compiled in: {reason}")));
    let on = FEATURES_OFF
        .iter()
        .filter(|(name, feature, _)| *name == built.name && built.features.iter().any(|on| on == feature))
        .map(|(name, feature, why)| Finding::new("graph", *name, format!("has `{feature}` on: {why}")));
    banned.chain(on).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP: &str = "wasmtime-wasi-http v48.0.8|p2 (*)";

    fn findings(lines: &[&str]) -> Vec<Finding> {
        check(&lines.iter().filter_map(|line| built(line)).collect::<Vec<_>>())
    }

    #[test]
    fn a_line_gives_the_name_and_the_features() {
        let built = built("serde_derive v1.0.1 (proc-macro)|default,std (*)").unwrap();
        assert_eq!(built.name, "serde_derive");
        assert_eq!(built.features, ["default", "std"]);
    }

    #[test]
    fn a_second_cryptography_provider_is_named() {
        assert_eq!(findings(&[HTTP, "rustls v0.23.46|std"]), []);
        assert_eq!(findings(&[HTTP, "ring v0.17.14|alloc"])[0].place, "ring");
    }

    #[test]
    fn a_default_way_out_for_guests_is_named() {
        let on = findings(&["wasmtime-wasi-http v48.0.8|default-send-request,p2"]);
        assert!(on[0].message.contains("default-send-request"));
    }

    #[test]
    fn a_watch_that_watches_nothing_is_named() {
        assert_eq!(findings(&["rustls v0.23.46|std"]).len(), 1);
    }
}
