//! How a command ends: an exit code that scripts can rely on, and what a person is told.

use std::fmt;

use safety::Untrusted;
use types::Refusal;

/// The exit codes of every command; 0 is for one that did what was asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Code {
    /// It tried and failed.
    Failed = 1,
    /// The command line or the configuration does not make sense.
    Usage = 2,
    /// A rule, a policy or a missing grant refused it.
    Refused = 3,
    /// A scan found something at or above `--fail-on`.
    Findings = 4,
    /// What was named does not exist.
    NotFound = 5,
    /// This machine cannot hold the promise now: a locked keychain, an open data folder.
    Environment = 6,
}

/// Why a command did not end well.
#[derive(Debug)]
pub enum Failure {
    /// Refused, with the rule and the command that would widen it. On record, so that its id explains it.
    Refused(Vec<Refusal>),
    /// The same before there was anything to record.
    Unrecorded(Refusal),
    /// Anything else, in this program's own words.
    Plain(Code, String),
    /// This program's own words, and a foreign text that is screened before it is shown.
    Quoting(Code, String, Untrusted<String>),
    /// Said already; only the code is left.
    Said(Code),
    /// A command that was run ended with this code, which is passed on.
    Passed(u8),
}

impl Failure {
    /// Tried and failed.
    pub fn failed(words: impl fmt::Display) -> Self {
        Self::Plain(Code::Failed, words.to_string())
    }

    /// The command line or the configuration is wrong.
    pub fn usage(words: impl fmt::Display) -> Self {
        Self::Plain(Code::Usage, words.to_string())
    }

    /// What was named does not exist.
    pub fn not_found(words: impl fmt::Display) -> Self {
        Self::Plain(Code::NotFound, words.to_string())
    }

    /// This machine cannot hold the promise now.
    pub fn environment(words: impl fmt::Display) -> Self {
        Self::Plain(Code::Environment, words.to_string())
    }

    /// The exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Unrecorded(_) => Code::Refused as u8,
            Self::Plain(code, _) | Self::Quoting(code, ..) | Self::Said(code) => *code as u8,
            Self::Passed(code) => *code,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Unrecorded(refusal)
    }
}

/// What every command gives back.
pub type Outcome = Result<(), Failure>;
