//! Masks by AVX-512 with VBMI: 64 bytes an instruction, each looked up as a whole. What is unsafe of it, the calls into
//! it and its loads, stands in [`super::avx2`].

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_broadcast_i64x4, _mm512_maskz_permutex2var_epi8,
    _mm512_maskz_permutexvar_epi8, _mm512_movepi8_mask, _mm512_or_si512, _mm512_set1_epi8,
    _mm512_setzero_si512, _mm512_shuffle_epi8, _mm512_srli_epi16, _mm512_ternarylogic_epi64,
    _mm512_test_epi8_mask,
};

use super::avx2::{table, wide};
use super::sets::{FORM_BITS, KIND_BITS};
use super::{BLOCK, Block, Filter, Forms, HEAD, Masks, PADDING, block};

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn read(text: &[u8], from: usize, filter: &Filter, blocks: &mut [Masks]) {
    let kinds = Bits::new(&KIND_BITS);
    let tables = Tables::new(filter);
    let mut end = PADDING;
    for (index, masks) in blocks.iter_mut().enumerate() {
        let block = block(text, from + index * BLOCK, &mut end);
        let [alnum, run, digit, signs @ ..]: [u64; 7] = kinds.find(block);
        *masks = Masks::of([alnum, run, digit], signs, tables.find(block));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn keys(text: &[u8], from: usize, filter: &Filter, blocks: &mut [u64]) {
    let tables = Tables::new(filter);
    let mut end = PADDING;
    for (index, keys) in blocks.iter_mut().enumerate() {
        *keys = tables.find(block(text, from + index * BLOCK, &mut end));
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn forms(text: &[u8], from: usize) -> Forms {
    Bits::new(&FORM_BITS).find(block(text, from, &mut { PADDING })).into()
}

/// For each character of ASCII a bit for each set that it belongs to.
struct Bits([__m512i; 2]);

impl Bits {
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn new(bits: &[u8; 128]) -> Self {
        Self([wide(bits), wide(&bits[BLOCK..])])
    }

    /// The bytes of a block that belong to each of the sets.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn find<const N: usize>(&self, block: &Block) -> [u64; N] {
        let Self([lower, upper]) = *self;
        let bytes = wide(block);
        let bits = _mm512_maskz_permutex2var_epi8(ascii(bytes), lower, bytes, upper);
        let mut masks = [0; N];
        for (set, mask) in masks.iter_mut().enumerate() {
            *mask = _mm512_test_epi8_mask(bits, _mm512_set1_epi8(1 << set));
        }
        masks
    }
}

/// The tables of a [`Filter`]: for each of the 64 folded characters of ASCII, in their order, the buckets of each half;
/// and those for every other byte.
struct Tables {
    folded: [[__m512i; 2]; HEAD],
    others: [[__m512i; 2]; HEAD],
}

impl Tables {
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn new(filter: &Filter) -> Self {
        // A folded character is `0x20` to `0x3f` or `0x60` to `0x7f`.
        let highs: [u8; BLOCK] = std::array::from_fn(|at| [2, 3, 6, 7][at / 16]);
        let none = [[_mm512_setzero_si512(); 2]; HEAD];
        let mut tables = Self { folded: none, others: none };
        for at in 0..HEAD {
            for half in 0..2 {
                let low = _mm512_broadcast_i64x4(table(&filter.low[at][half]));
                let high = _mm512_broadcast_i64x4(table(&filter.high[at][half]));
                tables.folded[at][half] = _mm512_and_si512(low, _mm512_shuffle_epi8(high, wide(&highs)));
                // No key has such a byte, so that a bucket admits all of them or none.
                tables.others[at][half] = _mm512_set1_epi8(filter.high[at][half][8].cast_signed());
            }
        }
        tables
    }

    /// Where a key may begin.
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn find(&self, block: &Block) -> u64 {
        /// The first operand where the second or the third is.
        const AND_EITHER: i32 = 0b1110_0000;
        /// The second operand where the first is, else the third.
        const CHOICE: i32 = 0b1100_1010;
        let mut admitted = [_mm512_set1_epi8(-1); 2];
        for next in 0..HEAD {
            let bytes = wide(&block[next..]);
            let half = _mm512_srli_epi16::<1>(bytes);
            let folded = _mm512_ternarylogic_epi64::<CHOICE>(_mm512_set1_epi8(0x1f), bytes, half);
            for (half, admitted) in admitted.iter_mut().enumerate() {
                let buckets = _mm512_maskz_permutexvar_epi8(ascii(bytes), folded, self.folded[next][half]);
                let others = self.others[next][half];
                *admitted = _mm512_ternarylogic_epi64::<AND_EITHER>(*admitted, buckets, others);
            }
        }
        let any = _mm512_or_si512(admitted[0], admitted[1]);
        _mm512_test_epi8_mask(any, any)
    }
}

/// A bit for each byte of ASCII.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
#[inline]
fn ascii(bytes: __m512i) -> u64 {
    !_mm512_movepi8_mask(bytes)
}
