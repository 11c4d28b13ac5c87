//! What the model reads: screened values only.
//!
//! A text that was not screened is no message:
//! ```compile_fail
//! # use agent::{Message, Transcript};
//! # use safety::Screened;
//! let mut transcript = Transcript::default();
//! transcript.push(Message::Assistant(String::from("text")));
//! ```
//! ```
//! # use agent::{Message, Transcript};
//! # use safety::Screened;
//! let mut transcript = Transcript::default();
//! transcript.push(Message::Assistant(Screened::<String>::from_static("text")));
//! ```

use safety::{Blocked, Channel, Fence, Safety, Screened};
use serde_json::Value;
use types::{Rule, ToolName};

/// One message.
#[derive(Clone, Debug)]
pub enum Message {
    /// Typed by the owner.
    Owner(Screened<String>),
    /// Pasted, piped or attached; shown to the model inside a fence.
    Attached {
        /// The text.
        text: Screened<String>,
        /// Its fence.
        fence: Fence,
    },
    /// The model's own words.
    Assistant(Screened<String>),
    /// A call that the model proposed.
    Call {
        /// Its number in the conversation.
        number: u32,
        /// The tool.
        tool: ToolName,
        /// The arguments.
        arguments: Screened<Value>,
    },
    /// What the call returned, success or error; shown to the model inside a fence.
    Result {
        /// The call's number.
        number: u32,
        /// The tool.
        tool: ToolName,
        /// The text.
        text: Screened<String>,
        /// Its fence.
        fence: Fence,
        /// The tool reported an error.
        failed: bool,
    },
    /// The call was refused. The model is told the rule and nothing else.
    Refused {
        /// The call's number.
        number: u32,
        /// The rule.
        rule: &'static Rule,
    },
    /// A proposal that could not be read as a call, in the program's own words.
    Unreadable(&'static str),
}

impl Message {
    /// The text that came from outside: attachments and results.
    fn foreign(&self) -> Option<&str> {
        match self {
            Self::Attached { text, .. } | Self::Result { text, .. } => Some(text.as_str()),
            _ => None,
        }
    }

    /// All text of the message but the owner's and the program's own.
    fn text(&self) -> Option<String> {
        match self {
            Self::Assistant(text) => Some(text.as_str().to_owned()),
            Self::Call { arguments, .. } => Some(arguments.get().to_string()),
            other => other.foreign().map(str::to_owned),
        }
    }
}

/// A conversation, oldest message first.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    messages: Vec<Message>,
    calls: u32,
}

impl Transcript {
    /// Adds a message.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Takes back all messages after the first `whole`. Numbers of calls are not used again.
    pub(crate) fn truncate(&mut self, whole: usize) {
        self.messages.truncate(whole);
    }

    /// Adds a call and gives it its number.
    pub fn call(&mut self, tool: ToolName, arguments: Screened<Value>) -> u32 {
        self.calls += 1;
        self.push(Message::Call { number: self.calls, tool, arguments });
        self.calls
    }

    /// The messages.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Looks for secrets that no single message holds: in all that the owner did not type, and in what came
    /// from outside alone, each read as one stream (attack M09). The owner may tell the model what they will.
    pub fn check(&self, safety: &Safety) -> Result<(), Blocked> {
        let pieces: Vec<String> = self.messages.iter().filter_map(Message::text).collect();
        let foreign: Vec<&str> = self.messages.iter().filter_map(Message::foreign).collect();
        let whole = pieces.iter().map(|piece| piece.trim()).collect::<String>();
        safety.scan_bytes(whole.as_bytes(), Channel::Outbound)?;
        if foreign.len() > 1 {
            let stream = foreign.iter().map(|piece| piece.trim()).collect::<String>();
            safety.scan_bytes(stream.as_bytes(), Channel::Outbound)?;
        }
        Ok(())
    }
}
