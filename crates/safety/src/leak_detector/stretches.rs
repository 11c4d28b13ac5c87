//! Where a text holds encoded text: runs of base64 and of hexadecimal digits that stand for printable characters.
//!
//! Where decoding begins is not known (`prefix/` before base64 is base64 too), so all alignments are tried at
//! once, each of 64 places by one bit of a mask.

use super::blocks::{self, BLOCK, Forms};

/// The fewest groups of four base64 digits that make a stretch: fifteen bytes of text.
const LEAST_GROUPS: usize = 5;
/// The fewest pairs of hexadecimal digits that make one.
const LEAST_PAIRS: usize = 15;
/// Fewer digits of base64 in a row than this are no stretch of either.
pub(super) const LEAST_DIGITS: usize = 4 * LEAST_GROUPS;

/// How a stretch is encoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    Base64,
    Hex,
}

/// Groups of digits, one behind the other; the last may be cut short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) encoding: Encoding,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// The stretches of one text, found block by block.
#[derive(Default)]
pub(super) struct Stretches {
    found: Vec<Stretch>,
    /// Where the last one of each encoding ended.
    base64: usize,
    hex: usize,
    /// The forms of the block that was read last, and where it stands.
    last: (usize, Forms),
}

impl Stretches {
    /// All of them, by where they begin.
    pub(super) fn into_found(mut self) -> Vec<Stretch> {
        self.found.sort_unstable_by_key(|stretch| stretch.start);
        self.found
    }

    /// Those of a text that holds nothing but base64 digits.
    pub(super) fn of_digits(text: &[u8]) -> Vec<Stretch> {
        let mut stretches = Self::default();
        for from in (0..text.len()).step_by(BLOCK) {
            let missing = (2 * BLOCK).saturating_sub(text.len() - from);
            stretches.block(text, from, u128::MAX.checked_shr(missing as u32).unwrap_or(0));
        }
        stretches.into_found()
    }

    /// Notes the stretches that begin in the block at `from`, in which a run of [`LEAST_DIGITS`] does; `digits` are the
    /// base64 digits of it and of the block behind it.
    #[inline(always)]
    pub(super) fn block(&mut self, text: &[u8], from: usize, digits: u128) {
        const { assert!(2 * LEAST_PAIRS >= LEAST_DIGITS) };
        let (read, last) = self.last;
        let here = if read == from && from > 0 { last } else { blocks::forms(text, from) };
        let behind = blocks::forms(text, from + BLOCK);
        self.last = (from + BLOCK, behind);
        let forms = [here, behind];
        let both = |of: fn(&Forms) -> u64| u128::from(of(&forms[0])) | u128::from(of(&forms[1])) << 64;
        let mut groups = both(|form| form.first)
            & both(|form| form.second) >> 1
            & both(|form| form.third) >> 2
            & digits >> 3;
        for step in [4, 8, 4] {
            groups &= groups >> step;
        }
        for start in places(groups as u64, from) {
            if start >= self.base64 {
                let whole = extend(text, start, 4, LEAST_GROUPS, blocks::is_group);
                self.base64 = whole;
                let rest = text[whole..].iter().take(4).take_while(|byte| blocks::is_digit(**byte)).count();
                // One digit alone in a group stands for nothing, and four are a group that is no text.
                let end = if rest == 2 || rest == 3 { whole + rest } else { whole };
                self.found.push(Stretch { encoding: Encoding::Base64, start, end });
            }
        }
        let mut pairs = both(|form| form.high) & both(|form| form.hex) >> 1
            | both(|form| form.zero) & both(|form| form.blank) >> 1;
        for step in [2, 4, 8, 14] {
            pairs &= pairs >> step;
        }
        for start in places(pairs as u64, from) {
            if start >= self.hex {
                let end = extend(text, start, 2, LEAST_PAIRS, blocks::is_pair);
                self.hex = end;
                self.found.push(Stretch { encoding: Encoding::Hex, start, end });
            }
        }
    }
}

/// Where `least` groups of a size go on to.
fn extend(text: &[u8], start: usize, size: usize, least: usize, good: fn(&[u8]) -> bool) -> usize {
    let mut end = start + size * least;
    while text.get(end..).is_some_and(good) {
        end += size;
    }
    end
}

/// The places of the bits of a mask.
pub(super) fn places(mut mask: u64, from: usize) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(from + bit)
    })
}

/// The stretches of a whole text.
#[cfg(test)]
pub(super) fn of(text: &[u8]) -> Vec<Stretch> {
    let mut stretches = Stretches::default();
    let digit = |at: usize| text.get(at).is_some_and(|byte| blocks::is_digit(*byte));
    for from in (0..text.len()).step_by(BLOCK) {
        let digits = (0..2 * BLOCK).fold(0, |mask, at| mask | u128::from(digit(from + at)) << at);
        if (0..BLOCK).any(|at| (digits >> at).trailing_ones() as usize >= LEAST_DIGITS) {
            stretches.block(text, from, digits);
        }
    }
    stretches.into_found()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The slow way: at every place, from one end to the other.
    fn slow(text: &[u8]) -> Vec<Stretch> {
        let mut found = Vec::new();
        for (encoding, size, least, good) in [
            (Encoding::Base64, 4, LEAST_GROUPS, blocks::is_group as fn(&[u8]) -> bool),
            (Encoding::Hex, 2, LEAST_PAIRS, blocks::is_pair),
        ] {
            let mut at = 0;
            while at < text.len() {
                let groups = text[at..].chunks(size).take_while(|chunk| good(chunk)).count();
                if groups < least {
                    at += 1;
                    continue;
                }
                let whole = at + groups * size;
                let rest = text[whole..].iter().take(4).take_while(|byte| blocks::is_digit(**byte)).count();
                let rest = if encoding == Encoding::Base64 && (rest == 2 || rest == 3) { rest } else { 0 };
                found.push(Stretch { encoding, start: at, end: whole + rest });
                at = whole;
            }
        }
        found.sort_by_key(|stretch| stretch.start);
        found
    }

    proptest! {
        #[test]
        fn the_masks_find_what_the_slow_way_finds(
            pieces in prop::collection::vec("[A-Za-z0-9+/_-]{0,9}|[a-g]{0,40}|[4-7][0-9a-f]|0[adDA9]|(Zm9v){0,9}|(666f6f){0,9}|[ -~]", 0..60)
        ) {
            let text = pieces.concat().into_bytes();
            prop_assert_eq!(of(&text), slow(&text));
        }
    }
}
