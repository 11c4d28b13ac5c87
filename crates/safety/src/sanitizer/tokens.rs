//! A text as words, in one pass: what the rules about words and the model both read.

/// A word, or what stands in its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Token {
    /// The offset of its first byte.
    pub(crate) start: usize,
    /// The offset after its last byte.
    pub(crate) end: usize,
    /// A hash of its lower-case letters in their order; apostrophes count for nothing.
    pub(crate) hash: u64,
    /// A hash of its letters in any order but for the first and the last.
    pub(crate) bag: u64,
    /// Its place among the words; the end of a sentence takes [`SENTENCE`] places.
    pub(crate) place: u32,
    /// True when it begins a sentence, a quotation, a value or an item of a list, or follows `please`.
    pub(crate) opens: bool,
    /// What it looks like.
    pub(crate) shape: Shape,
}

/// What a word looks like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Shape {
    /// Letters.
    Word,
    /// The part of a mail address around its `@`.
    Address,
    /// The beginning of a link, or the end of a host's name.
    Link,
    /// Mostly digits: an amount, a date, the number of an account.
    Number,
}

/// The end of a sentence stands for this many words: a phrase seldom reaches over it.
const SENTENCE: u32 = 4;

/// Longer runs are encodings, not words.
const LONGEST_WORD: usize = 32;

/// Calls `each` for every word of at most [`LONGEST_WORD`] bytes.
pub(crate) fn each(text: &str, mut each: impl FnMut(Token)) {
    let bytes = text.as_bytes();
    let (mut at, mut gap, mut place, mut last, mut led) = (0, 0, 0u32, 0u64, false);
    while at < bytes.len() {
        let between = separator(bytes, at);
        if between > 0 {
            place += SENTENCE * u32::from(ends_sentence(bytes, at));
            at += between;
            continue;
        }
        let start = at;
        while at < bytes.len() && (is_word(bytes[at]) && separator(bytes, at) == 0 || is_inner(bytes, at)) {
            at += 1;
        }
        let word = &bytes[start..at];
        if word.len() > LONGEST_WORD {
            place += 1;
            gap = at;
            continue;
        }
        let (hash, bag) = hashes(word);
        // The same word again and again would only stretch the distance.
        if std::mem::replace(&mut last, hash) == hash {
            gap = at;
            continue;
        }
        place += 1;
        let opens = !is_name(bytes, at)
            && (place == 1 || capital(word) || opens(&bytes[gap..start]) || std::mem::take(&mut led));
        led = leads(word);
        let shape = shape(bytes, start..at);
        each(Token { start, end: at, hash, bag, place, opens, shape });
        gap = at;
    }
}

/// The bytes of the sign between words that stands here, 0 for a part of a word. An escaped line
/// break of JSON or YAML is a sign between words, and so is punctuation beyond ASCII.
fn separator(bytes: &[u8], at: usize) -> usize {
    match bytes[at] {
        b'\\' if matches!(bytes.get(at + 1), Some(b'n' | b't' | b'r')) => 2,
        // General punctuation (U+2000 to U+207F), of Latin-1 and of CJK; a text is never cut short.
        0xe2 if matches!(bytes.get(at + 1), Some(0x80 | 0x81)) => 3,
        0xe3 if bytes.get(at + 1) == Some(&0x80) => 3,
        0xc2 => 2,
        byte => usize::from(!is_word(byte)),
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte >= 0x80
}

/// Signs that stand for letters, and the apostrophe, between letters.
fn is_inner(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at], b'\'' | b'@' | b'$' | b'!' | b'|')
        && bytes.get(at + 1).is_some_and(|next| next.is_ascii_alphanumeric())
}

fn ends_sentence(bytes: &[u8], at: usize) -> bool {
    let next = bytes.get(at + 1).copied().unwrap_or(b' ');
    match bytes[at] {
        b'.' | b'!' | b'?' | b';' => next.is_ascii_whitespace(),
        b'\n' => next == b'\n',
        _ => false,
    }
}

/// True when what stands between two words lets the second begin something.
fn opens(gap: &[u8]) -> bool {
    let mut lines = 0;
    for (at, byte) in gap.iter().enumerate() {
        let spaced = gap.get(at + 1).is_none_or(u8::is_ascii_whitespace);
        match byte {
            b'"' | b'`' | b'(' | b'[' | b'{' | b'<' | b'>' | b'*' | b'#' | b'|' | b';' | b'=' | b'~' => {
                return true;
            }
            b'\'' if gap.len() > 1 => return true,
            b'.' | b'!' | b'?' | b':' if spaced && gap.len() > 1 => return true,
            b'-' | b'+' if spaced && lines > 0 => return true,
            b'\n' => lines += 1,
            0xe2 | 0xe3 => return true,
            b'\\' => return true,
            _ => {}
        }
    }
    lines > 1
}

