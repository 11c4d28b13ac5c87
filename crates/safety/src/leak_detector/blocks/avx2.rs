//! Masks by AVX2: 32 bytes an instruction.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_cmpeq_epi8,
    _mm256_loadu_si256, _mm256_movemask_epi8, _mm256_or_si256, _mm256_set1_epi8, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_srli_epi16,
};

use super::{BLOCK, Block, Filter, Filters, KEY, Masks};

/// Bytes of a register.
const LANE: usize = 32;

/// Fills `blocks`, or says that this processor cannot.
#[allow(unsafe_code, reason = "the one call into code for a processor that may not be this one")]
pub(super) fn read(text: &[u8], from: usize, filters: &Filters, blocks: &mut [Masks]) -> bool {
    if !is_x86_feature_detected!("avx2") {
        return false;
    }
    // SAFETY: `read_all` needs nothing but AVX2, which this processor was just found to have.
    unsafe { read_all(text, from, filters, blocks) };
    true
}

#[target_feature(enable = "avx2")]
fn read_all(text: &[u8], from: usize, filters: &Filters, blocks: &mut [Masks]) {
    let classes = Classes::new();
    let tables = [&filters.any, &filters.word, &filters.name].map(|filter| Tables::new(filter));
    super::each(text, from, blocks, |block| one(block, &classes, &tables));
}

#[target_feature(enable = "avx2")]
#[inline]
fn one(block: &Block, classes: &Classes, tables: &[Tables; 3]) -> Masks {
    let mut masks = Masks::default();
    for half in 0..BLOCK / LANE {
        let at = half * LANE;
        let here = load(block, at);
        let class = shuffle_both(here, classes.low, classes.high);
        let put = |mask: u32| u64::from(mask) << at;
        masks.digit |= put(some(class, 0b00_0001));
        masks.alnum |= put(some(class, 0b00_0111));
        masks.run |= put(some(class, 0b10_1111));
        masks.escape |= put(some(class, 0b01_0000));
        let mut admitted = [_mm256_set1_epi8(-1); 3];
        for next in 0..KEY {
            let bytes = _mm256_or_si256(load(block, at + next), _mm256_set1_epi8(0x20));
            let half = _mm256_set1_epi8(15);
            let (low, high) =
                (_mm256_and_si256(bytes, half), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half));
            for (admitted, tables) in admitted.iter_mut().zip(tables) {
                let by_low = _mm256_shuffle_epi8(tables.low[next], low);
                let by_high = _mm256_shuffle_epi8(tables.high[next], high);
                *admitted = _mm256_and_si256(*admitted, _mm256_and_si256(by_low, by_high));
            }
        }
        masks.any |= put(some(admitted[0], 0xff));
        masks.word |= put(some(admitted[1], 0xff));
        masks.name |= put(some(admitted[2], 0xff));
    }
    masks
}

/// Looks each byte's halves up and keeps the bits that both agree on.
#[target_feature(enable = "avx2")]
#[inline]
fn shuffle_both(bytes: __m256i, low: __m256i, high: __m256i) -> __m256i {
    let half = _mm256_set1_epi8(15);
    let by_low = _mm256_shuffle_epi8(low, _mm256_and_si256(bytes, half));
    let by_high = _mm256_shuffle_epi8(high, _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half));
    _mm256_and_si256(by_low, by_high)
}

/// A bit for each byte that has any of `bits`.
#[target_feature(enable = "avx2")]
#[inline]
fn some(bytes: __m256i, bits: u8) -> u32 {
    let chosen = _mm256_and_si256(bytes, _mm256_set1_epi8(bits.cast_signed()));
    !_mm256_movemask_epi8(_mm256_cmpeq_epi8(chosen, _mm256_setzero_si256())).cast_unsigned()
}

#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code, reason = "a register is loaded through a pointer")]
fn load(block: &Block, at: usize) -> __m256i {
    debug_assert!(at + LANE <= block.len());
    let bytes: &[u8; LANE] = block[at..].first_chunk().unwrap_or(&[0; LANE]);
    // SAFETY: `bytes` is 32 readable bytes, and this load asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
#[allow(unsafe_code, reason = "a register is loaded through a pointer")]
fn table(entries: &[u8; 16]) -> __m256i {
    // SAFETY: `entries` is 16 readable bytes, and this load asks for no alignment.
    _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(entries.as_ptr().cast()) })
}

/// The tables of a [`Filter`], in registers.
struct Tables {
    low: [__m256i; KEY],
    high: [__m256i; KEY],
}

impl Tables {
    #[target_feature(enable = "avx2")]
    fn new(filter: &Filter) -> Self {
        let mut tables = Self { low: [_mm256_setzero_si256(); KEY], high: [_mm256_setzero_si256(); KEY] };
        for at in 0..KEY {
            tables.low[at] = table(&filter.low[at]);
            tables.high[at] = table(&filter.high[at]);
        }
        tables
    }
}

/// Bits of a byte's class: 1 a digit, 2 and 4 a letter, 8 `_`, 16 a backslash, 32 `-`. Two rows of letters
/// each share a bit.
struct Classes {
    low: __m256i,
    high: __m256i,
}

impl Classes {
    #[target_feature(enable = "avx2")]
    fn new() -> Self {
        let (mut low, mut high) = ([0u8; 16], [0u8; 16]);
        high[3] |= 1;
        low[..10].iter_mut().for_each(|bits| *bits |= 1);
        for row in [4, 6] {
            high[row] |= 2;
        }
        low[1..].iter_mut().for_each(|bits| *bits |= 2);
        for row in [5, 7] {
            high[row] |= 4;
        }
        low[..11].iter_mut().for_each(|bits| *bits |= 4);
        high[5] |= 8 | 16;
        low[15] |= 8;
        low[12] |= 16;
        high[2] |= 32;
        low[13] |= 32;
        Self { low: table(&low), high: table(&high) }
    }
}
