//! Known attack patterns, looked for under every reading of a text.
//!
//! A reading is the text itself, the text with look-alikes folded, or a text inside the text (base64,
//! escapes, hidden characters), which is read again to a depth of [`DEPTH`] within a budget. What fires
//! only after decoding was hidden on purpose and weighs more.
//!
//! Patterns are data (`sanitizer/patterns/*.toml`): sequences of words, expressions, phrases in other
//! languages. They tell of attacks that somebody has seen before; that is all they promise.

mod addresses;
mod codes;
mod decode;
mod encoded;
mod fold;
mod mention;
pub mod model;
mod oddities;
mod rules;
mod squash;
mod tags;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod time;
mod tokens;
mod view;
mod words;

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::ops::Range;
use std::sync::Arc;

use crate::finding::{Kind, Severity};
use crate::rulebook::Thresholds;
use crate::signal::{Fingerprinter, Signal};
use crate::validator::characters::Cleaned;
pub(crate) use mention::QUOTED;
use rules::{Rule, Rules, Scope};
use squash::Squash;
use view::{Builder, View};

/// Texts inside texts inside texts are read; a fourth layer is not.
const DEPTH: usize = 3;
/// Bytes of decoded readings, beyond twice the text itself. Time is linear in what is read.
const BUDGET: usize = 256 * 1024;
/// How the text is said to be read in which more is encoded than is read. That is near to everything in it, and
/// so makes nothing worse.
pub(crate) const UNREAD: &str = "in part";
/// Findings of one text, the worst first; more say nothing more.
const MOST_SIGNALS: usize = 64;
/// Places that are looked at closely in one text.
const MOST_HITS: usize = 1024;

/// The patterns, compiled.
pub(crate) struct Sanitizer {
    rules: Rules,
    squash: Squash,
    /// One for each [`addresses::Leak`].
    addresses: [Rule; 3],
    acrostic: Rule,
    disguised: Rule,
    model: Rule,
    unread: Rule,
    special: Rule,
    mixed: Rule,
    thresholds: Thresholds,
    prints: Fingerprinter,
}

impl Sanitizer {
    pub(crate) fn new(prints: Fingerprinter, thresholds: Thresholds) -> Result<Self, String> {
        let rule = |id: &str, severity, reason: &str| Rule {
            id: id.into(),
            reason: reason.into(),
            severity,
            scope: Scope::Anywhere,
        };
        Ok(Self {
            rules: Rules::new()?,
            squash: Squash::new(),
            addresses: [
                rule(
                    "image-exfiltration",
                    Severity::Critical,
                    "an image or a frame whose address carries data away",
                ),
                rule("link-exfiltration", Severity::Critical, "a link whose address carries data away"),
                rule("image-with-data", Severity::High, "an image whose address carries encoded data"),
            ],
            acrostic: rule("acrostic", Severity::Low, "the first letters of the lines spell an attack"),
            disguised: rule(
                "disguised-phrase",
                Severity::High,
                "a known attack with its letters spread or joined",
            ),
            model: Rule {
                scope: Scope::Data,
                ..rule("model", Severity::Medium, "reads like an order to an assistant")
            },
            unread: rule("too-much-encoded", Severity::Medium, "more text inside the text than is read"),
            special: rule(
                "special-characters",
                Severity::Low,
                "a stretch of text made mostly of special characters",
            ),
            mixed: rule(
                "mixed-scripts",
                Severity::Medium,
                "letters of another script inside a word, each taken for a Latin one",
            ),
            thresholds,
            prints,
        })
    }

