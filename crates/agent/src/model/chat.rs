//! An OpenAI-compatible endpoint. It is asked through `egress` under a permit of its own, and its key is
//! injected there: nothing in this crate holds one.

use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use egress::{Egress, Message, SendError};
use futures_util::StreamExt as _;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use policy::{Policy, Tool, Turn};
use safety::{BodyFault, StaticFault};
use types::{Layer, Target, Verdict};

use super::codec::{self, Answer, ModelName};
use super::{NoAnswer, Said};
use crate::outcome::Failure;
use crate::transcript::Transcript;

/// Bytes of a prompt that make about one token, for the budget.
const BYTES_PER_TOKEN: u64 = 4;

/// Bytes of a prompt that no tokenizer makes fewer than one token of on the whole: an endpoint that says less is not
/// believed, so that saying "0" does not lift the budget.
const MOST_BYTES_PER_TOKEN: u64 = 16;

/// Where a model is and how it is asked.
#[derive(Clone, Debug)]
pub struct ChatSettings {
    /// POST to the endpoint of chat completions.
    pub target: Target,
    /// The model's name there.
    pub model: ModelName,
    /// The longest answer, in tokens.
    pub max_tokens: u32,
    /// The price of a million tokens, in millionths of the budget's currency.
    pub price: u64,
}

/// A model behind an endpoint.
pub struct Chat {
    settings: ChatSettings,
    policy: Policy,
    egress: Arc<Egress>,
}

impl Chat {
    /// A model that is asked through this door under this policy.
    pub fn new(settings: ChatSettings, policy: Policy, egress: Arc<Egress>) -> Self {
        Self { settings, policy, egress }
    }

    /// Sends the transcript and reads the answer while it streams.
    pub(super) async fn answer(
        &self,
        turn: &Turn,
        transcript: &Transcript,
        tools: &[Arc<Tool>],
    ) -> Result<Said, NoAnswer> {
        let since = Instant::now();
        let body = codec::request(&self.settings.model, transcript, tools, self.settings.max_tokens);
        let length = body.len() as u64;
        let tokens = length / BYTES_PER_TOKEN + u64::from(self.settings.max_tokens);
        let target = self.settings.target.clone();
        let decided = self.policy.decide_model(turn, target, tokens, self.price_of(tokens)).await;
        let (permit, reserved) = decided.map_err(NoAnswer::Refused)?;
        let message = Message { headers: headers(), body: body.into() };
        let response = self.egress.send(permit, message, turn.trace()).await.map_err(unsent)?;
        if response.status() != StatusCode::OK {
            return Err(NoAnswer::Failed(Failure::Status(response.status().as_u16())));
        }
        if !is_event_stream(response.headers()) {
            return Err(fault(StaticFault("the answer is not an event stream")));
        }
        let mut answer = Answer::default();
        let mut chunks = pin!(response.into_body());
        while let Some(chunk) = chunks.next().await {
            answer.feed(&chunk.map_err(broken)?).map_err(fault)?;
        }
        let said = answer.finish().map_err(fault)?;
        if let Some(told) = said.tokens {
            let used = told.max(length / MOST_BYTES_PER_TOKEN);
            let settled = self.policy.settle_model(reserved, used, self.price_of(used)).await;
            settled.map_err(NoAnswer::Refused)?;
        }
        turn.trace().step(Layer::Agent, "model", Verdict::Done, since, || {
            let used =
                said.tokens.map_or_else(|| "tokens not told".to_owned(), |tokens| format!("{tokens} tokens"));
            format!("{}, {} calls proposed", used, said.calls.len())
        });
        Ok(said)
    }

    /// In millionths of the budget's currency.
    fn price_of(&self, tokens: u64) -> u64 {
        u64::try_from(u128::from(tokens) * u128::from(self.settings.price) / 1_000_000).unwrap_or(u64::MAX)
    }
}

fn headers() -> HeaderMap {
    HeaderMap::from_iter([
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (ACCEPT, HeaderValue::from_static("text/event-stream")),
    ])
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("text/event-stream")
}

fn unsent(error: SendError) -> NoAnswer {
    match error {
        SendError::Refused(refusal) => NoAnswer::Refused(refusal),
        SendError::Failed(failure) => NoAnswer::Failed(Failure::Send(failure)),
    }
}

fn broken(fault: BodyFault) -> NoAnswer {
    match fault {
        BodyFault::Blocked(blocked) => NoAnswer::Blocked(blocked),
        BodyFault::Refused(refusal) => NoAnswer::Refused(refusal),
        BodyFault::TooLarge(longest) => NoAnswer::Failed(Failure::TooLong(longest)),
        BodyFault::Ratio => NoAnswer::Failed(StaticFault("the answer grows too much in decoding").into()),
        BodyFault::Encoding => NoAnswer::Failed(StaticFault("the encoding of the answer is unknown").into()),
        BodyFault::Upstream => {
            NoAnswer::Failed(StaticFault("the connection ended before the answer did").into())
        }
    }
}

fn fault(fault: StaticFault) -> NoAnswer {
    NoAnswer::Failed(Failure::Protocol(fault))
}
