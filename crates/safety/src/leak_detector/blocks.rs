//! A text as bit masks, 64 bytes at a time: which bytes are letters and digits, which belong to a run of
//! token characters, where a line ends, where a key may begin.
//!
//! With AVX-512 or AVX2, found at run time, a block takes a few instructions for each mask; without them the same
//! tables are read byte by byte. All give the same masks, and a test holds them to that.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod sets;

use super::chunk::Chunk;
use super::filter::{Filter, HEAD};
use super::lane::fold;
use sets::{FORMS, KINDS, SIGNS, Set};

/// Bytes of a block.
pub(super) const BLOCK: usize = 64;

/// One bit for each byte of a block.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Masks {
    /// ASCII letters and digits.
    pub(super) alnum: u64,
    /// Those, and `_` and `-`.
    pub(super) run: u64,
    /// Those, and `+` and `/`: digits of base64.
    pub(super) digit: u64,
    /// Those, and `=`: values.
    pub(super) value: u64,
    /// A backslash, a percent sign, a line feed.
    pub(super) escape: u64,
    pub(super) percent: u64,
    pub(super) line_end: u64,
    /// A key of the filter may begin here.
    pub(super) key: u64,
}

/// What a block may stand for where it is encoded text; one bit for each byte.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Forms {
    /// A base64 digit that may be the first, the second or the third of four that stand for printable text.
    pub(super) first: u64,
    pub(super) second: u64,
    pub(super) third: u64,
    /// A hexadecimal digit that may be the first of two that stand for a printable character; any one.
    pub(super) high: u64,
    pub(super) hex: u64,
    /// `0`, and what makes a line end or a tabulator with it.
    pub(super) zero: u64,
    pub(super) blank: u64,
}

/// [`Chunk::settle`], with what this processor has for counting bits.
pub(super) fn settle(chunk: &mut Chunk, goes_on: bool) {
    #[cfg(target_arch = "x86_64")]
    if avx2::settle(chunk, goes_on) {
        return;
    }
    chunk.settle(goes_on);
}

/// The masks of `blocks.len()` blocks of `text` from `from` on; what lies behind its end counts as zeros.
pub(super) fn read(text: &[u8], from: usize, filter: &Filter, blocks: &mut [Masks]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(found) = avx2::Found::here() {
        return found.read(text, from, filter, blocks);
    }
    let mut end = PADDING;
    for (index, masks) in blocks.iter_mut().enumerate() {
        *masks = portable(block(text, from + index * BLOCK, &mut end), filter);
    }
}

/// Where a key of the filter may begin in as many blocks of `text` from `from` on.
pub(super) fn keys(text: &[u8], from: usize, filter: &Filter, blocks: &mut [u64]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(found) = avx2::Found::here() {
        return found.keys(text, from, filter, blocks);
    }
    let mut end = PADDING;
    for (index, keys) in blocks.iter_mut().enumerate() {
        *keys = portable_keys(block(text, from + index * BLOCK, &mut end), filter);
    }
}

/// The forms of the block of `text` at `from`.
pub(super) fn forms(text: &[u8], from: usize) -> Forms {
    #[cfg(target_arch = "x86_64")]
    if let Some(found) = avx2::Found::here() {
        return found.forms(text, from);
    }
    portable_forms(text, from)
}

fn portable_forms(text: &[u8], from: usize) -> Forms {
    let mut end = PADDING;
    let block = block(text, from, &mut end);
    FORMS.map(|set| portable_set(block, set)).into()
}

/// A block and the bytes behind it that a key at its end reaches into.
type Block = [u8; BLOCK + HEAD - 1];

const PADDING: Block = [0; BLOCK + HEAD - 1];

/// The block of `text` at `at`; the last ones are put into `end`, with zeros behind them.
#[inline]
fn block<'a>(text: &'a [u8], at: usize, end: &'a mut Block) -> &'a Block {
    let rest = text.get(at..).unwrap_or_default();
    rest.first_chunk().unwrap_or_else(|| {
        *end = PADDING;
        end[..rest.len()].copy_from_slice(rest);
        end
    })
}

/// One block, byte by byte.
fn portable(block: &Block, filter: &Filter) -> Masks {
    let sign = |sign| (0..BLOCK).fold(0, |mask, at| mask | u64::from(block[at] == sign) << at);
    Masks::of(KINDS.map(|set| portable_set(block, set)), SIGNS.map(sign), portable_keys(block, filter))
}

fn portable_keys(block: &Block, filter: &Filter) -> u64 {
    (0..BLOCK).fold(0, |mask, at| mask | u64::from(admits(filter, &block[at..at + HEAD])) << at)
}

