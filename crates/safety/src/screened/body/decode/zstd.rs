//! RFC 8878, one block at a time: a block of four bytes may stand for 128 KiB.

use std::io::{self, Read as _, Write as _};

use ruzstd::decoding::FrameDecoder;

use super::{MOST_MADE, Sink};

/// RFC 9659: what every HTTP client must support, and all it needs to.
const WINDOW: u64 = 8 << 20;
/// RFC 8878, 3.1.1: magic number and the longest frame header.
const HEADER: usize = 4 + 14;
/// The bits of the byte behind the magic number that say that there is no window but the content, and that a checksum
/// follows the last block; and how long that is (RFC 8878, 3.1.1.1.1).
const SINGLE_SEGMENT: u8 = 1 << 5;
const HAS_CHECKSUM: u8 = 1 << 2;
const CHECKSUM: usize = 4;

pub(super) struct Zstd {
    frame: FrameDecoder,
    /// What was taken and is no whole block yet, or waits for those before it.
    pending: Vec<u8>,
    started: bool,
    /// Bytes that follow the last block.
    checksum: usize,
    /// Bytes that are looked back on, and so held back.
    window: u64,
    buffer: Vec<u8>,
    pub(super) sink: Sink,
}

impl Zstd {
    pub(super) fn new(sink: Sink) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(WINDOW);
        Self {
            frame,
            pending: Vec::new(),
            started: false,
            checksum: 0,
            window: 0,
            buffer: vec![0; MOST_MADE],
            sink,
        }
    }

    /// Whether a block is here, or decoded bytes that are not looked back on.
    pub(super) fn has_more(&self) -> bool {
        self.started && (self.frame.can_collect() > 0 || !self.frame.is_finished() && self.block().is_some())
    }

    /// Decoded bytes that were not handed out, at most.
    pub(super) fn held(&self) -> u64 {
        let looked_back_on = if self.frame.is_finished() { 0 } else { self.window };
        looked_back_on + self.frame.can_collect() as u64
    }

    /// Takes a piece, or where that is empty hands out what was decoded or decodes the next block.
    pub(super) fn step(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(piece);
        if !self.started && self.pending.len() >= HEADER {
            self.start()?;
        }
        if self.started {
            self.advance()?;
        }
        Ok(piece.len())
    }

    fn start(&mut self) -> io::Result<()> {
        let mut rest = self.pending.as_slice();
        self.frame.init(&mut rest).map_err(|_| io::ErrorKind::InvalidData)?;
        let used = self.pending.len() - rest.len();
        let (flags, window) = (self.pending[4], u64::from(self.pending[5]));
        self.checksum = if flags & HAS_CHECKSUM == 0 { 0 } else { CHECKSUM };
        self.window = match flags & SINGLE_SEGMENT {
            0 => (8 + (window & 7)) << (7 + (window >> 3)),
            _ => self.frame.content_size(),
        };
        self.pending.drain(..used);
        self.started = true;
        Ok(())
    }

    fn advance(&mut self) -> io::Result<()> {
        if self.frame.can_collect() == 0
            && !self.frame.is_finished()
            && let Some(length) = self.block()
        {
            let decoded = self.frame.decode_from_to(&self.pending[..length], &mut []);
            let (used, _) = decoded.map_err(|_| io::ErrorKind::InvalidData)?;
            if used == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.pending.drain(..used.min(length));
        }
        let made = self.frame.can_collect().min(self.buffer.len());
        let made = self.frame.read(&mut self.buffer[..made])?;
        self.sink.write_all(&self.buffer[..made])?;
        // Nothing follows.
        match self.frame.is_finished() && !self.pending.is_empty() {
            true => Err(io::ErrorKind::InvalidData.into()),
            false => Ok(()),
        }
    }

    /// Length of the next block with its header, and of the checksum after the last one, when all
    /// of it is here.
    fn block(&self) -> Option<usize> {
        let head = self.pending.get(..3)?;
        let header = u32::from(head[0]) | u32::from(head[1]) << 8 | u32::from(head[2]) << 16;
        let (is_last, is_run) = (header & 1 == 1, header >> 1 & 3 == 1);
        let content = if is_run { 1 } else { (header >> 3) as usize };
        let length = 3 + content + if is_last { self.checksum } else { 0 };
        (self.pending.len() >= length).then_some(length)
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        // A whole frame can be shorter than the longest header.
        if !self.started {
            self.start()?;
        }
        while self.has_more() {
            self.advance()?;
        }
        match self.frame.is_finished() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
