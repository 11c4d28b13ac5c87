//! Identifiers made by the application (UUID version 7, RFC 9562: ordered by time).

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub struct $name(uuid::Uuid);

        impl $name {
            /// A new identifier, later than those made before it.
            #[allow(clippy::new_without_default, reason = "two defaults would differ")]
            pub fn new() -> Self {
                Self(uuid::Uuid::now_v7())
            }

            /// Reads the textual form.
            pub fn parse(text: &str) -> Option<Self> {
                uuid::Uuid::try_parse(text).ok().map(Self)
            }

            /// The 16 bytes.
            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The identifier whose 16 bytes these are.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(uuid::Uuid::from_bytes(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// One turn of the agent: from a person's text to the reply.
    TurnId
}
id! {
    /// One tool call inside a turn.
    CallId
}
id! {
    /// One refusal; `ironclaw policy explain ID` shows its reason and what would widen it.
    RefusalId
}
id! {
    /// One finding or held call that waits for a person in `ironclaw approvals`.
    FindingId
}
