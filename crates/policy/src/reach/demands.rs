//! What the rules of a run ask of one request, all of them together.

use std::fmt;

use http::Method;
use types::{FoldedPath, Rule, SecretName, Target, TokensInto};

use super::{Reach, ReachRule};
use crate::rules;

/// The rules that hold for a request. Each of them does: what one asks for no other takes back.
pub(crate) struct Demands<'a> {
    rules: Vec<&'a ReachRule>,
    /// Whether a rule at this place, or under it, is for some methods alone.
    narrow: bool,
}

impl Reach {
    /// What is asked of a request to this target.
    ///
    /// Of the rules that cover it those with the longest path hold, for one host as for many. The same is looked up once more
    /// for the paths that a less exact server may read instead of the one that is written ([`FoldedPath`]), and what the
    /// rules there ask for is asked for as well: no spelling leads around a rule (attack P01).
    ///
    /// # Errors
    /// The rule to refuse by: nothing covers the target as it is written, or the answer would be captured into two places.
    pub(crate) fn demands(&self, target: &Target) -> Result<Demands<'_>, &'static Rule> {
        let here = |rule: &&ReachRule| rule.scheme == target.scheme && rule.names(&target.endpoint);
        let here: Vec<&ReachRule> = self.0.iter().filter(here).collect();
        let mut rules =
            deepest(here.iter().filter(|rule| rule.covers(target)), |rule| rule.path.as_str().len());
        let Some(depth) = rules.iter().map(|rule| rule.path.folded().depth()).max() else {
            return Err(self.missing(target));
        };
        let path = target.path.folded();
        for reads in [FoldedPath::is_under, FoldedPath::begins_under] {
            let covers =
                |rule: &&&ReachRule| is_for(rule, &target.method) && reads(&path, rule.path.folded());
            for rule in deepest(here.iter().filter(covers), |rule| rule.path.folded().depth()) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
        let narrows = |rule: &&ReachRule| {
            let prefix = rule.path.folded();
            !rule.takes_every_method() && prefix.depth() >= depth && path.begins_under(prefix)
        };
        let demands = Demands { narrow: here.iter().any(narrows), rules };
        if demands.captures().any(|into| Some(into) != demands.capture()) {
            return Err(&rules::PATH_NOT_ALLOWED);
        }
        Ok(demands)
    }
}

/// Whether what a rule asks for is asked of this method: servers carry `HEAD` out as `GET` (RFC 9110, 9.3.2).
fn is_for(rule: &ReachRule, method: &Method) -> bool {
    rule.methods.contains(method) || method == Method::HEAD && rule.methods.contains(&Method::GET)
}

/// Of these rules those whose path is the longest.
fn deepest<'r, 'a: 'r>(
    rules: impl Iterator<Item = &'r &'a ReachRule> + Clone,
    depth: impl Fn(&ReachRule) -> usize,
) -> Vec<&'a ReachRule> {
    let most = rules.clone().map(|rule| depth(rule)).max();
    rules.filter(|rule| Some(depth(rule)) == most).copied().collect()
}

impl<'a> Demands<'a> {
    /// The owner is asked.
    pub(crate) fn ask(&self) -> bool {
        self.rules.iter().any(|rule| rule.ask)
    }

    /// A body has to be a single JSON object.
    pub(crate) fn single(&self) -> bool {
        self.rules.iter().any(|rule| rule.single)
    }

    /// The secrets that the request has to carry.
    pub(crate) fn required(&self) -> impl Iterator<Item = &'a SecretName> {
        self.rules.iter().filter_map(|rule| rule.require.as_ref())
    }

    /// What the tokens in the answer become.
    pub(crate) fn capture(&self) -> Option<&'a TokensInto> {
        self.captures().next()
    }

    /// A rule here is for some methods alone, so that it matters which one a request is taken for.
    pub(crate) fn is_narrow(&self) -> bool {
        self.narrow
    }

    fn captures(&self) -> impl Iterator<Item = &'a TokensInto> {
        self.rules.iter().filter_map(|rule| rule.capture.as_ref())
    }
}

/// The rules as the command line writes them, the one that allows the request first.
impl fmt::Display for Demands<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, rule) in self.rules.iter().enumerate() {
            write!(f, "{}{rule}", if at == 0 { "" } else { " and " })?;
        }
        Ok(())
    }
}