    /// The ids of all rules.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Arc<str>> {
        let own = [&self.acrostic, &self.disguised, &self.model, &self.unread, &self.special, &self.mixed];
        let own = own.into_iter().chain(&self.addresses);
        self.rules.ids().chain(own.map(|rule| rule.id.clone()))
    }

    /// The text of the rule files.
    pub(crate) fn shipped() -> impl Iterator<Item = &'static str> {
        rules::FILES.into_iter()
    }

    /// Adds a signal for each pattern under each reading. Spans count in the original. `data` says that
    /// the text is data from outside, in which an order to an assistant has no place. False when there are
    /// more than were added.
    pub(crate) fn scan(&self, cleaned: &Cleaned<'_>, data: bool, signals: &mut Vec<Signal>) -> bool {
        let mut scan = Scan {
            sanitizer: self,
            data,
            budget: BUDGET + 2 * cleaned.text.len(),
            exhausted: false,
            read: HashMap::new(),
            hashes: RandomState::new(),
        };
        let mut found = Vec::new();
        scan.read(&cleaned.text, "plain", 0, &mut found);
        mention::weigh(&cleaned.text, &mut found);
        found.extend(self.oddities(&cleaned.text));
        for hit in &mut found {
            hit.span = cleaned.original(hit.span.clone());
        }
        for view in hidden(cleaned) {
            let mut inside = Vec::new();
            scan.read(&view.text, view.name, 1, &mut inside);
            found.extend(lowered(&view, inside, true).map(|hit| Hit { decoded: true, ..hit }));
        }
        if scan.exhausted {
            let end = cleaned.original(0..cleaned.text.len()).end;
            found.push(Hit::new(&self.unread, 0..end, UNREAD, ""));
        }
        // The worst come first, so that no flood of faint ones hides them.
        found.sort_by_key(|hit| std::cmp::Reverse(hit.severity()));
        let listed = found.len() <= MOST_SIGNALS;
        found.truncate(MOST_SIGNALS);
        signals.extend(found.into_iter().map(|hit| self.signal(hit)));
        listed
    }

    /// What is odd about the characters of a text, whatever it says.
    fn oddities(&self, text: &str) -> impl Iterator<Item = Hit> {
        let special = oddities::special(text, self.thresholds.special_characters);
        let mixed = oddities::mixed(text);
        let hit = |rule, spans: Vec<Range<usize>>| {
            spans.into_iter().map(move |span| Hit::new(rule, span, "characters", text))
        };
        hit(&self.special, special).chain(hit(&self.mixed, mixed))
    }

    fn signal(&self, hit: Hit) -> Signal {
        let severity = hit.severity();
        Signal {
            fingerprint: self.prints.of(&hit.rule.id, hit.matched.as_bytes()),
            rule: hit.rule.id,
            reason: hit.rule.reason,
            kind: if hit.rule.scope == Scope::Data { Kind::Task } else { Kind::Injection },
            severity,
            span: hit.span,
            view: hit.view,
            secret: None,
        }
    }
}

/// What no person sees, one reading for each way to hide it: what is hidden in pieces is read as a whole.
fn hidden(cleaned: &Cleaned<'_>) -> Vec<View> {
    let mut builders: Vec<(&'static str, Builder)> = Vec::new();
    for (span, text, name) in &cleaned.hidden {
        let known = builders.iter().position(|(known, _)| known == name);
        let at = known.unwrap_or_else(|| {
            builders.push((name, Builder::new(text.len())));
            builders.len() - 1
        });
        let builder = &mut builders[at].1;
        text.chars().chain(['\n']).for_each(|c| builder.push(c, span.clone()));
    }
    builders.into_iter().map(|(name, builder)| builder.finish(name)).collect()
}

/// The readings of one text.
struct Scan<'a> {
    sanitizer: &'a Sanitizer,
    data: bool,
    budget: usize,
    exhausted: bool,
    /// What was read, and at which depth: escapes and tags taken away in either order leave the same text.
    read: HashMap<u64, usize>,
    /// Under a key of this scan, so that no two texts can be made to look the same.
    hashes: RandomState,
}

