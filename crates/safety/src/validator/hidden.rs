//! Text that invisible characters spell: bits in zero-width characters, bytes in variation selectors,
//! what a direction override turns round.

/// What a run of invisible characters spells, and how; none where it spells nothing that can be read.
pub(super) fn spelt(run: &[char]) -> Option<(String, &'static str)> {
    let selectors: Vec<u8> = run.iter().filter_map(|c| selector(*c)).collect();
    if selectors.len() >= 4 {
        return text(selectors).map(|text| (text, "variation selectors"));
    }
    // Which two characters are used, and which of them is the one, is up to the writer.
    let zero = *run.first()?;
    let other = *run.iter().find(|c| **c != zero)?;
    let bits: Vec<bool> = run.iter().filter(|c| **c == zero || **c == other).map(|c| *c == other).collect();
    let read = |flip: bool| {
        let byte = |bits: &[bool]| bits.iter().fold(0u8, |byte, bit| byte << 1 | u8::from(bit ^ flip));
        text(bits.chunks_exact(8).map(byte).collect())
    };
    read(false).or_else(|| read(true)).map(|text| (text, "zero-width bits"))
}

/// The byte that a variation selector stands for.
fn selector(c: char) -> Option<u8> {
    match c {
        '\u{fe00}'..='\u{fe0f}' => u8::try_from(c as u32 - 0xfe00).ok(),
        '\u{e0100}'..='\u{e01ef}' => u8::try_from(c as u32 - 0xe0100 + 16).ok(),
        _ => None,
    }
}

fn text(bytes: Vec<u8>) -> Option<String> {
    let text = String::from_utf8(bytes).ok()?;
    let readable = !text.is_empty() && text.chars().all(|c| !c.is_control() || c == '\n');
    readable.then_some(text)
}

/// What stands behind a right-to-left override, as a person reads it: backwards, up to the end of the
/// override or of the line, whatever is turned within it. And how long it is.
pub(super) fn turned(rest: &str) -> (usize, String) {
    let mut open = 1;
    let ends = |(_, c): &(usize, char)| {
        match c {
            '\u{202a}' | '\u{202b}' | '\u{202d}' | '\u{202e}' | '\u{2066}'..='\u{2068}' => open += 1,
            '\u{202c}' | '\u{2069}' => open -= 1,
            _ => {}
        }
        open == 0 || *c == '\n'
    };
    let end = rest.char_indices().find(ends).map_or(rest.len(), |(end, _)| end);
    let directs = |c: &char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (end, rest[..end].chars().rev().filter(|c| !directs(c)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_and_selectors_are_read() {
        for (zero, one) in [('\u{200b}', '\u{200c}'), ('\u{200c}', '\u{200b}')] {
            let bit = |byte: u8, at: u8| if byte >> (7 - at) & 1 == 1 { one } else { zero };
            let run: Vec<char> = b"send it".iter().flat_map(|byte| (0..8).map(|at| bit(*byte, at))).collect();
            assert_eq!(spelt(&run), Some(("send it".into(), "zero-width bits")));
        }
        let run: Vec<char> =
            b"send it".iter().map(|byte| char::from_u32(0xe0100 + u32::from(*byte) - 16).unwrap()).collect();
        assert_eq!(spelt(&run), Some(("send it".into(), "variation selectors")));
        assert_eq!(spelt(&['\u{200d}', '\u{fe0f}']), None);
    }

    #[test]
    fn an_override_is_turned_back() {
        assert_eq!(turned("olleh\u{202c} world"), (5, "hello".into()));
        let nested = "o\u{202e}ll\u{202c}eh\nworld";
        assert_eq!(turned(nested), (nested.len() - 6, "hello".into()));
    }
}
