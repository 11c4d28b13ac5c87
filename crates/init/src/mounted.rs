//! What stands at a place in the container, as its first process saw it before anything else ran there.

use std::fmt;

use crate::PrefaceError;

/// The longest line of a report in bytes: three numbers, a word, and what stands between them.
pub const MAX_MOUNTED: usize = 80;

/// The root of a mount. A line of the report that follows the lifeline's preface tells one, or `none` where no mount has
/// its root at the place that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mounted {
    /// The device of its file system (`st_dev`).
    pub device: u64,
    /// Its number there (`st_ino`).
    pub inode: u64,
    /// Which mount it is the root of (`stx_mnt_id`), to tell two mounts of one file apart.
    pub mount: u64,
    /// Whether nothing can be written through it.
    pub read_only: bool,
}

impl Mounted {
    /// The line for a place, without its line feed.
    pub fn line(seen: Option<Self>) -> String {
        seen.map_or_else(|| "none".to_owned(), |seen| seen.to_string())
    }

    /// Reads a line without its line feed. Only what [`Mounted::line`] writes is accepted.
    pub fn parse(line: &[u8]) -> Result<Option<Self>, PrefaceError> {
        let line = std::str::from_utf8(line).map_err(|_| PrefaceError)?;
        if line == "none" {
            return Ok(None);
        }
        let mut words = line.split(' ');
        let mut number = || words.next().and_then(|word| word.parse().ok()).ok_or(PrefaceError);
        let (device, inode, mount) = (number()?, number()?, number()?);
        let seen = Self { device, inode, mount, read_only: words.next() == Some("ro") };
        if seen.to_string() == line { Ok(Some(seen)) } else { Err(PrefaceError) }
    }
}

impl fmt::Display for Mounted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { device, inode, mount, read_only } = self;
        write!(f, "{device} {inode} {mount} {}", if *read_only { "ro" } else { "rw" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(device in any::<u64>(), inode in any::<u64>(), mount in any::<u64>(), read_only in any::<bool>()) {
            for seen in [None, Some(Mounted { device, inode, mount, read_only })] {
                let line = Mounted::line(seen);
                prop_assert!(line.len() < MAX_MOUNTED);
                prop_assert_eq!(Mounted::parse(line.as_bytes()), Ok(seen));
            }
        }

        #[test]
        fn no_bytes_panic_and_what_is_accepted_is_canonical(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(seen) = Mounted::parse(&bytes) {
                prop_assert_eq!(Mounted::line(seen).into_bytes(), bytes);
            }
        }
    }

    #[test]
    fn what_is_not_exactly_a_line_is_refused() {
        for line in
            ["", "None", "1 2 3", "1 2 3 ", "1 2 3 r", "1 2 3 ro ", "01 2 3 ro", "1 2 -3 rw", "1  2 3 rw"]
        {
            assert_eq!(Mounted::parse(line.as_bytes()), Err(PrefaceError), "{line}");
        }
    }
}
