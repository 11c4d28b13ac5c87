//! Turns of the agent with everything below it real: policy, audit, store, vault, egress, sandbox, and
//! servers on loopback.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]

mod alerts;
mod chat;
mod codec;
mod files;
mod guest;
mod hostile;
mod offline;
mod server;
mod world;
