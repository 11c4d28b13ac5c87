//! Which rules have a key at a place: a bitmap that says no, and a table behind it.

use super::lane::{KEY, Key};

/// Bits of the bitmap for each key, so that few other texts share one, and the most of them: 8 KiB, at home in the first
/// cache.
const BITS_EACH: usize = 32;
const MOST_BITS: usize = 1 << 16;

/// Rules by key.
pub(super) struct KeyTable {
    /// The keys of four bytes and more, and those of three.
    longer: Rows<4>,
    shorter: Rows<3>,
}

/// Keys that are known by their first `N` bytes.
struct Rows<const N: usize> {
    /// A bit for those bytes of each key.
    bits: Vec<u64>,
    /// How far to the right a hash is shifted for its bit.
    shift: u32,
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
    pub(super) fn new(keys: &[(Key, u16)]) -> Self {
        let rows = |short: bool| {
            let chosen = keys.iter().filter(move |(key, _)| (key.length == 3) == short);
            chosen.map(|(key, rule)| Row {
                key: u64::from_le_bytes(key.bytes),
                mask: u64::MAX >> (64 - 8 * u32::from(key.length)),
                rule: *rule,
            })
        };
        Self { longer: Rows::new(rows(false).collect()), shorter: Rows::new(rows(true).collect()) }
    }

    /// Calls `found` with each rule that has a key at `at`.
    #[inline]
    pub(super) fn at(&self, text: &[u8], at: usize, mut found: impl FnMut(u16)) {
        let folded = load(text, at) | u64::from_le_bytes([0x20; KEY]);
        self.longer.at(folded, &mut found);
        self.shorter.at(folded, &mut found);
    }
}

impl<const N: usize> Rows<N> {
    fn new(mut rows: Vec<Row>) -> Self {
        if rows.is_empty() {
            return Self { bits: Vec::new(), shift: 0, first: Vec::new(), rows };
        }
        let bits = (rows.len() * BITS_EACH).next_power_of_two().clamp(64, MOST_BITS);
        let mut table = Self {
            bits: vec![0; bits / 64],
            shift: 32 - bits.trailing_zeros(),
            first: vec![0; bits],
            rows: Vec::new(),
        };
        rows.sort_unstable_by_key(|row| (table.bit(row.key), row.key, row.rule));
        for (index, row) in rows.iter().enumerate().rev() {
            let bit = table.bit(row.key);
            table.bits[bit / 64] |= 1 << (bit % 64);
            table.first[bit] = u16::try_from(index).unwrap_or(u16::MAX);
        }
        table.rows = rows;
        table
    }

    #[inline]
    fn bit(&self, folded: u64) -> usize {
        let first = (folded << (64 - 8 * N) >> (64 - 8 * N)) as u32;
        (first.wrapping_mul(0x9e37_79b1) >> self.shift) as usize
    }

    #[inline]
    fn at(&self, folded: u64, found: &mut impl FnMut(u16)) {
        if self.bits.is_empty() {
            return;
        }
        let bit = self.bit(folded);
        if self.bits[bit / 64] >> (bit % 64) & 1 == 1 {
            self.look_up(folded, bit, found);
        }
    }

    #[inline(never)]
    fn look_up(&self, folded: u64, bit: usize, found: &mut impl FnMut(u16)) {
        for row in &self.rows[usize::from(self.first[bit])..] {
            if folded & row.mask == row.key {
                found(row.rule);
            } else if self.bit(row.key) != bit {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_any_case_and_at_the_end_of_a_text() {
        let key = |key: &str| Key::of(key.bytes());
        let keys = [(key("ghp_"), 7), (key("sg."), 7), (key("sg."), 9), (key("pushbullet"), 3)];
        let table = KeyTable::new(&keys);
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
