//! The audit log: an append-only chain of records, and the only way to write to the database.
//!
//! [`Audit::start`] consumes the database's only writer. From then on an event becomes a
//! [`Seq`], which proves that its record is durable, and a change to the database is made in the
//! same transaction as its record. Whoever must not act without a record asks for a `Seq`.
//!
//! - `recorder`: the handle, and what comes back.
//! - `task`: the one task that writes, in groups that share one sync of the disk.
//! - [`chain`]: how each record is tied to those before it.
//! - [`merkle`] and [`checkpoint`]: one signed hash for all records, and proofs that lead to it.
//! - `seal`: the checkpoints that are records themselves.
//! - [`Log`]: reading, and finding the first bad record.
//! - `handover`: the exchange of the key that signs.
//! - `export`: how far records were handed to a collector.
//! - [`archive`]: old records in files of their own, by which the log stays bounded.
//! - `end`: appending to a log that nobody else has appended to meanwhile.
//! - `moment`: whether anything was granted or taken back meanwhile.
//! - `clock`: the only reading of the wall clock, for rows as well ([`now_ms`]).
//!
//! Several processes may hold one database: each reads the head inside its write transaction, or writes
//! on condition that it is still its own, so that all append to one chain, and a group that had to give way to another transaction is tried again
//! as a whole. When the disk is full or the database gone, every record is
//! refused with an error until it returns; reading goes on.

pub mod archive;
pub mod chain;
pub mod checkpoint;
mod clock;
mod end;
mod export;
mod handover;
mod log;
pub mod merkle;
mod moment;
mod recorder;
mod seal;
mod task;
mod verify;

pub use clock::now_ms;
pub use export::Handed;
pub use handover::Handover;
pub use log::{Entry, Log};
pub use moment::Moment;
pub use recorder::{Audit, AuditError, ChangeError, Drain, Seq};
pub use verify::{Against, Broken, Fault, Verified};
