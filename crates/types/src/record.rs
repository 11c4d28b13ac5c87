//! Audit records and their canonical bytes.
//!
//! A record is a closed kind, a verdict and a short list of named fields. Its encoding is one tag
//! and one length before every value, so that no two records share an encoding and a reader never
//! guesses where a field ends.

use std::borrow::Cow;
use std::fmt;

use crate::TurnId;

macro_rules! closed {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $tag:literal $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[$vdoc])* $variant = $tag,)* }

        impl $name {
            /// Every value, in the order of the tags.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The word that stands for it in listings and JSON.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// The value of a word.
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }

            fn from_tag(tag: u8) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| *value as u8 == tag)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

closed! {
    /// What a record is about.
    Kind {
        /// A text was screened on its way in.
        Admit = 1 "admit",
        /// A tool call was decided.
        Call = 2 "call",
        /// A request to the network was decided.
        Request = 3 "request",
        /// A permit came to its end.
        Settle = 4 "settle",
        /// A secret was unsealed into a request.
        Unseal = 5 "unseal",
        /// A result, a reply or an error was screened on its way out.
        Release = 6 "release",
        /// A critical finding or a leak.
        Alert = 7 "alert",
        /// A tool was installed, approved, replaced or removed.
        Tool = 8 "tool",
        /// A grant was given.
        Grant = 9 "grant",
        /// A grant was taken back.
        Revoke = 10 "revoke",
        /// A secret was set, disabled or destroyed.
        Secret = 11 "secret",
        /// A vault, a key slot or a key generation was made or changed.
        Vault = 12 "vault",
        /// A person answered a held call or a flagged finding.
        Approval = 13 "approval",
        /// The configuration or the rules of a starting process.
        Config = 14 "config",
        /// The clock went backwards between two records.
        Clock = 15 "clock",
        /// A language model was asked.
        Model = 16 "model",
        /// Records for which nobody waited could not be written.
        Loss = 17 "loss",
        /// The log was sealed: a signed checkpoint over all records before this one.
        Checkpoint = 18 "checkpoint",
        /// A command was decided.
        Command = 19 "command",
        /// The image that commands run in was made or chosen.
        Image = 20 "image",
        /// The bytes of old records were written to a file and taken out of the database.
        Archive = 40 "archive",
        /// The key that seals the log was exchanged.
        Signing = 41 "signing",
        /// Records were handed to the owner's collector.
        Export = 42 "export",
    }
}

closed! {
    /// What came of it.
    Verdict {
        /// Passed as it was, or permitted.
        Allow = 1 "allow",
        /// Passed, and worth a line.
        Warn = 2 "warn",
        /// Passed with a mark; a person should look.
        Flag = 3 "flag",
        /// Passed with spans replaced.
        Redact = 4 "redact",
        /// Waits for a person.
        Ask = 5 "ask",
        /// Refused.
        Block = 6 "block",
        /// Carried out.
        Done = 7 "done",
        /// Tried and failed.
        Failed = 8 "failed",
        /// Permitted and never carried out.
        Abandoned = 9 "abandoned",
    }
}

closed! {
    /// The name of a field.
    Field {
        /// Who acted: `owner`, `agent`, `tool NAME`.
        Actor = 1 "actor",
        /// A tool's name.
        Tool = 2 "tool",
        /// A SHA-256 digest of code, of a manifest or of arguments.
        Digest = 3 "digest",
        /// A call's id.
        Call = 4 "call",
        /// The rule that decided.
        Rule = 5 "rule",
        /// Why, in plain words.
        Reason = 6 "reason",
        /// Method, scheme, host, port and path of a request; never the query.
        Target = 7 "target",
        /// The address that was dialled.
        Address = 8 "address",
        /// An HTTP status.
        Status = 9 "status",
        /// Bytes that left.
        Sent = 10 "sent",
        /// Bytes that came back.
        Received = 11 "received",
        /// A secret's name.
        Secret = 12 "secret",
        /// The place of an injected secret.
        Inject = 13 "inject",
        /// The number of the record that this one settles or answers.
        Of = 14 "of",
        /// A finding's or held call's id.
        Finding = 15 "finding",
        /// A severity.
        Severity = 16 "severity",
        /// The origin of a text.
        Source = 17 "source",
        /// A generation of rules, policy or keys.
        Generation = 18 "generation",
        /// A refusal's id.
        Refusal = 19 "refusal",
        /// Microseconds.
        Micros = 20 "micros",
        /// The command that would widen a refusal.
        Widen = 21 "widen",
        /// A count.
        Count = 22 "count",
        /// A version of a secret or a schema.
        Version = 23 "version",
        /// A file's path inside the workspace.
        Path = 24 "path",
        /// Fuel used by a guest.
        Fuel = 25 "fuel",
        /// Bytes of memory used by a guest.
        Memory = 26 "memory",
        /// Money in millionths of the currency of the budget.
        Cost = 27 "cost",
        /// Tokens of a language model.
        Tokens = 28 "tokens",
        /// A key slot.
        Slot = 29 "slot",
        /// A state that something moved to.
        State = 30 "state",
        /// A model's name.
        Model = 31 "model",
        /// A signature over a checkpoint.
        Signature = 32 "signature",
        /// The roots along the edge of a checkpoint's tree.
        Peaks = 33 "peaks",
        /// What this record takes for itself: no second record may hold the same claim.
        Claim = 40 "claim",
        /// A code over what the record says about the vault, under a key of the vault.
        Proof = 41 "proof",
        /// A command line, screened.
        Command = 50 "command",
        /// How far a command is confined.
        Confinement = 51 "confinement",
        /// The folder that a command works in.
        Workspace = 52 "workspace",
        /// A promise that was given up by the configuration.
        Downgrade = 53 "downgrade",
        /// The name of an image.
        Image = 54 "image",
        /// How many records of a detached segment stayed whole.
        Kept = 60 "kept",
        /// A public key.
        Key = 61 "key",
        /// The public key that follows it.
        Successor = 62 "successor",
        /// A keyed digest of a secret's value: who has the vault can test whether a value was this one.
        Value = 63 "value",
        /// A key, sealed under a key of the vault.
        Sealed = 64 "sealed",
    }
}

