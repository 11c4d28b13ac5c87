//! Decisions against the real store, audit log and scanners.

mod calls;
mod requests;
mod world;
