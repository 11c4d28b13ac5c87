//! Candidates by masks and tables, then one anchored expression each.
//!
//! Masks of 64 bytes say where words begin, where runs of token characters are and where a key may stand; a table
//! says which rules have a key there; and only those rules run their expression, anchored at that place.
//!
//! The findings are those of the slow way, every expression over every line, because a lane holds every
//! place where a match can begin ([`super::lane`]) and matches are taken from left to right in both.

use std::ops::Range;

use memchr::{memchr, memrchr};

use super::blocks::{self, BLOCK, Masks};
use super::filter::Filter;
use super::joined;
use super::keys::KeyTable;
use super::lane::{CREDENTIALS, Key, Lane, OPENINGS, is_operator, is_wordy};
use super::private_key;
use super::rules::LeakRule;
use super::runs::{Starts, reach, wide};
use super::stretches::{Stretch, Stretches, places};
use crate::finding::Severity;

/// Blocks that are read at a time: their masks fit into the first cache.
const CHUNK: usize = 128;
/// Blocks that are searched at a time for keys around long runs.
const SEARCHED: usize = 8;
/// Stand for the opening lines of private keys and for the credentials, in the table of keys that stand anywhere.
const PRIVATE_KEY: u16 = u16::MAX;
const CREDENTIAL: u16 = u16::MAX - 1;
/// After so many misses on one line, and more than one in a share of a match's length, the rest of the line is
/// searched in one go: an expression that gives up late would else read the same bytes over and over.
const MOST_MISSES: usize = 8;
const MISS_SHARE: usize = 4;
/// What may stand between an assignment's name and its operator before the expression has to say.
const NEAR: usize = 96;

/// The rules by the lanes they are found in.
pub(super) struct Engine {
    /// Keys that may stand anywhere.
    filter: Filter,
    anywhere: KeyTable,
    /// Keys at the beginning of a word, in front of a value and with a run behind them.
    words: KeyTable,
    runs: KeyTable,
    /// Names in front of a credential, and the farthest that one is.
    named: KeyTable,
    farthest_name: usize,
    /// Keys around a long run.
    near_filter: Filter,
    near: KeyTable,
    /// The farthest that such a key stands before the beginning of the run, and behind it.
    farthest_before: usize,
    farthest_behind: usize,
}

/// What one reading found.
#[derive(Default)]
pub(super) struct Found {
    /// Rule, where its secret stands, and how bad it is.
    pub(super) secrets: Vec<(u16, Range<usize>, Severity)>,
    /// Where what opening lines of private keys hold stands, in order.
    pub(super) key_openings: Vec<usize>,
    /// Where encoded text stands.
    pub(super) stretches: Vec<Stretch>,
    /// Places on lines that end with the name of a value that may stand on the next.
    pub(super) openings: Vec<usize>,
}

/// How far a rule has come.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// Where its next match may begin.
    at: usize,
    /// The line of its last candidate, by one more than its beginning.
    line: usize,
    /// Whether that line has one of its literals, once somebody asked.
    has_literal: Option<bool>,
    /// How often its expression found nothing at a key on that line.
    misses: usize,
}

impl Engine {
    /// An engine for rules, with the filters that were made for their lanes.
    pub(super) fn new(rules: &[LeakRule], filters: [Filter; 2]) -> Self {
        let mut tables: [Vec<(Key, u16)>; 5] = Default::default();
        let [anywhere, words, runs, named, near] = &mut tables;
        let (mut farthest_name, mut farthest_before, mut farthest_behind) = (0, 0, 0);
        for (index, rule) in (0u16..).zip(rules) {
            let (table, keys) = match &rule.lane {
                Lane::Run(keys) => (&mut *runs, keys),
                Lane::Word { keys, .. } => (&mut *words, keys),
                Lane::Anywhere { keys, .. } | Lane::Line(keys) => (&mut *anywhere, keys),
                Lane::Named { keys, within, .. } => {
                    farthest_name = farthest_name.max(*within);
                    (&mut *named, keys)
                }
                Lane::Near { keys, before, within } => {
                    farthest_before = farthest_before.max(*within);
                    farthest_behind = farthest_behind.max(*before);
                    (&mut *near, keys)
                }
            };
            table.extend(keys.iter().map(|key| (*key, index)));
        }
        anywhere.extend(OPENINGS.map(|opening| (Key::of(opening.bytes()), PRIVATE_KEY)));
        anywhere.extend(CREDENTIALS.map(|credential| (Key::of(credential.bytes()), CREDENTIAL)));
        let [filter, near_filter] = filters;
        let [anywhere, words, runs, named, near] = tables.map(|keys| KeyTable::new(&keys));
        Self {
            filter,
            anywhere,
            words,
            runs,
            named,
            farthest_name,
            near_filter,
            near,
            farthest_before,
            farthest_behind,
        }
    }