fn admits(filter: &Filter, bytes: &[u8]) -> bool {
    (0..2).any(|half| {
        let each = bytes.iter().zip(filter.low.iter().zip(&filter.high));
        let buckets = each.fold(0xff, |buckets, (byte, (low, high))| {
            let byte = fold(*byte);
            buckets & low[half][usize::from(byte & 15)] & high[half][usize::from(byte >> 4)]
        });
        buckets != 0
    })
}

fn portable_set(block: &Block, set: Set) -> u64 {
    (0..BLOCK).fold(0, |mask, at| mask | u64::from(set.has(block[at])) << at)
}

/// True when a text begins with four base64 digits that stand for printable text.
pub(super) fn is_group(text: &[u8]) -> bool {
    let [first, second, third, ..] = FORMS;
    matches!(text, [a, b, c, d, ..] if first.has(*a) && second.has(*b) && third.has(*c) && is_digit(*d))
}

/// True when a text begins with two hexadecimal digits that stand for printable text.
pub(super) fn is_pair(text: &[u8]) -> bool {
    let [.., high, hex, zero, blank] = FORMS;
    matches!(text, [a, b, ..] if high.has(*a) && hex.has(*b) || zero.has(*a) && blank.has(*b))
}

/// True for a base64 digit, of either alphabet.
pub(super) fn is_digit(byte: u8) -> bool {
    let [_, _, digit] = KINDS;
    digit.has(byte)
}

impl Masks {
    /// From those of [`KINDS`], of [`SIGNS`] and of the filter.
    #[inline]
    fn of(kinds: [u64; 3], signs: [u64; 4], key: u64) -> Self {
        let [alnum, run, digit] = kinds;
        let [padding, escape, percent, line_end] = signs;
        Self { alnum, run, digit, value: digit | padding, escape, percent, line_end, key }
    }
}

impl From<[u64; 7]> for Forms {
    fn from([first, second, third, high, hex, zero, blank]: [u64; 7]) -> Self {
        Self { first, second, third, high, hex, zero, blank }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::buckets::filter as filter_of;
    use super::super::lane::{Key, Lane};
    use super::super::rules::{FILTERS, SHIPPED};
    use super::*;

    fn filter() -> Filter {
        filter_of(&["password", "pwd", "://", "toke", "_secret"].map(|key| Key::of(key.bytes())))
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[A-Za-z0-9+/_-]{0,70}".prop_map(String::into_bytes),
            "(PASS|pwd|_SECR|://|\\\\)".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn all_ways_of_reading_give_the_same_masks(text in text(), from in 0usize..100) {
            let from = from.min(text.len());
            for filter in [&filter(), &FILTERS[0], &FILTERS[1]] {
                let mut slow = vec![Masks::default(); (text.len() - from) / BLOCK + 2];
                let places = |index| from + index * BLOCK;
                for (index, masks) in slow.iter_mut().enumerate() {
                    *masks = portable(block(&text, places(index), &mut { PADDING }), filter);
                }
                let slow_keys: Vec<u64> = slow.iter().map(|masks| masks.key).collect();
                #[cfg(target_arch = "x86_64")]
                for found in avx2::Found::here().into_iter().flat_map(|found| [found, found.narrow()]) {
                    let (mut masks, mut keys) = (vec![Masks::default(); slow.len()], vec![0; slow.len()]);
                    found.read(&text, from, filter, &mut masks);
                    found.keys(&text, from, filter, &mut keys);
                    prop_assert_eq!((&masks, &keys), (&slow, &slow_keys));
                    prop_assert_eq!(found.forms(&text, from), portable_forms(&text, from));
                }
            }
        }
    }

    #[test]
    fn the_filters_of_the_program_admit_the_keys_of_its_rules() {
        let mut count = 0;
        for rule in &SHIPPED {
            let (filter, keys) = match &rule.lane {
                Lane::Anywhere { keys, .. } | Lane::Line(keys) => (&FILTERS[0], keys),
                Lane::Near { keys, .. } => (&FILTERS[1], keys),
                _ => continue,
            };
            for key in keys.iter() {
                let mut mask = [0];
                super::keys(&key.bytes, 0, filter, &mut mask);
                assert!(mask[0] & 1 == 1, "{}: {key:?}", rule.id);
                count += 1;
            }
        }
        assert!(count > 500);
    }

    #[test]
    fn a_filter_admits_every_place_of_a_key() {
        let mut masks = [Masks::default()];
        read(b"My PassWord at http://x Pwd=1 ghp_x AKIA", 0, &filter(), &mut masks);
        for at in [3, 19, 24] {
            assert!(masks[0].key >> at & 1 == 1, "{at}");
        }
        assert!(masks[0].key >> 30 & 1 == 0);
    }
}
