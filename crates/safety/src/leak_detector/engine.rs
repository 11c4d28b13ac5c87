//! "Value first": masks of 64 bytes say where a key may stand, a table says which rules have it there, and
//! only those rules run their expression, anchored at that place.
//!
//! The findings are those of the slow way, every expression over every line, because a lane holds every
//! place where a match can begin ([`super::lane`]) and matches are taken from left to right in both.

use std::collections::VecDeque;
use std::ops::Range;

use memchr::{memchr, memrchr};

use super::blocks::{self, BLOCK, Filter, Filters, Masks};
use super::keys::KeyTable;
use super::lane::{Key, Lane, RUN, fold};
use super::private_key;
use super::rules::LeakRule;
use crate::finding::Severity;

/// Blocks that are read at a time: their masks fit into the first cache.
const CHUNK: usize = 128;
/// Stands for the opening lines of private keys.
const PRIVATE_KEY: u16 = u16::MAX;
/// After so many misses on one line the rest of it is searched in one go: an expression that gives up late
/// would else read the same bytes over and over.
const MOST_MISSES: u32 = 8;
/// What may stand between an assignment's name and its operator before the expression has to say.
const NEAR: usize = 96;

/// The rules by the lanes they are found in.
pub(super) struct Engine {
    filters: Filters,
    /// Keys that may stand anywhere.
    anywhere: KeyTable,
    /// Keys at the beginning of a word.
    words: KeyTable,
    /// Names to which a run is assigned.
    names: KeyTable,
    /// The shortest run and the farthest name of all assignments.
    shortest: usize,
    farthest: usize,
    longest_run: usize,
}

/// What one reading found.
#[derive(Default)]
pub(super) struct Found {
    /// Rule, where its secret stands, and how bad it is.
    pub(super) secrets: Vec<(u16, Range<usize>, Severity)>,
    /// The opening of a private key was seen.
    pub(super) opens_key: bool,
    /// Where runs of token characters begin: encoded text may stand there.
    pub(super) runs: Vec<usize>,
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
    misses: u32,
}