    /// An engine for rules that are not in the program.
    #[cfg(any(test, fuzzing))]
    pub(super) fn of(rules: &[LeakRule]) -> Self {
        Self::new(rules, super::buckets::filters(rules.iter().map(|rule| &rule.lane)))
    }

    /// Everything the rules find on the lines of `text`.
    pub(super) fn find(&self, rules: &[LeakRule], text: &[u8]) -> Found {
        let mut found = Found::default();
        let mut stretches = Stretches::default();
        let mut reading = Reading {
            engine: self,
            rules,
            text,
            candidates: Vec::new(),
            searched: 0,
            progress: Vec::new(),
            line: 0..0,
        };
        let mut masks = [Masks::default(); CHUNK + 2];
        let mut starts = [Starts::default(); CHUNK + 1];
        let mut before = Masks::default();
        for from in (0..text.len()).step_by(CHUNK * BLOCK) {
            let blocks = (text.len() - from).div_ceil(BLOCK).min(CHUNK);
            blocks::read(text, from, &self.filter, &mut masks[..blocks + 2]);
            for (starts, masks) in starts.iter_mut().zip(masks[..blocks + 2].windows(2)) {
                *starts = Starts::of(&masks[0], &masks[1]);
            }
            for index in 0..blocks {
                let (at, here) = (from + index * BLOCK, masks[index]);
                reading.block(at, [&before, &here], [&starts[index], &starts[index + 1]], &mut found);
                if starts[index].digits != 0 {
                    stretches.block(text, at, wide(here.digit, masks[index + 1].digit));
                }
                before = here;
            }
            reading.verify(&mut found);
        }
        found.stretches = stretches.into_found();
        found
    }
}

/// One text on its way through the engine.
struct Reading<'a> {
    engine: &'a Engine,
    rules: &'a [LeakRule],
    text: &'a [u8],
    /// Where a rule has a key: place, then rule.
    candidates: Vec<(usize, u16)>,
    /// Up to where keys around long runs were looked for.
    searched: usize,
    progress: Vec<Progress>,
    /// The line of the last candidate.
    line: Range<usize>,
}