/// A word written like the first of a sentence; where punctuation was lost, the capital is left.
fn capital(word: &[u8]) -> bool {
    matches!(word, [first, second, ..] if first.is_ascii_uppercase() && second.is_ascii_lowercase())
}

/// Words after which an order comes.
fn leads(word: &[u8]) -> bool {
    const LEADING: [&str; 13] = [
        "please",
        "kindly",
        "finally",
        "then",
        "todo",
        "discreetly",
        "subtly",
        "casually",
        "covertly",
        "seamlessly",
        "smoothly",
        "quietly",
        "secretly",
    ];
    LEADING.iter().any(|leading| leading.len() == word.len() && leading.as_bytes().eq_ignore_ascii_case(word))
}

/// The name of a thing in a program or in data, not a word of a sentence: `send_it`, `send(`, `"send":`.
fn is_name(bytes: &[u8], end: usize) -> bool {
    match bytes.get(end) {
        Some(b'_' | b'(') => true,
        Some(b'"' | b'\'') => bytes.get(end + 1) == Some(&b':'),
        _ => false,
    }
}

fn shape(bytes: &[u8], word: std::ops::Range<usize>) -> Shape {
    let written = &bytes[word.clone()];
    let dotted = |at: Option<usize>| at.and_then(|at| bytes.get(at)) == Some(&b'.');
    let digits = written.iter().filter(|byte| byte.is_ascii_digit()).count();
    if written.get(1..).is_some_and(|rest| rest.contains(&b'@')) && dotted(Some(word.end)) {
        return Shape::Address;
    }
    let link = match written {
        b"http" | b"https" => bytes[word.end..].starts_with(b"://"),
        b"www" => dotted(Some(word.end)),
        b"com" | b"net" | b"org" | b"io" | b"info" | b"biz" | b"xyz" | b"ai" | b"dev" | b"app" => {
            dotted(word.start.checked_sub(1)) && word.start > 1
        }
        _ => false,
    };
    match link {
        true => Shape::Link,
        false if digits * 2 > written.len() => Shape::Number,
        false => Shape::Word,
    }
}

/// A hash of the lower-case letters in their order, and one of them in any order but for the first
/// and the last.
pub(super) fn hashes(word: &[u8]) -> (u64, u64) {
    let mut exact = 0xcbf2_9ce4_8422_2325u64;
    let mut bag = 0u64;
    for byte in word.iter().filter(|byte| **byte != b'\'') {
        exact = (exact ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
        bag = bag.wrapping_add(IN_BAG[usize::from(*byte)]);
    }
    let end = |byte: Option<&u8>| u64::from(byte.map_or(0, u8::to_ascii_lowercase));
    let ends = end(word.first()) << 8 | end(word.last());
    (exact ^ exact >> 29, bag ^ ends.wrapping_mul(0xff51_afd7_ed55_8ccd))
}

/// What each byte adds to the hash of letters in any order; capitals as small letters.
static IN_BAG: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let lower = (byte as u8).to_ascii_lowercase() as u64;
        table[byte] = (lower + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left((lower % 61) as u32);
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(&str, bool, Shape)> {
        let mut tokens = Vec::new();
        each(text, |token| tokens.push((&text[token.start..token.end], token.opens, token.shape)));
        tokens
    }

    #[test]
    fn words_know_where_they_stand() {
        let opening = |text: &'static str| -> Vec<&str> {
            read(text).into_iter().filter(|token| token.1).map(|token| token.0).collect()
        };
        assert_eq!(opening("Send it. Then go: now, or e.g. never"), ["Send", "Then", "go", "now", "never"]);
        assert_eq!(opening("{'bio': 'Please unlock'}"), ["Please", "unlock"]);
        assert_eq!(opening("a new flavour, Retrieve it and send_it or send it"), ["a", "Retrieve"]);
        assert_eq!(opening("a b\n    c\n- Delete\n\nf g\\nSend"), ["a", "Delete", "f", "Send"]);
        assert_eq!(opening("say “Send” now"), ["say", "Send", "now"]);
        assert_eq!(opening("it's 3.5 or x.y"), ["it's"]);
    }

    #[test]
    fn addresses_links_and_numbers_have_shapes() {
        let shapes = |text| -> Vec<Shape> { read(text).into_iter().map(|token| token.2).collect() };
        assert_eq!(shapes("x-2134@mail.com"), [Shape::Word, Shape::Address, Shape::Link]);
        assert_eq!(shapes("see https://a.b"), [Shape::Word, Shape::Link, Shape::Word, Shape::Word]);
        assert_eq!(shapes("US133000000121212121212"), [Shape::Number]);
        assert_eq!(shapes("p@ssword"), [Shape::Word]);
    }
}
