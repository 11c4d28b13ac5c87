//! A survey as bytes, so that a folder can be compared with it by another process than the one that made it.
//!
//! Words that each end in NUL, which no path holds: `file PATH` or `link PATH TARGET` for a guarded name, `closed PATH` for
//! a folder that could not be looked into, `behind PATH` for what guarded links lead to, each kind in the order of the paths.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::Survey;

/// Bytes that are no survey.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the survey of the workspace cannot be read")]
pub struct UnreadableSurvey;

impl Survey {
    /// What [`Survey::parse`] reads back.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut put = |words: &[&OsStr]| {
            for word in words {
                bytes.extend_from_slice(word.as_bytes());
                bytes.push(0);
            }
        };
        for (path, link) in &self.guarded {
            match link {
                None => put(&[OsStr::new("file"), path.as_os_str()]),
                Some(target) => put(&[OsStr::new("link"), path.as_os_str(), target.as_os_str()]),
            }
        }
        for path in &self.closed {
            put(&[OsStr::new("closed"), path.as_os_str()]);
        }
        for path in &self.behind_links {
            put(&[OsStr::new("behind"), path.as_os_str()]);
        }
        bytes
    }

    /// Reads a survey. Only what [`Survey::to_bytes`] would write again is accepted.
    pub fn parse(bytes: &[u8]) -> Result<Self, UnreadableSurvey> {
        let mut survey = Self::default();
        let mut words = bytes.split_inclusive(|byte| *byte == 0).map(|word| word.strip_suffix(&[0]));
        while let Some(kind) = words.next() {
            let mut path = || {
                let word = words.next().flatten().ok_or(UnreadableSurvey)?;
                Ok(PathBuf::from(OsStr::from_bytes(word)))
            };
            match kind {
                Some(b"file") => _ = survey.guarded.insert(path()?, None),
                Some(b"link") => _ = survey.guarded.insert(path()?, Some(path()?)),
                Some(b"closed") => _ = survey.closed.insert(path()?),
                Some(b"behind") => _ = survey.behind_links.insert(path()?),
                _ => return Err(UnreadableSurvey),
            }
        }
        if survey.to_bytes() == bytes { Ok(survey) } else { Err(UnreadableSurvey) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paths() -> impl Strategy<Value = PathBuf> {
        prop::collection::vec(1_u8..=255, 1..12).prop_map(|bytes| PathBuf::from(OsStr::from_bytes(&bytes)))
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            guarded in prop::collection::btree_map(paths(), prop::option::of(paths()), 0..6),
            closed in prop::collection::btree_set(paths(), 0..4),
            behind_links in prop::collection::btree_set(paths(), 0..4),
        ) {
            let survey = Survey { guarded, closed, behind_links };
            prop_assert_eq!(Survey::parse(&survey.to_bytes()), Ok(survey));
        }

        #[test]
        fn no_bytes_panic_and_what_is_accepted_is_canonical(
            words in prop::collection::vec(prop_oneof![Just("file"), Just("link"), Just("closed"), Just("behind"), Just("a"), Just("b/c"), Just("")], 0..8),
            cut in any::<bool>(),
        ) {
            let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.bytes().chain([0])).collect();
            if cut {
                bytes.pop();
            }
            if let Ok(survey) = Survey::parse(&bytes) {
                prop_assert_eq!(survey.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn what_is_cut_off_or_out_of_order_is_refused() {
        for bytes in [
            &b"file\0a"[..],
            b"file\0",
            b"link\0a\0",
            b"file\0b\0file\0a\0",
            b"file\0a\0file\0a\0",
            b"\0",
            b"x\0a\0",
        ] {
            assert_eq!(Survey::parse(bytes), Err(UnreadableSurvey), "{bytes:?}");
        }
    }
}
