//! A patch file: a few `key: value` lines, then a diff.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// One way to take a layer away.
#[derive(Debug)]
pub(super) struct Patch {
    /// The file's name without its extension.
    pub(super) name: String,
    pub(super) file: PathBuf,
    /// The layer that is gone once the patch is applied, in the words of `types::Layer`.
    pub(super) layer: String,
    pub(super) expect: Expect,
    pub(super) test: TestName,
}

/// What must happen once the patch is applied.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Expect {
    /// The package with its tests does not build, and the compiler says this (`E0382`, say): a
    /// build that fails for another reason proves nothing.
    BuildFails { error: String },
    /// The test builds, runs, and fails or does not end.
    TestFails,
}

/// The test that notices.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct TestName {
    /// The integration test target that holds it: one name in the whole workspace.
    pub(super) target: String,
    /// As libtest takes it: a part of the test's name.
    pub(super) filter: String,
}

impl fmt::Display for TestName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.target, self.filter)
    }
}

/// Reads every `*.patch` in `folder`, in order of name.
pub(super) fn read_all(folder: &Path) -> anyhow::Result<Vec<Patch>> {
    let mut patches = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "patch") {
            let text = std::fs::read_to_string(&file)?;
            patches.push(parse(&file, &text).with_context(|| format!("the head of {}", file.display()))?);
        }
    }
    patches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(patches)
}

/// The head ends where the diff begins. Its keys are `layer`, `expect`, `test` and, where the
/// build fails, `error`; a line that starts with `#` tells the reader why.
fn parse(file: &Path, text: &str) -> anyhow::Result<Patch> {
    let head: Vec<_> = text
        .lines()
        .take_while(|line| !line.starts_with("diff ") && !line.starts_with("--- "))
        .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(": ").with_context(|| format!("`{line}` is not `key: value`")))
        .collect::<anyhow::Result<_>>()?;
    if let Some((key, _)) = head.iter().find(|(key, _)| !["layer", "expect", "test", "error"].contains(key)) {
        anyhow::bail!("`{key}` is none of layer, expect, test, error");
    }
    let value = |wanted: &str| {
        let found = head.iter().find(|(key, _)| *key == wanted);
        found.map(|(_, value)| value.trim()).with_context(|| format!("no `{wanted}: ...`"))
    };
    let expect = match value("expect")? {
        "build-fails" => Expect::BuildFails { error: value("error")?.to_owned() },
        "test-fails" => Expect::TestFails,
        other => anyhow::bail!("`expect: {other}` is neither build-fails nor test-fails"),
    };
    let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Patch {
        name,
        file: file.to_owned(),
        layer: value("layer")?.to_owned(),
        expect,
        test: test(value("test")?)?,
    })
}

/// `target filter`.
fn test(value: &str) -> anyhow::Result<TestName> {
    let (target, filter) =
        value.split_once(' ').with_context(|| format!("`test: {value}` is not `target filter`"))?;
    Ok(TestName { target: target.to_owned(), filter: filter.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "# Why.\nlayer: wasm\nexpect: test-fails\ntest: wasm w01_\n\ndiff --git a/x b/x\nnot: a head\n";

    #[test]
    fn a_head_ends_where_the_diff_begins() {
        let patch = parse(Path::new("breaks/no-fuel.patch"), HEAD).unwrap();
        assert_eq!((patch.name.as_str(), patch.layer.as_str()), ("no-fuel", "wasm"));
        assert_eq!(patch.expect, Expect::TestFails);
        assert_eq!(patch.test.to_string(), "wasm w01_");
    }

    #[test]
    fn a_build_that_fails_names_the_compilers_error() {
        let head = HEAD.replace("test-fails", "build-fails");
        assert!(parse(Path::new("a.patch"), &head).is_err());
        let patch = parse(Path::new("a.patch"), &format!("error: E0382\n{head}")).unwrap();
        assert_eq!(patch.expect, Expect::BuildFails { error: "E0382".to_owned() });
    }

    #[test]
    fn a_head_that_cannot_be_understood_is_refused() {
        for (from, to) in [
            ("layer: wasm\n", ""),
            ("test-fails", "fails"),
            ("w01_", ""),
            ("layer", "level"),
            ("layer: ", "layer "),
        ] {
            assert!(parse(Path::new("a.patch"), &HEAD.replacen(from, to, 1)).is_err(), "{from} -> {to}");
        }
    }
}