impl Engine {
    pub(super) fn new(rules: &[LeakRule]) -> Self {
        let (mut anywhere, mut words, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let (mut shortest, mut farthest, mut longest_run) = (usize::MAX, 0, 0);
        for (index, rule) in (0u16..).zip(rules) {
            let (table, keys) = match &rule.lane {
                Lane::Run(keys) | Lane::Word(keys) => (&mut words, keys),
                Lane::Anywhere { keys, .. } | Lane::Line(keys) => (&mut anywhere, keys),
                Lane::Assigned { keys, within, run } => {
                    shortest = shortest.min(*run);
                    farthest = farthest.max(*within);
                    longest_run = longest_run.max(rule.longest - within);
                    (&mut names, keys)
                }
            };
            table.extend(keys.iter().map(|key| (*key, index)));
        }
        let opening =
            |text: &str| text.as_bytes().first_chunk().map(|key: &Key| (key.map(fold), PRIVATE_KEY));
        anywhere.extend(private_key::OPENINGS.iter().filter_map(|text| opening(text)));
        let [anywhere, words, names] = [anywhere, words, names].map(|keys| KeyTable::new(keys.into_iter()));
        let filters = Filters {
            any: Filter::new(anywhere.keys()),
            word: Filter::new(words.keys()),
            name: Filter::new(names.keys()),
        };
        Self { filters, anywhere, words, names, shortest, farthest, longest_run }
    }

    /// Everything the rules find on the lines of `text`.
    pub(super) fn find(&self, rules: &[LeakRule], text: &[u8]) -> Found {
        let mut found = Found::default();
        let mut reading = Reading {
            engine: self,
            rules,
            text,
            candidates: Vec::new(),
            names: VecDeque::new(),
            progress: Vec::new(),
            line: 0..0,
        };
        let mut masks = [Masks::default(); CHUNK + 1];
        let mut before = Masks::default();
        for from in (0..text.len()).step_by(CHUNK * BLOCK) {
            let blocks = (text.len() - from).div_ceil(BLOCK).min(CHUNK);
            blocks::read(text, from, &self.filters, &mut masks[..blocks + 1]);
            for index in 0..blocks {
                let [here, behind] = [masks[index], masks[index + 1]];
                reading.block(from + index * BLOCK, &before, &here, &behind, &mut found);
                before = here;
            }
            reading.verify(&mut found);
        }
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
    /// Where a name may stand, as far back as a run may be assigned to it.
    names: VecDeque<usize>,
    progress: Vec<Progress>,
    /// The line of the last candidate.
    line: Range<usize>,
}

impl Reading<'_> {
    /// Notes the candidates of one block.
    fn block(&mut self, from: usize, before: &Masks, here: &Masks, behind: &Masks, found: &mut Found) {
        let mut any = here.any;
        while any != 0 {
            let at = from + any.trailing_zeros() as usize;
            any &= any - 1;
            let (text, rules, candidates) = (self.text, self.rules, &mut self.candidates);
            self.engine.anywhere.at(text, at, |rule| {
                if rule == PRIVATE_KEY {
                    found.opens_key |= private_key::opens(&text[at..]);
                } else if !rules[usize::from(rule)].needs_operator || operator_follows(&text[at..]) {
                    candidates.push((at, rule));
                }
            });
        }
        let ahead = runs_ahead(here.run, behind.run);
        // A letter behind an escape such as `\n` begins a word too.
        let begins = here.alnum & !(here.alnum << 1 | before.alnum >> 63)
            | here.alnum & (here.escape << 2 | before.escape >> 62);
        let mut word = here.word & begins;
        while word != 0 {
            let bit = word.trailing_zeros();
            word &= word - 1;
            let (rules, candidates) = (self.rules, &mut self.candidates);
            let at = from + bit as usize;
            self.engine.words.at(self.text, at, |rule| {
                let in_run = ahead >> bit & 1 == 1;
                if in_run || !matches!(rules[usize::from(rule)].lane, Lane::Run(_)) {
                    candidates.push((at, rule));
                }
            });
        }
        // Names and runs in the order of their places.
        let runs = ahead & !(here.run << 1 | before.run >> 63);
        let mut both = here.name | runs;
        while both != 0 {
            let bit = both.trailing_zeros();
            both &= both - 1;
            if runs >> bit & 1 == 1 {
                found.runs.push(from + bit as usize);
                self.assigned(from + bit as usize);
            }
            if here.name >> bit & 1 == 1 {
                self.name(from + bit as usize);
            }
        }
    }

    /// Notes the names to which the run at `at` may be assigned.
    fn assigned(&mut self, at: usize) {
        let engine = self.engine;
        let opens =
            |byte: u8| matches!(byte, b' ' | b'\t' | b'"' | b'\'' | b'`' | b'=' | b':' | b'>' | b',' | b'(');
        if at == 0 || !opens(self.text[at - 1]) {
            return;
        }
        let near = &self.text[at..self.text.len().min(at + engine.longest_run)];
        let token = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'_' || **byte == b'-';
        let run = near.iter().take_while(token).count();
        if run < engine.shortest || !near[..run].iter().any(u8::is_ascii_digit) {
            return;
        }
        let (rules, candidates) = (self.rules, &mut self.candidates);
        for place in self.names.iter().rev().take_while(|place| *place + engine.farthest >= at) {
            engine.names.at(self.text, *place, |rule| {
                if let Lane::Assigned { within, run: shortest, .. } = rules[usize::from(rule)].lane
                    && run >= shortest
                    && place + within >= at
                {
                    candidates.push((*place, rule));
                }
            });
        }
    }

    /// Notes where a name may stand.
    fn name(&mut self, at: usize) {
        if self.names.len() > self.engine.farthest {
            self.names.pop_front();
        }
        self.names.push_back(at);
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
        let before = if let Lane::Anywhere { before, .. } = rule.lane { before } else { 0 };
        let key = at - start;
        if progress.line != start + 1 {
            progress = Progress { line: start + 1, has_literal: None, misses: 0, ..progress };
        }
        while progress.at <= at {
            let from = key.saturating_sub(before).max(progress.at.saturating_sub(start));
            let whole = match before {
                _ if progress.misses >= MOST_MISSES => rule.match_from(line, from),
                0 => rule.match_at(line, key),
                _ => rule.match_around(line, from, key),
            };
            let Some(whole) = whole else {
                if progress.misses >= MOST_MISSES {
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

/// The bytes from which on [`RUN`] bytes belong to a run.
fn runs_ahead(here: u64, behind: u64) -> u64 {
    const { assert!(RUN == 16) };
    let mut runs = u128::from(here) | u128::from(behind) << 64;
    for step in [1, 2, 4, 8] {
        runs &= runs >> step;
    }
    runs as u64
}

/// True unless something else than an operator follows the word at the beginning of `text`.
fn operator_follows(text: &[u8]) -> bool {
    let near = &text[..text.len().min(NEAR)];
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let quote = |byte: &u8| matches!(byte, b'"' | b'\'' | b'`' | b']' | b'\\');
    let mut rest = near.iter().copied().skip_while(word).skip_while(quote);
    let next = rest.find(|byte| !matches!(byte, b' ' | b'\t'));
    match next {
        Some(byte) => matches!(byte, b':' | b'?' | b'.' | b'+' | b'|' | b'=' | b'>' | b',' | b'('),
        None => near.len() == NEAR,
    }
}
