//! What the container's first process and its host say to each other.
//!
//! Tier 0. The program of this crate (`main.rs`) is PID 1 of a container: it reaps, forwards signals, relays
//! what the command dials to the one socket that leads out, and starts the command behind a system-call filter
//! and Landlock. Nothing that it does is believed by the host: the command could take its place in spirit, though
//! not its socket, and is judged on the other side of it all the same.
//!
//! - [`Invocation`]: its command line, written by the host.
//! - [`Preface`]: the first line on each connection of the socket.
//! - [`Mounted`]: what the lifeline tells after it, a line for each mount of the workspace.

mod invocation;
mod mounted;
mod preface;

pub use invocation::{Invocation, InvocationError};
pub use mounted::{MAX_MOUNTED, Mounted};
pub use preface::{MAX_PREFACE, Preface, PrefaceError};

/// Where the host puts this program.
pub const PROGRAM: &str = "/.ironclaw/init";

/// Where the host puts the one socket that leads out.
pub const SOCKET: &str = "/.ironclaw/socket";

/// What the host answers on the lifeline when the command may start.
pub const START: &[u8] = b"start\n";

/// What is said on the lifeline when the kernel ended a process for want of memory.
pub const OUT_OF_MEMORY: &[u8] = b"out-of-memory\n";

/// Where programs that know what a proxy is find one.
pub const PROXY_PORT: u16 = 3128;

/// The exit code when the run could not be prepared or lost its host.
pub const FAILED: u8 = 125;
