//! Every Rust file says in its first line what it is for.

use super::{Finding, files::Source};

pub(super) fn check(sources: &[Source<'_>]) -> Vec<Finding> {
    sources
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| Finding::new("headers", source.path, "does not open with `//!`"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;

    #[test]
    fn a_file_opens_with_its_purpose() {
        assert_eq!(check(&[fixture("a.rs", "//! Says why.\nfn f() {}")]), []);
        assert_eq!(check(&[fixture("a.rs", "// Not a module doc.\nfn f() {}")]).len(), 1);
        assert_eq!(check(&[fixture("a.rs", "//!\nfn f() {}")]).len(), 1);
    }
}
