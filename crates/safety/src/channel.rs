//! The ways text flows through the runtime; what is looked for and done depends on them.

use types::{Layer, Source};

/// From whom to whom a text is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Channel {
    /// Text given to the agent: typed, pasted, piped, attached.
    Input,
    /// Output of a tool or a file, success or error, on its way to the model.
    Result,
    /// Arguments from the model to a tool.
    Arguments,
    /// The model's words to a person.
    Reply,
    /// Bytes to the network. Only leaks are looked for.
    Outbound,
    /// Bytes from the network to a guest. Only leaks are looked for.
    Response,
    /// Words of a manifest (names, descriptions, schema texts) on their way to the model.
    Description,
    /// Diagnostics to a person or a log. Only leaks and controls are looked for.
    Log,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 8] = [
        Self::Input,
        Self::Result,
        Self::Arguments,
        Self::Reply,
        Self::Outbound,
        Self::Response,
        Self::Description,
        Self::Log,
    ];

    /// True where attack patterns are looked for: what a model will read, and what a model says.
    pub(crate) fn reads_patterns(self) -> bool {
        matches!(self, Self::Input | Self::Result | Self::Arguments | Self::Reply | Self::Description)
    }

    /// True where a text of this source is data, in which an order to an assistant has no place. What the
    /// owner typed is an order, and so is what the model proposes or says, and a manifest describes one.
    pub(crate) fn carries_data(self, source: &Source) -> bool {
        matches!(self, Self::Input | Self::Result) && *source != Source::Owner
    }

    /// True where terminal controls and hidden characters are taken out of what passes.
    pub(crate) fn strips_controls(self) -> bool {
        matches!(self, Self::Input | Self::Result | Self::Reply | Self::Description | Self::Log)
    }

    /// True where a text can be cut or have spans replaced and still be what it was meant to be.
    pub(crate) fn can_alter(self) -> bool {
        !matches!(self, Self::Arguments | Self::Outbound)
    }

    /// True where the configured length holds; what goes to the network and back has bounds of its own.
    pub(crate) fn limits_length(self) -> bool {
        !matches!(self, Self::Outbound | Self::Response)
    }

    /// The layer that the steps of a trace are listed under.
    pub(crate) fn layer(self) -> Layer {
        match self {
            Self::Reply | Self::Log => Layer::Output,
            _ => Layer::Safety,
        }
    }
}
