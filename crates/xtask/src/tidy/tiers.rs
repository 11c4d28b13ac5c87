//! Strict tiers: a crate imports lower tiers only, so no layer can be reached from below.

use super::{Finding, Member, members::Dependency};

/// Where each shipped crate stands. A new crate is placed here in the commit that adds it.
const TIERS: &[(&str, u8)] = &[
    ("init", 0),
    ("types", 0),
    ("safety", 1),
    ("store", 1),
    ("workspace", 1),
    ("audit", 2),
    ("policy", 3),
    ("secrets", 4),
    ("egress", 5),
    ("container", 6),
    ("wasm", 6),
    ("agent", 7),
    ("ironclaw", 9),
];

/// Never shipped. `testkit` may stand under `[dev-dependencies]`, `xtask` nowhere.
const DEVELOPMENT: &[&str] = &["testkit", "xtask"];

pub(super) fn check(members: &[Member]) -> Vec<Finding> {
    members.iter().flat_map(check_member).collect()
}

fn check_member(member: &Member) -> Vec<Finding> {
    if DEVELOPMENT.contains(&member.name.as_str()) {
        return Vec::new();
    }
    let Some(tier) = tier_of(&member.name) else {
        return vec![Finding::new("tiers", &member.name, "has no tier in the table")];
    };
    member
        .dependencies
        .iter()
        .filter_map(|dependency| fault(tier, dependency))
        .map(|fault| Finding::new("tiers", &member.name, fault))
        .collect()
}

fn fault(tier: u8, dependency: &Dependency) -> Option<String> {
    let name = dependency.name.as_str();
    if DEVELOPMENT.contains(&name) {
        let allowed = name == "testkit" && dependency.development;
        return (!allowed).then(|| format!("imports {name}, which is for tests only"));
    }
    let below = tier_of(name)?;
    (below >= tier).then(|| format!("of tier {tier} imports {name} of tier {below}"))
}

fn tier_of(name: &str) -> Option<u8> {
    TIERS.iter().find(|(member, _)| *member == name).map(|(_, tier)| *tier)
}

#[cfg(test)]
mod tests {
    use super::super::members::fixture;
    use super::*;

    fn faults(name: &str, dependencies: &[&str]) -> usize {
        check(&[fixture(name, dependencies)]).len()
    }

    #[test]
    fn lower_tiers_and_foreign_crates_pass() {
        assert_eq!(faults("policy", &["types", "audit", "serde", "dev:testkit"]), 0);
        assert_eq!(faults("testkit", &["egress"]), 0);
    }

    #[test]
    fn a_peer_or_a_higher_tier_is_named_even_for_tests() {
        assert_eq!(faults("safety", &["store"]), 1);
        assert_eq!(faults("policy", &["dev:egress"]), 1);
    }

    #[test]
    fn what_is_for_tests_is_not_shipped() {
        assert_eq!(faults("agent", &["testkit"]), 1);
        assert_eq!(faults("agent", &["dev:xtask"]), 1);
    }

    #[test]
    fn a_crate_without_a_tier_is_named() {
        assert_eq!(faults("helpers", &[]), 1);
    }
}
