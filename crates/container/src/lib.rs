//! One permitted command in a fresh container.
//!
//! Tier 6. A command runs in a container of Docker Engine that has no network at all and one socket, on whose other
//! end stands the proxy of `egress`, which judges every request. What the command prints comes out as
//! [`safety::ScreenedBody`], and when it ends, everything in the container ends.
//!
//! - [`Engine`]: the engine, and whether it can hold what is promised; [`Unfit`] says what cannot.
//! - [`config`]: limits, image, downgrades; [`Image`]: the root file system, by digest, whether it was made of packages, pulled
//!   with a permit, or there.
//! - [`Sandbox::start`]: from a permit to a [`Running`] command; `spec` is the container as data, `seccomp.json` its
//!   system calls, `door` the host's end of the socket, `ground` the workspace before and after, `mounts` what of it stands where,
//!   `proof` that it does, `prepared` what is not started yet, `run` the task that answers for it all.
//! - [`Quarantine`] and [`Recovered`]: what was moved out of the way after a run, or before the next one where nobody saw its
//!   end: `note` is what was written down for that, `sweep` puts in order.
//! - [`Litter`]: what nothing uses any more.
//! - `network`: each connection from inside, given to the proxy; `authority`: whom programs inside trust.
//! - [`Sandbox::start_on_terminal`] and [`Console`]: the same for a person who watches.
//! - [`unconfined`]: a command with full access, which has no container.
//!
//! The container's first process is the crate `init`, embedded in this one.

mod authority;
pub mod config;
mod console;
mod container;
mod control;
mod door;
mod engine;
mod ground;
mod image;
mod mounts;
mod network;
mod note;
mod owner;
mod prepared;
mod program;
mod proof;
mod prune;
mod quarantine;
pub mod rules;
mod run;
mod runc;
mod settle;
mod spec;
mod sweep;
pub mod unconfined;
mod unfit;

pub use config::{Config, Downgrade, Limits};
pub use console::Console;
pub use container::{Ended, Finished, Inside, OnTerminal, Outcome, RunError, Running, Sandbox, Size};
pub use control::{Control, code_of};
pub use door::{Connection, Dialled};
pub use engine::{Engine, Standing};
pub use image::{BuildError, Image, PullError, Pulled};
pub use prune::{Litter, Pruned};
pub use quarantine::Quarantine;
pub use sweep::Recovered;
pub use unfit::Unfit;
