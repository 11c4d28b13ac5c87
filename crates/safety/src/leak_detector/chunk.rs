//! Some kilobytes of a text as bit masks of its blocks: where words and runs begin, and what stands further on a line.
//!
//! The places that are looked up in a table are noted in a list first, without a branch for each: what is in a text
//! cannot be foretold, and a processor that guesses wrong loses more time than the table takes.

use super::blocks::{self, BLOCK, Masks};
use super::filter::Filter;
use super::runs::{Starts, ahead, reach, wide};

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
    starts: [Starts; BLOCKS + 1],
    lines: [Lines; BLOCKS],
    /// The last block of the chunk before.
    before: Masks,
    /// Where a key of the filter may begin.
    pub(super) keys: Places,
    /// Where a word begins that may be a key in front of a run or a value.
    pub(super) words: Places,
    /// Percent signs.
    pub(super) percents: Places,
}

/// What stands at a byte of a block or behind it on its line, one bit for each.
#[derive(Clone, Copy, Default)]
struct Lines {
    /// A value not far behind.
    near: u64,
    /// A value.
    value: u64,
}

impl Chunk {
    pub(super) fn new() -> Self {
        Self {
            from: 0,
            count: 0,
            masks: [Masks::default(); BLOCKS + 2],
            starts: [Starts::default(); BLOCKS + 1],
            lines: [Lines::default(); BLOCKS],
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
        for (starts, masks) in self.starts.iter_mut().zip(self.masks[..self.count + 2].windows(2)) {
            *starts = Starts::of(&masks[0], &masks[1]);
        }
        // What the line goes on with behind the chunk is not known.
        let mut has_value = goes_on;
        for index in (0..self.count).rev() {
            let starts = &self.starts[index..=index + 1];
            let near = reach(starts[0].value, starts[1].value);
            let value = ahead(starts[0].value, self.masks[index].line_end, has_value);
            has_value = value & 1 == 1;
            self.lines[index] = Lines { near: near & value, value };
        }
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
            self.words.add(begins & (self.starts[index].run | self.lines[index].near), at);
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
        self.lines[index].near >> bit & 1 == 1
    }

    /// Whether a value may stand behind a place on its line.
    #[inline]
    pub(super) fn has_value(&self, at: usize) -> bool {
        let (index, bit) = self.place(at);
        self.lines[index].value >> bit & 1 == 1
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
        let mut kept = 0;
        for index in 0..self.count {
            let place = self.list[index];
            self.list[kept] = place;
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
