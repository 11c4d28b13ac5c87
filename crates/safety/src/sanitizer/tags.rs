//! The text between tags and comments; one inside a word takes no place.

use memchr::{memchr2, memmem};

use super::view::{Builder, View};

/// Bytes of a tag in which a quoted value may hold `<` and `>`.
const QUOTED: usize = 256;

/// The text without its tags; none where there are none. Takes time in proportion to the text.
pub(super) fn without(text: &str) -> Option<View> {
    let bytes = text.as_bytes();
    let mut view = Builder::new(text.len());
    let (mut tags, mut at) = (0, 0);
    // A comment that has no end has none further on.
    let mut comments = true;
    while let Some(c) = text[at..].chars().next() {
        let comment = comments && bytes[at..].starts_with(b"<!--");
        let length = if comment { memmem::find(&bytes[at..], b"-->").map(|end| end + 3) } else { None };
        comments &= !comment || length.is_some();
        match length.or_else(|| tag(&bytes[at..])) {
            Some(length) => {
                tags += 1;
                at += length;
            }
            None => {
                view.push(c, at..at + c.len_utf8());
                at += c.len_utf8();
            }
        }
    }
    (tags > 0).then(|| view.finish("without tags"))
}

/// The length of the tag that begins here: short with whatever its quoted values hold, or long without
/// another in it.
fn tag(rest: &[u8]) -> Option<usize> {
    let [b'<', next, ..] = rest else { return None };
    if !next.is_ascii_alphabetic() && !matches!(next, b'/' | b'!') {
        return None;
    }
    let mut quote = None;
    let closes = |byte: &u8| {
        match (quote, byte) {
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
        *byte == b'>' && quote.is_none()
    };
    let short = rest.iter().take(QUOTED).position(closes);
    let long = || memchr2(b'<', b'>', &rest[1..]).map(|end| end + 1).filter(|end| rest[*end] == b'>');
    short.or_else(long).map(|end| end + 1)
}
