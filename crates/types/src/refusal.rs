//! Refusals: one rule, one plain sentence, and for the person the command that would widen it.

use std::fmt;

use crate::RefusalId;

/// The part of the runtime that acted.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Layer {
    /// Input screening: sanitizer, validator, rulebook.
    Safety,
    /// Decisions: manifests, grants, Cedar, labels, budgets.
    Policy,
    /// The WebAssembly sandbox.
    Wasm,
    /// The container sandbox.
    Container,
    /// The door to the network.
    Egress,
    /// Secrets.
    Vault,
    /// Leak detection on what comes back.
    Leaks,
    /// The last check before the model or a person reads it.
    Output,
    /// The record of everything.
    Audit,
    /// The agent's own tools and loop.
    Agent,
}

impl Layer {
    /// One word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Safety => "safety",
            Self::Policy => "policy",
            Self::Wasm => "wasm",
            Self::Container => "container",
            Self::Egress => "egress",
            Self::Vault => "vault",
            Self::Leaks => "leaks",
            Self::Output => "output",
            Self::Audit => "audit",
            Self::Agent => "agent",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A rule that can refuse, declared once as a constant beside the code that applies it.
#[derive(PartialEq, Eq, Debug)]
pub struct Rule {
    /// `layer.what`, stable: scripts and records name it.
    pub id: &'static str,
    /// The layer it belongs to.
    pub layer: Layer,
    /// What a sandbox and a model are told: a plain sentence without details.
    pub says: &'static str,
}

/// An effect or a value that was refused.
///
/// Whoever is confined (a guest, a model, a container) gets [`Refusal::for_sandbox`]. Detail and the
/// widening command are for the person, who asks for them by [`Refusal::id`].
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Under which `ironclaw policy explain` shows it.
    pub id: RefusalId,
    /// Why.
    pub rule: &'static Rule,
    /// What exactly, made of parsed names and numbers only, never of foreign text.
    pub detail: String,
    /// The command that would allow it, where one may.
    pub widen: Option<String>,
}

impl Refusal {
    /// A refusal by one rule.
    pub fn new(rule: &'static Rule, detail: impl Into<String>) -> Self {
        Self { id: RefusalId::new(), rule, detail: detail.into(), widen: None }
    }

    /// Adds the command that would allow it.
    #[must_use]
    pub fn widened_by(mut self, command: impl Into<String>) -> Self {
        self.widen = Some(command.into());
        self
    }

    /// What the confined side is told.
    pub fn for_sandbox(&self) -> String {
        format!("refused ({}): {}", self.rule.id, self.rule.says)
    }
}

/// What a person is told.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "refused by {}: {}", self.rule.id, self.rule.says)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        if let Some(command) = &self.widen {
            write!(f, "\n  to allow it: {command}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Refusal {}
