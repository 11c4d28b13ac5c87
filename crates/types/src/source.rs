//! Where a value came from. Only what the owner typed is the owner's word.

use std::fmt;

use crate::{Confidentiality, Host, Integrity, Label, ToolName};

/// The origin of a value, given when it enters and kept until it leaves.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// Typed by the owner at a keyboard or given by them as an argument.
    Owner,
    /// Pasted into the terminal.
    Paste,
    /// Read from a pipe or standard input.
    Pipe,
    /// Read from a file of the workspace or of the machine.
    File,
    /// Returned, logged or refused by a tool.
    Tool(ToolName),
    /// The body, headers or error of a network peer.
    Web(Host),
    /// Written by the language model.
    Model,
    /// Read back from the database: what was once screened is untrusted again.
    Store,
}

impl Source {
    /// The label a value of this origin starts with.
    pub fn label(&self) -> Label {
        let integrity = match self {
            Self::Owner => Integrity::Trusted,
            _ => Integrity::Untrusted,
        };
        // What the owner types is theirs to disclose by asking; what they own is not.
        let confidentiality = match self {
            Self::Owner | Self::Web(_) => Confidentiality::Public,
            _ => Confidentiality::Private,
        };
        Label { integrity, confidentiality }
    }

    /// The kind of origin in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Paste => "paste",
            Self::Pipe => "pipe",
            Self::File => "file",
            Self::Tool(_) => "tool",
            Self::Web(_) => "web",
            Self::Model => "model",
            Self::Store => "store",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tool(name) => write!(f, "tool {name}"),
            Self::Web(host) => write!(f, "web {host}"),
            other => f.write_str(other.kind()),
        }
    }
}
