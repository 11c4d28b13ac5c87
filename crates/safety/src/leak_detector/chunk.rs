//! Some kilobytes of a text as bit masks of its blocks: where words and runs begin, and what stands further on a line.
//!
//! The places that are looked up in a table are noted in a list first, without a branch for each: what is in a text
//! cannot be foretold, and a processor that guesses wrong loses more time than the table takes.

use std::ops::Range;

use super::blocks::{self, BLOCK, Masks};
use super::filter::Filter;
use super::lane::VALUE;
use super::runs::{Rows, Starts, ahead, reach, wide};
use super::wrapped;

/// Blocks of a chunk: their masks fit into the first cache.
const BLOCKS: usize = 64;
/// Bytes of a chunk.
pub(super) const CHUNK: usize = BLOCKS * BLOCK;

/// The bytes of one chunk.
pub(super) struct Chunk {
    /// Where it stands in the text.
    from: usize,
    /// How many blocks it has.
    count: usize,
    /// Its blocks, and the two behind them.
    masks: [Masks; BLOCKS + 2],
    starts: [Starts; BLOCKS + 2],
    /// One bit for each block: behind it, on the line that goes on there, a value may stand.
    value_behind: u64,
    /// The last block of the chunk before.
    before: Masks,
    /// Where a key of the filter may begin.
    pub(super) keys: Places,
    /// Where a word begins that may be a key in front of a run or a value.
    pub(super) words: Places,
    /// Percent signs.
    pub(super) percents: Places,
}

impl Chunk {
    pub(super) fn new() -> Self {
        Self {
            from: 0,
            count: 0,
            masks: [Masks::default(); BLOCKS + 2],
            starts: [Starts::default(); BLOCKS + 2],
            value_behind: 0,
            before: Masks::default(),
            keys: Places::default(),
            words: Places::default(),
            percents: Places::default(),
        }
    }

    /// Reads the chunk of `text` at `from`, behind the one that was read last.
    pub(super) fn read(&mut self, text: &[u8], from: usize, filter: &Filter) {
        let count = (text.len() - from).div_ceil(BLOCK).min(BLOCKS);
        self.count = count;
        for places in [&mut self.keys, &mut self.words, &mut self.percents] {
            places.clear(count * BLOCK);
        }
        if from > 0 {
            self.before = self.masks[BLOCKS - 1];
        }
        self.from = from;
        blocks::read(text, from, filter, &mut self.masks[..count + 2]);
        blocks::settle(self, from + CHUNK < text.len());
    }

    /// What follows from the masks. `goes_on` says that text follows.
    #[inline(always)]
    pub(super) fn settle(&mut self, goes_on: bool) {
        let count = self.count;
        let mut behind = Rows::default();
        for (starts, masks) in self.starts.iter_mut().zip(&self.masks).take(count + 2).rev() {
            let here = Rows::of(masks, &behind);
            *starts = Starts::of(&here, &behind);
            behind = here;
        }
        // What the line goes on with behind the chunk is not known.
        let (mut has_value, mut value_behind) = (goes_on, 0);
        for (starts, masks) in self.starts.iter().zip(&self.masks).take(count).rev() {
            value_behind = value_behind << 1 | u64::from(has_value);
            has_value = ahead(starts.value, masks.line_end, 0, has_value);
        }
        self.value_behind = value_behind;
        self.note();
    }

    /// Notes the places that are looked up.
    #[inline(always)]
    fn note(&mut self) {
        let mut before = &self.before;
        for index in 0..self.count {
            let here = &self.masks[index];
            // A letter behind an escape such as `\n` begins a word too.
            let begins = here.alnum & !(here.alnum << 1 | before.alnum >> 63)
                | here.alnum & (here.escape << 2 | before.escape >> 62);
            let at = index * BLOCK;
            self.keys.add(here.key, at);
            self.words.add(begins & (self.starts[index].run | self.near(index)), at);
            if here.percent != 0 {
                self.percents.add(here.percent, at);
            }
            before = here;
        }
    }

    /// Where a run of token characters begins.
    #[inline]
    pub(super) fn has_run(&self, at: usize) -> bool {
        let (index, bit) = self.place(at);
        self.starts[index].run >> bit & 1 == 1
    }

    /// Whether a value stands near behind a place on its line.
    #[inline]
    pub(super) fn has_value_near(&self, at: usize) -> bool {
        let (index, bit) = self.place(at);
        self.near(index) >> bit & 1 == 1 && self.has_value(at)
    }

    /// The places of a block near behind which a value stands, on whatever line.
    #[inline(always)]
    fn near(&self, index: usize) -> u64 {
        reach(self.starts[index].value, self.starts[index + 1].value)
    }

