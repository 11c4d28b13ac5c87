//! Words that mark unfinished work do not reach the tree.

use super::{File, Finding};

/// Taken apart, so that this file passes its own check.
const UNFINISHED: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

/// What people write. Data (attack texts, corpora, lock files) may hold any word.
const WRITTEN: &[&str] = &["rs", "toml", "md", "sh", "wit", "cedar", "c", "wat", "py", "patch"];

pub(super) fn check(files: &[File]) -> Vec<Finding> {
    files.iter().filter(|file| is_written(&file.path)).flat_map(check_one).collect()
}

/// Scripts have no extension.
fn is_written(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').is_none_or(|(_, extension)| WRITTEN.contains(&extension))
}

fn check_one(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for word in UNFINISHED.iter().filter(|word| has_word(line, word)) {
            let place = format!("{}:{}", file.path, index + 1);
            findings.push(Finding::new("words", place, format!("says `{word}`: finish it or file it")));
        }
    }
    findings
}

/// True if `word` stands in `line` with no letter, digit or underscore on either side.
fn has_word(line: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(joins) && !line[at + word.len()..].starts_with(joins))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> usize {
        check(&[File { path: path.to_owned(), text: text.to_owned() }]).len()
    }

    #[test]
    fn every_unfinished_word_is_named_where_people_write() {
        for word in UNFINISHED {
            assert_eq!(found("crates/x/src/a.rs", &format!("// {word}: later")), 1);
            assert_eq!(found("scripts/test", &format!("# {word}")), 1);
            assert_eq!(found("attacks/p01.txt", word), 0);
        }
    }

    #[test]
    fn a_longer_word_is_another_word() {
        assert_eq!(found("README.md", concat!("sk-XX", "XX and TO", "DOS")), 0);
    }
}
