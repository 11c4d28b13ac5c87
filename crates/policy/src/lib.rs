//! Decides what may happen, and mints the only value that lets it happen.
//!
//! Tier 3. A tool's manifest asks, a grant by the owner gives, nothing grants itself. Every question
//! goes through the same three gates, in this order:
//!
//! 1. the [`floor`]: rules fixed in Rust about manifests, grants, labels and limits;
//! 2. Cedar ([`cedar`]): the shipped policy set and the owner's own, which can only narrow the floor;
//! 3. the budget, charged in the same transaction as the decision's record.
//!
//! A [`Permit`] is minted here and nowhere else, after its record is durable, and carries the one
//! effect it is for. [`decide`] is the file to read first.

pub mod asker;
mod catalog;
pub mod cedar;
mod decide;
mod export;
pub mod floor;
mod held;
mod judge;
pub mod manifest;
mod overrides;
mod permit;
mod proxied;
mod pull;
mod question;
pub mod reach;
mod remembered;
mod renewal;
pub mod rules;
mod run;
mod settings;
mod storm;
mod tally;
mod turn;

pub use asker::{Asker, Here};
pub use catalog::{Catalog, Tool};
pub use decide::{Decision, Policy, Reserved};
pub use held::{Held, NOT_SHOWN};
pub use manifest::Manifest;
pub use permit::{Earlier, Effect, Permit, Settlement};
pub use proxied::Asked;
pub use question::{Answer, Card, Question};
pub use reach::Reach;
pub use run::{Run, Teller};
pub use settings::{Budget, CollectorRule, ModelRule, Permission, Settings};
pub use tally::{Leak, Refused};
pub use turn::{Scope, Turn};