impl Scan<'_> {
    /// Reads a text and the texts inside it. Spans count in this text.
    fn read(&mut self, text: &str, name: &'static str, depth: usize, found: &mut Vec<Hit>) {
        let mut deeper = self.detect(text, name, found);
        if !text.is_ascii() {
            for view in [fold::lower(text), Some(fold::fold(text))].into_iter().flatten() {
                let mut hits = Vec::new();
                let ciphers = self.detect(&view.text, if depth == 0 { view.name } else { name }, &mut hits);
                hits.retain(|hit| view.changed(&hit.span));
                merge(found, lowered(&view, hits, false));
                deeper.extend(ciphers.into_iter().map(|cipher| cipher.over(&view)));
            }
        }
        if depth == DEPTH {
            return;
        }
        deeper.extend(decode::inside(text));
        for view in deeper {
            // Markup is not a disguise; what it hides is read at the same weight.
            let below = if view.name == "without tags" { DEPTH } else { depth + 1 };
            let known = self.read.entry(self.hashes.hash_one(&view.text)).or_insert(usize::MAX);
            if *known <= below {
                continue;
            }
            *known = below;
            match self.budget.checked_sub(view.text.len()) {
                Some(rest) => self.budget = rest,
                None => {
                    self.exhausted = true;
                    return;
                }
            }
            let mut hits = Vec::new();
            if view.name == "acrostic" {
                let span = view.below(0..view.text.len());
                found.push(Hit::new(&self.sanitizer.acrostic, span, view.name, &view.text));
                continue;
            }
            self.read(&view.text, view.name, below, &mut hits);
            // A hit in which nothing was decoded stands in the text below as well.
            hits.retain(|hit| view.changed(&hit.span));
            merge(found, lowered(&view, hits, true));
        }
    }

    /// Runs all rules on one reading; the ciphers to read it under.
    fn detect(&self, text: &str, name: &'static str, found: &mut Vec<Hit>) -> Vec<View> {
        let rules = &self.sanitizer.rules;
        let before = found.len();
        let mut words = Vec::new();
        let mut score = model::Score::default();
        tokens::each(text, |token| {
            words.extend(rules.words.known(text, &token));
            if self.data {
                score.add(text, &token);
            }
        });
        if let Some(span) = score.order(self.sanitizer.thresholds.model_margin) {
            found.push(Hit::new(&self.sanitizer.model, span, name, text));
        }
        let wanted = |rule: &Rule| self.data || rule.scope == Scope::Anywhere;
        for hit in
            rules.words.find(&words).into_iter().filter(|hit| wanted(&hit.sequence.rule)).take(MOST_HITS)
        {
            let mut new = Hit::new(&hit.sequence.rule, hit.span, name, text);
            if hit.scrambled {
                new.rule.severity = new.rule.severity.min(Severity::Medium);
                (new.view, new.fixed) = ("scrambled", true);
            }
            found.push(new);
        }
        rules.find(text, |rule, span| {
            if wanted(rule) && found.len() < 2 * MOST_HITS {
                found.push(Hit::new(rule, span, name, text));
            }
        });
        for (leak, span) in addresses::leaks(text) {
            found.push(Hit::new(&self.sanitizer.addresses[leak as usize], span, name, text));
        }
        let squashed = self.sanitizer.squash.find(text);
        for span in squashed.phrases {
            let known = |hit: &Hit| hit.span.start < span.end && span.start < hit.span.end;
            if !found[before..].iter().any(known) {
                found.push(Hit::new(&self.sanitizer.disguised, span, "squashed", text));
            }
        }
        squashed.ciphers
    }
}

/// A rule that fired, with the text that made it fire for the fingerprint.
struct Hit {
    rule: Rule,
    span: Range<usize>,
    view: &'static str,
    /// It stands in no reading that a person would see.
    decoded: bool,
    /// Being decoded makes it no worse.
    fixed: bool,
    matched: String,
}

impl Hit {
    fn new(rule: &Rule, span: Range<usize>, view: &'static str, text: &str) -> Self {
        let matched = text.get(span.clone()).unwrap_or_default().to_lowercase();
        Self { rule: rule.clone(), span, view, decoded: false, fixed: false, matched }
    }

    /// What fires only after decoding was hidden on purpose.
    fn severity(&self) -> Severity {
        match (self.decoded && !self.fixed, self.rule.severity) {
            (true, Severity::High) => Severity::Critical,
            (true, Severity::Medium) => Severity::High,
            (_, severity) => severity,
        }
    }
}

/// Hits of a reading with the spans of the text below it.
fn lowered<'a>(view: &'a View, hits: Vec<Hit>, weighs: bool) -> impl Iterator<Item = Hit> + 'a {
    let weighs = weighs && !matches!(view.name, "without tags" | "joined literals");
    hits.into_iter().map(move |hit| Hit {
        decoded: hit.decoded || weighs && view.disguises(&hit.span),
        span: view.below(hit.span.clone()),
        ..hit
    })
}

/// Adds hits, but for those of a rule that was found in the same place already and weighs as much.
fn merge(found: &mut Vec<Hit>, more: impl Iterator<Item = Hit>) {
    let before = found.len();
    for hit in more {
        let same = |known: &Hit| {
            Arc::ptr_eq(&known.rule.id, &hit.rule.id)
                && known.severity() >= hit.severity()
                && known.span.start < hit.span.end
                && hit.span.start < known.span.end
        };
        if !found[..before.min(MOST_HITS)].iter().any(same) {
            found.push(hit);
        }
    }
}