/// One event. The writer adds its number and its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What it is about.
    pub kind: Kind,
    /// What came of it.
    pub verdict: Verdict,
    /// The turn it belongs to.
    pub turn: Option<TurnId>,
    fields: Vec<(Field, String)>,
}

/// Why bytes are not a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RecordError {
    /// They end inside a field or go on after the last one.
    #[error("the record is cut short or too long")]
    Length,
    /// They begin with a version that this program does not know.
    #[error("the record has an unknown format version")]
    Version,
    /// A kind, verdict or field name that does not exist, or text that is not UTF-8.
    #[error("the record holds an unknown kind, verdict or field")]
    Content,
}

impl Record {
    /// The longest field; a longer value is cut and marked.
    pub const MAX_FIELD: usize = 1024;
    /// The most fields.
    pub const MAX_FIELDS: usize = 32;
    const VERSION: u8 = 1;

    /// A record without fields.
    pub fn new(kind: Kind, verdict: Verdict) -> Self {
        Self { kind, verdict, turn: None, fields: Vec::new() }
    }

    /// Ties the record to a turn.
    #[must_use]
    pub fn of_turn(mut self, turn: TurnId) -> Self {
        self.turn = Some(turn);
        self
    }

    /// Adds a field. Control characters become spaces' visible pictures and long values are cut,
    /// so that no value can forge a line or fill the log.
    #[must_use]
    pub fn with(mut self, field: Field, value: impl fmt::Display) -> Self {
        if self.fields.len() < Self::MAX_FIELDS {
            let value = value.to_string();
            let changed = match bounded(&value) {
                Cow::Borrowed(_) => None,
                Cow::Owned(changed) => Some(changed),
            };
            self.fields.push((field, changed.unwrap_or(value)));
        }
        self
    }

    /// The first value of a field.
    pub fn field(&self, field: Field) -> Option<&str> {
        self.fields.iter().find(|(name, _)| *name == field).map(|(_, value)| value.as_str())
    }

    /// All fields in the order in which they were added.
    pub fn fields(&self) -> &[(Field, String)] {
        &self.fields
    }

