//! Candidates by masks and tables, then one anchored expression each.
//!
//! Masks of 64 bytes say where words begin, where runs of token characters are and where a key may stand; a table
//! says which rules have a key there; and only those rules run their expression, anchored at that place.
//!
//! The findings are those of the slow way, every expression over every line, because a lane holds every
//! place where a match can begin ([`super::lane`]) and matches are taken from left to right in both.

use std::collections::VecDeque;
use std::ops::Range;

use memchr::{memchr, memrchr};

use super::blocks::{self, BLOCK, Filter, Masks};
use super::joined;
use super::keys::KeyTable;
use super::lane::{CREDENTIALS, Key, LONG_RUN, Lane, RUN, VALUE, VALUE_WITHIN, is_operator, is_wordy};
use super::private_key;
use super::rules::LeakRule;
use super::stretches::{Stretch, Stretches, places};
use crate::finding::Severity;

/// Blocks that are read at a time: their masks fit into the first cache.
const CHUNK: usize = 128;
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
    /// For the keys that may stand anywhere.
    filter: Filter,
    anywhere: KeyTable,
    /// Keys at the beginning of a word, without and with a run behind them.
    words: KeyTable,
    runs: KeyTable,
    /// Names in front of a credential, and the farthest that one is.
    named: KeyTable,
    farthest_name: usize,
    /// Keys in front of a long run, and the farthest that one is.
    near: KeyTable,
    farthest_run: usize,
}

