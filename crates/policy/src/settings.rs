//! The everyday surface of policy: permissions per tool and budgets per day.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use types::{Registry, ToolName};

use crate::manifest::{HostRule, SecretWish};

/// What the owner said about a tool in the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Permission {
    /// Run it whenever the floor and the policies permit.
    #[default]
    Allow,
    /// Ask before every call.
    Ask,
    /// Refuse every call.
    Never,
}

/// Upper bounds for one day (UTC). Absent means unbounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Tool calls.
    pub calls: Option<u64>,
    /// Tokens sent to and received from a language model.
    pub tokens: Option<u64>,
    /// Money for the language model, in millionths of the currency unit of `[model] price`.
    pub money: Option<u64>,
}

/// Everything a policy is made from. Changing any of it changes the generation.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    /// Permission by tool; a tool that is not named has [`Permission::Allow`].
    pub permissions: BTreeMap<ToolName, Permission>,
    /// Where the agent's language model is.
    pub model: Option<ModelRule>,
    /// Where records are handed to.
    pub collector: Option<CollectorRule>,
    /// Budgets of the day.
    pub budget: Budget,
    /// Whether commands may run without a container where they are asked to.
    pub full_access: bool,
    /// Where images may be pulled from.
    pub registries: BTreeSet<Registry>,
    /// The owner's Cedar policies: a name for error messages, and the text.
    pub policies: Vec<(String, String)>,
}

/// The one place the agent itself may send requests to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelRule {
    /// The endpoint.
    pub rule: HostRule,
    /// The key, where the endpoint wants one.
    pub secret: Option<SecretWish>,
}

/// The one place the audit log may send its records to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CollectorRule {
    /// The endpoint.
    pub rule: HostRule,
    /// The key, where the collector wants one.
    pub secret: Option<SecretWish>,
}
