//! Was the missing layer noticed, and for the reason that the patch gives?

use std::fmt;

use super::patch::{Expect, Patch};
use super::run::Outcome;

/// The verdict on one patch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Notice {
    Noticed,
    Missed(&'static str),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Noticed => f.write_str("ok"),
            Self::Missed(why) => write!(f, "NOT NOTICED ({why})"),
        }
    }
}

pub(super) fn judge(patch: &Patch, outcome: &Outcome) -> Notice {
    match (&patch.expect, outcome) {
        (Expect::TestFails, Outcome::Failed | Outcome::TimedOut) => Notice::Noticed,
        (Expect::BuildFails { error }, Outcome::BuildFailed(said)) if said.contains(error) => Notice::Noticed,
        (Expect::TestFails, Outcome::BuildFailed(_)) => {
            Notice::Missed("the build fails before the test can run")
        }
        (Expect::BuildFails { .. }, Outcome::BuildFailed(_)) => {
            Notice::Missed("the build fails with another error")
        }
        (Expect::BuildFails { .. }, _) => Notice::Missed("it builds"),
        (Expect::TestFails, Outcome::Passed) => Notice::Missed("the test passes"),
        (Expect::TestFails, Outcome::NoSuchTest) => Notice::Missed("the test is gone"),
    }
}
