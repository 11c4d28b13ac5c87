//! One owner for every dangerous dependency: who else could open a socket, a key or a database?

use super::{Finding, Member};

/// Package name, and the crates that may name it. The reason is the layer that would be walked
/// around: `deny.toml` holds the same for what comes in through other packages.
const OWNERS: &[(&str, &[&str])] = &[
    // The sandboxes.
    ("bollard", &["container"]),
    ("cap-fs-ext", &["workspace"]),
    ("cap-std", &["workspace"]),
    ("landlock", &["init"]),
    ("seccompiler", &["init"]),
    ("wasmtime", &["wasm"]),
    ("wasmtime-wasi", &["wasm"]),
    ("wasmtime-wasi-http", &["wasm"]),
    // The door.
    ("h2", &["egress"]),
    ("hickory-resolver", &["egress"]),
    ("hyper", &["egress"]),
    ("hyper-util", &["egress"]),
    ("rcgen", &["egress"]),
    ("rustls", &["egress"]),
    ("rustls-platform-verifier", &["egress"]),
    ("tokio-rustls", &["egress"]),
    ("tokio-tungstenite", &["egress"]),
    ("webpki-roots", &["egress"]),
    // Keys.
    ("apple-native-keyring-store", &["secrets"]),
    ("argon2", &["secrets"]),
    ("aws-lc-rs", &["audit", "secrets"]),
    ("keyring-core", &["secrets"]),
    ("secret-service", &["secrets"]),
    ("windows-native-keyring-store", &["secrets"]),
    ("zbus-secret-service-keyring-store", &["secrets"]),
    // Decisions and storage.
    ("cedar-policy", &["policy"]),
    ("sqlx", &["store"]),
    // The edge: typed errors everywhere else, arguments parsed once.
    ("anyhow", &["ironclaw", "xtask"]),
    ("clap", &["ironclaw"]),
];

pub(super) fn check(members: &[Member]) -> Vec<Finding> {
    members.iter().flat_map(check_member).collect()
}

fn check_member(member: &Member) -> impl Iterator<Item = Finding> {
    member.dependencies.iter().filter_map(|dependency| {
        let (name, owners) = OWNERS.iter().find(|(name, _)| *name == dependency.name)?;
        let message = || format!("names {name}, which belongs to {}", owners.join(" and "));
        (!owners.contains(&member.name.as_str())).then(|| Finding::new("owners", &member.name, message()))
    })
}

#[cfg(test)]
mod tests {
    use super::super::members::fixture;
    use super::*;

    #[test]
    fn the_owner_passes_and_anyone_else_is_named() {
        assert_eq!(check(&[fixture("egress", &["hyper"]), fixture("agent", &["bytes"])]), []);
        assert_eq!(check(&[fixture("agent", &["hyper"])])[0].place, "agent");
    }

    #[test]
    fn a_test_may_not_borrow_it_either() {
        assert_eq!(check(&[fixture("agent", &["dev:sqlx"])]).len(), 1);
    }
}
