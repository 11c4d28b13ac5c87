//! One permitted command in a fresh container.
//!
//! Tier 6. A command runs in a container of Docker Engine that has no network at all and one socket, on whose other
//! end stands whoever the binary connects: the judging proxy. What the command prints comes out as
//! [`safety::ScreenedBody`], and when it ends, everything in the container ends.
//!
//! - [`Engine`]: the engine, and whether it can hold what is promised; [`Unfit`] says what cannot.
//! - [`config`]: limits, image, downgrades; [`Image`]: the root file system, by digest.
//! - [`Sandbox::start`]: from a permit to a [`Running`] command; `spec` is the container as data, `seccomp.json` its
//!   system calls, `door` the host's end of the socket, `mounts` what of the workspace stands where.
//!
//! The container's first process is the crate `init`, embedded in this one.

pub mod config;
mod container;
mod control;
mod door;
mod engine;
mod image;
mod mounts;
mod owner;
mod program;
pub mod rules;
mod runc;
mod settle;
mod spec;
mod sweep;
mod unconfined;
mod unfit;

pub use config::{Config, Downgrade, Limits};
pub use container::{Ended, Finished, Outcome, RunError, Running, Sandbox};
pub use control::Control;
pub use door::{Connection, Dialled};
pub use engine::{Engine, Standing};
pub use image::{Image, ImageError};
pub use unfit::Unfit;
