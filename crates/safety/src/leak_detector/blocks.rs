//! A text as bit masks, 64 bytes at a time: which bytes are letters and digits, which belong to a run of
//! token characters, where a literal may begin.
//!
//! With AVX2, found at run time, a block takes a few instructions for each mask; without it the same
//! tables are read byte by byte. Both give the same masks, and a test holds them to that.

#[cfg(target_arch = "x86_64")]
mod avx2;

use super::lane::{KEY, Key, NO_FOURTH, fold};

/// Bytes of a block.
pub(super) const BLOCK: usize = 64;

/// One bit for each byte of a block.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) struct Masks {
    /// ASCII letters and digits.
    pub(super) alnum: u64,
    /// Those, and `_` and `-`.
    pub(super) run: u64,
    /// ASCII digits.
    pub(super) digit: u64,
    /// A backslash.
    pub(super) escape: u64,
    /// A key of the first filter may begin here.
    pub(super) any: u64,
    /// A key of the second filter may begin here.
    pub(super) word: u64,
    /// A key of the third filter may begin here.
    pub(super) name: u64,
}

/// The three sets of keys that are looked for.
pub(super) struct Filters {
    pub(super) any: Filter,
    pub(super) word: Filter,
    pub(super) name: Filter,
}

/// Says for four bytes in a row whether one of a set of keys may be there: a table for the low and one
/// for the high half of each byte, in which each of eight buckets of keys has a bit (the "Teddy" of
/// Hyperscan, Wang et al., NSDI 2019).
#[derive(Clone)]
pub(super) struct Filter {
    low: [[u8; 16]; KEY],
    high: [[u8; 16]; KEY],
}

impl Filter {
    /// A filter for keys of three or four folded bytes.
    pub(super) fn new(mut keys: Vec<Key>) -> Self {
        keys.sort_unstable();
        let mut filter = Self { low: [[0; 16]; KEY], high: [[0; 16]; KEY] };
        // Neighbours in the order share bytes, and keys that share bytes widen a bucket least.
        let share = keys.len().div_ceil(8).max(1);
        for (bucket, keys) in keys.chunks(share).enumerate() {
            for key in keys {
                for at in 0..KEY {
                    match key[at] {
                        NO_FOURTH => (0..16).for_each(|half| {
                            filter.low[at][half] |= 1 << bucket;
                            filter.high[at][half] |= 1 << bucket;
                        }),
                        byte => {
                            filter.low[at][usize::from(byte & 15)] |= 1 << bucket;
                            filter.high[at][usize::from(byte >> 4)] |= 1 << bucket;
                        }
                    }
                }
            }
        }
        filter
    }

    fn admits(&self, bytes: &[u8]) -> bool {
        let each = bytes.iter().zip(self.low.iter().zip(&self.high));
        let buckets = each.fold(0xff, |buckets, (byte, (low, high))| {
            let byte = fold(*byte);
            buckets & low[usize::from(byte & 15)] & high[usize::from(byte >> 4)]
        });
        buckets != 0
    }
}

/// The masks of `blocks.len()` blocks of `text` from `from` on; what lies behind its end counts as zeros.
pub(super) fn read(text: &[u8], from: usize, filters: &Filters, blocks: &mut [Masks]) {
    #[cfg(target_arch = "x86_64")]
    if avx2::read(text, from, filters, blocks) {
        return;
    }
    each(text, from, blocks, |block| portable(block, filters));
}

/// A block and the bytes behind it that a key at its end reaches into.
type Block = [u8; BLOCK + KEY - 1];

#[inline(always)]
fn each(text: &[u8], from: usize, blocks: &mut [Masks], read: impl Fn(&Block) -> Masks) {
    for (index, masks) in blocks.iter_mut().enumerate() {
        let rest = text.get(from + index * BLOCK..).unwrap_or_default();
        *masks = match rest.first_chunk() {
            Some(block) => read(block),
            None => {
                let mut padded = [0; BLOCK + KEY - 1];
                padded[..rest.len()].copy_from_slice(rest);
                read(&padded)
            }
        };
    }
}

/// One block, byte by byte.
fn portable(block: &Block, filters: &Filters) -> Masks {
    let mut masks = Masks::default();
    for at in 0..BLOCK {
        let byte = block[at];
        let bit = |set: bool| u64::from(set) << at;
        masks.alnum |= bit(byte.is_ascii_alphanumeric());
        masks.run |= bit(byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        masks.digit |= bit(byte.is_ascii_digit());
        masks.escape |= bit(byte == b'\\');
        masks.any |= bit(filters.any.admits(&block[at..at + KEY]));
        masks.word |= bit(filters.word.admits(&block[at..at + KEY]));
        masks.name |= bit(filters.name.admits(&block[at..at + KEY]));
    }
    masks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filters() -> Filters {
        let any = Filter::new(vec![*b"pass", *b"pwd\xff", *b"://\xff", *b"toke", *b"secr"]);
        let word = Filter::new(vec![*b"ghp\x7f", *b"akia", *b"sk-\xff", *b"eyj\xff"]);
        Filters { any, word, name: Filter::new(vec![*b"acme", *b"data", *b"sid\xff"]) }
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "[A-Za-z0-9_-]{0,70}".prop_map(String::into_bytes),
            "(PASS|pwd|ghp_|AKIA|sk-|://|\\\\)".prop_map(String::into_bytes),
        ];
        prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn both_ways_of_reading_give_the_same_masks(text in text(), from in 0usize..100) {
            let filters = filters();
            let from = from.min(text.len());
            let mut fast = vec![Masks::default(); (text.len() - from) / BLOCK + 2];
            let mut slow = fast.clone();
            read(&text, from, &filters, &mut fast);
            each(&text, from, &mut slow, |block| portable(block, &filters));
            prop_assert_eq!(fast, slow);
        }
    }

    #[test]
    fn a_filter_admits_every_place_of_a_key() {
        let mut masks = [Masks::default()];
        read(b"My PassWord at http://x Pwd=1 ghp_x AKIA", 0, &filters(), &mut masks);
        for at in [3, 19, 24] {
            assert!(masks[0].any >> at & 1 == 1, "{at}");
        }
        assert!(masks[0].word >> 30 & masks[0].word >> 36 & 1 == 1);
        assert!(masks[0].any & masks[0].word == 0);
    }
}
