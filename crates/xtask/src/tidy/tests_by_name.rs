//! The tests that stand in the sources, by their full names.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::files::Source;

/// Every test, each as `crate::module::name`, and every item whose documentation must not
/// compile, as `crate::module::Item`.
#[derive(Default, Debug)]
pub(super) struct Tests {
    functions: BTreeSet<String>,
    must_not_compile: BTreeSet<String>,
}

impl Tests {
    /// True if there is a test function of that name; modules between the crate and the function
    /// may be left out.
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.functions.iter().any(|full| matches(full, name))
    }

    /// True if there is an item of that name with a `compile_fail` example.
    pub(super) fn has_must_not_compile(&self, name: &str) -> bool {
        self.must_not_compile.iter().any(|full| matches(full, name))
    }
}

/// True if `name` is `full` with some of the segments in the middle left out.
fn matches(full: &str, name: &str) -> bool {
    let (full, name): (Vec<_>, Vec<_>) = (full.split("::").collect(), name.split("::").collect());
    let mut rest = full.iter();
    name.len() > 1
        && full.first() == name.first()
        && full.last() == name.last()
        && name.iter().all(|segment| rest.any(|next| next == segment))
}

/// Finds the tests in `sources`, inside macros too.
pub(super) fn collect(sources: &[Source<'_>]) -> Tests {
    let mut tests = Tests::default();
    for source in sources {
        if let Some(module) = module_of(source.path) {
            walk(&source.tokens, &module, &mut tests);
        }
    }
    tests
}

/// `crates/x/src/a/b.rs` and `crates/x/src/a/b/mod.rs` are `x::a::b`; `crates/x/tests/c.rs` is `x::c`.
fn module_of(path: &str) -> Option<String> {
    let mut parts = path.strip_prefix("crates/")?.strip_suffix(".rs")?.split('/');
    let (name, _folder) = (parts.next()?, parts.next()?);
    let modules = parts.filter(|part| !["lib", "main", "mod"].contains(part));
    Some(std::iter::once(name).chain(modules).collect::<Vec<_>>().join("::"))
}

/// What the attributes before an item said.
#[derive(Default, Clone, Copy)]
struct Said {
    test: bool,
    must_not_compile: bool,
}

fn walk(tokens: &TokenStream, module: &str, tests: &mut Tests) {
    let mut said = Said::default();
    let mut keyword = None;
    let mut inside = None;
    let mut tokens = tokens.clone().into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == '#' => {
                let inner = tokens.next_if(|next| matches!(next, TokenTree::Punct(p) if p.as_char() == '!'));
                let Some(TokenTree::Group(attribute)) = tokens.next() else { continue };
                let now = read_attribute(&attribute.stream());
                if inner.is_some() && now.must_not_compile {
                    tests.must_not_compile.insert(module.to_owned());
                } else if inner.is_none() {
                    said.test |= now.test;
                    said.must_not_compile |= now.must_not_compile;
                }
            }
            TokenTree::Ident(word) if keyword.is_some() => {
                let full = format!("{module}::{word}");
                tests.functions.extend(said.test.then(|| full.clone()));
                tests.must_not_compile.extend(said.must_not_compile.then(|| full.clone()));
                inside = keyword.take().filter(|keyword| keyword == "mod").map(|_| full);
                said = Said::default();
            }
            TokenTree::Ident(word) if is_item(&word.to_string()) => keyword = Some(word.to_string()),
            TokenTree::Group(group) => {
                walk(&group.stream(), inside.as_deref().unwrap_or(module), tests);
                if group.delimiter() == Delimiter::Brace {
                    (said, keyword, inside) = (Said::default(), None, None);
                }
            }
            _ => {}
        }
    }
}

fn is_item(word: &str) -> bool {
    ["fn", "mod", "struct", "enum", "trait", "type"].contains(&word)
}

/// `test`, `tokio::test` and `tokio::test(...)` mark a test; documentation is `doc = "..."`.
fn read_attribute(attribute: &TokenStream) -> Said {
    let path: Vec<_> =
        attribute.clone().into_iter().take_while(|token| !matches!(token, TokenTree::Group(_))).collect();
    let last = path.last().map(ToString::to_string);
    let documents = path.first().is_some_and(|token| token.to_string() == "doc");
    Said {
        test: last.as_deref() == Some("test"),
        must_not_compile: documents && attribute.to_string().contains("```compile_fail"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::files::fixture;
    use super::*;

    const TEXT: &str = "//! X.
        /// Sealed.
        /// ```compile_fail
        /// let x = Permit {};
        /// ```
        pub struct Permit;
        fn helper() {}
        mod tests {
            #[test] fn plain() {}
            #[tokio::test(flavor = \"current_thread\")] async fn waits() {}
            proptest! { #[test] fn holds(x in 0..9) {} }
            #[cfg(test)] fn not_a_test() {}
        }";

    fn tests() -> Tests {
        collect(&[
            fixture("crates/policy/src/permit.rs", TEXT),
            fixture("crates/policy/tests/all.rs", "#[test] fn story() {}"),
        ])
    }

    #[test]
    fn tests_are_found_in_modules_and_macros() {
        for name in ["plain", "waits", "holds"] {
            assert!(tests().has_function(&format!("policy::permit::tests::{name}")), "{name}");
            assert!(tests().has_function(&format!("policy::permit::{name}")), "{name}");
        }
        assert!(tests().has_function("policy::all::story"));
    }

    #[test]
    fn what_is_no_test_or_stands_elsewhere_is_not_found() {
        for name in ["policy::helper", "policy::not_a_test", "egress::plain", "policy::turn::plain", "plain"]
        {
            assert!(!tests().has_function(name), "{name}");
        }
    }

    #[test]
    fn an_item_with_an_example_that_must_not_compile_is_found() {
        assert!(tests().has_must_not_compile("policy::permit::Permit"));
        assert!(!tests().has_must_not_compile("policy::permit::helper"));
    }
}
