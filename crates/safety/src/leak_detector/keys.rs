//! Which rules have a key at a place: a bitmap that says no, and a table behind it.

use super::lane::{KEY, Key, NO_FOURTH, fold};

/// Bits of the bitmap, as a power of two: 4 KiB, at home in the first cache.
const BITS: u32 = 15;

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
    /// A table of rules, each under its keys.
    pub(super) fn new(keys: impl Iterator<Item = (Key, u16)>) -> Self {
        let mut table = Self { bits: vec![0; 1 << (BITS - 6)], first: vec![0; 1 << BITS], ..Self::default() };
        table.rows = keys.map(|(key, rule)| (u32::from_le_bytes(key), rule)).collect();
        table.rows.sort_unstable_by_key(|(key, rule)| (hash(*key), *key, *rule));
        table.rows.dedup();
        for (index, (key, _)) in table.rows.iter().enumerate().rev() {
            let bit = hash(*key);
            table.bits[bit / 64] |= 1 << (bit % 64);
            table.first[bit] = u16::try_from(index).unwrap_or(u16::MAX);
            table.has_short |= key.to_le_bytes()[KEY - 1] == NO_FOURTH;
        }
        table
    }

    /// The keys, for a filter.
    pub(super) fn keys(&self) -> Vec<Key> {
        let mut keys: Vec<Key> = self.rows.iter().map(|(key, _)| key.to_le_bytes()).collect();
        keys.dedup();
        keys
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
            self.look_up(folded | u32::from(NO_FOURTH) << 24, &mut found);
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
        let key = |key: &str| {
            let mut bytes = [NO_FOURTH; KEY];
            bytes.iter_mut().zip(key.bytes()).for_each(|(slot, byte)| *slot = fold(byte));
            bytes
        };
        let table = KeyTable::new([(key("ghp_"), 7), (key("sg."), 7), (key("sg."), 9)].into_iter());
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
