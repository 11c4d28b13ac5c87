//! The files with unsafe code are exactly those that ARCHITECTURE.md names.

use std::collections::BTreeSet;

use super::{Finding, files::Source, tokens};

const DOCUMENT: &str = "ARCHITECTURE.md";
const HEADING: &str = "## Unsafe";

/// `document` is the text of ARCHITECTURE.md. Its section `## Unsafe` lists one path an item, in
/// backticks, first in the item: ``- `crates/x/src/y.rs`: why``.
pub(super) fn check(sources: &[Source<'_>], document: Option<&str>) -> Vec<Finding> {
    let Some(section) = document.and_then(section) else {
        return vec![Finding::new("unsafe", DOCUMENT, format!("has no section `{HEADING}`"))];
    };
    let named: BTreeSet<&str> = section.lines().filter_map(path_of_item).collect();
    let found: BTreeSet<&str> =
        sources.iter().filter(|source| has_unsafe(source)).map(|source| source.path).collect();
    let unnamed = found
        .difference(&named)
        .map(|path| Finding::new("unsafe", *path, format!("has unsafe code that {DOCUMENT} does not name")));
    let idle = named
        .difference(&found)
        .map(|path| Finding::new("unsafe", DOCUMENT, format!("names {path}, which has no unsafe code")));
    unnamed.chain(idle).collect()
}

/// What stands between the heading and the next one of its rank.
fn section(document: &str) -> Option<&str> {
    let after = document.split_once(&format!("\n{HEADING}\n"))?.1;
    Some(after.split("\n## ").next().unwrap_or(after))
}

fn path_of_item(line: &str) -> Option<&str> {
    line.strip_prefix("- `")?.split_once('`').map(|(path, _)| path)
}

/// Blocks, functions, traits, impls, externs and attributes alike, in macros too.
fn has_unsafe(source: &Source<'_>) -> bool {
    let mut found = false;
    tokens::identifiers(&source.tokens, &mut |ident| found |= *ident == "unsafe");
    found
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;

    const NAMED: &str =
        "# A\n\n## Unsafe\nOne place:\n\n- `a.rs`: loads what we compiled\n\n## Next\n- `b.rs`\n";

    fn with_unsafe(path: &'static str) -> Source<'static> {
        fixture(path, "//! X.\nfn f() { m!(unsafe { g() }) }")
    }

    #[test]
    fn named_and_found_agree() {
        assert_eq!(check(&[with_unsafe("a.rs"), fixture("b.rs", "//! unsafe\nfn f() {}")], Some(NAMED)), []);
    }

    #[test]
    fn an_unnamed_site_is_found() {
        let found = check(&[with_unsafe("a.rs"), with_unsafe("b.rs")], Some(NAMED));
        assert_eq!(found[0].place, "b.rs");
    }

    #[test]
    fn a_name_without_a_site_is_found() {
        assert_eq!(check(&[], Some(NAMED)).len(), 1);
    }

    #[test]
    fn a_document_without_the_section_fails() {
        assert_eq!(check(&[], Some("# A\n")).len(), 1);
        assert_eq!(check(&[], None).len(), 1);
    }
}
