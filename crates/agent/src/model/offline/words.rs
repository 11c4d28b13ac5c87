//! Words of a request and of a tool's description, reduced until they can be compared.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use super::unspaced;

/// A run of characters between white space, without the punctuation around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk<'a> {
    /// The text.
    pub(super) text: &'a str,
    /// Where it stands in the request.
    pub(super) span: Range<usize>,
    /// A comma, colon or full stop follows: what comes next is not part of the same phrase.
    pub(super) ends_phrase: bool,
}

impl Chunk<'_> {
    /// True when it begins with a capital letter.
    pub(super) fn is_capitalised(&self) -> bool {
        self.text.chars().next().is_some_and(char::is_uppercase)
    }

    /// In lower case, without a possessive ending.
    pub(super) fn plain(&self) -> String {
        let lower = self.text.to_lowercase();
        without_possessive(&lower).to_owned()
    }
}

/// The chunks of a text, in order.
pub(super) fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let mut chunks = Vec::new();
    let mut at = 0;
    for piece in text.split(char::is_whitespace) {
        let start = at;
        at += piece.len() + text[at + piece.len()..].chars().next().map_or(0, char::len_utf8);
        let opened = piece.trim_start_matches(['"', '\'', '`', '(', '[', '{', '<', '\u{201c}', '\u{2018}']);
        let closing = |c: char| "\"'`)]}>,;:!?.\u{201d}\u{2019}".contains(c);
        let inner = opened.trim_end_matches(closing);
        if inner.is_empty() {
            continue;
        }
        let from = start + piece.len() - opened.len();
        let ends_phrase = opened[inner.len()..].contains([',', ';', ':', '!', '?', '.']);
        chunks.push(Chunk { text: inner, span: from..from + inner.len(), ends_phrase });
    }
    chunks
}

/// The distinct stems of a text that say something, in order of appearance. Names in `snake_case`,
/// `kebab-case` and `camelCase` fall into their words.
pub(super) fn stems(text: &str) -> Vec<String> {
    let mut stems = Vec::new();
    let mut word = String::new();
    let mut after_lower = false;
    for c in text.chars().chain([' ']) {
        let joins = c.is_alphanumeric() || is_apostrophe(c);
        if !joins || (after_lower && c.is_uppercase()) {
            push_stem(&mut stems, &std::mem::take(&mut word));
        }
        if joins {
            word.extend(if is_apostrophe(c) { '\''.to_lowercase() } else { c.to_lowercase() });
        }
        after_lower = c.is_lowercase();
    }
    stems
}

fn push_stem(stems: &mut Vec<String>, word: &str) {
    let word = without_possessive(word.trim_matches('\''));
    if word.is_empty() || is_stop_word(word) {
        return;
    }
    if let Some(pairs) = unspaced::pairs(word) {
        stems.extend(pairs.into_iter().filter(|pair| !stems.contains(pair)).collect::<Vec<_>>());
        return;
    }
    let stem = verb_class(&stem(word)).to_owned();
    if !stems.contains(&stem) {
        stems.push(stem);
    }
}

fn is_apostrophe(c: char) -> bool {
    matches!(c, '\'' | '\u{2019}')
}

fn without_possessive(word: &str) -> &str {
    word.strip_suffix("'s").or_else(|| word.strip_suffix("\u{2019}s")).unwrap_or(word)
}

/// Cuts the endings of plurals and verb forms. Both sides of a comparison are cut the same way, so the
/// stem need not be a word.
pub(super) fn stem(word: &str) -> String {
    let cut = |ending: &str| word.strip_suffix(ending).filter(|rest| rest.chars().count() >= 3);
    let hisses = |rest: &&str| ["s", "x", "sh", "ch"].iter().any(|end| rest.ends_with(end));
    if let Some(rest) = cut("ies") {
        return format!("{rest}y");
    }
    let base = if let Some(rest) = cut("ing").or_else(|| cut("ed")) {
        undouble(rest)
    } else if let Some(rest) = cut("es").filter(hisses) {
        rest
    } else if let Some(rest) = cut("s").filter(|rest| !rest.ends_with(['s', 'u', 'i'])) {
        rest
    } else {
        word
    };
    // "write" and "writ(ing)" meet without the last e.
    base.strip_suffix('e').filter(|rest| rest.chars().count() >= 3).unwrap_or(base).to_owned()
}

