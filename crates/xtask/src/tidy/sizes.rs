//! Long files and functions are named, so that growth is a decision.

use proc_macro2::Span;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::{Finding, files::Source};

/// The longest Rust file, in lines, its tests included: what a reviewer holds in one sitting.
/// Admired code bases keep nine files of ten under 400 to 600.
const MAX_FILE_LINES: usize = 600;

/// The longest function, in lines from its signature to its last brace: one screen.
const MAX_FUNCTION_LINES: usize = 60;

/// The longest function in a `tests` folder: a story told from end to end does not branch, and
/// cutting it in two hides what the second half stands on.
const MAX_TEST_FUNCTION_LINES: usize = 100;

pub(super) fn check(sources: &[Source<'_>]) -> Vec<Finding> {
    sources.iter().flat_map(check_one).collect()
}

fn check_one(source: &Source<'_>) -> Vec<Finding> {
    let bound = if source.is_test() { MAX_TEST_FUNCTION_LINES } else { MAX_FUNCTION_LINES };
    let mut functions = Functions { path: source.path, bound, findings: Vec::new() };
    functions.visit_file(&source.syntax);
    let lines = source.text.lines().count();
    if lines > MAX_FILE_LINES {
        let message = format!("has {lines} lines, more than {MAX_FILE_LINES}");
        functions.findings.push(Finding::new("sizes", source.path, message));
    }
    functions.findings
}

struct Functions<'a> {
    path: &'a str,
    bound: usize,
    findings: Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &syn::Signature, end: Span) {
        let first = signature.span().start().line;
        let lines = end.end().line + 1 - first;
        if lines > self.bound {
            let place = format!("{}:{first}", self.path);
            let message = format!("`{}` has {lines} lines, more than {}", signature.ident, self.bound);
            self.findings.push(Finding::new("sizes", place, message));
        }
    }
}

impl Visit<'_> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &syn::ItemFn) {
        self.measure(&function.sig, function.block.span());
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &syn::ImplItemFn) {
        self.measure(&function.sig, function.block.span());
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block.span());
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose one function, inside `around`, has `lines` lines.
    fn findings(path: &str, around: (&str, &str), lines: usize) -> Vec<Finding> {
        let body = "    f();\n".repeat(lines - 2);
        let text = format!("//! Fixture.\n{}fn f() {{\n{body}}}\n{}", around.0, around.1);
        check(&[Source::parse(path, &text).unwrap()])
    }

    #[test]
    fn the_bound_is_the_last_length_that_passes() {
        for around in [("", ""), ("impl X {\n", "}"), ("trait X {\n", "}"), ("mod m {\n", "}")] {
            assert_eq!(findings("src/a.rs", around, MAX_FUNCTION_LINES), []);
            let found = findings("src/a.rs", around, MAX_FUNCTION_LINES + 1);
            assert!(found[0].message.starts_with("`f` has 61 lines"), "{found:?}");
        }
    }

    #[test]
    fn a_story_under_tests_may_be_longer() {
        assert_eq!(findings("x/tests/a.rs", ("", ""), MAX_TEST_FUNCTION_LINES), []);
        assert_eq!(findings("x/tests/a.rs", ("", ""), MAX_TEST_FUNCTION_LINES + 1).len(), 1);
    }

    #[test]
    fn a_long_file_is_named() {
        let text = "//! Fixture.\n".repeat(MAX_FILE_LINES + 1);
        assert_eq!(check(&[Source::parse("a.rs", &text).unwrap()]).len(), 1);
    }
}
