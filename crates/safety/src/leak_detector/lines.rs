//! How much of a buffer can be read for good: whole lines, overlapping pieces of very long ones and of very many that
//! go on in each other, private keys and Secrets of Kubernetes only as a whole, and a line that ends with the name of a
//! value, or with digits that may have been wrapped, only with the next.

use std::ops::Range;

use memchr::memrchr;

use super::{joined, kubernetes, lane, private_key, wrapped};

/// A line longer than this is read in pieces, and so are lines that go on in each other. A private key or a Secret that is
/// held back is shorter.
pub(super) const LONG_LINE: usize = 64 * 1024;
/// Pieces overlap by this: no match of a rule is longer, and private keys have a rule of their own.
const OVERLAP: usize = lane::LONGEST;

/// How far a buffer is settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cut {
    /// Bytes to read.
    pub(super) read: usize,
    /// Findings that begin before this are final; the next reading starts here.
    pub(super) accept: usize,
}

/// The lines of one text, in buffers of which each begins where the last cut ended.
#[derive(Clone, Default)]
pub(super) struct Lines {
    /// Lines of the next buffer that are known to go on in each other.
    wrapped: Range<usize>,
}

impl Lines {
    /// Decides from the content alone how much of the next buffer no later byte can change. `finished` says that no
    /// byte will follow.
    pub(super) fn settled(&mut self, buffer: &[u8], finished: bool) -> Cut {
        let cut = self.cut(buffer, finished);
        self.wrapped = match cut.accept <= self.wrapped.start {
            true => self.wrapped.start - cut.accept..self.wrapped.end - cut.accept,
            false => 0..0,
        };
        cut
    }

    fn cut(&mut self, buffer: &[u8], finished: bool) -> Cut {
        let whole = match finished {
            true => buffer.len(),
            false => memrchr(b'\n', buffer).map_or(0, |newline| newline + 1),
        };
        let long = long_line(buffer, whole);
        let lines = &buffer[..long.unwrap_or(whole)];
        if let Some(start) = wrapped::longer(lines, LONG_LINE, &self.wrapped) {
            return piece(buffer, start);
        }
        if let Some(start) = long {
            return match start {
                0 => {
                    let accept = kubernetes::inline::cut(&buffer[..LONG_LINE], LONG_LINE - OVERLAP);
                    Cut { read: LONG_LINE, accept }
                }
                _ => Cut { read: start, accept: start },
            };
        }
        if finished {
            return held(buffer, whole, finished);
        }
        self.wrapped = wrapped::open(buffer, whole, &self.wrapped);
        let cut = held(buffer, self.wrapped.start, finished);
        match joined::undecided(&buffer[..cut.accept]) {
            Some(start) => Cut { read: start, accept: start },
            None => cut,
        }
    }
}

/// A piece of the lines that begin at `start` and go on in each other for more than [`LONG_LINE`].
fn piece(buffer: &[u8], start: usize) -> Cut {
    let line = |end: usize| memrchr(b'\n', &buffer[..end]).map_or(0, |newline| newline + 1);
    let read = line(start + LONG_LINE);
    Cut { read, accept: line(read - OVERLAP) }
}

/// Where the first line longer than [`LONG_LINE`] begins.
fn long_line(buffer: &[u8], whole: usize) -> Option<usize> {
    let mut start = 0;
    while start + LONG_LINE < buffer.len() {
        // The last line feed that would still make this line short enough, if there is one.
        match memrchr(b'\n', &buffer[start..start + LONG_LINE]) {
            Some(newline) => start += newline + 1,
            None => return Some(start),
        }
        if start >= whole {
            break;
        }
    }
    None
}

/// Holds back a private key or a Secret of Kubernetes that has begun and not ended, and one that the other's beginning
/// would cut.
fn held(buffer: &[u8], whole: usize, finished: bool) -> Cut {
    /// One holds the other so often in nothing that was not made for it.
    const MOST_HOLDS: usize = 8;
    let mut end = whole;
    for _ in 0..if finished { 0 } else { MOST_HOLDS } {
        let settled = &buffer[..end];
        let key = private_key::undecided(settled)
            .map(|begin| memrchr(b'\n', &settled[..begin]).map_or(0, |newline| newline + 1));
        let settled = &settled[..key.unwrap_or(end)];
        match kubernetes::undecided(settled).or(key) {
            Some(start) => end = start,
            None => break,
        }
    }
    Cut { read: end, accept: end }
}
