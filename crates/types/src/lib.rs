//! The words every layer speaks: names, hosts, targets, limits, labels, effects and records.
//!
//! Tier 0. Constructors parse and refuse; nothing here performs I/O, reads a clock or knows a
//! secret. Parse errors quote no input, so that an error message can never carry a foreign byte.

pub mod digest;
pub mod effect;
pub mod folded;
pub mod grant;
pub mod host;
pub mod id;
pub mod image;
pub mod label;
pub mod limits;
pub mod names;
pub mod record;
pub mod refusal;
pub mod source;
pub mod target;
pub mod trace;

pub use digest::Digest;
pub use effect::{
    Caller, Command, Confinement, Injection, Lane, Outbound, Pull, SecretUse, Site, Tokens, TokensInto,
    ToolCall,
};
pub use folded::FoldedPath;
pub use grant::Grant;
pub use host::{Endpoint, Host, HostName, Port};
pub use id::{CallId, FindingId, RefusalId, TurnId};
pub use image::{ImageName, ImageNameError, Registry};
pub use label::{Confidentiality, Integrity, Label};
pub use names::{SecretName, Tenant, ToolName};
pub use record::{Field, Kind, Record, Verdict};
pub use refusal::{Layer, Refusal, Rule};
pub use source::Source;
pub use target::{CanonicalPath, PathPrefix, Scheme, Target, has_second_reading};
pub use trace::Trace;