    /// The line of what begins between two places of a block: from where it begins to where it ends, as far as that can
    /// be seen in this block, the one in front of it and the one behind it; else farther.
    pub(super) fn line(&self, places: &Range<usize>) -> Range<usize> {
        let ((index, first), (_, last)) = (self.place(places.start), self.place(places.end));
        let (here, behind) = (self.masks[index].line_end, self.masks[index + 1].line_end);
        let before = if index > 0 { self.masks[index - 1].line_end } else { 0 };
        let block = self.from + index * BLOCK;
        let start = match (here & !(u64::MAX << first), before) {
            (0, 0) => 0,
            (0, before) => block - before.leading_zeros() as usize,
            (here, _) => block + BLOCK - here.leading_zeros() as usize,
        };
        let end = match (here & u64::MAX << last, behind) {
            (0, 0) => usize::MAX,
            (0, behind) => block + BLOCK + behind.trailing_zeros() as usize,
            (here, _) => block + here.trailing_zeros() as usize,
        };
        start..end
    }

    /// Whether a value may stand behind a place on its line.
    #[inline]
    pub(super) fn has_value(&self, at: usize) -> bool {
        let (index, bit) = self.place(at);
        let behind = self.value_behind >> index & 1 == 1;
        ahead(self.starts[index].value, self.masks[index].line_end, bit, behind)
    }

    #[inline]
    fn place(&self, at: usize) -> (usize, usize) {
        ((at - self.from) / BLOCK % BLOCKS, (at - self.from) % BLOCK)
    }

    /// Each block: where it stands, what begins there, the base64 digits of it and of the one behind it.
    pub(super) fn blocks(&self) -> impl Iterator<Item = (usize, Starts, u128)> {
        (0..self.count).map(|index| {
            let digits = wide(self.masks[index].digit, self.masks[index + 1].digit);
            (self.from + index * BLOCK, self.starts[index], digits)
        })
    }

    /// Where in the block at `at` the last values begin of those that go over into each other, if at most
    /// [`wrapped::TAIL`] bytes stand between their end and the end of their line, or an escape.
    #[inline(always)]
    pub(super) fn values_at_breaks(&self, at: usize) -> u64 {
        const { assert!(wrapped::TAIL == 7) };
        let (index, _) = self.place(at);
        let (here, behind) = (&self.masks[index], &self.masks[index + 1]);
        let mut breaks = wide(here.line_end | here.escape, behind.line_end | behind.escape);
        for step in [1, 2, 4] {
            breaks |= breaks >> step;
        }
        let (value, more) = (self.starts[index].value, self.starts[index + 1].value);
        value & !(value >> 1 | more << (BLOCK - 1)) & (breaks >> VALUE) as u64
    }
}

/// Places in a chunk, counted from its beginning.
#[derive(Default)]
pub(super) struct Places {
    /// Longer than there are places.
    list: Vec<u16>,
    count: usize,
}

/// So many places are noted at once, whether there are as many or not.
const AT_ONCE: usize = 4;

impl Places {
    /// Leaves none, and room for `most`.
    fn clear(&mut self, most: usize) {
        self.count = 0;
        if self.list.len() < most + AT_ONCE {
            self.list.resize(most + AT_ONCE, 0);
        }
    }

    /// Appends the bits of the block at `at`.
    #[inline(always)]
    fn add(&mut self, mut mask: u64, at: usize) {
        let mut end = self.count;
        self.count += mask.count_ones() as usize;
        loop {
            for slot in &mut self.list[end..end + AT_ONCE] {
                *slot = at as u16 + mask.trailing_zeros() as u16;
                mask &= mask.wrapping_sub(1);
            }
            end += AT_ONCE;
            if mask == 0 {
                break;
            }
        }
    }

    /// Leaves only those that are to be kept.
    #[inline]
    pub(super) fn keep(&mut self, keep: impl Fn(usize) -> bool) {
        let list = &mut self.list[..self.count];
        let mut kept = 0;
        for index in 0..list.len() {
            let place = list[index];
            list[kept] = place;
            kept += usize::from(keep(usize::from(place)));
        }
        self.count = kept;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.list[..self.count].iter().map(|place| usize::from(*place))
    }
}

#[cfg(test)]
mod tests {
    use super::super::rules::FILTERS;
    use super::*;

    #[test]
    fn places_are_noted_where_something_stands() {
        let run = "arunofmanycharacters0123";
        let text = format!("{:1$}x {run}\nno value 50% {{", "", CHUNK - 4);
        let mut chunk = Chunk::new();
        chunk.read(text.as_bytes(), 0, &FILTERS[0]);
        // Of the line's end behind the chunk nothing is known.
        assert!(chunk.has_value(0) && chunk.has_value_near(CHUNK - 4) && !chunk.has_run(CHUNK - 4));
        assert_eq!(chunk.words.iter().collect::<Vec<_>>(), [CHUNK - 4, CHUNK - 2]);
        chunk.read(text.as_bytes(), CHUNK, &FILTERS[0]);
        let end = text.find('\n').unwrap();
        assert!(!chunk.has_value(end - 1) && !chunk.has_value(end + 1) && !chunk.has_value_near(end + 1));
        assert_eq!(chunk.words.iter().count(), 0);
        assert_eq!(chunk.percents.iter().map(|at| CHUNK + at).collect::<Vec<_>>(), [text.find('%').unwrap()]);
        let mut places = Places::default();
        places.clear(CHUNK);
        places.add(u64::MAX, 64);
        places.add(0b101, 128);
        places.keep(|at| at > 125);
        assert_eq!(places.iter().collect::<Vec<_>>(), [126, 127, 128, 130]);
    }
}