/// What one reading found.
#[derive(Default)]
pub(super) struct Found {
    /// Rule, where its secret stands, and how bad it is.
    pub(super) secrets: Vec<(u16, Range<usize>, Severity)>,
    /// The opening of a private key was seen.
    pub(super) opens_key: bool,
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
    pub(super) fn new(rules: &[LeakRule]) -> Self {
        let mut tables: [Vec<(Key, u16)>; 5] = Default::default();
        let [anywhere, words, runs, named, near] = &mut tables;
        let (mut farthest_name, mut farthest_run) = (0, 0);
        for (index, rule) in (0u16..).zip(rules) {
            let (table, keys) = match &rule.lane {
                Lane::Run(keys) => (&mut *runs, keys),
                Lane::Word { keys, .. } => (&mut *words, keys),
                Lane::Anywhere { keys, .. } | Lane::Line(keys) => (&mut *anywhere, keys),
                Lane::Named { keys, within, .. } => {
                    farthest_name = farthest_name.max(*within);
                    (&mut *named, keys)
                }
                Lane::Near { keys, within } => {
                    farthest_run = farthest_run.max(*within);
                    (&mut *near, keys)
                }
            };
            table.extend(keys.iter().map(|key| (*key, index)));
        }
        anywhere.extend(private_key::OPENINGS.map(|opening| (Key::of(opening.bytes()), PRIVATE_KEY)));
        anywhere.extend(CREDENTIALS.map(|credential| (Key::of(credential.bytes()), CREDENTIAL)));
        let filter = Filter::new(anywhere.iter().map(|(key, _)| *key).collect());
        let [anywhere, words, runs, named, near] = tables.map(|keys| KeyTable::new(keys.into_iter()));
        Self { filter, anywhere, words, runs, named, farthest_name, near, farthest_run }
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
            near: VecDeque::new(),
            searched: 0,
            progress: Vec::new(),
            line: 0..0,
        };
        let mut masks = [Masks::default(); CHUNK + 1];
        let mut before = Masks::default();
        for from in (0..text.len()).step_by(CHUNK * BLOCK) {
            let blocks = (text.len() - from).div_ceil(BLOCK).min(CHUNK);
            blocks::read(text, from, &self.filter, &mut masks[..blocks + 1]);
            for index in 0..blocks {
                let (at, [here, behind]) = (from + index * BLOCK, [masks[index], masks[index + 1]]);
                reading.block(at, &before, &here, &behind, &mut found);
                stretches.block(text, at, wide(here.digit, behind.digit));
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
    /// Keys in front of where a long run may still begin.
    near: VecDeque<(usize, u16)>,
    /// Up to where they were looked for.
    searched: usize,
    progress: Vec<Progress>,
    /// The line of the last candidate.
    line: Range<usize>,
}

impl Reading<'_> {
    /// Notes the candidates of one block.
    #[inline]
    fn block(&mut self, from: usize, before: &Masks, here: &Masks, behind: &Masks, found: &mut Found) {
        for at in places(here.key, from) {
            self.anywhere(at, found);
        }
        // Places from which on so many bytes belong to a run.
        let mut run = wide(here.run, behind.run);
        for step in [1, 2, 4, 8] {
            run &= run >> step;
        }
        const { assert!(RUN == 16 && LONG_RUN == 24) };
        let long = (run & run >> 8) as u64;
        // A letter behind an escape such as `\n` begins a word too.
        let begins = here.alnum & !(here.alnum << 1 | before.alnum >> 63)
            | here.alnum & (here.escape << 2 | before.escape >> 62);
        let (engine, text, candidates) = (self.engine, self.text, &mut self.candidates);
        for at in places(if has_value(here, behind) { begins } else { 0 }, from) {
            engine.words.at(text, at, |rule| {
                if !self.rules[usize::from(rule)].needs_operator || operator_follows(&text[at..]) {
                    candidates.push((at, rule));
                }
            });
        }
        for at in places(begins & run as u64, from) {
            engine.runs.at(text, at, |rule| candidates.push((at, rule)));
        }
        if long != 0 {
            let bits = from + long.trailing_zeros() as usize..from + BLOCK - long.leading_zeros() as usize;
            self.long_run(bits);
        }
    }

    /// Notes the rules whose key stands at `at`, wherever that is.
    fn anywhere(&mut self, at: usize, found: &mut Found) {
        let (engine, text, rules) = (self.engine, self.text, self.rules);
        let mut is_credential = false;
        engine.anywhere.at(text, at, |rule| match rule {
            PRIVATE_KEY => found.opens_key |= private_key::opens(&text[at..]),
            CREDENTIAL => is_credential = true,
            _ if rules[usize::from(rule)].needs_operator && !operator_follows(&text[at..]) => {}
            _ => self.candidates.push((at, rule)),
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

    /// Notes the keys in front of `starts`, where long runs begin. Each byte is searched once.
    fn long_run(&mut self, starts: Range<usize>) {
        let (engine, text) = (self.engine, self.text);
        let first = starts.start.saturating_sub(engine.farthest_run);
        while self.near.front().is_some_and(|(at, _)| *at < first) {
            self.near.pop_front();
        }
        for at in self.searched.max(first)..starts.end {
            engine.near.at(text, at, |rule| self.near.push_back((at, rule)));
        }
        self.searched = self.searched.max(starts.end);
        for (at, rule) in &self.near {
            if let Lane::Near { within, .. } = self.rules[usize::from(*rule)].lane
                && at + within >= starts.start
            {
                self.candidates.push((*at, *rule));
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
            Lane::Anywhere { before, .. } | Lane::Word { before, .. } => before,
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

/// True when a value may begin in a block or in the one behind it.
fn has_value(here: &Masks, behind: &Masks) -> bool {
    const { assert!(VALUE == 20 && VALUE_WITHIN == BLOCK) };
    let mut run = wide(here.value, behind.value);
    for step in [1, 2, 4, 8, 4] {
        // What stands behind them is not known.
        run &= run >> step | !(u128::MAX >> step);
    }
    run != 0
}

/// The mask of a block and of the one behind it.
fn wide(here: u64, behind: u64) -> u128 {
    u128::from(here) | u128::from(behind) << 64
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

/// True unless something else than an operator follows the word at the beginning of `text`.
fn operator_follows(text: &[u8]) -> bool {
    let near = &text[..text.len().min(NEAR)];
    let word = |byte: &u8| is_wordy(*byte) && *byte != b'.';
    let quote = |byte: &u8| matches!(byte, b'"' | b'\'' | b'`' | b']' | b'\\');
    let mut rest = near.iter().copied().skip_while(word).skip_while(quote);
    let next = rest.find(|byte| !matches!(byte, b' ' | b'\t'));
    match next {
        Some(byte) => is_operator(byte),
        None => near.len() == NEAR,
    }
}
