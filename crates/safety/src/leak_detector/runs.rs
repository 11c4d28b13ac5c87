//! Where runs of token characters, of base64 digits and of what values are made of begin, as bit masks of a block.

use super::blocks::{BLOCK, Masks};
use super::lane::{LONG_DIGITS, LONG_RUN, RUN, VALUE, VALUE_WITHIN};
use super::stretches::LEAST_DIGITS;

/// One bit for each byte of a block from which on so many belong together.
#[derive(Clone, Copy, Default)]
pub(super) struct Starts {
    /// [`RUN`] token characters.
    pub(super) run: u64,
    /// [`VALUE`] characters of a value.
    pub(super) value: u64,
    /// [`LONG_RUN`] token characters or [`LONG_DIGITS`] base64 digits.
    pub(super) long: u64,
    /// [`LEAST_DIGITS`] base64 digits.
    pub(super) digits: u64,
}

impl Starts {
    /// Of the block with the masks `here`, in front of one with those of `behind`.
    #[inline]
    pub(super) fn of(here: &Masks, behind: &Masks) -> Self {
        const { assert!(RUN == 16 && VALUE == 20 && LONG_RUN == 24 && LONG_DIGITS == 32 && LEAST_DIGITS == 20) };
        let [_, _, _, eight, run] = doubled(wide(here.run, behind.run));
        let long = run & eight >> 16;
        let [_, _, four, _, sixteen] = doubled(wide(here.digit, behind.digit));
        let (digits, long_digits) = (sixteen & four >> 16, sixteen & sixteen >> 16);
        let [_, _, four, _, sixteen] = doubled(wide(here.value, behind.value));
        Self {
            run: run as u64,
            value: (sixteen & four >> 16) as u64,
            long: (long | long_digits) as u64,
            digits: digits as u64,
        }
    }
}

/// The places of a block behind which one of the starts stands, those of this block or of the next one, at most
/// [`VALUE_WITHIN`] bytes later.
#[inline]
pub(super) fn reach(here: u64, behind: u64) -> u64 {
    const { assert!(VALUE_WITHIN == BLOCK) };
    let up_to_last = u64::MAX.checked_shr(here.leading_zeros()).unwrap_or(0);
    let from_first = u64::MAX.checked_shl(behind.trailing_zeros()).unwrap_or(0);
    up_to_last | from_first
}

/// The mask of a block and of the one behind it.
#[inline]
pub(super) fn wide(here: u64, behind: u64) -> u128 {
    u128::from(here) | u128::from(behind) << 64
}

/// Where one, two, four, eight and sixteen bits in a row begin.
#[inline]
fn doubled(one: u128) -> [u128; 5] {
    let two = one & one >> 1;
    let four = two & two >> 2;
    let eight = four & four >> 4;
    [one, two, four, eight, eight & eight >> 8]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn starts_are_where_so_many_bytes_belong_together(pieces in prop::collection::vec((any::<bool>(), 1u32..40), 12)) {
            let mut wide = 0u128;
            for (set, length) in pieces {
                wide = wide << length | if set { (1 << length) - 1 } else { 0 };
            }
            let [here, behind] = [wide as u64, (wide >> 64) as u64];
            let masks = |bits| Masks { run: bits, digit: bits, value: bits, ..Masks::default() };
            let starts = Starts::of(&masks(here), &masks(behind));
            let slow = |least: u32| (0..64).fold(0u64, |mask, at| mask | u64::from((wide >> at).trailing_ones() >= least) << at);
            prop_assert_eq!((starts.run, starts.value), (slow(16), slow(20)));
            prop_assert_eq!((starts.long, starts.digits), (slow(24), slow(20)));
            let near = |at: u32| (wide >> at) & u128::MAX >> 63 != 0;
            prop_assert_eq!(reach(here, behind), (0..64).fold(0u64, |mask, at| mask | u64::from(near(at)) << at));
        }
    }
}
