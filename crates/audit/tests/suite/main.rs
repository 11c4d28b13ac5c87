//! The audit log from outside: what is acknowledged survives, what is changed is found.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod archives;
mod chain;
mod crash;
mod fixture;
mod handovers;
mod moments;
mod operator;
mod outage;
mod processes;
mod recording;
mod seals;
mod torn;
