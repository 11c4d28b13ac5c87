//! Proof that what stands in a container is what was checked.
//!
//! The engine mounts by name. Whoever may write the workspace, or a folder above it, can exchange what a name leads to
//! between the check and the mount, so nothing is believed of the names: the container's first process, before anything
//! else runs, tells the numbers of what was mounted, and they must be those of the handles that were held since the check.
//! Each of as many mounts as were planned has to be another one, so none of them can be of something else.

use std::collections::BTreeSet;

use init::Mounted;
use types::Rule;
use workspace::Held;

use crate::rules;

/// Whose numbers the container's first process sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Numbers {
    /// This machine's.
    Host,
    /// Its runtime's own, which has a file system of its own between (gVisor). They prove nothing.
    Runtime,
}

impl Numbers {
    /// Whose they are under a runtime of this name. One that keeps files of its own and is called otherwise tells numbers that
    /// are never the host's, and no command starts.
    pub(crate) fn under(runtime: &str) -> Self {
        let own = ["runsc", "gvisor", "kata"].iter().any(|name| runtime.starts_with(name));
        if own { Self::Runtime } else { Self::Host }
    }
}

/// What must stand in a container before its command may start.
#[derive(Debug)]
pub(crate) struct Expected {
    held: Held,
    numbers: Numbers,
}

/// Proof that it does. What was held is let go when this is.
#[derive(Debug)]
pub(crate) struct Agreed {
    _held: Held,
}

impl Expected {
    pub(crate) fn new(held: Held, numbers: Numbers) -> Self {
        Self { held, numbers }
    }

    /// How many mounts are told of.
    pub(crate) fn count(&self) -> usize {
        self.held.parts().len()
    }

    /// Compares what was seen, in the order of the plan. A mount that came up read-only where it need not be keeps no
    /// promise less.
    pub(crate) fn agree(self, seen: &[Option<Mounted>]) -> Result<Agreed, &'static Rule> {
        let parts = self.held.parts();
        let is_planned = || {
            parts.iter().zip(seen).all(|(held, seen)| {
                seen.is_some_and(|seen| {
                    (seen.device, seen.inode) == held.identity() && (seen.read_only || !held.part().read_only)
                })
            })
        };
        let mounts: BTreeSet<u64> = seen.iter().flatten().map(|seen| seen.mount).collect();
        let is_whole = seen.len() == parts.len() && mounts.len() == parts.len();
        match self.numbers {
            Numbers::Host if !(is_whole && is_planned()) => Err(&rules::SWAPPED),
            _ => Ok(Agreed { _held: self.held }),
        }
    }
}

#[cfg(test)]
mod tests {
    use workspace::{SafeFolder, Surroundings, Survey};

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join(".git/hooks")).unwrap();
        folder
    }

    fn expected(folder: &tempfile::TempDir, numbers: Numbers) -> Expected {
        let safe = SafeFolder::check(folder.path(), &Surroundings::default()).unwrap();
        Expected::new(Held::open(&safe, Some(&Survey::of(&safe).unwrap())).unwrap(), numbers)
    }

    /// What an honest first process tells of an honest mount.
    fn honest(expected: &Expected) -> Vec<Option<Mounted>> {
        let tell = |(number, held): (u64, &workspace::HeldPart)| {
            let (device, inode) = held.identity();
            Some(Mounted { device, inode, mount: 100 + number, read_only: held.part().read_only })
        };
        (0..).zip(expected.held.parts()).map(tell).collect()
    }

    #[test]
    fn f01_only_what_was_held_mounted_as_planned_is_agreed() {
        let folder = folder();
        let agree = |change: &dyn Fn(&mut Vec<Option<Mounted>>)| {
            let expected = expected(&folder, Numbers::Host);
            assert_eq!(expected.count(), 3);
            let mut seen = honest(&expected);
            change(&mut seen);
            expected.agree(&seen).map(|_| ()).map_err(|rule| rule.id)
        };
        assert_eq!(agree(&|_| {}), Ok(()));
        assert_eq!(agree(&|seen| seen[0].as_mut().unwrap().read_only = true), Ok(()));
        let swapped = Err(rules::SWAPPED.id);
        // Another folder or another file system in the place of the workspace, or of a part.
        assert_eq!(agree(&|seen| seen[0].as_mut().unwrap().inode += 1), swapped);
        assert_eq!(agree(&|seen| seen[1].as_mut().unwrap().inode += 1), swapped);
        assert_eq!(agree(&|seen| seen[2].as_mut().unwrap().device += 1), swapped);
        // What was to be read only and is not.
        assert_eq!(agree(&|seen| seen[2].as_mut().unwrap().read_only = false), swapped);
        // No mount: whatever was mounted in its stead is somewhere else.
        assert_eq!(agree(&|seen| seen[2] = None), swapped);
        // One mount seen in two places, so that another was not seen.
        assert_eq!(agree(&|seen| seen[2].as_mut().unwrap().mount = 101), swapped);
        // A report of fewer or more.
        assert_eq!(agree(&|seen| _ = seen.pop()), swapped);
        assert_eq!(agree(&|seen| seen.push(None)), swapped);
    }

    #[test]
    fn whose_numbers_they_are_goes_by_the_runtime() {
        for (runtime, numbers) in [
            ("runc", Numbers::Host),
            ("io.containerd.runc.v2", Numbers::Host),
            ("nvidia", Numbers::Host),
            ("crun", Numbers::Host),
            ("runsc", Numbers::Runtime),
            ("kata-runtime", Numbers::Runtime),
        ] {
            assert_eq!(Numbers::under(runtime), numbers, "{runtime}");
        }
    }

    #[test]
    fn of_a_runtime_with_numbers_of_its_own_nothing_is_proven() {
        assert!(expected(&folder(), Numbers::Runtime).agree(&[None, None, None]).is_ok());
    }
}