    /// The canonical bytes, with the time in milliseconds since 1970 that the writer gives.
    pub fn encode(&self, at_ms: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.fields.len() * 32);
        out.push(Self::VERSION);
        out.extend_from_slice(&at_ms.to_be_bytes());
        out.push(self.kind as u8);
        out.push(self.verdict as u8);
        match &self.turn {
            Some(turn) => {
                out.push(1);
                out.extend_from_slice(turn.as_bytes());
            }
            None => out.push(0),
        }
        out.push(self.fields.len() as u8);
        for (field, value) in &self.fields {
            out.push(*field as u8);
            out.extend_from_slice(&(value.len() as u32).to_be_bytes());
            out.extend_from_slice(value.as_bytes());
        }
        out
    }

    /// Reads canonical bytes back, with the time they hold. Only what [`Record::encode`] would
    /// write again byte for byte is accepted.
    pub fn decode(bytes: &[u8]) -> Result<(u64, Self), RecordError> {
        let mut rest = bytes;
        if take::<1>(&mut rest)? != [Self::VERSION] {
            return Err(RecordError::Version);
        }
        let at_ms = u64::from_be_bytes(take(&mut rest)?);
        let [kind, verdict, has_turn] = take(&mut rest)?;
        let kind = Kind::from_tag(kind).ok_or(RecordError::Content)?;
        let verdict = Verdict::from_tag(verdict).ok_or(RecordError::Content)?;
        let turn = match has_turn {
            0 => None,
            1 => Some(TurnId::from_bytes(take(&mut rest)?)),
            _ => return Err(RecordError::Content),
        };
        let [count] = take(&mut rest)?;
        let mut fields = Vec::new();
        for _ in 0..count {
            let [tag] = take(&mut rest)?;
            let field = Field::from_tag(tag).ok_or(RecordError::Content)?;
            let length = u32::from_be_bytes(take(&mut rest)?) as usize;
            let value = rest.get(..length).ok_or(RecordError::Length)?;
            rest = &rest[length..];
            let value = std::str::from_utf8(value).map_err(|_| RecordError::Content)?;
            fields.push((field, value.to_owned()));
        }
        if !rest.is_empty() {
            return Err(RecordError::Length);
        }
        let record = Self { kind, verdict, turn, fields };
        // Whatever decoding was lenient about, a canonical encoding is not.
        if record.fields.len() > Self::MAX_FIELDS
            || record.fields.iter().any(|(_, value)| bounded(value) != *value)
        {
            return Err(RecordError::Content);
        }
        Ok((at_ms, record))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], RecordError> {
    let (head, tail) = rest.split_first_chunk::<N>().ok_or(RecordError::Length)?;
    *rest = tail;
    Ok(*head)
}

/// Escapes controls and direction marks and cuts at a character boundary. What it gives back, it gives
/// back again.
fn bounded(value: &str) -> Cow<'_, str> {
    let short = value.len() <= Record::MAX_FIELD - '\u{2026}'.len_utf8();
    let plain = |c: char| !c.is_control() && !is_invisible(c);
    if short && (value.bytes().all(|byte| matches!(byte, b' '..=b'~')) || value.chars().all(plain)) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len().min(Record::MAX_FIELD));
    for c in value.chars() {
        let shown: String = match c {
            c if c.is_control() || is_invisible(c) => format!("\\u{{{:x}}}", c as u32),
            c => c.to_string(),
        };
        if out.len() + shown.len() > Record::MAX_FIELD - '\u{2026}'.len_utf8() {
            if !out.ends_with('\u{2026}') {
                out.push('\u{2026}');
            }
            break;
        }
        out.push_str(&shown);
    }
    Cow::Owned(out)
}

/// Characters that move or hide text without being controls.
fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tags_are_unique() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_tag(*kind as u8), Some(*kind));
            assert_eq!(Kind::parse(kind.as_str()), Some(*kind));
        }
        for field in Field::ALL {
            assert_eq!(Field::from_tag(*field as u8), Some(*field));
            assert_eq!(Field::parse(field.as_str()), Some(*field));
        }
        for verdict in Verdict::ALL {
            assert_eq!(Verdict::from_tag(*verdict as u8), Some(*verdict));
            assert_eq!(Verdict::parse(verdict.as_str()), Some(*verdict));
        }
    }

    #[test]
    fn l07_values_cannot_forge_a_line_or_fill_the_log() {
        let record = Record::new(Kind::Request, Verdict::Block)
            .with(Field::Target, "a\nFORGED\u{1b}[2J\u{202e}")
            .with(Field::Reason, "x".repeat(10_000_000));
        let target = record.field(Field::Target).unwrap();
        assert_eq!(target, "a\\u{a}FORGED\\u{1b}[2J\\u{202e}");
        assert_eq!(record.field(Field::Reason).unwrap().len(), Record::MAX_FIELD);
    }

    proptest! {
        #[test]
        fn encodes_and_decodes(at in any::<u64>(), values in prop::collection::vec(".{0,40}", 0..8)) {
            let mut record = Record::new(Kind::Call, Verdict::Allow).of_turn(TurnId::new());
            for value in values {
                record = record.with(Field::Reason, value);
            }
            prop_assert_eq!(Record::decode(&record.encode(at)), Ok((at, record)));
        }

        #[test]
        fn no_bytes_panic_and_accepted_bytes_are_canonical(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok((at, record)) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode(at), bytes);
            }
        }

        #[test]
        fn a_changed_byte_is_never_read_as_the_same_record(index in 0usize..60, bit in 0u8..8) {
            let record = Record::new(Kind::Secret, Verdict::Done).with(Field::Secret, "A_KEY").with(Field::Actor, "owner");
            let mut bytes = record.encode(1);
            let index = index % bytes.len();
            bytes[index] ^= 1 << bit;
            prop_assert_ne!(Record::decode(&bytes), Ok((1, record)));
        }
    }
}
