//! A lint is silenced only with a reason beside it.

use proc_macro2::{TokenStream, TokenTree};

use super::{Finding, files::Source, tokens};

pub(super) fn check(sources: &[Source<'_>]) -> Vec<Finding> {
    sources.iter().flat_map(check_one).collect()
}

fn check_one(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    tokens::attributes(&source.tokens, &mut |attribute| {
        silenced(attribute, &mut |name, line| {
            let place = format!("{}:{line}", source.path);
            findings.push(Finding::new("allows", place, format!("`{name}` without `reason = \"...\"`")));
        });
    });
    findings
}

/// Calls `found` for each `allow(...)` or `expect(...)` without a reason, also inside `cfg_attr`.
fn silenced(attribute: &TokenStream, found: &mut dyn FnMut(&str, usize)) {
    let mut last = None;
    for token in attribute.clone() {
        match token {
            TokenTree::Ident(ident) => last = Some(ident),
            TokenTree::Group(group) => match last.take() {
                Some(name) if name == "allow" || name == "expect" => {
                    if !has_reason(&group.stream()) {
                        found(&name.to_string(), name.span().start().line);
                    }
                }
                _ => silenced(&group.stream(), found),
            },
            _ => last = None,
        }
    }
}

fn has_reason(arguments: &TokenStream) -> bool {
    arguments.clone().into_iter().any(|token| matches!(token, TokenTree::Ident(name) if name == "reason"))
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;

    #[test]
    fn a_reason_passes() {
        let text =
            "//! X.\n#![allow(a, reason = \"b\")]\n#[expect(c, reason = \"d\")]\nfn f() { x.expect(\"e\"); }";
        assert_eq!(check(&[fixture("a.rs", text)]), []);
    }

    #[test]
    fn a_silenced_lint_without_one_is_named_with_its_line() {
        for text in [
            "//! X.\n#[allow(a)]\nfn f() {}",
            "//! X.\n#![allow(a::b)]",
            "//! X.\n#[expect(a)] fn f() {}",
            "//! X.\n#[cfg_attr(test, allow(a))] fn f() {}",
            "//! X.\nmacro_rules! m { () => { #[allow(a)] fn f() {} } }",
        ] {
            let found = check(&[fixture("a.rs", text)]);
            assert_eq!(found.len(), 1, "{text}");
            assert_eq!(found[0].place, "a.rs:2", "{text}");
        }
    }
}
