//! Phrases of a request: quoted parts, file names, places, what follows a colon.

use std::ops::Range;

use super::words::{self, Chunk};

/// Words that name a parameter for running text.
pub(super) const TEXT_WORDS: [&str; 13] = [
    "text", "content", "body", "message", "note", "sentence", "phrase", "query", "question", "title",
    "subject", "line", "keyword",
];

/// Words before a place: the ones that are nearly always about a place come first.
const PREPOSITIONS: [&str; 8] = ["in", "at", "near", "for", "of", "from", "to", "about"];

/// Words inside a capitalised name: Rio de Janeiro, Isle of Man.
const CONNECTORS: [&str; 9] = ["de", "del", "la", "le", "les", "of", "and", "upon", "am"];

/// The longest name of a place in words.
const MAX_NAME: usize = 5;

/// A clause of a request, with the parts that already went into an argument.
pub(super) struct Text<'a> {
    /// The clause.
    pub(super) whole: &'a str,
    /// A file name was found.
    pub(super) found_path: bool,
    chunks: Vec<Chunk<'a>>,
    used: Vec<Range<usize>>,
    about_tool: &'a dyn Fn(&str) -> bool,
}

impl<'a> Text<'a> {
    pub(super) fn new(whole: &'a str, about_tool: &'a dyn Fn(&str) -> bool) -> Self {
        Self { whole, found_path: false, chunks: words::chunks(whole), used: Vec::new(), about_tool }
    }

