//! Which rules have a key at a place: a bitmap that says no, and a table behind it.

use super::lane::{KEY, Key};

/// Bits of the bitmap, as a power of two: 8 KiB, at home in the first cache.
const BITS: u32 = 16;
/// The first four bytes of a text.
const FOUR: u64 = 0xffff_ffff;

/// Rules by key.
pub(super) struct KeyTable {
    /// A bit for the first four bytes of each key; for a key of three, with every byte behind it.
    bits: Vec<u64>,
    /// For each bit, its first row.
    first: Vec<u16>,
    /// In the order of their bits.
    rows: Vec<Row>,
}

#[derive(Clone, Copy)]
struct Row {
    /// The bytes of the key, and which of a text are compared with them.
    key: u64,
    mask: u64,
    rule: u16,
}

impl KeyTable {
    /// A table of rules, each under its keys.
    pub(super) fn new(keys: impl Iterator<Item = (Key, u16)>) -> Self {
        let mut rows = Vec::new();
        for (key, rule) in keys {
            let mask = u64::MAX >> (64 - 8 * u32::from(key.length));
            let key = u64::from_le_bytes(key.bytes);
            match mask & FOUR {
                FOUR => rows.push((hash(key), Row { key, mask, rule })),
                _ => rows.extend((0..=0xff).filter(|byte| byte & 0x20 != 0).map(|byte| {
                    let key = key | byte << 24;
                    (hash(key), Row { key, mask: FOUR, rule })
                })),
            }
        }
        rows.sort_unstable_by_key(|(bit, row)| (*bit, row.key, row.rule));
        let mut table = Self { bits: vec![0; 1 << (BITS - 6)], first: vec![0; 1 << BITS], rows: Vec::new() };
        for (index, (bit, _)) in rows.iter().enumerate().rev() {
            table.bits[bit / 64] |= 1 << (bit % 64);
            table.first[*bit] = u16::try_from(index).unwrap_or(u16::MAX);
        }
        table.rows.extend(rows.into_iter().map(|(_, row)| row));
        table
    }

    /// Calls `found` with each rule that has a key at `at`.
    #[inline]
    pub(super) fn at(&self, text: &[u8], at: usize, found: impl FnMut(u16)) {
        let folded = load(text, at) | u64::from_le_bytes([0x20; KEY]);
        let bit = hash(folded);
        if self.bits[bit / 64] >> (bit % 64) & 1 == 1 {
            self.look_up(folded, bit, found);
        }
    }

    #[inline(never)]
    fn look_up(&self, folded: u64, bit: usize, mut found: impl FnMut(u16)) {
        for row in &self.rows[usize::from(self.first[bit])..] {
            if folded & row.mask == row.key {
                found(row.rule);
            } else if hash(row.key) != bit {
                break;
            }
        }
    }
}

/// The bytes from `at` on; zeros behind the end.
#[inline]
fn load(text: &[u8], at: usize) -> u64 {
    match text.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => {
            let mut padded = [0; KEY];
            let rest = text.get(at..).unwrap_or_default();
            padded[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(padded)
        }
    }
}

#[inline]
fn hash(key: u64) -> usize {
    (((key & FOUR) as u32).wrapping_mul(0x9e37_79b1) >> (32 - BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_any_case_and_at_the_end_of_a_text() {
        let key = |key: &str| Key::of(key.bytes());
        let keys = [(key("ghp_"), 7), (key("sg."), 7), (key("sg."), 9), (key("pushbullet"), 3)];
        let table = KeyTable::new(keys.into_iter());
        let at = |text: &str| {
            let mut rules = Vec::new();
            table.at(text.as_bytes(), 0, |rule| rules.push(rule));
            rules
        };
        assert_eq!((at("GHP_x"), at("SG."), at("SG.x")), (vec![7], vec![7, 9], vec![7, 9]));
        assert_eq!((at("PushBull"), at("pushbul")), (vec![3], vec![]));
        assert_eq!((at("ghp"), at("sg"), at("")), (vec![], vec![], vec![]));
    }
}
