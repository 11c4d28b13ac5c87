//! Paths as servers read them that are less exact than we are.
//!
//! Of `/Transfer`, `/transfer;x=1`, `/transfer.`, `/transfer%20` and `/transfer.json` some servers make `/transfer`: those
//! that keep files without regard to case, cut path parameters (Java servlets 4.0, 3.1), drop dots and spaces at the end
//! of a name (Windows), or take what follows a dot for the format of the answer (Rails, Spring). Which of them a server
//! does is not to be known from here. So what allows goes by the path as it is written, and what asks for more goes by
//! every reading as well.

use crate::CanonicalPath;

/// The segments of a path as some server compares them: unescaped, without parameters, in lower case, without spaces
/// around them or dots and spaces at their end, and none of them empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FoldedPath(Box<[Box<str>]>);

impl FoldedPath {
    /// Folds a path.
    pub(crate) fn of(path: &CanonicalPath) -> Self {
        let segments = path.as_str().split('/').map(folded);
        Self(segments.filter(|segment| !segment.is_empty()).collect())
    }

    /// How many segments it has.
    pub fn depth(&self) -> usize {
        self.0.len()
    }

    /// True when the path lies at or under the prefix.
    pub fn is_under(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// The same for a server that looks at the beginning of each segment alone, as far as the word goes: at `transfer` in
    /// `transfer.json` or `transfer,1`, not in `transfers`, `transfer-2` or `transfer_2`.
    pub fn begins_under(&self, prefix: &Self) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_');
        let begins = |(own, word): (&Box<str>, &Box<str>)| {
            own.strip_prefix(&**word).is_some_and(|rest| !rest.starts_with(is_word))
        };
        self.depth() >= prefix.depth() && self.0.iter().zip(&prefix.0).all(begins)
    }
}

fn folded(segment: &str) -> Box<str> {
    let whole = unescaped(segment);
    let name = whole.split(';').next().unwrap_or_default();
    name.trim_end_matches(|c: char| c == '.' || c.is_whitespace()).trim_start().to_lowercase().into()
}

/// A canonical segment without its escapes, which are whole and of UTF-8.
fn unescaped(segment: &str) -> String {
    let mut bytes = segment.bytes();
    let mut out = Vec::with_capacity(segment.len());
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' { crate::target::escape(&mut bytes).unwrap_or(byte) } else { byte });
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fold(path: &str) -> FoldedPath {
        CanonicalPath::parse(path).unwrap().folded()
    }

    #[test]
    fn p01_spellings_of_one_path_are_folded_to_one() {
        for spelt in [
            "/transfer;x=1",
            "/transfer;",
            "/transfer%3Bx=1",
            "/Transfer",
            "/TRANSFER/",
            "/%54ransfer",
            "/transfer%20",
            "/%20transfer",
            "/transfer.",
            "/transfer..%20.",
            "/transfer%E3%80%80",
        ] {
            assert_eq!(fold(spelt), fold("/transfer"), "{spelt}");
        }
        assert_eq!(fold("/%C3%89;a=b/c;d"), fold("/é/C"));
        for other in ["/transfers", "/trans", "/", "/x/transfer", "/transfer/x"] {
            assert_ne!(fold(other), fold("/transfer"), "{other}");
        }
    }

    #[test]
    fn p01_a_folded_path_lies_under_its_prefix_on_whole_words() {
        assert!(fold("/V1/x").is_under(&fold("/v1")) && fold("/v1").is_under(&fold("/v1/")));
        assert!(fold("/x").is_under(&fold("/")) && !fold("/v10").is_under(&fold("/v1")));
        for spelt in ["/transfer", "/transfer.json", "/Transfer.JSON/x", "/transfer,1", "/transfer:$DATA"] {
            assert!(fold(spelt).begins_under(&fold("/transfer")), "{spelt}");
        }
        for other in ["/transfers", "/transfer-2", "/transfer_2", "/transferé", "/", "/x.transfer"] {
            assert!(!fold(other).begins_under(&fold("/transfer")), "{other}");
        }
    }
}
