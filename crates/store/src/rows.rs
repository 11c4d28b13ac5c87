//! What the tables hold, as plain data. A row proves nothing: whoever reads one checks its seal or
//! its authentication code before acting on it.

use std::fmt;

use types::{Digest, FindingId, RefusalId, SecretName, Tenant, ToolName};

/// Declares a closed set of words that a column may hold.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word in the column, in listings and in JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The value of a word.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// Where a version of a secret is in its life.
    SecretState {
        /// The version that is injected.
        Current = "current",
        /// The version before it, kept for one rotation.
        Previous = "previous",
        /// The newest version, but not to be injected.
        Disabled = "disabled",
        /// Its sealed bytes are gone; the row keeps the number from being used again.
        Destroyed = "destroyed",
    }
}

words! {
    /// How far an exchange of the master key has come.
    RotationState {
        /// The old key is in force; slots and wraps of the new one are being made.
        Pending = "pending",
        /// The new key is in force; those of the old one are still there.
        Switched = "switched",
    }
}

words! {
    /// Whether a tool may be called.
    ToolState {
        /// Installed; nobody has approved it.
        Pending = "pending",
        /// Approved with exactly this digest.
        Approved = "approved",
        /// Approved once, and stopped since.
        Suspended = "suspended",
    }
}

words! {
    /// How far a held call or a flagged finding has come.
    ApprovalState {
        /// A person has not answered.
        Waiting = "waiting",
        /// Answered with yes; may be used once.
        Approved = "approved",
        /// Answered with no.
        Denied = "denied",
        /// The one use has happened.
        Used = "used",
        /// Nobody answered in time.
        Expired = "expired",
    }
}

words! {
    /// What a budget counts.
    Meter {
        /// Tool calls and requests.
        Calls = "calls",
        /// Tokens of a language model.
        Tokens = "tokens",
        /// Money in millionths of the budget's currency.
        Cost = "cost",
    }
}

/// One record of the audit chain as it lies in the table. The reader promises nothing about it:
/// a number in the place of bytes reads as empty, so that verification names the row and goes no further.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuditRow {
    /// The number; -1 where the column holds no integer.
    pub seq: i64,
    /// The canonical bytes of the record.
    pub record: Vec<u8>,
    /// The hash that ties it to the one before.
    pub chain: Vec<u8>,
    /// The refusal that the record holds, for finding it by its id.
    pub refusal: Option<Vec<u8>>,
    /// What the record takes for itself, and no second one can hold.
    pub claim: Option<Vec<u8>>,
}

/// A record on its way into the table.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// One more than the last number in the table.
    pub seq: i64,
    /// The canonical bytes.
    pub record: &'a [u8],
    /// The hash over the one before, the number and the bytes.
    pub chain: &'a [u8; 32],
    /// The refusal that the record holds.
    pub refusal: Option<RefusalId>,
    /// What the record takes for itself.
    pub claim: Option<&'a str>,
    /// Milliseconds since 1970, by which expiries in the same transaction are judged.
    pub at_ms: u64,
}

/// One way to unlock the vault.
#[derive(Clone, PartialEq, Eq)]
pub struct SlotRow {
    /// The slot's name.
    pub id: String,
    /// `keychain`, `passphrase` or `file`.
    pub kind: String,
    /// What the kind needs to find or derive its key; nothing secret.
    pub params: Vec<u8>,
    /// The key-encryption key, wrapped under the slot's own key.
    pub wrapped: Vec<u8>,
    /// The generation of the key-encryption key.
    pub generation: i64,
    /// When it was made, in milliseconds since 1970.
    pub created_ms: u64,
    /// The slot of the old master key whose place this one takes; empty outside of a rotation.
    pub follows: String,
}

/// An exchange of the master key.
#[derive(Clone, PartialEq, Eq)]
pub struct RotationRow {
    /// The generation of the old key.
    pub from: i64,
    /// The generation of the new key.
    pub to: i64,
    /// The new key, wrapped under the old one.
    pub transfer: Vec<u8>,
    /// How far it has come.
    pub state: RotationState,
    /// When the new key was put in force, in milliseconds since 1970; 0 before.
    pub switched_ms: u64,
}

/// A tenant's key, wrapped under the key-encryption key.
#[derive(Clone, PartialEq, Eq)]
pub struct TenantKeyRow {
    /// Whose.
    pub tenant: Tenant,
    /// The generation of the key that wraps it.
    pub generation: i64,
    /// The wrapped bytes.
    pub wrapped: Vec<u8>,
}

/// One version of a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Whose.
    pub tenant: Tenant,
    /// Which.
    pub name: SecretName,
    /// Counts from 1 and never comes back, not even after the secret was deleted.
    pub version: i64,
    /// Where it is in its life.
    pub state: SecretState,
    /// The sealed value; empty once destroyed.
    pub sealed: Vec<u8>,
    /// Keyed fingerprints by which the leak detector knows the value; kept after destruction,
    /// since a destroyed key may still be in a reply.
    pub fingerprints: Vec<u8>,
    /// When it was put, in milliseconds since 1970.
    pub created_ms: u64,
}

/// An installed tool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ToolRow {
    /// Whose.
    pub tenant: Tenant,
    /// Which.
    pub name: ToolName,
    /// The digest of its code.
    pub digest: Digest,
    /// Its manifest as TOML text.
    pub manifest: String,
    /// The digest of the compiled form in the cache.
    pub compiled: Option<Digest>,
    /// Whether it may be called.
    pub state: ToolState,
    /// When it was installed, in milliseconds since 1970.
    pub installed_ms: u64,
}

/// A grant: one tool may use one secret at one place. `body` says which, `mac` authenticates it.
#[derive(Clone, PartialEq, Eq)]
pub struct GrantRow {
    /// Whose.
    pub tenant: Tenant,
    /// Its name.
    pub id: String,
    /// The tool, for finding it.
    pub tool: ToolName,
    /// The secret, for finding it.
    pub secret: SecretName,
    /// The grant itself, canonical bytes.
    pub body: Vec<u8>,
    /// The authentication code over the body and everything else in the row.
    pub mac: Vec<u8>,
    /// When it was given, in milliseconds since 1970.
    pub created_ms: u64,
}

/// A call or a finding that waits, or waited, for a person.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApprovalRow {
    /// Its id.
    pub id: FindingId,
    /// Whose.
    pub tenant: Tenant,
    /// What waits, in one word.
    pub kind: String,
    /// The digest of exactly what is to be approved.
    pub digest: Digest,
    /// What the person is shown.
    pub card: String,
    /// How far it has come.
    pub state: ApprovalState,
    /// When it was held, in milliseconds since 1970.
    pub created_ms: u64,
    /// From when on it can no longer be approved or used, in milliseconds since 1970.
    pub expires_ms: u64,
}

/// Rows that hold wrapped or sealed bytes show which row they are and nothing of the bytes.
macro_rules! quiet_debug {
    ($($name:ident { $($field:ident),* })*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))$(.field(stringify!($field), &self.$field))*.finish_non_exhaustive()
            }
        })*
    };
}

quiet_debug! {
    SlotRow { id, kind, generation }
    RotationRow { from, to, state }
    TenantKeyRow { tenant, generation }
    SecretRow { tenant, name, version, state }
    GrantRow { tenant, id, tool, secret }
}
