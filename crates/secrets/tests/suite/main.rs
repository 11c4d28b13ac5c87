//! The vault from outside: real databases, a real policy, a real keychain.

#![allow(clippy::unwrap_used, reason = "in a test, a failure is a panic")]

mod backups;
mod fixture;
mod keychain;
mod log_key;
mod race;
mod requests;
mod restored;
mod rotation;
mod vault;
