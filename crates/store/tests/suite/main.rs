//! The store from outside: what it refuses to open, what it stores, and what a race or a hostile
//! string cannot do to it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod appending;
mod copy;
mod fixture;
mod folder;
mod inert;
mod mutations;
mod outage;
mod rows;
mod schema;
mod server;
