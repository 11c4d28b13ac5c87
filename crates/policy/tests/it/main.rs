//! Decisions against the real store, audit log and scanners.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]

mod calls;
mod proxied;
mod pulls;
mod requests;
mod world;