    /// The parts that went into arguments.
    pub(super) fn used(&self) -> Vec<&'a str> {
        self.used.iter().map(|span| &self.whole[span.clone()]).collect()
    }

    /// What stands between quotation marks.
    pub(super) fn quoted(&mut self) -> Option<String> {
        let spans = quoted_spans(self.whole);
        let free = spans.into_iter().find(|span| !self.overlaps(span))?;
        Some(self.take(free))
    }

    /// What follows a colon and a space.
    pub(super) fn after_colon(&mut self) -> Option<String> {
        let from = self.whole.find(": ").map(|at| at + 2)?;
        self.trimmed(from..self.whole.len())
    }

    /// Something that looks like the name of a file or folder.
    pub(super) fn path(&mut self) -> Option<String> {
        let looks = self.free().find(|chunk| looks_like_path(chunk.text)).map(|chunk| chunk.span.clone());
        let named = || {
            let pairs = self.chunks.windows(2).filter(|pair| !pair[0].ends_phrase);
            let mut spans =
                pairs.filter_map(|pair| match (pair[0].plain().as_str(), pair[1].plain().as_str()) {
                    ("file" | "folder" | "directory" | "called" | "named", after) if is_bare_name(after) => {
                        Some(pair[1].span.clone())
                    }
                    (before, "folder" | "directory")
                        if is_bare_name(before) && !(self.about_tool)(&words::stem(before)) =>
                    {
                        Some(pair[0].span.clone())
                    }
                    _ => None,
                });
            spans.find(|span| !self.overlaps(span))
        };
        let span = looks.or_else(named)?;
        self.found_path = true;
        Some(self.take(span))
    }

    /// `in src`, for a tool that works on a folder.
    pub(super) fn folder_after_preposition(&mut self) -> Option<String> {
        let pairs = self.chunks.windows(2).filter(|pair| !pair[0].ends_phrase);
        let mut spans = pairs
            .filter(|pair| matches!(pair[0].plain().as_str(), "in" | "inside" | "under" | "of"))
            .filter(|pair| {
                is_bare_name(&pair[1].plain()) && !(self.about_tool)(&words::stem(&pair[1].plain()))
            })
            .map(|pair| pair[1].span.clone());
        let span = spans.find(|span| !self.overlaps(span))?;
        Some(self.take(span))
    }

    /// A URL or an address of mail.
    pub(super) fn address(&mut self) -> Option<String> {
        let is_address = |text: &str| {
            text.contains("://") || text.find('@').is_some_and(|at| at > 0 && text[at..].contains('.'))
        };
        let span = self.free().find(|chunk| is_address(chunk.text))?.span.clone();
        Some(self.take(span))
    }

    /// The name of a place: after a preposition, before a possessive, or any capitalised name.
    pub(super) fn place(&mut self) -> Option<String> {
        let span = self.after_preposition(true).or_else(|| self.possessor()).or_else(|| self.capitalised());
        let span = span.or_else(|| self.after_preposition(false))?;
        Some(self.take(span))
    }

    /// A number in digits.
    pub(super) fn number(&mut self) -> Option<f64> {
        let (span, number) = self.free().find_map(|chunk| {
            let number =
                chunk.text.trim_end_matches('%').parse::<f64>().ok().filter(|number| number.is_finite());
            let digits = chunk.text.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+');
            number.filter(|_| digits).map(|number| (chunk.span.clone(), number))
        })?;
        self.take(span);
        Some(number)
    }

    /// Words without a meaning of their own beside a word about the tool: "weather beijing".
    pub(super) fn neighbour(&mut self) -> Option<String> {
        let tells = |chunk: &Chunk<'_>| words::stems(chunk.text).iter().any(|stem| (self.about_tool)(stem));
        let at = (0..self.chunks.len()).find(|at| tells(&self.chunks[*at]))?;
        let plain = |chunk: &Chunk<'_>| {
            !tells(chunk) && !words::ends_a_phrase(&chunk.plain()) && !self.overlaps(&chunk.span)
        };
        let after = self.chunks[at + 1..].iter().take_while(|chunk| plain(chunk)).count();
        let before = self.chunks[..at].iter().rev().take_while(|chunk| plain(chunk)).count();
        let run = match (after, before) {
            (1.., _) if !self.chunks[at].ends_phrase => at + 1..at + 1 + after.min(MAX_NAME),
            (_, 1..) => at - before.min(MAX_NAME)..at,
            _ => return None,
        };
        let span = self.chunks[run.start].span.start..self.chunks[run.end - 1].span.end;
        Some(self.take(span))
    }

    /// Everything after the last word about the tool.
    pub(super) fn rest(&mut self) -> Option<String> {
        let tells = |chunk: &&Chunk<'_>| words::stems(chunk.text).iter().any(|stem| (self.about_tool)(stem));
        let from = self.chunks.iter().find(tells).map_or(0, |chunk| chunk.span.end);
        let says = |chunk: &Chunk<'_>| {
            chunk.span.start >= from && !words::stems(chunk.text).is_empty() && !self.overlaps(&chunk.span)
        };
        let start = self.chunks.iter().find(|chunk| says(chunk))?.span.start;
        let end = self
            .used
            .iter()
            .map(|span| span.start)
            .filter(|end| *end > start)
            .min()
            .unwrap_or(self.whole.len());
        self.trimmed(start..end)
    }

    fn after_preposition(&self, capitalised: bool) -> Option<Range<usize>> {
        PREPOSITIONS.iter().find_map(|preposition| {
            let places = self
                .chunks
                .iter()
                .enumerate()
                .filter(|(_, chunk)| !chunk.ends_phrase && chunk.text.eq_ignore_ascii_case(preposition));
            places.map(|(at, _)| at + 1).find_map(|at| {
                // "in the Hague" and "in the city of Paris" name what follows.
                let skipped = self.chunks[at..]
                    .iter()
                    .take_while(|chunk| matches!(chunk.plain().as_str(), "the" | "a" | "an"))
                    .count();
                self.name_at(at + skipped)
                    .filter(|_| self.chunks[at + skipped].is_capitalised() == capitalised)
            })
        })
    }

    /// "Beijing's weather"
    fn possessor(&self) -> Option<Range<usize>> {
        let ending = |text: &str| {
            ["'s", "\u{2019}s"].iter().find(|ending| text.ends_with(**ending)).map(|ending| ending.len())
        };
        let owner = self.free().find(|chunk| {
            chunk.is_capitalised() && ending(chunk.text).is_some() && self.can_be_name(chunk)
        })?;
        Some(owner.span.start..owner.span.end - ending(owner.text)?)
    }

    /// A capitalised name that is neither a word about the tool nor just the first of a sentence.
    fn capitalised(&self) -> Option<Range<usize>> {
        (0..self.chunks.len())
            .filter(|at| self.chunks[*at].is_capitalised())
            .filter(|at| *at > 0 || self.chunks.len() <= 3)
            .find_map(|at| self.name_at(at))
    }

    /// The name that begins at a chunk: a capitalised one ends at the first small word, another at the
    /// first word that ends a phrase.
    fn name_at(&self, at: usize) -> Option<Range<usize>> {
        let first = self.chunks.get(at).filter(|chunk| self.can_be_name(chunk))?;
        let mut last = at;
        while last - at + 1 < MAX_NAME && !self.chunks[last].ends_phrase {
            let Some(next) = self.chunks.get(last + 1) else { break };
            let connects = CONNECTORS.contains(&next.text)
                && !next.ends_phrase
                && self
                    .chunks
                    .get(last + 2)
                    .is_some_and(|after| after.is_capitalised() && self.can_be_name(after));
            let goes_on = self.can_be_name(next) && (next.is_capitalised() || !first.is_capitalised());
            match () {
                () if goes_on => last += 1,
                () if first.is_capitalised() && connects => last += 2,
                () => break,
            }
        }
        Some(first.span.start..self.chunks[last].span.end)
    }

    fn can_be_name(&self, chunk: &Chunk<'_>) -> bool {
        let letters = chunk.text.chars().next().is_some_and(char::is_alphabetic);
        let about = words::stems(chunk.text).iter().any(|stem| (self.about_tool)(stem));
        letters
            && !about
            && !words::ends_a_phrase(&chunk.plain())
            && !is_file_name(chunk.text)
            && !self.overlaps(&chunk.span)
    }

    fn free(&self) -> impl Iterator<Item = &Chunk<'a>> {
        self.chunks.iter().filter(|chunk| !self.overlaps(&chunk.span))
    }

    fn overlaps(&self, span: &Range<usize>) -> bool {
        self.used.iter().any(|used| used.start < span.end && span.start < used.end)
    }

    fn take(&mut self, span: Range<usize>) -> String {
        self.used.push(span.clone());
        self.whole[span].to_owned()
    }

    fn trimmed(&mut self, span: Range<usize>) -> Option<String> {
        let text = &self.whole[span.clone()];
        let start = span.start + text.len() - text.trim_start().len();
        let end = start + text.trim().len();
        let taken = (start..end, start < end);
        (taken.1 && !self.overlaps(&taken.0)).then(|| self.take(taken.0))
    }
}

