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
    /// Of the block with the rows `here`, in front of one with those of `behind`.
    #[inline(always)]
    pub(super) fn of(here: &Rows, behind: &Rows) -> Self {
        const { assert!(RUN == 16 && VALUE == 20 && LONG_RUN == 24 && LONG_DIGITS == 32 && LEAST_DIGITS == 20) };
        let ([_, _, _, eight, run], [_, _, four, _, sixteen]) = (here.run, here.value);
        Self {
            run,
            value: sixteen & later::<16>(four, behind.value[2]),
            long: run & later::<16>(eight, behind.run[3]) | sixteen & later::<16>(sixteen, behind.value[4]),
        }
    }
}

/// Where one, two, four, eight and sixteen bytes of a kind in a row begin in a block.
#[derive(Clone, Copy, Default)]
pub(super) struct Rows {
    run: [u64; 5],
    value: [u64; 5],
}

impl Rows {
    /// Of the block with the masks `here`, in front of one with the rows `behind`.
    #[inline(always)]
    pub(super) fn of(here: &Masks, behind: &Self) -> Self {
        Self { run: doubled(here.run, behind.run), value: doubled(here.value, behind.value) }
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

/// True where one of `these` stands at the place `bit` of a block or further on the same line. `beyond` says that of
/// the place behind the block.
#[inline(always)]
pub(super) fn ahead(these: u64, line_ends: u64, bit: usize, beyond: bool) -> bool {
    let next = (these | line_ends) >> bit;
    if next == 0 { beyond } else { these >> bit >> next.trailing_zeros() & 1 == 1 }
}

/// The mask of a block and of the one behind it.
#[inline(always)]
pub(super) fn wide(here: u64, behind: u64) -> u128 {
    u128::from(here) | u128::from(behind) << 64
}

/// Where one, two, four, eight and sixteen bits in a row begin, with those of the block behind.
#[inline(always)]
fn doubled(one: u64, behind: [u64; 5]) -> [u64; 5] {
    let two = one & later::<1>(one, behind[0]);
    let four = two & later::<2>(two, behind[1]);
    let eight = four & later::<4>(four, behind[2]);
    [one, two, four, eight, eight & later::<8>(eight, behind[3])]
}

/// What stands so many places later, in a block and the one behind it.
#[inline(always)]
fn later<const PLACES: u32>(here: u64, behind: u64) -> u64 {
    here >> PLACES | behind << (64 - PLACES)
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
            let these = these & !line_ends;
            for at in 0..64 {
                let rest = (line_ends >> at).trailing_zeros().min(64 - at);
                let near = (at..(at + rest + 1).min(64)).any(|place| these >> place & 1 == 1);
                prop_assert_eq!(ahead(these, line_ends, at as usize, beyond), near || beyond && line_ends >> at == 0);
            }
        }

        #[test]
        fn starts_are_where_so_many_bytes_belong_together(pieces in prop::collection::vec((any::<bool>(), 1u32..40), 12)) {
            let mut wide = 0u128;
            for (set, length) in pieces {
                wide = wide << length | if set { (1 << length) - 1 } else { 0 };
            }
            let [here, behind] = [wide as u64, (wide >> 64) as u64];
            let rows = |bits, behind: &Rows| Rows::of(&Masks { run: bits, value: bits, ..Masks::default() }, behind);
            let after = rows(behind, &Rows::default());
            let starts = Starts::of(&rows(here, &after), &after);
            let slow = |least: u32| (0..64).fold(0u64, |mask, at| mask | u64::from((wide >> at).trailing_ones() >= least) << at);
            prop_assert_eq!((starts.run, starts.value), (slow(16), slow(20)));
            prop_assert_eq!(starts.long, slow(24));
            let near = |at: u32| (wide >> at) & u128::MAX >> 63 != 0;
            prop_assert_eq!(reach(here, behind), (0..64).fold(0u64, |mask, at| mask | u64::from(near(at)) << at));
        }
    }
}
