//! Nothing in the tree knows the machine it was written on, nor where that machine gets its
//! packages.

use super::{File, Finding};

/// Taken apart, so that this file passes its own check. A registry counts as an address to fetch
/// from; as a bare host it may be what a rule looks for.
const FOREIGN: &[&str] = &[
    concat!("/work", "/main"),
    concat!("/work", "/shared"),
    concat!("/work", "/."),
    concat!("/tmp", "/ic"),
    concat!("/root", "/.cargo"),
    concat!("/root", "/.rustup"),
    concat!("://index.crates", ".io"),
    concat!("://static.crates", ".io"),
    concat!("://deb.debian", ".org"),
    concat!("://registry.npmjs", ".org"),
    concat!("://files.pythonhosted", ".org"),
    concat!("://proxy.golang", ".org"),
];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    files.iter().filter(|file| !file.path.ends_with("Cargo.lock")).flat_map(check_one).collect()
}

fn check_one(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for text in FOREIGN.iter().filter(|text| line.contains(**text)) {
            let place = format!("{}:{}", file.path, index + 1);
            findings.push(Finding::new("paths", place, format!("names `{text}`")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&[File { path: path.to_owned(), text: text.to_owned() }]).len()
    }

    #[test]
    fn a_place_of_this_machine_is_named_in_any_file() {
        for text in FOREIGN {
            assert_eq!(found("attacks/data.jsonl", &format!("x {text}/y")), 1);
            assert_eq!(found("Cargo.lock", text), 0);
        }
        assert_eq!(found("README.md", "/home/user/workspace"), 0);
        assert_eq!(found("rules.toml", concat!("//registry.npmjs", ".org/:_authToken=")), 0);
    }
}
