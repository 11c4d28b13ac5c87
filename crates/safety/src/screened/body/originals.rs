//! The bytes of an encoded body as they came, each piece held until all that it stands for was read and released.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes that may be held while nothing comes of them. The longest block of zstd has 128 KiB (RFC 8878, 3.1.1.2.4), a
/// meta-block of brotli that says nothing 16 MiB (RFC 7932, 9.2); nobody sends those.
const MOST_HELD: usize = 1024 * 1024;

/// Pieces in the order in which they came.
#[derive(Default)]
pub(super) struct Originals {
    /// Each with how many decoded bytes there are with all that it stands for; `None` while a decoder may hold some of it
    /// back.
    pieces: VecDeque<(Bytes, Option<u64>)>,
    decoded: u64,
    held: usize,
}

/// More than [`MOST_HELD`] bytes stand for nothing.
pub(super) struct Stuck;

impl Originals {
    /// Adds a piece, after which there are so many decoded bytes. What came of it tells that all of those before it are
    /// through the decoder, and nothing of itself.
    pub(super) fn add(&mut self, piece: Bytes, decoded: u64) -> Result<(), Stuck> {
        if decoded > self.decoded {
            self.settle(decoded);
        }
        self.held += piece.len();
        self.pieces.push_back((piece, None));
        match self.held > MOST_HELD && self.pieces.iter().all(|(_, end)| end.is_none()) {
            true => Err(Stuck),
            false => Ok(()),
        }
    }

    /// Everything is through the decoder and released.
    pub(super) fn finish(&mut self) {
        self.settle(0);
    }

    fn settle(&mut self, decoded: u64) {
        self.decoded = decoded;
        self.pieces.iter_mut().for_each(|(_, end)| *end = end.or(Some(decoded)));
    }

    /// Appends the pieces of which everything was released.
    pub(super) fn release(&mut self, released: u64, out: &mut Vec<u8>) {
        while let Some((piece, Some(end))) = self.pieces.front()
            && *end <= released
        {
            out.extend_from_slice(piece);
            self.held -= piece.len();
            self.pieces.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(originals: &mut Originals, released: u64) -> String {
        let mut out = Vec::new();
        originals.release(released, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_piece_is_held_until_what_it_stands_for_was_released() {
        let mut originals = Originals::default();
        assert!(originals.add("a".into(), 10).is_ok());
        // Its end may be in the decoder still.
        assert_eq!(released(&mut originals, 10), "");
        assert!(originals.add("b".into(), 10).is_ok() && originals.add("c".into(), 30).is_ok());
        assert_eq!(released(&mut originals, 29), "");
        assert_eq!(released(&mut originals, 30), "ab");
        originals.finish();
        assert_eq!(released(&mut originals, 30), "c");
    }

    #[test]
    fn what_stands_for_nothing_is_not_held_without_end() {
        let mut originals = Originals::default();
        let piece = Bytes::from(vec![0; MOST_HELD / 2]);
        assert!(originals.add(piece.clone(), 0).is_ok() && originals.add(piece.clone(), 0).is_ok());
        assert!(originals.add(piece, 0).is_err());
    }
}
