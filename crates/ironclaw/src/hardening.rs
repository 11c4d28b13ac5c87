//! What the process gives up before it does anything: core dumps, and being looked at by its own user.
//!
//! A dump would hold every value in use, on a disk, readable by tools that nobody thinks of. On Linux
//! PR_SET_DUMPABLE also keeps other programs of the same user from attaching and from reading
//! `/proc/PID/mem` (prctl(2)); root still can. The compiler of components, which is this program as its
//! own child, does the same.

use crate::exit::Failure;

/// Forbids core dumps and, on Linux, tracing by the same user. First statement of `main`.
pub fn harden() -> Result<(), Failure> {
    give_up().map_err(|()| {
        Failure::environment("core dumps cannot be forbidden; values in use could reach a disk")
    })
}

#[cfg(unix)]
fn give_up() -> Result<(), ()> {
    use rustix::process::{Resource, Rlimit, setrlimit};
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|_| ())?;
    }
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(|_| ())
}

/// Windows writes no dump of a process unless an administrator asked for it.
#[cfg(not(unix))]
fn give_up() -> Result<(), ()> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn k12_a_hardened_process_writes_no_core_and_cannot_be_traced() {
        assert!(harden().is_ok());
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
    }
}
