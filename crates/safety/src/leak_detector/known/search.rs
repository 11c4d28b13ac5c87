//! The search for windows in a stream.

use super::keyed::{SHORT_WORD, Words, load_short};
use super::{Kind, KnownValues, SHORT, Signal, WINDOW, signal};

/// A filter of words: two bits of one 64-bit number for each.
#[derive(Clone, Default)]
struct WordFilter {
    numbers: Vec<u64>,
    shift: u32,
}

impl WordFilter {
    /// The highest bits of a word choose the number; the lowest twelve, two of its bits.
    const MOST: usize = 1 << 20;

    fn new(words: &[u32]) -> Self {
        if words.is_empty() {
            return Self::default();
        }
        let numbers = (words.len() / 4).next_power_of_two().clamp(64, Self::MOST);
        let mut filter = Self { numbers: vec![0; numbers], shift: 32 - numbers.trailing_zeros() };
        for word in words {
            let at = (word >> filter.shift) as usize;
            filter.numbers[at] |= Self::bits(*word);
        }
        filter
    }

    #[inline]
    fn bits(word: u32) -> u64 {
        1 << (word & 63) | 1 << (word >> 6 & 63)
    }

    #[inline]
    fn may_hold(&self, word: u32) -> bool {
        let bits = Self::bits(word);
        self.numbers.get((word >> self.shift) as usize).is_some_and(|number| number & bits == bits)
    }
}

/// What says no at most places.
#[derive(Clone, Default)]
pub(super) struct Filters {
    long: WordFilter,
    short: WordFilter,
    /// A bit for the highest bits of every print's hash.
    sieve: Vec<u64>,
    shift: u32,
}

impl Filters {
    pub(super) fn new(words: &Words, hashes: impl ExactSizeIterator<Item = u64>) -> Self {
        // Sixteen bits for each print, so that one hash in sixteen costs a search.
        let bits = (hashes.len() * 16).next_power_of_two().max(1024);
        let shift = 64 - bits.trailing_zeros();
        let mut sieve = vec![0; bits / 64];
        for hash in hashes {
            let bit = (hash >> shift) as usize;
            sieve[bit / 64] |= 1 << (bit % 64);
        }
        Self { long: WordFilter::new(&words.long), short: WordFilter::new(&words.short), sieve, shift }
    }

    fn may_hold(&self, hash: u64) -> bool {
        let bit = (hash >> self.shift) as usize;
        self.sieve.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }
}

/// The place of a search in a stream: however it is cut into pieces, the findings are the same.
#[derive(Clone)]
pub(crate) struct Cursor {
    /// The last bytes before the next piece, one fewer than a window.
    tail: Vec<u8>,
    position: usize,
}

impl Cursor {
    /// At the beginning of a stream.
    pub(crate) fn new() -> Self {
        Self { tail: Vec::with_capacity(2 * WINDOW), position: 0 }
    }

    /// At an offset of a stream, behind bytes that a value may have begun in, too few for a window.
    pub(crate) fn behind(bytes: &[u8], position: usize) -> Self {
        Self { tail: bytes.to_vec(), position }
    }

    /// Reads the next piece and adds a signal for each value in it; spans count from the beginning
    /// of the stream.
    pub(crate) fn read(&mut self, known: &KnownValues, piece: &[u8], signals: &mut Vec<Signal>) {
        // The windows that reach over the seam, then those inside the piece.
        let head = piece.len().min(WINDOW - 1);
        let mut seam = std::mem::take(&mut self.tail);
        let before = seam.len();
        seam.extend_from_slice(&piece[..head]);
        if !known.is_empty() {
            search(known, &seam, before, self.position - before, signals);
            search(known, piece, head, self.position, signals);
        }
        // Values that are learnt later may begin in it.
        self.tail = if piece.len() >= WINDOW - 1 {
            piece[piece.len() - (WINDOW - 1)..].to_vec()
        } else {
            seam[seam.len().saturating_sub(WINDOW - 1)..].to_vec()
        };
        self.position += piece.len();
    }
}

/// Reports the windows in `bytes` that end after offset `from`.
fn search(known: &KnownValues, bytes: &[u8], from: usize, base: usize, signals: &mut Vec<Signal>) {
    const STEP: usize = SHORT;
    if !known.filters.long.numbers.is_empty() {
        // A window begins at most seven bytes before the first word inside it.
        let (words, _) = bytes.as_chunks::<STEP>();
        for (index, word) in words.iter().enumerate() {
            if known.filters.long.may_hold(known.keys.mix(u64::from_le_bytes(*word))) {
                let at = index * STEP;
                for start in at.saturating_sub(STEP - 1)..=at {
                    window(known, bytes, start, from, base, signals);
                }
            }
        }
    }
    if !known.filters.short.numbers.is_empty() {
        const STEP: usize = SHORT - SHORT_WORD + 1;
        for at in (0..bytes.len().saturating_sub(SHORT_WORD - 1)).step_by(STEP) {
            if known.filters.short.may_hold(known.keys.mix(load_short(&bytes[at..]))) {
                for start in at.saturating_sub(STEP - 1)..=at {
                    short(known, bytes, start, from, base, signals);
                }
            }
        }
    }
}

fn window(
    known: &KnownValues,
    bytes: &[u8],
    start: usize,
    from: usize,
    base: usize,
    signals: &mut Vec<Signal>,
) {
    let Some(window) = bytes.get(start..start + WINDOW).filter(|_| start + WINDOW > from) else { return };
    let hash = known.keys.window(window);
    if known.filters.may_hold(hash) {
        report(known, hash, window, false, base + start, signals);
    }
}

/// A part that is shorter than a window.
fn short(
    known: &KnownValues,
    bytes: &[u8],
    start: usize,
    from: usize,
    base: usize,
    signals: &mut Vec<Signal>,
) {
    let rest = &bytes[start..bytes.len().min(start + WINDOW - 1)];
    if rest.len() < SHORT {
        return;
    }
    let hash = known.keys.short(rest);
    if known.filters.may_hold(hash)
        && known.confirm(hash, rest, true).is_some_and(|(_, length)| start + length > from)
    {
        report(known, hash, rest, true, base + start, signals);
    }
}

fn report(
    known: &KnownValues,
    hash: u64,
    bytes: &[u8],
    short: bool,
    start: usize,
    signals: &mut Vec<Signal>,
) {
    let Some((index, length)) = known.confirm(hash, bytes, short) else { return };
    let span = start..start + length;
    let name = known.names.get(usize::from(index)).cloned();
    let same = |signal: &&mut Signal| {
        signal.kind == Kind::KnownValue && signal.secret == name && span.start <= signal.span.end
    };
    if let Some(open) = signals.last_mut().as_mut().and_then(|last| same(last).then_some(last)) {
        open.span.end = open.span.end.max(span.end);
        return;
    }
    signals.push(signal(name, span));
}
