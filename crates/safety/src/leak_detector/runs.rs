//! Where runs of token characters, of base64 digits and of what values are made of begin, and what stands further on
//! a line, as bit masks of a block.

use super::blocks::{BLOCK, Masks};
use super::lane::{LONG_DIGITS, LONG_RUN, RUN, VALUE, VALUE_WITHIN};
use super::stretches::LEAST_DIGITS;

/// One bit for each byte of a block from which on so many belong together.
#[derive(Clone, Copy, Default)]
pub(super) struct Starts {
    /// [`RUN`] token characters.
    pub(super) run: u64,
    /// [`VALUE`] characters of a value, among which every row of [`LEAST_DIGITS`] base64 digits is.
    pub(super) value: u64,
    /// [`LONG_RUN`] token characters or [`LONG_DIGITS`] characters of a value.
    pub(super) long: u64,
}

impl Starts {
    /// Of the block with the masks `here`, in front of one with those of `behind`.
    #[inline(always)]
    pub(super) fn of(here: &Masks, behind: &Masks) -> Self {
        const { assert!(RUN == 16 && VALUE == 20 && LONG_RUN == 24 && LONG_DIGITS == 32 && LEAST_DIGITS == 20) };
        let [_, eight, run] = doubled(wide(here.run, behind.run));
        let [four, _, sixteen] = doubled(wide(here.value, behind.value));
        Self {
            run: run as u64,
            value: (sixteen & four >> 16) as u64,
            long: (run & eight >> 16 | sixteen & sixteen >> 16) as u64,
        }
    }
}

/// The places of a block behind which one of the starts stands, those of this block or of the next one, at most
/// [`VALUE_WITHIN`] bytes later.
#[inline(always)]
pub(super) fn reach(here: u64, behind: u64) -> u64 {
    const { assert!(VALUE_WITHIN == BLOCK) };
    let up_to_last = u64::MAX.checked_shr(here.leading_zeros()).unwrap_or(0);
    let from_first = u64::MAX.checked_shl(behind.trailing_zeros()).unwrap_or(0);
    up_to_last | from_first
}

/// The places of a block where one of `these` stands or, further on the same line, one does. `beyond` says that of the
/// place behind the block.
#[inline(always)]
pub(super) fn ahead(these: u64, line_ends: u64, beyond: bool) -> u64 {
    // Each step looks twice as far; `open` are the places from where that far no line ends.
    let mut open = !line_ends;
    let mut found = these | open & u64::from(beyond) << 63;
    for step in [1, 2, 4, 8, 16, 32] {
        found |= open & found >> step;
        open &= open >> step;
    }
    found
}

/// The mask of a block and of the one behind it.
#[inline(always)]
pub(super) fn wide(here: u64, behind: u64) -> u128 {
    u128::from(here) | u128::from(behind) << 64
}

/// Where four, eight and sixteen bits in a row begin.
#[inline(always)]
fn doubled(one: u128) -> [u128; 3] {
    let two = one & one >> 1;
    let four = two & two >> 2;
    let eight = four & four >> 4;
    [four, eight, eight & eight >> 8]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ahead_looks_to_the_end_of_the_line(these: u64, more: u64, ends: u64, others: u64, beyond: bool) {
            // Few of each.
            let (these, line_ends) = (these & more, ends & others & more.rotate_left(7));
            let from = |at: u32| {
                let rest = (line_ends >> at).trailing_zeros().min(64 - at);
                let near = (at..(at + rest + 1).min(64)).any(|place| these >> place & 1 == 1);
                near || beyond && line_ends >> at == 0
            };
            prop_assert_eq!(ahead(these, line_ends, beyond), (0..64).fold(0, |mask, at| mask | u64::from(from(at)) << at));
        }

        #[test]
        fn starts_are_where_so_many_bytes_belong_together(pieces in prop::collection::vec((any::<bool>(), 1u32..40), 12)) {
            let mut wide = 0u128;
            for (set, length) in pieces {
                wide = wide << length | if set { (1 << length) - 1 } else { 0 };
            }
            let [here, behind] = [wide as u64, (wide >> 64) as u64];
            let masks = |bits| Masks { run: bits, value: bits, ..Masks::default() };
            let starts = Starts::of(&masks(here), &masks(behind));
            let slow = |least: u32| (0..64).fold(0u64, |mask, at| mask | u64::from((wide >> at).trailing_ones() >= least) << at);
            prop_assert_eq!((starts.run, starts.value), (slow(16), slow(20)));
            prop_assert_eq!(starts.long, slow(24));
            let near = |at: u32| (wide >> at) & u128::MAX >> 63 != 0;
            prop_assert_eq!(reach(here, behind), (0..64).fold(0u64, |mask, at| mask | u64::from(near(at)) << at));
        }
    }
}
