//! The bytes of an encoded body as they came, each piece held until all that it stands for was read and released.

use std::collections::VecDeque;

use bytes::Bytes;

/// Bytes that may be held while nothing comes of them. A window of zstd that is looked back on has 8 MiB, and one of its
/// blocks 128 KiB (RFC 8878, 3.1.1.2.4); a meta-block of brotli that says nothing may have 16 MiB (RFC 7932, 9.2), and
/// nobody sends those.
const MOST_HELD: usize = 8 * 1024 * 1024 + 512 * 1024;

/// Pieces in the order in which they came.
#[derive(Default)]
pub(super) struct Originals {
    pieces: VecDeque<Piece>,
    came: u64,
    decoded: u64,
    held: usize,
}

struct Piece {
    bytes: Bytes,
    /// How many bytes came with it.
    came: u64,
    /// How many decoded bytes there are with all that it stands for; `None` while a decoder may hold some of it back.
    decoded: Option<u64>,
}

/// More than [`MOST_HELD`] bytes would be held.
#[derive(Debug)]
pub(super) struct Stuck;

impl Originals {
    /// Adds a piece, after which there are so many decoded bytes, and as many more as `reached` says at most in the
    /// decoder. What came of it tells that all of those before it have gone into these, and nothing of itself. An empty one
    /// is the one before, of which more came.
    pub(super) fn add(&mut self, bytes: Bytes, (decoded, reached): (u64, u64)) {
        let through = self.pieces.len().saturating_sub(usize::from(bytes.is_empty()));
        if decoded > self.decoded {
            self.decoded = decoded;
            self.settle(through, reached);
        }
        if bytes.is_empty() {
            return;
        }
        self.held += bytes.len();
        self.came += bytes.len() as u64;
        self.pieces.push_back(Piece { bytes, came: self.came, decoded: None });
    }

    /// Everything is through the decoder and released, and nothing is held back any more.
    pub(super) fn finish(&mut self) {
        self.pieces.iter_mut().for_each(|piece| piece.decoded = Some(0));
    }

    /// The first so many stand for nothing that is not among so many bytes.
    fn settle(&mut self, through: usize, decoded: u64) {
        self.pieces
            .iter_mut()
            .take(through)
            .for_each(|piece| piece.decoded = piece.decoded.or(Some(decoded)));
    }

    /// Appends the pieces of which everything was released: of what they stand for, and of the bytes themselves.
    pub(super) fn release(&mut self, (decoded, came): (u64, u64), out: &mut Vec<u8>) -> Result<(), Stuck> {
        let is_released =
            |piece: &Piece| piece.came <= came && piece.decoded.is_some_and(|end| end <= decoded);
        while self.pieces.front().is_some_and(is_released)
            && let Some(piece) = self.pieces.pop_front()
        {
            out.extend_from_slice(&piece.bytes);
            self.held -= piece.bytes.len();
        }
        if self.held > MOST_HELD { Err(Stuck) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn released(originals: &mut Originals, decoded: u64, came: u64) -> String {
        let mut out = Vec::new();
        originals.release((decoded, came), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_piece_is_held_until_what_it_stands_for_was_released() {
        let mut originals = Originals::default();
        originals.add("a".into(), (10, 10));
        // Its end may be in the decoder still.
        assert_eq!(released(&mut originals, 10, 1), "");
        originals.add("b".into(), (10, 10));
        originals.add("c".into(), (30, 30));
        assert_eq!(released(&mut originals, 29, 3), "");
        assert_eq!(released(&mut originals, 30, 1), "a");
        assert_eq!(released(&mut originals, 30, 3), "b");
        originals.finish();
        assert_eq!(released(&mut originals, 30, 3), "c");
    }

    #[test]
    fn a_piece_of_which_more_comes_is_held_until_the_next_one_is_read() {
        let mut originals = Originals::default();
        originals.add("a".into(), (10, 10));
        for decoded in [20, 30] {
            originals.add(Bytes::new(), (decoded, decoded));
            assert_eq!(released(&mut originals, decoded, 1), "");
        }
        originals.add("b".into(), (30, 30));
        assert_eq!(released(&mut originals, 30, 2), "");
        originals.add("c".into(), (31, 31));
        assert_eq!(released(&mut originals, 30, 3), "");
        assert_eq!(released(&mut originals, 31, 3), "ab");
    }

    #[test]
    fn a_piece_is_held_while_the_decoder_holds_what_it_stands_for() {
        let mut originals = Originals::default();
        originals.add("a".into(), (0, 100));
        originals.add("b".into(), (10, 110));
        assert_eq!(released(&mut originals, 109, 2), "");
        assert_eq!(released(&mut originals, 110, 2), "a");
        originals.add("c".into(), (20, 120));
        originals.finish();
        assert_eq!(released(&mut originals, 30, 3), "bc");
    }

    #[test]
    fn what_stands_for_nothing_is_not_held_without_end() {
        // Neither at the beginning nor behind something that waits to be released.
        for waits in [0, 20] {
            let mut originals = Originals::default();
            originals.add("a".into(), (10, 10));
            originals.add("b".into(), (10 + waits, 10 + waits));
            let piece = Bytes::from(vec![0; MOST_HELD / 2]);
            let mut held = || {
                originals.add(piece.clone(), (10 + waits, 10 + waits));
                originals.release((10, u64::MAX), &mut Vec::new())
            };
            assert!(held().is_ok());
            assert!(held().and_then(|()| held()).is_err(), "{waits}");
        }
    }
}