impl Reading<'_> {
    /// Notes the candidates of one block: the masks of the one before it and its own, the starts of its own and of the
    /// one behind it.
    #[inline]
    fn block(&mut self, from: usize, masks: [&Masks; 2], starts: [&Starts; 2], found: &mut Found) {
        let [before, here] = masks;
        for at in places(here.key, from) {
            self.anywhere(at, found);
        }
        // A letter behind an escape such as `\n` begins a word too.
        let begins = here.alnum & !(here.alnum << 1 | before.alnum >> 63)
            | here.alnum & (here.escape << 2 | before.escape >> 62);
        let (engine, text, [here, behind]) = (self.engine, self.text, starts);
        let (rules, candidates) = (self.rules, &mut self.candidates);
        for at in places(begins & reach(here.value, behind.value), from) {
            engine.words.at(text, at, |rule| {
                if operator_follows(&rules[usize::from(rule)].operators, &text[at..]) {
                    candidates.push((at, rule));
                }
            });
        }
        for at in places(begins & here.run, from) {
            engine.runs.at(text, at, |rule| candidates.push((at, rule)));
        }
        if here.long != 0 {
            let last = BLOCK - 1 - here.long.leading_zeros() as usize;
            self.long_run(from + here.long.trailing_zeros() as usize..from + last);
        }
    }

    /// Notes the rules whose key stands at `at`, wherever that is.
    fn anywhere(&mut self, at: usize, found: &mut Found) {
        let (engine, text, rules) = (self.engine, self.text, self.rules);
        let mut is_credential = false;
        engine.anywhere.at(text, at, |rule| match rule {
            PRIVATE_KEY if private_key::opens(&text[at..]) => found.key_openings.push(at),
            PRIVATE_KEY => {}
            CREDENTIAL => is_credential = true,
            _ if operator_follows(&rules[usize::from(rule)].operators, &text[at..]) => {
                self.candidates.push((at, rule));
            }
            _ => {}
        });
        if is_credential {
            if joined::may_open(&text[at..]) {
                found.openings.push(at);
            }
            let is_assigned = is_assigned(&text[at..]);
            let first = at.saturating_sub(engine.farthest_name);
            let words = text[first..at].iter().rev().take_while(|byte| is_wordy(**byte)).count();
            for place in at - words..=at {
                engine.named.at(text, place, |rule| {
                    if let Lane::Named { within, assigned, .. } = rules[usize::from(rule)].lane
                        && place + within >= at
                        && (is_assigned || !assigned)
                    {
                        self.candidates.push((place, rule));
                    }
                });
            }
        }
    }

    /// Notes the keys around long runs, the first and the last of which begin there. Each byte is searched once.
    fn long_run(&mut self, starts: Range<usize>) {
        let (engine, text) = (self.engine, self.text);
        let mut from = self.searched.max(starts.start.saturating_sub(engine.farthest_before));
        let end = text.len().min(starts.end + engine.farthest_behind + 1);
        self.searched = self.searched.max(end);
        while from < end {
            let mut keys = [0; SEARCHED];
            let blocks = (end - from).div_ceil(BLOCK).min(SEARCHED);
            blocks::keys(text, from, &engine.near_filter, &mut keys[..blocks]);
            for keys in &keys[..blocks] {
                for at in places(*keys, from).take_while(|at| *at < end) {
                    engine.near.at(text, at, |rule| self.candidates.push((at, rule)));
                }
                from += BLOCK;
            }
        }
    }

    /// Runs the expressions of the candidates, from left to right.
    fn verify(&mut self, found: &mut Found) {
        if self.candidates.is_empty() {
            return;
        }
        self.progress.resize(self.rules.len(), Progress::default());
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort_unstable();
        candidates.dedup();
        for (at, rule) in candidates.drain(..) {
            if self.progress[usize::from(rule)].at <= at {
                self.candidate(at, rule, found);
            }
        }
        self.candidates = candidates;
    }

    fn candidate(&mut self, at: usize, index: u16, found: &mut Found) {
        let rule = &self.rules[usize::from(index)];
        if !self.line.contains(&at) {
            self.line = line_around(self.text, at);
        }
        let (start, line) = (self.line.start, &self.text[self.line.clone()]);
        let mut progress = self.progress[usize::from(index)];
        if let Lane::Line(_) = rule.lane {
            if rule.literal_at(&self.text[at..]) {
                progress.at = self.line.end;
                rule.find(line, |secret, severity| {
                    found.secrets.push((index, secret.start + start..secret.end + start, severity));
                });
            }
            self.progress[usize::from(index)] = progress;
            return;
        }
        let before = match rule.lane {
            Lane::Anywhere { before, .. } | Lane::Near { before, .. } | Lane::Word { before, .. } => before,
            _ => 0,
        };
        let key = at - start;
        if progress.line != start + 1 {
            progress = Progress { line: start + 1, has_literal: None, misses: 0, ..progress };
        }
        while progress.at <= at {
            let often = progress.misses >= MOST_MISSES && progress.misses * rule.longest > MISS_SHARE * key;
            let from = key.saturating_sub(before).max(progress.at.saturating_sub(start));
            let whole = match before {
                _ if often => rule.match_from(line, from),
                0 => rule.match_at(line, key),
                _ => rule.match_around(line, from, key),
            };
            let Some(whole) = whole else {
                if often {
                    progress.at = self.line.end;
                }
                progress.misses += 1;
                break;
            };
            if !*progress.has_literal.get_or_insert_with(|| rule.literal_on(line)) {
                progress.at = self.line.end;
                break;
            }
            let judged = rule.judge(line, whole);
            progress.at = start + judged.next;
            if let Some((secret, severity)) = judged.secret {
                found.secrets.push((index, secret.start + start..secret.end + start, severity));
            }
        }
        self.progress[usize::from(index)] = progress;
    }
}

/// The line that holds the byte at `at`, without its line feed.
pub(super) fn line_around(text: &[u8], at: usize) -> Range<usize> {
    let start = memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
    let end = memchr(b'\n', &text[at..]).map_or(text.len(), |newline| at + newline);
    start..end
}

/// False when no value can be assigned to the credential that begins a text: what follows its word is no operator.
fn is_assigned(text: &[u8]) -> bool {
    let near = &text[..text.len().min(NEAR)];
    let word = |byte: &u8| is_wordy(*byte) && *byte != b' ';
    let quote = |byte: &u8| matches!(byte, b'"' | b'\'' | b'`' | b']' | b'\\');
    let next = near.iter().copied().skip_while(word).find(|byte| !quote(byte));
    match next {
        Some(byte) => is_operator(byte) || matches!(byte, b' ' | b'\t' | b'&'),
        None => near.len() == NEAR,
    }
}

/// True unless something else than one of the operators, if there are any, follows the word at the beginning of `text`.
fn operator_follows(operators: &[u8], text: &[u8]) -> bool {
    if operators.is_empty() {
        return true;
    }
    let near = &text[..text.len().min(NEAR)];
    let word = |byte: &u8| is_wordy(*byte) && !operators.contains(byte);
    let between = |byte: &u8| matches!(byte, b'"' | b'\'' | b'`' | b']' | b'\\' | b' ' | b'\t');
    match near.iter().skip_while(|byte| word(byte)).find(|byte| !between(byte)) {
        Some(byte) => operators.contains(byte),
        None => near.len() == NEAR,
    }
}
