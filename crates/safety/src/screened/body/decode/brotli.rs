//! RFC 7932, a buffer at a time: a meta-block of a few bytes may stand for 16 MiB, and one of 4 KiB for hundreds of them.

use std::io::{self, Write as _};

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};

use super::{MOST_MADE, Sink};

pub(super) struct Brotli {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    buffer: Vec<u8>,
    /// Whether the buffer was too short for what came of the bytes before.
    pub(super) has_more: bool,
    ended: bool,
    pub(super) sink: Sink,
}

impl Brotli {
    pub(super) fn new(sink: Sink) -> Self {
        let alloc = StandardAlloc::default;
        // Strict: its window is 16 MiB at most, and not the gigabyte of an extension that no HTTP client has to support.
        let state = BrotliState::new_strict(alloc(), alloc(), alloc());
        Self { state, buffer: vec![0; MOST_MADE], has_more: false, ended: false, sink }
    }

    /// Gives how many bytes were taken: none of those behind the end.
    pub(super) fn step(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.ended {
            return Ok(0);
        }
        let (mut left, mut taken, mut room, mut made) = (piece.len(), 0, self.buffer.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut taken,
            piece,
            &mut room,
            &mut made,
            &mut self.buffer,
            &mut 0,
            &mut self.state,
        );
        self.has_more = matches!(result, BrotliResult::NeedsMoreOutput);
        self.ended = matches!(result, BrotliResult::ResultSuccess);
        self.sink.write_all(&self.buffer[..made])?;
        match result {
            BrotliResult::ResultFailure => Err(io::ErrorKind::InvalidData.into()),
            _ => Ok(taken),
        }
    }

    pub(super) fn finish(&self) -> io::Result<()> {
        match self.ended {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