/// The insides of quotation marks. An apostrophe inside a word opens nothing.
pub(super) fn quoted_spans(text: &str) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut open: Option<(char, usize)> = None;
    let mut before = ' ';
    for (at, c) in text.char_indices() {
        match open {
            Some((close, from))
                if c == close && !continues_word(close, text[at + c.len_utf8()..].chars().next()) =>
            {
                if from < at {
                    spans.push(from..at);
                }
                open = None;
            }
            Some(_) => {}
            // A corner bracket opens wherever it stands; an apostrophe does not inside a word.
            None if !before.is_alphanumeric() || matches!(c, '\u{300a}' | '\u{300c}' | '\u{300e}') => {
                open = closing_mark(c).map(|close| (close, at + c.len_utf8()))
            }
            None => {}
        }
        before = c;
    }
    spans
}

fn closing_mark(c: char) -> Option<char> {
    match c {
        '"' | '\'' | '`' => Some(c),
        '\u{201c}' => Some('\u{201d}'),
        '\u{2018}' => Some('\u{2019}'),
        '\u{ab}' => Some('\u{bb}'),
        '\u{300a}' => Some('\u{300b}'),
        '\u{300c}' => Some('\u{300d}'),
        '\u{300e}' => Some('\u{300f}'),
        _ => None,
    }
}

/// The apostrophe in "don't" does not close what a single quotation mark opened.
fn continues_word(close: char, next: Option<char>) -> bool {
    matches!(close, '\'' | '\u{2019}') && next.is_some_and(char::is_alphanumeric)
}

/// A file name, or a word in capitals as `README` is one. In a request for a file that is one too.
fn looks_like_path(text: &str) -> bool {
    let capitals = |c: char| c.is_ascii_uppercase() || c == '_' || c == '-';
    is_file_name(text)
        || text.len() >= 4 && text.starts_with(|c: char| c.is_ascii_uppercase()) && text.chars().all(capitals)
}

/// `.env`, `notes/x.md`, `Makefile`
fn is_file_name(text: &str) -> bool {
    if text.contains("://") || text.contains('@') {
        return false;
    }
    let letters = |text: &str| text.chars().any(char::is_alphabetic);
    let dotted = text.rsplit_once('.').is_some_and(|(stem, ending)| {
        let hidden = stem.is_empty() || stem.ends_with('/');
        let length = if hidden { 1..=40 } else { 1..=8 };
        // U.S, a.m
        let abbreviation = !hidden && text.split('.').all(|part| part.chars().count() == 1);
        length.contains(&ending.len())
            && letters(ending)
            && ending.chars().all(|c| c.is_alphanumeric() || "-_".contains(c))
            && !abbreviation
    });
    let known =
        ["makefile", "dockerfile", "justfile", "procfile", "gemfile"].contains(&text.to_lowercase().as_str());
    text.contains('/') && letters(text) || dotted || known
}

/// A word that can be the name of a file or folder when the words around it say so.
fn is_bare_name(word: &str) -> bool {
    let plain = word.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) && !word.is_empty();
    plain
        && !words::ends_a_phrase(word)
        && !["file", "files", "folder", "folders", "directory", "workspace", "called", "named"]
            .contains(&word)
}
