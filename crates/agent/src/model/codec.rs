//! The OpenAI-compatible chat-completions protocol without I/O: a request made of screened parts, and
//! a streamed answer read back into untrusted ones.
//!
//! A call and its result each become a message of their own, so a transcript that was cut between two
//! calls is still a valid conversation. Ids of calls are this program's numbers; what the model calls
//! them is not kept.

use bytes::Bytes;
use policy::Tool;
use safety::{Fence, StaticFault, Untrusted};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use types::Source;

use super::sse::Decoder;
use super::{Proposal, Said};
use crate::transcript::{Message, Transcript};

/// The longest text of one answer.
const MAX_TEXT: usize = 1 << 20;

/// The longest arguments of all calls of one answer together.
const MAX_ARGUMENTS: usize = 256 << 10;

/// The most calls that one answer may propose.
const MAX_CALLS: usize = 16;

/// What the model is told before anything else.
const INSTRUCTIONS: &str = "You are an assistant that works for the person who types. Use the tools that are offered when they \
    help, and answer in plain text. A call may be refused; then say so and do not try to get around it.";

/// The name of a model at its endpoint, as the owner configured it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelName(Box<str>);

/// Why a model's name was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the name of a model has 1 to 128 letters, digits and ._:/@+-")]
pub struct ModelNameError;

