//! Every promise in SPECIFICATION.md names the test that holds it, or says that none does.

use super::{Finding, tests_by_name::Tests};

const DOCUMENT: &str = "SPECIFICATION.md";

/// `document` is the text of SPECIFICATION.md. A promise is a list item; it holds at least one
/// of `test: crate::path::name`, `compile_fail: crate::path::Item` and the word `untested`.
pub(super) fn check(tests: &Tests, document: Option<&str>) -> Vec<Finding> {
    let Some(document) = document else {
        return vec![Finding::new("promises", DOCUMENT, "is missing")];
    };
    promises(document).flat_map(|(line, promise)| check_one(tests, line, &promise)).collect()
}

/// List items outside code blocks, each with its line and its continuation lines joined.
fn promises(document: &str) -> impl Iterator<Item = (usize, String)> {
    let mut items: Vec<(usize, String)> = Vec::new();
    let (mut open, mut fenced) = (false, false);
    for (index, line) in document.lines().enumerate() {
        fenced ^= line.trim_start().starts_with("```");
        let starts = !fenced && is_item(line);
        open = starts || (open && !fenced && line.starts_with(' '));
        match items.last_mut() {
            _ if starts => items.push((index + 1, line.to_owned())),
            Some((_, text)) if open => text.extend([" ", line.trim()]),
            _ => {}
        }
    }
    items.into_iter()
}

/// `- text` or `12. text`, at any depth.
fn is_item(line: &str) -> bool {
    let line = line.trim_start();
    let numbered = line.trim_start_matches(|c: char| c.is_ascii_digit());
    line.starts_with("- ") || (numbered.len() < line.len() && numbered.starts_with(". "))
}

fn check_one(tests: &Tests, line: usize, promise: &str) -> Vec<Finding> {
    let functions: Vec<_> = names_after(promise, "test: ").collect();
    let items: Vec<_> = names_after(promise, "compile_fail: ").collect();
    let place = format!("{DOCUMENT}:{line}");
    if functions.is_empty() && items.is_empty() {
        let silent = !promise.contains("untested");
        let message = "promises without a test; name one or say `untested`";
        return silent.then(|| Finding::new("promises", place, message)).into_iter().collect();
    }
    let missing = functions
        .into_iter()
        .filter(|name| !tests.has_function(name))
        .map(|name| format!("names the test {name}, which does not exist"));
    let compiling = items
        .into_iter()
        .filter(|name| !tests.has_must_not_compile(name))
        .map(|name| format!("names {name}, which has no example that must not compile"));
    missing.chain(compiling).map(|message| Finding::new("promises", &place, message)).collect()
}

/// The names that follow each `key` in `text`.
fn names_after<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(key).skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(rest.len());
        rest[..end].trim_end_matches(':')
    })
}

#[cfg(test)]
mod tests {
    use super::super::{files::fixture, tests_by_name::collect};
    use super::*;

    fn found(document: &str) -> Vec<String> {
        let text = "//! X.\n/// ```compile_fail\n/// ```\nstruct Permit; #[test] fn refused() {}";
        let tests = collect(&[fixture("crates/policy/src/rules.rs", text)]);
        check(&tests, Some(document)).into_iter().map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn a_promise_with_its_test_passes() {
        assert_eq!(
            found("1. No effect\n   without a permit. `test: policy::rules::refused`, and\n"),
            [""; 0]
        );
        assert_eq!(found("- One use. (compile_fail: policy::rules::Permit)\n"), [""; 0]);
        assert_eq!(found("- On macOS: untested.\n\nWords between items.\n"), [""; 0]);
    }

    #[test]
    fn a_missing_test_is_named_with_its_line() {
        let found = found("# S\n- Held. test: policy::rules::refused, test: policy::rules::gone\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("SPECIFICATION.md:2") && found[0].contains("policy::rules::gone"));
    }

    #[test]
    fn a_promise_without_a_test_is_named() {
        assert_eq!(found("- We try hard.\n").len(), 1);
        assert_eq!(found("  2. We try harder.\n").len(), 1);
    }

    #[test]
    fn an_item_that_compiles_is_named() {
        assert_eq!(found("- Sealed. compile_fail: policy::rules::refused\n").len(), 1);
    }

    #[test]
    fn a_document_that_is_missing_fails() {
        assert_eq!(check(&Tests::default(), None).len(), 1);
    }
}
