//! Masks by AVX2: 32 bytes an instruction. And every call into code for a processor that may not be this one.

use std::arch::x86_64::{
    __m256i, __m512i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8,
    _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_srli_epi16, _mm512_loadu_si512,
};

use super::super::chunk::Chunk;
use super::sets::{FORMS, KINDS, SIGNS, Set};
use super::{BLOCK, Block, Filter, Forms, HEAD, Masks, PADDING, avx512, block};

/// Bytes of a register.
const LANE: usize = 32;

/// [`Chunk::settle`], compiled for processors that count bits in one instruction, where this is one.
#[allow(unsafe_code, reason = "a call into code for a processor that may not be this one")]
pub(super) fn settle(chunk: &mut Chunk, goes_on: bool) -> bool {
    let can = is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("lzcnt")
        && is_x86_feature_detected!("popcnt");
    if can {
        // SAFETY: `settle_counting` needs nothing but what this processor was just found to have.
        unsafe { settle_counting(chunk, goes_on) };
    }
    can
}

#[target_feature(enable = "bmi1,lzcnt,popcnt")]
fn settle_counting(chunk: &mut Chunk, goes_on: bool) {
    chunk.settle(goes_on);
}

/// What this processor was found to have: nothing else makes one of these.
#[derive(Clone, Copy)]
pub(super) struct Found {
    /// AVX-512 with VBMI, beside AVX2.
    has_512: bool,
}

impl Found {
    /// Where this processor has AVX2 at least.
    pub(super) fn here() -> Option<Self> {
        let has_512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi");
        is_x86_feature_detected!("avx2").then_some(Self { has_512 })
    }

    /// As if it had nothing but AVX2.
    #[cfg(test)]
    pub(super) fn narrow(self) -> Self {
        Self { has_512: false }
    }

    /// Fills `blocks`.
    #[allow(unsafe_code, reason = "a call into code for a processor that may not be this one")]
    pub(super) fn read(self, text: &[u8], from: usize, filter: &Filter, blocks: &mut [Masks]) {
        match self.has_512 {
            // SAFETY: it needs nothing but AVX-512 with VBMI, which this processor was found to have.
            true => unsafe { avx512::read(text, from, filter, blocks) },
            // SAFETY: it needs nothing but AVX2, which this processor was found to have.
            false => unsafe { read_all(text, from, filter, blocks) },
        }
    }

    /// Fills `blocks` with the places of keys alone.
    #[allow(unsafe_code, reason = "a call into code for a processor that may not be this one")]
    pub(super) fn keys(self, text: &[u8], from: usize, filter: &Filter, blocks: &mut [u64]) {
        match self.has_512 {
            // SAFETY: as for `read`.
            true => unsafe { avx512::keys(text, from, filter, blocks) },
            // SAFETY: as for `read`.
            false => unsafe { all_keys(text, from, filter, blocks) },
        }
    }

    /// The forms of a block.
    #[allow(unsafe_code, reason = "a call into code for a processor that may not be this one")]
    pub(super) fn forms(self, text: &[u8], from: usize) -> Forms {
        match self.has_512 {
            // SAFETY: as for `read`.
            true => unsafe { avx512::forms(text, from) },
            // SAFETY: as for `read`.
            false => unsafe { forms_of(text, from) },
        }
    }
}

#[target_feature(enable = "avx2")]
fn read_all(text: &[u8], from: usize, filter: &Filter, blocks: &mut [Masks]) {
    let kinds = Sets::new(KINDS);
    let tables = Tables::new(filter);
    let mut end = PADDING;
    for (index, masks) in blocks.iter_mut().enumerate() {
        let block = block(text, from + index * BLOCK, &mut end);
        *masks = Masks::of(kinds.find(block), signs(block), tables.find(block));
    }
}

#[target_feature(enable = "avx2")]
fn all_keys(text: &[u8], from: usize, filter: &Filter, blocks: &mut [u64]) {
    let tables = Tables::new(filter);
    let mut end = PADDING;
    for (index, keys) in blocks.iter_mut().enumerate() {
        *keys = tables.find(block(text, from + index * BLOCK, &mut end));
    }
}

#[target_feature(enable = "avx2")]
fn forms_of(text: &[u8], from: usize) -> Forms {
    Sets::new(FORMS).find(block(text, from, &mut { PADDING })).into()
}

/// [`Set`]s in registers.
struct Sets<const N: usize> {
    sets: [__m256i; N],
    /// A bit for each high half of a byte that ASCII has.
    high: __m256i,
}

