//! What a scan found, without any of the text it was found in.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use types::{Layer, Refusal, Rule, SecretName, Verdict};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, serde::Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The word that stands for it in JSON and in configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How bad a finding is, in order.
    Severity {
        /// Nothing was found.
        None = "none",
        /// A faint signal or a text that is too long.
        Low = "low",
        /// One signal that honest text may also give.
        Medium = "medium",
        /// A signal that honest text seldom gives.
        High = "high",
        /// An attack or a secret beyond reasonable doubt.
        Critical = "critical",
    }
}

words! {
    /// What is done about a finding, in order of strength.
    Action {
        /// Nothing: an entry of the configuration allows it.
        Allow = "allow",
        /// The text passes and a line is written.
        Warn = "warn",
        /// The text passes with a mark; a person should look.
        Flag = "flag",
        /// The span is replaced.
        Redact = "redact",
        /// The text does not pass.
        Block = "block",
    }
}

words! {
    /// What kind of thing was found.
    Kind {
        /// Words that try to take over whoever reads them.
        Injection = "injection",
        /// An order to an assistant in data, where none belongs.
        Task = "task",
        /// Text that a person does not see: tag characters, runs of invisible characters.
        HiddenChannel = "hidden-channel",
        /// Terminal controls, direction overrides, characters without a glyph.
        Control = "control",
        /// More bytes than the channel takes.
        Size = "size",
        /// A token in the format of a vendor.
        VendorToken = "vendor-token",
        /// A connection string or a URL with a password in it.
        ConnectionString = "connection-string",
        /// A private key.
        PrivateKey = "private-key",
        /// A password or a secret recognised by the name it is assigned to.
        Password = "password",
        /// A value of the vault.
        KnownValue = "known-value",
    }
}

impl From<Action> for Verdict {
    fn from(action: Action) -> Self {
        match action {
            Action::Allow => Self::Allow,
            Action::Warn => Self::Warn,
            Action::Flag => Self::Flag,
            Action::Redact => Self::Redact,
            Action::Block => Self::Block,
        }
    }
}

impl Kind {
    /// True for what the leak detector finds.
    pub fn is_leak(self) -> bool {
        matches!(
            self,
            Self::VendorToken | Self::ConnectionString | Self::PrivateKey | Self::Password | Self::KnownValue
        )
    }

    /// The rule that a refusal for such a finding names.
    pub fn rule(self) -> &'static Rule {
        match self {
            Self::Injection | Self::Task => &INJECTION,
            Self::HiddenChannel => &HIDDEN_CHANNEL,
            Self::Control => &CONTROL,
            Self::Size => &TOO_LONG,
            Self::VendorToken => &VENDOR_TOKEN,
            Self::ConnectionString => &CONNECTION_STRING,
            Self::PrivateKey => &PRIVATE_KEY,
            Self::Password => &PASSWORD,
            Self::KnownValue => &KNOWN_VALUE,
        }
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $layer:ident, $says:literal;)*) => {
        $($(#[$doc])* pub static $name: Rule = Rule { id: $id, layer: Layer::$layer, says: $says };)*
    };
}

rules! {
    /// Words that try to take over whoever reads them.
    INJECTION = "safety.injection", Safety, "the text holds instructions aimed at the agent";
    /// Text that a person does not see.
    HIDDEN_CHANNEL = "safety.hidden-channel", Safety, "the text hides characters that a person does not see";
    /// Controls that drive a terminal.
    CONTROL = "safety.control", Safety, "the text holds control characters that do not belong in text";
    /// Longer than the channel takes.
    TOO_LONG = "safety.too-long", Safety, "the text is longer than this channel takes";
    /// A vendor's token.
    VENDOR_TOKEN = "leaks.vendor-token", Leaks, "the text holds what looks like an access token";
    /// A connection string with its password.
    CONNECTION_STRING = "leaks.connection-string", Leaks, "the text holds a connection string with its password";
    /// A private key.
    PRIVATE_KEY = "leaks.private-key", Leaks, "the text holds a private key";
    /// A password in context.
    PASSWORD = "leaks.password", Leaks, "the text holds what looks like a password";
    /// A value of the vault.
    KNOWN_VALUE = "leaks.known-value", Leaks, "the content may not pass";
}

/// One thing that one rule found. Holds no matched text.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The rule's id, as in the shipped rules: `override-instructions`, `github-pat`.
    pub rule: Arc<str>,
    /// What kind of thing it is.
    pub kind: Kind,
    /// How bad.
    pub severity: Severity,
    /// What is done about it on this channel.
    pub action: Action,
    /// Byte offsets into the original text, on character boundaries where it is text.
    pub span: Range<usize>,
    /// Under which reading it was found: `plain`, `folded`, `base64`, `percent`, `known value`, ...
    pub view: &'static str,
    /// What the rule looks for, in fixed words.
    pub reason: Arc<str>,
    /// Digest of rule and matched text, 16 hexadecimal digits: what an `allow` entry names.
    pub fingerprint: String,
    /// Which secret, for a value of the vault.
    pub secret: Option<SecretName>,
}

