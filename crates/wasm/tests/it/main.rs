//! Hostile guests against the real sandbox, policy, vault, door and audit log. Each test is named for its row of the
//! list of attacks.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod guest;
mod install;
mod limits;
mod network;
mod state;
mod workspace;
mod world;