impl<const N: usize> Sets<N> {
    #[target_feature(enable = "avx2")]
    fn new(sets: [Set; N]) -> Self {
        let mut registers = [_mm256_setzero_si256(); N];
        for (register, set) in registers.iter_mut().zip(sets) {
            *register = table(&set.0);
        }
        Self { sets: registers, high: table(&[1, 2, 4, 8, 16, 32, 64, 128, 0, 0, 0, 0, 0, 0, 0, 0]) }
    }

    /// The bytes of a block that belong to each of the sets.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn find(&self, block: &Block) -> [u64; N] {
        let mut masks = [0; N];
        for at in [0, LANE] {
            let bytes = load(block, at);
            let (low, high) = halves(bytes);
            let bit = _mm256_shuffle_epi8(self.high, high);
            for (set, mask) in masks.iter_mut().enumerate() {
                let member = _mm256_and_si256(_mm256_shuffle_epi8(self.sets[set], low), bit);
                *mask |= u64::from(some(member)) << at;
            }
        }
        masks
    }
}

/// The tables of a [`Filter`], in registers.
struct Tables {
    low: [[__m256i; 2]; HEAD],
    high: [[__m256i; 2]; HEAD],
}

impl Tables {
    #[target_feature(enable = "avx2")]
    fn new(filter: &Filter) -> Self {
        let none = [[_mm256_setzero_si256(); 2]; HEAD];
        let mut tables = Self { low: none, high: none };
        for at in 0..HEAD {
            for half in 0..2 {
                tables.low[at][half] = table(&filter.low[at][half]);
                tables.high[at][half] = table(&filter.high[at][half]);
            }
        }
        tables
    }

    /// Where a key may begin.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn find(&self, block: &Block) -> u64 {
        let mut mask = 0;
        for at in [0, LANE] {
            let mut admitted = [_mm256_set1_epi8(-1); 2];
            for next in 0..HEAD {
                let (low, high) = halves(_mm256_or_si256(load(block, at + next), _mm256_set1_epi8(0x20)));
                for (half, admitted) in admitted.iter_mut().enumerate() {
                    let by_low = _mm256_shuffle_epi8(self.low[next][half], low);
                    let by_high = _mm256_shuffle_epi8(self.high[next][half], high);
                    *admitted = _mm256_and_si256(*admitted, _mm256_and_si256(by_low, by_high));
                }
            }
            mask |= u64::from(some(_mm256_or_si256(admitted[0], admitted[1]))) << at;
        }
        mask
    }
}

/// The bytes of a block that are each of the [`SIGNS`].
#[target_feature(enable = "avx2")]
#[inline]
fn signs(block: &Block) -> [u64; SIGNS.len()] {
    let mut masks = [0; SIGNS.len()];
    for at in [0, LANE] {
        let bytes = load(block, at);
        for (sign, mask) in SIGNS.into_iter().zip(&mut masks) {
            let equal = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(sign.cast_signed()));
            *mask |= u64::from(_mm256_movemask_epi8(equal).cast_unsigned()) << at;
        }
    }
    masks
}

/// The low and the high half of every byte.
#[target_feature(enable = "avx2")]
#[inline]
fn halves(bytes: __m256i) -> (__m256i, __m256i) {
    let half = _mm256_set1_epi8(15);
    (_mm256_and_si256(bytes, half), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half))
}

/// A bit for each byte that is not zero.
#[target_feature(enable = "avx2")]
#[inline]
fn some(bytes: __m256i) -> u32 {
    !_mm256_movemask_epi8(_mm256_cmpeq_epi8(bytes, _mm256_setzero_si256())).cast_unsigned()
}

#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code, reason = "a register is loaded through a pointer")]
fn load(block: &Block, at: usize) -> __m256i {
    let bytes = &block[at..at + LANE];
    // SAFETY: `bytes` is 32 readable bytes, and this load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code, reason = "a register is loaded through a pointer")]
pub(super) fn table(entries: &[u8; 16]) -> __m256i {
    // SAFETY: `entries` is 16 readable bytes, and this load asks for no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(entries.as_ptr().cast()) })
}

/// The first 64 bytes.
#[target_feature(enable = "avx512f")]
#[inline]
#[allow(unsafe_code, reason = "a register is loaded through a pointer")]
pub(super) fn wide(bytes: &[u8]) -> __m512i {
    let bytes = &bytes[..BLOCK];
    // SAFETY: `bytes` is 64 readable bytes, and this load asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}
