//! Language models: what proposes the next step of a turn. A proposal is untrusted, whoever made it.

pub mod chat;
pub mod codec;
pub mod offline;
pub mod sse;

use std::sync::Arc;
use std::time::Instant;

use policy::{Tool, Turn};
use safety::{Blocked, Untrusted};
use types::{Layer, Refusal, Verdict};

pub use self::chat::{Chat, ChatSettings};
pub use self::codec::ModelName;
pub use self::offline::Offline;
use crate::outcome::Failure;
use crate::transcript::Transcript;

/// What answers a turn.
pub enum Model {
    /// No model: the request is matched to the tools.
    Offline(Offline),
    /// An OpenAI-compatible endpoint.
    Chat(Box<Chat>),
}

/// What a model answered: words, proposed calls, or both. Without calls the turn is over.
#[derive(PartialEq, Eq, Debug)]
pub struct Said {
    /// The words.
    pub text: Option<Untrusted<String>>,
    /// The calls, in order.
    pub calls: Vec<Proposal>,
    /// Tokens of the exchange, where the endpoint counts them.
    pub tokens: Option<u64>,
}

/// A call that a model proposes.
#[derive(PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The name of a tool, or anything else.
    pub tool: Untrusted<String>,
    /// Arguments as JSON text, or anything else.
    pub arguments: Untrusted<String>,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// A rule said no.
    Refused(Refusal),
    /// The answer, or what was to be sent, holds what may not pass.
    Blocked(Blocked),
    /// The endpoint did not answer as the protocol asks.
    Failed(Failure),
}

impl Model {
    /// The failure of a turn whose tool failed: a model may find another way, the offline provider cannot.
    pub(crate) fn cannot_mend(&self, failed: bool) -> Option<Failure> {
        (failed && matches!(self, Self::Offline(_))).then_some(Failure::Tool)
    }

    /// Asks for the next step.
    pub async fn answer(
        &self,
        turn: &Turn,
        transcript: &Transcript,
        tools: &[Arc<Tool>],
    ) -> Result<Said, NoAnswer> {
        match self {
            Self::Offline(offline) => {
                let since = Instant::now();
                let said = offline.answer(transcript, tools);
                turn.trace().step(Layer::Agent, "offline", Verdict::Done, since, || match said.calls.len() {
                    0 => "nothing more to call".to_owned(),
                    _ => format!("matched the request to one of {} tools", tools.len()),
                });
                Ok(said)
            }
            Self::Chat(chat) => chat.answer(turn, transcript, tools).await,
        }
    }
}
