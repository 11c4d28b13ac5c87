//! The agent: one turn from a person's text to the reply, and everything a turn needs.
//!
//! Tier 7. Holds no key and no socket: a request to a model goes through `egress` like every other, with
//! a key that only the wire sees. Read [`turn`](Agent::turn) first; it is the whole story in one function.
//!
//! - `turn`: admit, ask the model, decide, run, release.
//! - `gate`: text in and out, with the record of what was found.
//! - [`alert`]: what must not be missed.
//! - [`transcript`]: what the model reads.
//! - [`model`]: the offline provider and OpenAI-compatible endpoints.
//! - [`files`], [`shell`]: the built-in tools.

pub mod alert;
pub mod files;
mod gate;
pub mod model;
mod outcome;
pub mod rules;
pub mod shell;
pub mod transcript;
mod turn;

pub use alert::{Alarm, Alert, AlertCommand};
pub use files::Files;
pub use model::{Chat, ChatSettings, Model, ModelName, Offline};
pub use outcome::{Failure, Outcome};
pub use shell::Shell;
pub use transcript::{Message, Transcript};
pub use turn::{Agent, Ask, Conversation, Input, Parts};
