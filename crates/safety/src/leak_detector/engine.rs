//! Candidates by masks and tables, then one anchored expression each.
//!
//! Masks of 64 bytes say where words begin, where runs of token characters are and where a key may stand; a table
//! says which rules have a key there; and only those rules run their expression, anchored at that place.
//!
//! The findings are those of the slow way, every expression over every line, because a lane holds every
//! place where a match can begin ([`super::lane`]) and matches are taken from left to right in both.

use std::ops::Range;

use memchr::{memchr, memchr2, memchr3, memrchr};

use super::blocks::{self, BLOCK};
use super::chunk::{CHUNK, Chunk};
use super::filter::Filter;
use super::joined;
use super::keys::KeyTable;
use super::kubernetes;
use super::lane::{Behind, CREDENTIALS, Key, Lane, OPENINGS, SECRET_KINDS, VALUE, is_operator, is_wordy};
use super::private_key;
use super::rules::LeakRule;
use super::stretches::{Stretch, Stretches, places};
use super::wrapped::closes;
use crate::finding::Severity;

/// Blocks that are searched at a time for keys around long runs.
const SEARCHED: usize = 32;
/// What lies between two of them is searched with them, if it is no more than this.
const BETWEEN: usize = 2 * BLOCK;
/// Stand for the opening lines of private keys and for the credentials, in the table of keys that stand anywhere.
const PRIVATE_KEY: u16 = u16::MAX;
const CREDENTIAL: u16 = u16::MAX - 1;
/// Stands there for what may be the kind of a Secret of Kubernetes.
const SECRET_KIND: u16 = u16::MAX - 2;
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
    /// Keys at the beginning of a word, with a run behind them or a value not far away.
    words: KeyTable,
    /// Names in front of a credential, and the farthest that one is: those of rules that assign a value to it, and the
    /// others.
    assigned_value: (KeyTable, usize),
    named: (KeyTable, usize),
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
    /// Where the kind of a Secret of Kubernetes may stand, in order.
    pub(super) secret_kinds: Vec<usize>,
    /// Where percent signs stand.
    pub(super) percents: Vec<usize>,
    /// Where values end in front of what closes a line, near a break, in order.
    pub(super) ends: Vec<usize>,
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
    /// Where on that line the next of the signs, or of the digits, stands that its matches hold, once somebody asked.
    sign: Option<usize>,
}

/// How far each rule has come that has a key in the text, of the many that have none.
#[derive(Default)]
struct Course {
    /// By rule: one more than where its progress stands, or 0.
    places: Vec<u16>,
    each: Vec<Progress>,
}

impl Course {
    fn of(&mut self, rule: u16) -> &mut Progress {
        let place = &mut self.places[usize::from(rule)];
        if *place == 0 {
            self.each.push(Progress::default());
            *place = self.each.len() as u16;
        }
        &mut self.each[usize::from(*place) - 1]
    }
}

