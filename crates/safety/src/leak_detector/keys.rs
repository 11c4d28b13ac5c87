//! Which rules have a key at a place: two small sets that say no, and a table behind them.

use super::lane::{KEY, Key};

/// Slots of the table for each key, so that few others share one, and the most of them.
const SLOTS_EACH: usize = 8;
const MOST_SLOTS: usize = 1 << 16;

/// Rules by key.
pub(super) struct KeyTable {
    heads: Heads,
    /// The keys of four bytes and more, and those of three.
    longer: Rows<4>,
    shorter: Rows<3>,
}

/// The first bytes of keys, one bit for each of their hashes: 9 KiB, at home in the first cache.
struct Heads {
    /// The first four bytes of the longer keys.
    four: Box<[u64; 1 << 10]>,
    /// The keys of three bytes.
    three: Box<[u64; 1 << 7]>,
}

/// Keys that are known by their first `N` bytes.
struct Rows<const N: usize> {
    /// For each hash of those bytes, the first row with it, or [`NONE`].
    first: Vec<u16>,
    /// How far to the right a hash is shifted.
    shift: u32,
    /// In the order of their hashes.
    rows: Vec<Row>,
}

const NONE: u16 = u16::MAX;

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
        let mut heads = Heads { four: Box::new([0; _]), three: Box::new([0; _]) };
        keys.iter().for_each(|(key, _)| heads.add(key));
        Self { heads, longer: Rows::new(rows(false).collect()), shorter: Rows::new(rows(true).collect()) }
    }

    /// False where no rule has a key at `at`; true where one does, and seldom else.
    #[inline]
    pub(super) fn may_be_at(&self, text: &[u8], at: usize) -> bool {
        self.heads.has(load(text, at))
    }

    /// Calls `found` with each rule that has a key at `at`.
    #[inline]
    pub(super) fn at(&self, text: &[u8], at: usize, mut found: impl FnMut(u16)) {
        let folded = load(text, at);
        if self.heads.has(folded) {
            self.longer.at(folded, &mut found);
            self.shorter.at(folded, &mut found);
        }
    }
}

impl Heads {
    fn add(&mut self, key: &Key) {
        let (four, three) = Self::hashes(u64::from_le_bytes(key.bytes));
        if key.length == 3 {
            self.three[three / 64] |= 1 << (three % 64);
        } else {
            self.four[four / 64] |= 1 << (four % 64);
        }
    }

    #[inline]
    fn has(&self, folded: u64) -> bool {
        let (four, three) = Self::hashes(folded);
        (self.four[four / 64] >> (four % 64) | self.three[three / 64] >> (three % 64)) & 1 == 1
    }

    /// The hashes of the first four and of the first three bytes.
    #[inline]
    fn hashes(folded: u64) -> (usize, usize) {
        let hash = |bytes: u32, bits: u32| (bytes.wrapping_mul(0x9e37_79b1) >> (u32::BITS - bits)) as usize;
        (hash(folded as u32, 16), hash(folded as u32 & 0x00ff_ffff, 13))
    }
}

impl<const N: usize> Rows<N> {
    fn new(mut rows: Vec<Row>) -> Self {
        let slots = (rows.len() * SLOTS_EACH).next_power_of_two().clamp(64, MOST_SLOTS);
        let mut table =
            Self { first: vec![NONE; slots], shift: u32::BITS - slots.trailing_zeros(), rows: Vec::new() };
        rows.sort_unstable_by_key(|row| (table.slot(row.key), row.key, row.rule));
        for (index, row) in (0u16..).zip(&rows) {
            let slot = table.slot(row.key);
            let first = &mut table.first[slot];
            *first = index.min(*first);
        }
        table.rows = rows;
        table
    }

    #[inline]
    fn slot(&self, folded: u64) -> usize {
        let first = (folded << (64 - 8 * N) >> (64 - 8 * N)) as u32;
        (first.wrapping_mul(0x9e37_79b1) >> self.shift) as usize
    }

    #[inline]
    fn at(&self, folded: u64, found: &mut impl FnMut(u16)) {
        let slot = self.slot(folded);
        if self.first[slot] != NONE {
            self.look_up(folded, slot, found);
        }
    }

    #[inline(never)]
    fn look_up(&self, folded: u64, slot: usize, found: &mut impl FnMut(u16)) {
        for row in &self.rows[usize::from(self.first[slot])..] {
            if folded & row.mask == row.key {
                found(row.rule);
            } else if self.slot(row.key) != slot {
                break;
            }
        }
    }
}

/// The folded bytes from `at` on; zeros behind the end.
#[inline]
fn load(text: &[u8], at: usize) -> u64 {
    let bytes = match text.get(at..).and_then(|rest| rest.first_chunk()) {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => {
            let mut padded = [0; KEY];
            let rest = text.get(at..).unwrap_or_default();
            padded[..rest.len()].copy_from_slice(rest);
            u64::from_le_bytes(padded)
        }
    };
    bytes | u64::from_le_bytes([0x20; KEY])
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
