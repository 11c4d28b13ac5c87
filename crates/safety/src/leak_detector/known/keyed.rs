//! The functions under the vault's key: fast ones that find candidates, a slow one that confirms.

use sha2::{Digest as _, Sha256};

use super::{SHORT, WINDOW};

/// Bytes of a word of a part that is shorter than a window.
pub(super) const SHORT_WORD: usize = 5;

/// Words of windows, as 32 bits of their keyed hash: they say where a window may stand.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Words {
    /// Eight bytes each.
    pub(super) long: Vec<u32>,
    /// [`SHORT_WORD`] bytes each.
    pub(super) short: Vec<u32>,
}

impl Words {
    /// In order, each once.
    pub(super) fn settle(&mut self) {
        for words in [&mut self.long, &mut self.short] {
            words.sort_unstable();
            words.dedup();
        }
    }

    /// Takes others in.
    pub(super) fn add(&mut self, other: Self) {
        self.long.extend(other.long);
        self.short.extend(other.short);
        self.settle();
    }
}

/// Everything that is derived from the key.
#[derive(Clone)]
pub(super) struct Keys {
    inner: Sha256,
    outer: Sha256,
    add: [u64; 2],
    multiply: u64,
}

impl Keys {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        let pad = |mask: u8| {
            let mut block = [mask; 64];
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            Sha256::new_with_prefix(block)
        };
        let mut keys = Self { inner: pad(0x36), outer: pad(0x5c), add: [0; 2], multiply: 1 };
        keys.add = [keys.tag(b"window, first half"), keys.tag(b"window, second half")];
        keys.multiply = keys.tag(b"word") | 1;
        keys
    }

    /// 64 bits of HMAC-SHA256.
    pub(super) fn tag(&self, window: &[u8]) -> u64 {
        let inner = self.inner.clone().chain_update(window).finalize();
        let mac: [u8; 32] = self.outer.clone().chain_update(inner).finalize().into();
        mac.iter().take(8).fold(0, |tag, byte| tag << 8 | u64::from(*byte))
    }

    /// Of the first [`WINDOW`] bytes: the halves of the product of two keyed words.
    #[inline]
    pub(super) fn window(&self, bytes: &[u8]) -> u64 {
        const { assert!(WINDOW == 2 * SHORT) };
        let (first, second) = (load(bytes) ^ self.add[0], load(&bytes[SHORT..]) ^ self.add[1]);
        let product = u128::from(first) * u128::from(second);
        product as u64 ^ (product >> 64) as u64
    }

    /// Of the first [`SHORT`] bytes.
    #[inline]
    pub(super) fn short(&self, bytes: &[u8]) -> u64 {
        let product = u128::from(load(bytes) ^ self.add[0]) * u128::from(self.multiply);
        product as u64 ^ (product >> 64) as u64
    }

    /// Of the first eight bytes.
    #[inline]
    pub(super) fn word(&self, bytes: &[u8]) -> u32 {
        self.mix(load(bytes))
    }

    /// Of the first [`SHORT_WORD`] bytes.
    #[inline]
    pub(super) fn short_word(&self, bytes: &[u8]) -> u32 {
        self.mix(load_short(bytes))
    }

    #[inline]
    pub(super) fn mix(&self, word: u64) -> u32 {
        ((word ^ self.add[1]).wrapping_mul(self.multiply) >> 32) as u32
    }
}

/// The first eight bytes; fewer count as followed by zeros.
#[inline]
pub(super) fn load(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(word) => u64::from_le_bytes(*word),
        None => bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// The first [`SHORT_WORD`] bytes.
#[inline]
pub(super) fn load_short(bytes: &[u8]) -> u64 {
    load(bytes) & ((1 << (8 * SHORT_WORD)) - 1)
}