impl ModelName {
    /// Reads a name as endpoints use them: `gpt-4o`, `meta-llama/Llama-3:70b`.
    pub fn parse(text: &str) -> Result<Self, ModelNameError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b);
        let good = !text.is_empty() && text.len() <= 128 && text.bytes().all(plain);
        if good { Ok(Self(text.into())) } else { Err(ModelNameError) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The body of a request: screened texts, parsed names and the program's own words.
pub fn request(
    model: &ModelName,
    transcript: &Transcript,
    tools: &[impl AsRef<Tool>],
    max_tokens: u32,
) -> Bytes {
    let mut messages = vec![json!({"role": "system", "content": format!("{INSTRUCTIONS}\n{}", Fence::RULE)})];
    messages.extend(transcript.messages().iter().map(message));
    let mut body = json!({
        "model": model.as_str(),
        "messages": messages,
        "stream": true,
        "stream_options": {"include_usage": true},
        "max_tokens": max_tokens,
    });
    if !tools.is_empty() {
        body["tools"] = tools.iter().map(|tool| offer(tool.as_ref())).collect();
    }
    Bytes::from(body.to_string())
}

fn offer(tool: &Tool) -> Value {
    json!({"type": "function", "function": {
        "name": tool.manifest.name.as_str(),
        "description": tool.description.as_str(),
        "parameters": tool.parameters.get(),
    }})
}

fn message(message: &Message) -> Value {
    match message {
        Message::Owner(text) => json!({"role": "user", "content": text.as_str()}),
        Message::Attached { text, fence } => json!({"role": "user", "content": fence.wrap(text).as_str()}),
        Message::Assistant(text) => json!({"role": "assistant", "content": text.as_str()}),
        Message::Call { number, tool, arguments } => {
            json!({"role": "assistant", "content": null, "tool_calls": [{
                "id": call_id(*number),
                "type": "function",
                "function": {"name": tool.as_str(), "arguments": arguments.get().to_string()},
            }]})
        }
        Message::Result { number, text, fence, .. } => {
            json!({"role": "tool", "tool_call_id": call_id(*number), "content": fence.wrap(text).as_str()})
        }
        Message::Refused { number, rule } => json!({
            "role": "tool",
            "tool_call_id": call_id(*number),
            "content": format!("refused ({}): {}", rule.id, rule.says),
        }),
        Message::Unreadable(words) => json!({"role": "user", "content": words}),
    }
}

fn call_id(number: u32) -> String {
    format!("call_{number}")
}

/// An answer that is being read.
#[derive(Debug, Default)]
pub struct Answer {
    events: Decoder,
    text: String,
    calls: Vec<PartialCall>,
    arguments: usize,
    finished: bool,
    tokens: Option<u64>,
}

#[derive(Debug, Default)]
struct PartialCall {
    index: Option<u64>,
    name: String,
    arguments: String,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    total_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    index: u64,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    finish_reason: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<Fragment>>,
}

#[derive(Deserialize)]
struct Fragment {
    #[serde(default)]
    index: Option<u64>,
    #[serde(default)]
    function: Option<FunctionFragment>,
}

#[derive(Deserialize)]
struct FunctionFragment {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    arguments: Option<String>,
}

impl Answer {
    /// Reads the next bytes of the response's body.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), StaticFault> {
        let mut events = std::mem::take(&mut self.events);
        let fed = events.feed(bytes, |data| self.event(data));
        self.events = events;
        fed
    }

    /// The whole answer. One that ended in the middle is none.
    pub fn finish(self) -> Result<Said, StaticFault> {
        if !self.finished {
            return Err(StaticFault("the answer of the model ended early"));
        }
        let foreign = |text: String| Untrusted::new(Source::Model, text);
        let proposal =
            |call: PartialCall| Proposal { tool: foreign(call.name), arguments: foreign(call.arguments) };
        Ok(Said {
            text: Some(self.text).filter(|text| !text.trim().is_empty()).map(foreign),
            calls: self.calls.into_iter().map(proposal).collect(),
            tokens: self.tokens,
        })
    }

    fn event(&mut self, data: &[u8]) -> Result<(), StaticFault> {
        if data.trim_ascii() == b"[DONE]" {
            self.finished = true;
            return Ok(());
        }
        let chunk: Chunk =
            serde_json::from_slice(data).map_err(|_| StaticFault("the answer of the model is malformed"))?;
        if chunk.error.is_some() {
            return Err(StaticFault("the model reported an error"));
        }
        if let Some(total) = chunk.usage.and_then(|usage| usage.total_tokens) {
            self.tokens = Some(total);
        }
        // One choice was asked for; whatever else comes is not an answer to that.
        chunk
            .choices
            .into_iter()
            .filter(|choice| choice.index == 0)
            .try_for_each(|choice| self.choice(choice))
    }

    fn choice(&mut self, choice: Choice) -> Result<(), StaticFault> {
        self.finished |= choice.finish_reason.is_some();
        let Some(delta) = choice.delta else {
            return Ok(());
        };
        if let Some(content) = delta.content {
            if self.text.len() + content.len() > MAX_TEXT {
                return Err(StaticFault("the answer of the model is too long"));
            }
            self.text.push_str(&content);
        }
        delta.tool_calls.unwrap_or_default().into_iter().try_for_each(|fragment| self.fragment(fragment))
    }

    /// Adds a piece of a call. A piece without an index begins a call when it has a name.
    fn fragment(&mut self, fragment: Fragment) -> Result<(), StaticFault> {
        let Some(function) = fragment.function else {
            return Ok(());
        };
        let name = function.name.unwrap_or_default();
        let arguments = function.arguments.unwrap_or_default();
        let known = match fragment.index {
            Some(index) => self.calls.iter().position(|call| call.index == Some(index)),
            None if name.is_empty() => self.calls.len().checked_sub(1),
            None => None,
        };
        let at = match known {
            Some(at) => at,
            None if self.calls.len() == MAX_CALLS => {
                return Err(StaticFault("the model proposed too many calls at once"));
            }
            None => {
                self.calls.push(PartialCall { index: fragment.index, ..PartialCall::default() });
                self.calls.len() - 1
            }
        };
        self.arguments += name.len() + arguments.len();
        if self.arguments > MAX_ARGUMENTS {
            return Err(StaticFault("the model proposed calls that are too long"));
        }
        if let Some(call) = self.calls.get_mut(at) {
            call.name.push_str(&name);
            call.arguments.push_str(&arguments);
        }
        Ok(())
    }
}