/// How long the stages of one scan took.
#[derive(Clone, Copy, Default, Debug)]
pub struct Timings {
    /// Length, controls, hidden characters.
    pub validator: Duration,
    /// Views and attack patterns.
    pub sanitizer: Duration,
    /// Severity to action.
    pub rulebook: Duration,
    /// Secrets.
    pub leak_detector: Duration,
}

/// Everything one scan found and what follows from it.
#[derive(Clone, Debug)]
pub struct Report {
    /// What follows: allow, warn, flag, redact or block.
    pub verdict: Verdict,
    /// The worst severity among the findings that no entry allows.
    pub severity: Severity,
    /// From 0 (nothing) to 1: how likely an attack, from the injection findings alone.
    pub score: f32,
    /// The findings in the order of their spans.
    pub findings: Vec<Finding>,
    /// Where the time went.
    pub timings: Timings,
}

impl Report {
    /// A report without findings.
    pub fn clean() -> Self {
        Self {
            verdict: Verdict::Allow,
            severity: Severity::None,
            score: 0.0,
            findings: Vec::new(),
            timings: Timings::default(),
        }
    }

    /// Adds what another scan of the same value found, each finding once.
    pub(crate) fn add(&mut self, other: Self) {
        self.verdict = self.verdict.max(other.verdict);
        self.severity = self.severity.max(other.severity);
        self.score = self.score.max(other.score);
        for finding in other.findings {
            let same =
                |known: &Finding| known.rule == finding.rule && known.fingerprint == finding.fingerprint;
            if !self.findings.iter().any(same) {
                self.findings.push(finding);
            }
        }
    }

    /// True when somebody has to hear of it now: a critical finding or a leak that was stopped.
    pub fn alerts(&self) -> bool {
        self.findings.iter().any(|finding| {
            finding.action >= Action::Flag
                && (finding.severity == Severity::Critical || finding.kind == Kind::KnownValue)
        })
    }

    /// The finding that matters most.
    pub fn worst(&self) -> Option<&Finding> {
        self.findings.iter().max_by_key(|finding| (finding.action, finding.severity))
    }

    /// The object that `ironclaw scan --json` prints, without `input` and `output`.
    pub fn to_json(&self) -> serde_json::Value {
        let findings: Vec<_> = self.findings.iter().map(Finding::to_json).collect();
        serde_json::json!({
            "verdict": self.verdict.as_str(),
            "severity": self.severity.as_str(),
            "score": (f64::from(self.score) * 1000.0).round() / 1000.0,
            "findings": findings,
        })
    }
}

impl Finding {
    /// The object that `ironclaw scan --json` prints for a finding.
    pub fn to_json(&self) -> serde_json::Value {
        let mut object = serde_json::json!({
            "rule": &*self.rule,
            "kind": self.kind.as_str(),
            "severity": self.severity.as_str(),
            "action": self.action.as_str(),
            "start": self.span.start,
            "end": self.span.end,
            "view": self.view,
            "reason": &*self.reason,
            "fingerprint": self.fingerprint,
        });
        if let (Some(secret), Some(map)) = (&self.secret, object.as_object_mut()) {
            map.insert("secret".into(), secret.as_str().into());
        }
        object
    }
}

/// A text that did not pass, with the reason for a person and the findings.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{refusal}")]
pub struct Blocked {
    /// The rule, the detail and what would allow it.
    pub refusal: Refusal,
    /// What was found.
    pub report: Box<Report>,
}

impl Blocked {
    /// The refusal for a report whose verdict is to block.
    pub(crate) fn by(report: Report) -> Self {
        let refusal = match report.worst() {
            Some(worst) => refusal_for(worst),
            None => Refusal::new(&INJECTION, ""),
        };
        Self { refusal, report: Box::new(report) }
    }
}

/// Says what was found and, unless it is a value of the vault, how to allow it.
fn refusal_for(finding: &Finding) -> Refusal {
    let place = format!("bytes {} to {}", finding.span.start, finding.span.end);
    if finding.kind == Kind::KnownValue {
        // Which secret is for the owner; nothing may widen it.
        let name = finding.secret.as_ref().map_or("a secret", |name| name.as_str());
        return Refusal::new(&KNOWN_VALUE, format!("a value of the vault, {name}, at {place}"));
    }
    if finding.kind == Kind::Size {
        return Refusal::new(&TOO_LONG, finding.reason.to_string())
            .widened_by("ironclaw config explain safety.max_length");
    }
    let detail = format!("{}: {}, {place}, read as {}", finding.rule, finding.reason, finding.view);
    Refusal::new(finding.kind.rule(), detail)
        .widened_by(format!("ironclaw config explain safety.allow  (fingerprint {})", finding.fingerprint))
}
