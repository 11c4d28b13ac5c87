//! How a turn ended.

use policy::Turn;
use safety::{Screened, StaticFault};
use types::Refusal;
use types::limits::Bytes;

use crate::alert::Alert;

/// The end of a turn, for the person.
#[derive(Debug)]
pub struct Outcome {
    /// The turn: its id, its label and its trace.
    pub turn: Turn,
    /// The last answer. A turn that was halted has none.
    pub reply: Option<Screened<String>>,
    /// What was refused, in order; each names its rule and the command that would allow it.
    pub refusals: Vec<Refusal>,
    /// What the person must not miss.
    pub alerts: Vec<Alert>,
    /// What commands left in the workspace that some program would have obeyed, and where it was moved.
    pub moved: Vec<Screened<String>>,
    /// What could not be carried out.
    pub failure: Option<Failure>,
}

/// Why a turn could not be carried out, in fixed words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// The request to the model did not come to an answer.
    #[error("the model was not reached: {0}")]
    Send(#[from] egress::Failure),
    /// The model's endpoint answered with another status than 200.
    #[error("the model's endpoint answered with status {0}")]
    Status(u16),
    /// The answer is not what the protocol says.
    #[error("the model's endpoint did not answer as the protocol asks: {0}")]
    Protocol(#[from] StaticFault),
    /// The answer is longer than an answer may be.
    #[error("the model's answer is longer than {0}")]
    TooLong(Bytes),
    /// A tool reported an error and there was no model to go on with it.
    #[error("a tool failed")]
    Tool,
}

impl Outcome {
    pub(crate) fn of(turn: Turn) -> Self {
        Self { turn, reply: None, refusals: Vec::new(), alerts: Vec::new(), moved: Vec::new(), failure: None }
    }
}