impl Engine {
    /// An engine for rules, with the filters that were made for their lanes.
    pub(super) fn new(rules: &[LeakRule], filters: [Filter; 2]) -> Self {
        let mut tables: [Vec<(Key, u16)>; 5] = Default::default();
        let [anywhere, words, assigned_value, named, near] = &mut tables;
        let (mut farthest_names, mut farthest_before, mut farthest_behind) = ([0; 2], 0, 0);
        for (index, rule) in (0u16..).zip(rules) {
            let (table, keys) = match &rule.lane {
                Lane::Run(keys) | Lane::Word { keys, .. } => (&mut *words, keys),
                Lane::Anywhere { keys, .. } | Lane::Line(keys) => (&mut *anywhere, keys),
                Lane::Named { keys, within, assigned } => {
                    let with_both = *assigned && rule.behind.value;
                    let farthest = &mut farthest_names[usize::from(with_both)];
                    *farthest = *within.max(farthest);
                    (if with_both { &mut *assigned_value } else { &mut *named }, keys)
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
        anywhere.extend(SECRET_KINDS.map(|kind| (Key::of(kind.bytes()), SECRET_KIND)));
        let [filter, near_filter] = filters;
        let [anywhere, words, assigned_value, named, near] = tables.map(|keys| KeyTable::new(&keys));
        Self {
            filter,
            anywhere,
            words,
            assigned_value: (assigned_value, farthest_names[1]),
            named: (named, farthest_names[0]),
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
            near: 0..0,
            progress: Course::default(),
            line: 0..0,
        };
        let mut chunk = Chunk::new();
        for from in (0..text.len()).step_by(CHUNK) {
            chunk.read(text, from, &self.filter);
            chunk.keys.keep(|at| self.anywhere.may_be_at(text, from + at));
            chunk.words.keep(|at| self.words.may_be_at(text, from + at));
            for at in chunk.keys.iter() {
                reading.anywhere(&chunk, from + at, &mut found);
            }
            for at in chunk.words.iter() {
                reading.word(&chunk, from + at);
            }
            found.percents.extend(chunk.percents.iter().map(|at| from + at));
            for (at, starts, digits) in chunk.blocks() {
                if starts.long != 0 {
                    let last = BLOCK - 1 - starts.long.leading_zeros() as usize;
                    reading.long_run(&chunk, at + starts.long.trailing_zeros() as usize..at + last);
                }
                if starts.value != 0 {
                    stretches.block(text, at, digits);
                    let ends = places(chunk.values_at_breaks(at), at + VALUE);
                    found.ends.extend(ends.filter(|end| text.get(*end).is_some_and(|byte| closes(*byte))));
                }
            }
            reading.search();
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
    /// Up to where keys around long runs were looked for, and where they are looked for next.
    searched: usize,
    near: Range<usize>,
    progress: Course,
    /// The line of the last candidate.
    line: Range<usize>,
}

impl Reading<'_> {
    /// Notes the rules whose key stands at the beginning `at` of a word.
    fn word(&mut self, chunk: &Chunk, at: usize) {
        let (engine, text, rules, candidates) = (self.engine, self.text, self.rules, &mut self.candidates);
        engine.words.at(text, at, |index| {
            let rule = &rules[usize::from(index)];
            let stands = match rule.lane {
                Lane::Run(_) => chunk.has_run(at),
                _ => chunk.has_value_near(at),
            };
            if stands && goes_on(rule, chunk, at) && operator_follows(&rule.operators, &text[at..]) {
                candidates.push((at, index));
            }
        });
    }

    /// Notes the rules whose key stands at `at`, wherever that is.
    fn anywhere(&mut self, chunk: &Chunk, at: usize, found: &mut Found) {
        let (engine, text, rules, candidates) = (self.engine, self.text, self.rules, &mut self.candidates);
        let mut is_credential = false;
        engine.anywhere.at(text, at, |index| match index {
            PRIVATE_KEY if private_key::opens(&text[at..]) => found.key_openings.push(at),
            PRIVATE_KEY => {}
            CREDENTIAL => is_credential = true,
            SECRET_KIND if kubernetes::is_kind(text, at) => found.secret_kinds.push(at),
            SECRET_KIND => {}
            index => {
                let rule = &rules[usize::from(index)];
                if goes_on(rule, chunk, at) && operator_follows(&rule.operators, &text[at..]) {
                    candidates.push((at, index));
                }
            }
        });
        if is_credential {
            if joined::may_open(&text[at..]) {
                found.openings.push(at);
            }
            self.credential(chunk, at);
        }
    }

    /// Notes the rules whose name stands at the credential at `at` or in front of it.
    fn credential(&mut self, chunk: &Chunk, at: usize) {
        let (engine, text, rules, candidates) = (self.engine, self.text, self.rules, &mut self.candidates);
        let is_assigned = is_assigned(&text[at..]);
        let mut names = |(table, farthest): &(KeyTable, usize)| {
            let first = at.saturating_sub(*farthest);
            let words = text[first..at].iter().rev().take_while(|byte| is_wordy(**byte)).count();
            for place in at - words..=at {
                table.at(text, place, |index| {
                    if let Lane::Named { within, assigned, .. } = rules[usize::from(index)].lane
                        && place + within >= at
                        && (is_assigned || !assigned)
                    {
                        candidates.push((place, index));
                    }
                });
            }
        };
        names(&engine.named);
        if is_assigned && chunk.has_value(at) {
            names(&engine.assigned_value);
        }
    }

    /// Looks for keys around long runs, the first and the last of which begin there: at once, or with what comes next.
    fn long_run(&mut self, chunk: &Chunk, starts: Range<usize>) {
        let line = chunk.line(&starts);
        let from = line.start.max(starts.start.saturating_sub(self.engine.farthest_before));
        let end = line.end.min(self.text.len()).min(starts.end + self.engine.farthest_behind + 1);
        if from > self.near.end + BETWEEN {
            self.search();
            self.near.start = from;
        }
        self.near.end = self.near.end.max(end);
    }

    /// Notes the keys around the long runs that were found last. Each byte is searched once.
    fn search(&mut self) {
        let (engine, text) = (self.engine, self.text);
        let mut from = self.searched.max(self.near.start);
        while from < self.near.end {
            let mut keys = [0; SEARCHED];
            let blocks = (self.near.end - from).div_ceil(BLOCK).min(SEARCHED);
            blocks::keys(text, from, &engine.near_filter, &mut keys[..blocks]);
            for keys in &keys[..blocks] {
                for at in places(*keys, from).take_while(|at| *at < text.len()) {
                    engine.near.at(text, at, |rule| self.candidates.push((at, rule)));
                }
                from += BLOCK;
            }
        }
        self.searched = self.searched.max(from);
    }

    /// Runs the expressions of the candidates, from left to right.
    fn verify(&mut self, found: &mut Found) {
        if self.candidates.is_empty() {
            return;
        }
        self.progress.places.resize(self.rules.len(), 0);
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort_unstable();
        candidates.dedup();
        for (at, rule) in candidates.drain(..) {
            if self.progress.of(rule).at <= at {
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
        let mut progress = *self.progress.of(index);
        if let Lane::Line(_) = rule.lane {
            if rule.literal_at(&self.text[at..]) {
                progress.at = self.line.end;
                rule.find(line, |secret, severity| {
                    found.secrets.push((index, secret.start + start..secret.end + start, severity));
                });
            }
            *self.progress.of(index) = progress;
            return;
        }
        let (before, key) = (rule.lane.before(), at - start);
        if progress.line != start + 1 {
            progress = Progress { at: progress.at, line: start + 1, ..Progress::default() };
        }
        if progress.sign.is_none_or(|sign| sign < key) {
            progress.sign = Some(next_sign(line, key, &rule.behind));
        }
        if progress.sign == Some(line.len()) {
            *self.progress.of(index) = progress;
            return;
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
        *self.progress.of(index) = progress;
    }
}

/// The line that holds the byte at `at`, without its line feed.
pub(super) fn line_around(text: &[u8], at: usize) -> Range<usize> {
    let start = memrchr(b'\n', &text[..at]).map_or(0, |newline| newline + 1);
    let end = memchr(b'\n', &text[at..]).map_or(text.len(), |newline| at + newline);
    start..end
}

/// True when a value may stand behind the key at `at`, or a rule needs none.
fn goes_on(rule: &LeakRule, chunk: &Chunk, at: usize) -> bool {
    !rule.behind.value || chunk.has_value(at)
}

/// Where the first of the signs, or a digit, stands from a place on, or the end of the line; the place itself where
/// neither is needed.
fn next_sign(line: &[u8], from: usize, needed: &Behind) -> usize {
    let rest = &line[from..];
    let next = match needed.signs {
        [0, ..] if needed.digit => rest.iter().position(u8::is_ascii_digit),
        [0, ..] => Some(0),
        [a, 0, _] => memchr(a, rest),
        [a, b, 0] => memchr2(a, b, rest),
        [a, b, c] => memchr3(a, b, c, rest),
    };
    next.map_or(line.len(), |at| from + at)
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
