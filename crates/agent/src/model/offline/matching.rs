//! Which tool a request means: the overlap of its words with those of the tools.

use safety::Screened;
use serde_json::Value;
use types::ToolName;

use super::arguments::{self, Missing, Parameter};
use super::{unspaced, words};

/// Points for a word of the tool's name, of its description and of its parameters.
const NAME: u32 = 3;
const DESCRIPTION: u32 = 2;
const PARAMETER: u32 = 1;

/// Points for an argument that can only mean this kind of tool: a file name for a path.
const EVIDENCE: u32 = 2;

/// The least that chooses a tool: one telling word of its description.
const THRESHOLD: u32 = 2;

/// A tool as the matcher sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer<'a> {
    /// Its name.
    pub(crate) name: &'a ToolName,
    /// What it says of itself.
    pub(crate) description: &'a str,
    /// Words that people ask for it with, in any language.
    pub(crate) keywords: &'a [Screened<String>],
    /// The JSON Schema of its arguments.
    pub(crate) parameters: &'a Value,
}

/// What a clause of a request comes to.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Match {
    /// This tool with these arguments.
    Call { tool: ToolName, arguments: Value },
    /// This tool, but an argument is not in the request.
    Missing { tool: ToolName, missing: Missing },
    /// The clause holds no word that says anything.
    Nothing,
    /// No tool.
    Unknown,
}

/// Chooses the tool whose words overlap most; of two, one whose arguments the clause holds.
pub(super) fn choose(clause: &str, offers: &[Offer<'_>]) -> Match {
    if words::stems(&unspaced::spaced(clause, &|_| false)).is_empty() {
        return Match::Nothing;
    }
    let mut best: Option<(u32, Match)> = None;
    for offer in offers {
        let parameters = arguments::parameters(offer.parameters);
        let profile = Profile::of(offer, &parameters);
        let clause = &*unspaced::spaced(clause, &|word| profile.is_own_word(word));
        let stems = words::stems(clause);
        let filled = arguments::fill(clause, &parameters, &|stem| profile.points(stem) > 0);
        let score = profile.score(clause, &stems, &filled);
        if score < THRESHOLD {
            continue;
        }
        let (score, outcome) = match filled.arguments {
            Ok(arguments) => (score * 2 + 1, Match::Call { tool: offer.name.clone(), arguments }),
            Err(missing) => (score, Match::Missing { tool: offer.name.clone(), missing }),
        };
        if best.as_ref().is_none_or(|(most, _)| score > *most) {
            best = Some((score, outcome));
        }
    }
    best.map_or(Match::Unknown, |(_, outcome)| outcome)
}

/// The words of one tool.
struct Profile {
    name: Vec<String>,
    description: Vec<String>,
    parameters: Vec<String>,
    keywords: Vec<String>,
    keyword_stems: Vec<String>,
    literal: String,
}

impl Profile {
    fn of(offer: &Offer<'_>, parameters: &[Parameter<'_>]) -> Self {
        let keywords: Vec<String> = offer.keywords.iter().map(|word| word.as_str().to_lowercase()).collect();
        Self {
            name: words::stems(offer.name.as_str()),
            description: own_stems(offer.description),
            keyword_stems: keywords.iter().flat_map(|keyword| words::stems(keyword)).collect(),
            keywords,
            parameters: parameters.iter().flat_map(|parameter| parameter.stems.clone()).collect(),
            literal: offer.name.as_str().to_owned(),
        }
    }

    /// True for a word of a script without spaces that the tool says of itself.
    fn is_own_word(&self, word: &str) -> bool {
        let holds = |words: &[String]| words.iter().any(|own| own == word);
        holds(&self.keywords)
            || word.chars().count() > 1 && (holds(&self.description) || holds(&self.parameters))
    }

    fn points(&self, stem: &str) -> u32 {
        let holds = |words: &[String]| words.iter().any(|word| word == stem);
        let points = match () {
            () if holds(&self.name) => NAME,
            () if holds(&self.description) || holds(&self.keyword_stems) => DESCRIPTION,
            () if holds(&self.parameters) => PARAMETER,
            () => 0,
        };
        if words::is_generic(stem) { points.min(PARAMETER) } else { points }
    }

    /// The sum over the clause's words; nothing when too few of them have to do with the tool.
    fn score(&self, clause: &str, stems: &[String], filled: &arguments::Filled) -> u32 {
        let (mut known, mut all, mut sum) = (0, 0, 0);
        for stem in stems.iter().filter(|stem| !filled.used.contains(stem)) {
            all += 1;
            let points = self.points(stem);
            known += u32::from(points > 0);
            sum += points;
        }
        if clause.to_lowercase().split(|c: char| !is_name(c)).any(|word| word == self.literal) {
            sum += NAME;
        }
        if filled.evidence {
            sum += EVIDENCE;
            known += 1;
            all += 1;
        }
        // Of three words that say something, at least one has to be about the tool.
        if known * 3 < all { 0 } else { sum }
    }
}

/// The stems of what a tool says, without the small words of scripts without spaces.
fn own_stems(text: &str) -> Vec<String> {
    words::stems(&unspaced::spaced(text, &|_| false))
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}
