//! Hostile commands against a real Docker Engine, with the real policy, audit log and scanners. Each test is named for
//! its row of the list of attacks. An engine that is missing is a failure: scripts/with-docker starts one.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

mod dropped;
mod files;
mod images;
mod limits;
mod reach;
mod runs;
mod world;