/// "runn" becomes "run".
fn undouble(word: &str) -> &str {
    let mut back = word.chars().rev();
    match (back.next(), back.next()) {
        (Some(last), Some(before)) if last == before && !"aeiouls".contains(last) => {
            &word[..word.len() - last.len_utf8()]
        }
        _ => word,
    }
}

/// Verbs that people use for one another when they speak of files and lists.
fn verb_class(stem: &str) -> &str {
    match stem {
        "view" | "show" | "display" | "open" | "print" | "cat" => "read",
        "sav" | "stor" | "creat" => "writ",
        "enumerat" | "ls" => "list",
        "delet" | "eras" => "remov",
        "lookup" | "seek" => "search",
        "directory" | "dir" => "folder",
        other => other,
    }
}

/// Words that say nothing about which tool is meant.
const STOP_WORDS: &str = "\
    a about all also am an and any are as at be but by can check could do does for from get give go \
    good has have hello her here hey hi him his how i if in into is it its just kindly know let like \
    look may me much my need now of off on one or our out over please right see shall should so some \
    tell thank thanks that the their them then there these they this those to today tomorrow tonight \
    too under up us use using want was we were what when where which who will with would yesterday you \
    your what's it's let's i'd i'm don't can't";

pub(super) fn is_stop_word(word: &str) -> bool {
    static WORDS: LazyLock<HashSet<&str>> = LazyLock::new(|| STOP_WORDS.split(' ').collect());
    WORDS.contains(word)
}

/// Words that many descriptions hold and that alone do not choose a tool.
pub(super) fn is_generic(stem: &str) -> bool {
    const GENERIC: &[&str] = &[
        "current",
        "data",
        "given",
        "info",
        "information",
        "latest",
        "nam",
        "new",
        "provid",
        "result",
        "return",
        "string",
        "tool",
        "typ",
        "valu",
    ];
    GENERIC.contains(&stem)
}

/// Words after which a place name or another short phrase is over.
pub(super) fn ends_a_phrase(word: &str) -> bool {
    is_stop_word(word)
        || ["next", "week", "weekend", "currently", "immediately", "soon", "again", "instead"].contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_meet() {
        for (one, other) in [
            ("reads", "reading"),
            ("files", "file"),
            ("cities", "city"),
            ("contents", "content"),
            ("writes", "writing"),
            ("listed", "lists"),
            ("running", "run"),
            ("notes", "noted"),
            ("searches", "search"),
            ("boxes", "box"),
        ] {
            assert_eq!(stem(one), stem(other), "{one} {other}");
        }
        assert_ne!(stem("weather"), stem("whether"));
    }

    #[test]
    fn names_fall_into_words() {
        assert_eq!(stems("read_file listDir evil-loop"), ["read", "fil", "list", "folder", "evil", "loop"]);
        assert_eq!(stems("Please check today's weather in Beijing"), ["weather", "beij"]);
    }

    #[test]
    fn chunks_keep_their_place() {
        let text = "  view (the) \"README.md\", then .env. ";
        let chunks = chunks(text);
        assert_eq!(
            chunks.iter().map(|chunk| chunk.text).collect::<Vec<_>>(),
            ["view", "the", "README.md", "then", ".env"]
        );
        assert!(chunks.iter().all(|chunk| &text[chunk.span.clone()] == chunk.text));
        assert!(chunks[2].ends_phrase && !chunks[3].ends_phrase);
    }
}
