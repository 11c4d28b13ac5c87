//! Which rules have a key at a place: a bitmap that says no, and a table behind it.

use super::blocks::{KEY, fold};
use super::lane::Keys;

/// Bits of the bitmap, as a power of two: 4 KiB, at home in the first cache.
const BITS: u32 = 15;
/// What stands in the place of the fourth byte of a key of three. No key of four folded bytes ends in it.
const NO_FOURTH: u32 = 0xff << 24;

/// Rules by key.
#[derive(Default)]
pub(super) struct KeyTable {
    bits: Vec<u64>,
    /// For each bit, its first row.
    first: Vec<u16>,
    /// In the order of their bits.
    rows: Vec<(u32, u16)>,
    has_short: bool,
}

impl KeyTable {
    /// Adds a rule under each of its keys.
    pub(super) fn add(&mut self, keys: &Keys, rule: u16) {
        self.bits.resize(1 << (BITS - 6), 0);
        for key in keys {
            let fourth = key.get(KEY - 1).map_or(NO_FOURTH, |byte| u32::from(*byte) << 24);
            let number =
                key.iter().take(KEY - 1).rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
            self.has_short |= key.len() < KEY;
            let bit = hash(number | fourth);
            self.bits[bit / 64] |= 1 << (bit % 64);
            self.rows.push((number | fourth, rule));
        }
        self.rows.sort_unstable_by_key(|(key, rule)| (hash(*key), *key, *rule));
        self.rows.dedup();
        self.first = vec![0; 1 << BITS];
        for (index, (key, _)) in self.rows.iter().enumerate().rev() {
            self.first[hash(*key)] = u16::try_from(index).unwrap_or(u16::MAX);
        }
    }

    /// The keys, for a filter.
    pub(super) fn keys(&self) -> Vec<Vec<u8>> {
        let mut numbers: Vec<u32> = self.rows.iter().map(|(key, _)| *key).collect();
        numbers.dedup();
        let bytes = |number: u32| {
            let length = if number & NO_FOURTH == NO_FOURTH { KEY - 1 } else { KEY };
            number.to_le_bytes()[..length].to_vec()
        };
        numbers.into_iter().map(bytes).collect()
    }

    /// Calls `found` with each rule that has a key at `at`.
    #[inline]
    pub(super) fn at(&self, text: &[u8], at: usize, mut found: impl FnMut(u16)) {
        let four = match text.get(at..at + KEY) {
            Some(four) => [four[0], four[1], four[2], four[3]],
            None => {
                let mut padded = [0; KEY];
                let rest = text.get(at..).unwrap_or_default();
                padded[..rest.len()].copy_from_slice(rest);
                padded
            }
        };
        let folded = u32::from_le_bytes(four.map(fold));
        self.look_up(folded, &mut found);
        if self.has_short {
            self.look_up(folded | NO_FOURTH, &mut found);
        }
    }

    #[inline]
    fn look_up(&self, key: u32, found: &mut impl FnMut(u16)) {
        let bit = hash(key);
        if self.bits.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1) {
            let rows = &self.rows[usize::from(self.first[bit])..];
            let same = rows.iter().take_while(|(other, _)| hash(*other) == bit);
            same.filter(|(other, _)| *other == key).for_each(|(_, rule)| found(*rule));
        }
    }
}

#[inline]
fn hash(key: u32) -> usize {
    (key.wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_any_case_and_at_the_end_of_a_text() {
        let mut table = KeyTable::default();
        let key = |key: &str| key.bytes().map(fold).collect::<Vec<_>>();
        table.add(&Keys::from([key("ghp_"), key("sg.")]), 7);
        table.add(&Keys::from([key("sg.")]), 9);
        let at = |text: &str| {
            let mut rules = Vec::new();
            table.at(text.as_bytes(), 0, |rule| rules.push(rule));
            rules
        };
        assert_eq!((at("GHP_x"), at("SG."), at("SG.x")), (vec![7], vec![7, 9], vec![7, 9]));
        assert_eq!((at("ghp"), at("sg"), at("")), (vec![], vec![], vec![]));
        assert_eq!(table.keys().len(), 2);
    }
}
