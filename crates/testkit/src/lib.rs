//! For tests only: a real PostgreSQL server, started from the machine's own programs.
//!
//! One server for each test process, on a Unix socket in a folder of its own and on no port. It runs as
//! an unprivileged user, since PostgreSQL refuses root, and it ends and its folder goes when the process
//! ends, however that happens: a supervising shell waits for the end of a pipe that the process holds.
//!
//! A machine without the programs fails the tests that need them; it does not skip them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on says so by panicking")]

mod postgres;

pub use postgres::{Database, Postgres};
