//! What a detector hands to the rulebook: a finding before anyone decided what to do about it.

use std::ops::Range;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use types::SecretName;

use crate::finding::{Action, Finding, Kind, Severity};

/// One rule that fired.
#[derive(Clone, Debug)]
pub(crate) struct Signal {
    pub(crate) rule: Arc<str>,
    pub(crate) reason: Arc<str>,
    pub(crate) kind: Kind,
    pub(crate) severity: Severity,
    pub(crate) span: Range<usize>,
    pub(crate) view: &'static str,
    pub(crate) fingerprint: Print,
    pub(crate) secret: Option<SecretName>,
}

impl Signal {
    /// How much one such signal says that a text is an attack, from 0 to 1.
    pub(crate) fn weight(&self) -> f32 {
        match (self.kind, self.severity) {
            (Kind::Injection | Kind::Task | Kind::HiddenChannel, Severity::Critical) => 0.95,
            (Kind::Injection | Kind::Task | Kind::HiddenChannel, Severity::High) => 0.8,
            (Kind::Injection | Kind::Task | Kind::HiddenChannel, Severity::Medium) => 0.5,
            (Kind::Injection | Kind::Task | Kind::HiddenChannel | Kind::Control, Severity::Low) => 0.15,
            (Kind::Control, _) => 0.3,
            _ => 0.0,
        }
    }

    pub(crate) fn into_finding(self, action: Action) -> Finding {
        Finding {
            rule: self.rule,
            kind: self.kind,
            severity: self.severity,
            action,
            span: self.span,
            view: self.view,
            reason: self.reason,
            fingerprint: format!("{:016x}", self.fingerprint.shown),
            secret: self.secret,
        }
    }
}

/// The digest that stands for a rule and the bytes it matched, cut to 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Print {
    /// Under the key of the installation, where there is one, so that it says nothing about a guessable
    /// password. The only one that is ever shown.
    pub(crate) shown: u64,
    /// Under the key that everyone knows: what a scan without an installation shows, so that an entry of the
    /// configuration that names it holds here too.
    pub(crate) open: u64,
}

/// Makes [`Print`]s.
#[derive(Clone)]
pub(crate) struct Fingerprinter {
    keyed: Sha256,
    open: Sha256,
}

impl Fingerprinter {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self { keyed: primed(key), open: primed(&OPEN_KEY) }
    }

    pub(crate) fn of(&self, rule: &str, matched: &[u8]) -> Print {
        let print = |hasher: &Sha256| {
            let mut hasher = hasher.clone();
            hasher.update((rule.len() as u64).to_be_bytes());
            hasher.update(rule);
            hasher.update(matched);
            let digest: [u8; 32] = hasher.finalize().into();
            digest.iter().take(8).fold(0, |print, byte| print << 8 | u64::from(*byte))
        };
        Print { shown: print(&self.keyed), open: print(&self.open) }
    }
}

/// The key of fingerprints where there is no installation.
pub(crate) const OPEN_KEY: [u8; 32] = [0; 32];

/// A hasher that has read the key in a block of its own.
fn primed(key: &[u8; 32]) -> Sha256 {
    let mut block = [0u8; 64];
    block[..32].copy_from_slice(key);
    block[32..].copy_from_slice(b"ironclaw finding fingerprint v1 ");
    Sha256::new_with_prefix(block)
}
