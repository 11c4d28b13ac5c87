//! A path inside a workspace, in the one form that is accepted.

use std::fmt;
use std::path::PathBuf;

/// The longest path in bytes.
pub(super) const MAX_PATH: usize = 1024;
/// The longest segment in bytes: what Linux file systems hold (NAME_MAX).
pub(super) const MAX_SEGMENT: usize = 255;
/// The most segments. Honest trees stay under 20.
pub(super) const MAX_SEGMENTS: usize = 32;

/// A relative path that means the same to every program: no `..`, nothing absolute, no separator in disguise.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WorkspacePath(Box<str>);

/// Why a path was refused. No variant quotes the input.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// Nothing, or an empty segment as in `a//b` and `a/`.
    #[error("the path has an empty segment")]
    Empty,
    /// It begins with `/` or with a drive letter.
    #[error("the path is absolute; a path is relative to the workspace")]
    Absolute,
    /// A `.` or `..` segment.
    #[error("the path has a `.` or `..` segment")]
    Dots,
    /// A backslash, a control character, NUL, or a character that hides or reorders text.
    #[error("the path holds a character that no file of a workspace has")]
    Character,
    /// Longer than 1,024 bytes, a segment longer than 255, or more than 32 segments.
    #[error("the path is too long")]
    TooLong,
}

impl WorkspacePath {
    /// Reads `folder/file`.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if text.len() > MAX_PATH {
            return Err(PathError::TooLong);
        }
        let drive = matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        if text.starts_with('/') || drive {
            return Err(PathError::Absolute);
        }
        if text.chars().any(|c| c == '\\' || c.is_control() || is_hidden(c)) {
            return Err(PathError::Character);
        }
        let mut segments = 0;
        for segment in text.split('/') {
            match segment {
                "" => return Err(PathError::Empty),
                "." | ".." => return Err(PathError::Dots),
                long if long.len() > MAX_SEGMENT => return Err(PathError::TooLong),
                _ => segments += 1,
            }
        }
        if segments > MAX_SEGMENTS { Err(PathError::TooLong) } else { Ok(Self(text.into())) }
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments, outermost first.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }

    /// The folders on the way, and the last segment.
    pub(super) fn split(&self) -> (impl Iterator<Item = &str>, &str) {
        let (folders, name) = self.0.rsplit_once('/').unwrap_or(("", &self.0));
        (folders.split('/').filter(|segment| !segment.is_empty()), name)
    }
}

impl fmt::Display for WorkspacePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The longest path that is shown whole, in characters.
const LONGEST_SHOWN: usize = 120;

/// A path for a person: quoted and cut, with nothing in it that a terminal obeys or that hides from a reader. Whoever wrote
/// into the folder chose it, so its words are still foreign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quoted(pub PathBuf);

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.to_string_lossy();
        let cut: String = name.chars().take(LONGEST_SHOWN).collect();
        let more = if cut.len() < name.len() { "..." } else { "" };
        write!(f, "{cut:?}{more}")
    }
}

/// Characters that change how a name looks or compares without showing: some file systems ignore them, so `.g\u{200c}it`
/// could be `.git` (CVE-2014-9390).
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn w15_paths_that_could_leave_or_deceive_are_refused() {
        for (path, why) in [
            ("", PathError::Empty),
            ("a//b", PathError::Empty),
            ("a/", PathError::Empty),
            ("/etc/passwd", PathError::Absolute),
            ("C:/x", PathError::Absolute),
            ("../x", PathError::Dots),
            ("a/../../b", PathError::Dots),
            ("a/./b", PathError::Dots),
            ("..", PathError::Dots),
            ("a\0b", PathError::Character),
            ("a\\..\\b", PathError::Character),
            ("a\nb", PathError::Character),
            (".g\u{200c}it/config", PathError::Character),
            ("\u{202e}txt.exe", PathError::Character),
        ] {
            assert_eq!(WorkspacePath::parse(path), Err(why), "{path:?}");
        }
        assert_eq!(WorkspacePath::parse(&"n".repeat(4096)), Err(PathError::TooLong));
        assert_eq!(WorkspacePath::parse(&"n".repeat(256)), Err(PathError::TooLong));
        assert_eq!(WorkspacePath::parse(&["a"; 33].join("/")), Err(PathError::TooLong));
        for good in ["a", "a/b.txt", "...", "..a", "日本/ノート.txt", ".hidden", "a b"] {
            assert_eq!(WorkspacePath::parse(good).unwrap().as_str(), good);
        }
    }

    proptest! {
        #[test]
        fn what_parses_stays_inside(text in "[ -~\\PC]{0,60}") {
            if let Ok(path) = WorkspacePath::parse(&text) {
                let joined = std::path::Path::new("/root").join(path.as_str());
                prop_assert!(joined.starts_with("/root"));
                prop_assert!(joined.components().all(|part| part != std::path::Component::ParentDir));
            }
        }
    }
}
