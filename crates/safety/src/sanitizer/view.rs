//! Readings of a text, each with the way back to the offsets of the text that it was read from.

use std::ops::Range;

/// One reading.
pub(super) struct View {
    /// How it was read: `plain`, `folded`, `base64`, ...
    pub(super) name: &'static str,
    pub(super) text: String,
    map: Map,
}

enum Map {
    /// For each byte, the span of the character below that it came from. The highest bit of the end
    /// marks a letter or digit that needed no escape and has one.
    Each(Vec<(u32, u32)>),
    /// Everything comes from one span: a run of base64 has no smaller honest unit.
    Whole(Range<usize>),
}

/// The mark of a character that was written as an escape without need.
const DISGUISED: u32 = 1 << 31;

impl View {
    /// A text that one span below stands for.
    pub(super) fn whole(name: &'static str, text: String, span: Range<usize>) -> Self {
        Self { name, text, map: Map::Whole(span) }
    }

    /// The same reading as one of what `below` was read from.
    pub(super) fn over(mut self, below: &Self) -> Self {
        self.map = match self.map {
            Map::Whole(span) => Map::Whole(below.below(span)),
            Map::Each(from) => Map::Each(
                from.into_iter()
                    .map(|(start, end)| {
                        let span = below.below(start as usize..(end & !DISGUISED) as usize);
                        (span.start as u32, span.end as u32 | end & DISGUISED)
                    })
                    .collect(),
            ),
        };
        self
    }

    /// True when some of the span is written in another way below.
    pub(super) fn changed(&self, span: &Range<usize>) -> bool {
        self.below(span.clone()).len() != span.len() || self.disguises(span)
    }

    /// True when the span is written below so that a reader would not see it: escapes for letters, an
    /// encoding. A line break or a quotation mark is escaped by every honest program.
    pub(super) fn disguises(&self, span: &Range<usize>) -> bool {
        match &self.map {
            Map::Whole(_) => true,
            Map::Each(from) => {
                from.get(span.clone()).unwrap_or_default().iter().any(|(_, end)| end & DISGUISED != 0)
            }
        }
    }

    /// Where a span of this reading stands below: whole characters for whole characters.
    pub(super) fn below(&self, span: Range<usize>) -> Range<usize> {
        match &self.map {
            Map::Whole(whole) => whole.clone(),
            Map::Each(from) => {
                let inside = from.get(span).unwrap_or_default();
                let start = inside.iter().map(|(start, _)| *start).min().unwrap_or(0);
                let end = inside.iter().map(|(_, end)| end & !DISGUISED).max().unwrap_or(start);
                start as usize..end as usize
            }
        }
    }
}

/// Builds a reading from characters, or groups of characters, of the text below.
pub(super) struct Builder {
    text: String,
    from: Vec<(u32, u32)>,
}

impl Builder {
    pub(super) fn new(capacity: usize) -> Self {
        Self { text: String::with_capacity(capacity), from: Vec::with_capacity(capacity) }
    }

    /// Adds what the bytes `span` below are read as.
    pub(super) fn push(&mut self, c: char, span: Range<usize>) {
        self.text.push(c);
        self.from.extend(std::iter::repeat_n((span.start as u32, span.end as u32), c.len_utf8()));
    }

    /// Adds bytes that an escape stands for, as far as they are UTF-8.
    pub(super) fn push_escaped(&mut self, bytes: &[u8], span: Range<usize>) {
        for c in String::from_utf8_lossy(bytes).chars() {
            let mark = if c.is_ascii_alphanumeric() { DISGUISED } else { 0 };
            self.text.push(c);
            let from = (span.start as u32, span.end as u32 | mark);
            self.from.extend(std::iter::repeat_n(from, c.len_utf8()));
        }
    }

    /// Adds a character that another one stands for, so that nobody sees it.
    pub(super) fn push_disguised(&mut self, c: char, span: Range<usize>) {
        self.text.push(c);
        let from = (span.start as u32, span.end as u32 | DISGUISED);
        self.from.extend(std::iter::repeat_n(from, c.len_utf8()));
    }

    pub(super) fn finish(self, name: &'static str) -> View {
        View { name, text: self.text, map: Map::Each(self.from) }
    }
}
