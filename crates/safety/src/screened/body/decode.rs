//! Content encodings, decoded piece by piece within bounds on size and growth.

use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::FrameDecoder;
use types::limits;

use super::BodyFault;

/// A content encoding of RFC 9110 (gzip, deflate), RFC 7932 (br) or RFC 8878 (zstd).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 as some servers send it.
    Deflate,
    /// RFC 7932.
    Brotli,
    /// RFC 8878, with a window of at most 8 MiB.
    Zstd,
}

/// A content encoding that is not understood, or more than one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the content encoding is not one of gzip, deflate, br and zstd")]
pub struct UnknownEncoding;

impl Encoding {
    /// What a request may say it accepts.
    pub const ACCEPT: &'static str = "gzip, deflate, br, zstd";

    /// Reads the value of `Content-Encoding`; `identity` and nothing at all are none.
    pub fn parse(value: &str) -> Result<Option<Self>, UnknownEncoding> {
        match value.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Self::Gzip)),
            "deflate" => Ok(Some(Self::Deflate)),
            "br" => Ok(Some(Self::Brotli)),
            "zstd" => Ok(Some(Self::Zstd)),
            _ => Err(UnknownEncoding),
        }
    }

    /// Bytes of what came that undoing it looks back on, and so holds, at most (RFC 1951, 2; RFC 7932, 9.1; RFC 8878,
    /// 3.1.1.1.2).
    pub fn window(self) -> usize {
        match self {
            Self::Gzip | Self::Deflate => 32 << 10,
            Self::Brotli => 16 << 20,
            Self::Zstd => 8 << 20,
        }
    }

    /// Undoes it for bytes that are here, within the bounds of a body.
    pub fn decode(self, bytes: &[u8], limit: limits::Bytes) -> Result<Vec<u8>, BodyFault> {
        let (mut decoder, mut plain) = (Decoder::new(Some(self), limit), Vec::new());
        let decoded = bytes.chunks(4096).try_for_each(|piece| decoder.decode(piece, &mut plain));
        decoded.and_then(|()| decoder.finish(&mut plain)).map_err(|fault| fault.of(limit))?;
        Ok(plain)
    }
}

/// Why decoding stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    TooLarge,
    Ratio,
    Encoding,
}

impl Fault {
    pub(super) fn of(self, limit: limits::Bytes) -> BodyFault {
        match self {
            Self::TooLarge => BodyFault::TooLarge(limit),
            Self::Ratio => BodyFault::Ratio,
            Self::Encoding => BodyFault::Encoding,
        }
    }
}

/// A body may grow by this factor...
const MAX_RATIO: u64 = 200;
/// ...once it is longer than this: a short one may be all zeros.
const RATIO_FROM: u64 = 1 << 20;

/// One body on its way through its decoder.
pub(super) struct Decoder {
    format: Format,
    received: u64,
}

enum Format {
    Plain(Sink),
    Gzip(Box<MultiGzDecoder<Sink>>),
    /// Which of the two forms it is, the first two bytes tell.
    DeflateStart(Vec<u8>, Sink),
    Zlib(Box<ZlibDecoder<Sink>>),
    Deflate(Box<DeflateDecoder<Sink>>),
    Brotli(Box<DecompressorWriter<Sink>>),
    Zstd(Box<Zstd>),
}

impl Decoder {
    pub(super) fn new(encoding: Option<Encoding>, limit: limits::Bytes) -> Self {
        let sink = Sink { out: Vec::new(), total: 0, received: 0, limit: limit.0, fault: None };
        let format = match encoding {
            None => Format::Plain(sink),
            Some(Encoding::Gzip) => Format::Gzip(Box::new(MultiGzDecoder::new(sink))),
            Some(Encoding::Deflate) => Format::DeflateStart(Vec::new(), sink),
            Some(Encoding::Brotli) => Format::Brotli(Box::new(DecompressorWriter::new(sink, 4096))),
            Some(Encoding::Zstd) => Format::Zstd(Box::new(Zstd::new(sink))),
        };
        Self { format, received: 0 }
    }

    /// Bytes after decoding.
    pub(super) fn decoded(&self) -> u64 {
        self.sink().total
    }

    /// Decodes a piece of at most a few KiB and appends what comes of it.
    pub(super) fn decode(&mut self, piece: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
        self.received += piece.len() as u64;
        let received = self.received;
        self.sink_mut().received = received;
        let written = match &mut self.format {
            Format::Plain(sink) => sink.write_all(piece),
            Format::Gzip(decoder) => decoder.write_all(piece),
            Format::DeflateStart(head, _) => {
                head.extend_from_slice(piece);
                return if head.len() < 2 { Ok(()) } else { self.start_deflate(out) };
            }
            Format::Zlib(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Format::Deflate(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Format::Brotli(decoder) => decoder.write_all(piece),
            Format::Zstd(decoder) => decoder.write(piece),
        };
        self.settle(written, out)
    }

    /// Ends the body.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        // An empty body is an empty body under any encoding (a HEAD, a 304).
        if self.received == 0 {
            return Ok(());
        }
        let finished = match &mut self.format {
            Format::Plain(_) => Ok(()),
            Format::Gzip(decoder) => decoder.try_finish(),
            Format::DeflateStart(..) => Err(io::ErrorKind::UnexpectedEof.into()),
            Format::Zlib(decoder) => decoder.try_finish(),
            Format::Deflate(decoder) => decoder.try_finish(),
            Format::Brotli(decoder) => decoder.close(),
            Format::Zstd(decoder) => decoder.finish(),
        };
        self.settle(finished, out)
    }

    fn start_deflate(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        let Format::DeflateStart(head, sink) = &mut self.format else { return Ok(()) };
        let (head, sink) = (std::mem::take(head), sink.take());
        // RFC 1950: compression method 8, and the two bytes a multiple of 31.
        let zlib = head[0] & 0x0f == 8 && (u16::from(head[0]) << 8 | u16::from(head[1])) % 31 == 0;
        self.format = match zlib {
            true => Format::Zlib(Box::new(ZlibDecoder::new(sink))),
            false => Format::Deflate(Box::new(DeflateDecoder::new(sink))),
        };
        self.received -= head.len() as u64;
        self.decode(&head, out)
    }

    /// Hands out what was decoded, and the fault behind an I/O error.
    fn settle(&mut self, result: io::Result<()>, out: &mut Vec<u8>) -> Result<(), Fault> {
        let sink = self.sink_mut();
        out.append(&mut sink.out);
        match (sink.fault, result) {
            (Some(fault), _) => Err(fault),
            (None, Err(_)) => Err(Fault::Encoding),
            (None, Ok(())) => Ok(()),
        }
    }

    fn sink(&self) -> &Sink {
        match &self.format {
            Format::Plain(sink) | Format::DeflateStart(_, sink) => sink,
            Format::Gzip(decoder) => decoder.get_ref(),
            Format::Zlib(decoder) => decoder.get_ref(),
            Format::Deflate(decoder) => decoder.get_ref(),
            Format::Brotli(decoder) => decoder.get_ref(),
            Format::Zstd(decoder) => &decoder.sink,
        }
    }

    fn sink_mut(&mut self) -> &mut Sink {
        match &mut self.format {
            Format::Plain(sink) | Format::DeflateStart(_, sink) => sink,
            Format::Gzip(decoder) => decoder.get_mut(),
            Format::Zlib(decoder) => decoder.get_mut(),
            Format::Deflate(decoder) => decoder.get_mut(),
            Format::Brotli(decoder) => decoder.get_mut(),
            Format::Zstd(decoder) => &mut decoder.sink,
        }
    }
}

/// Where decoders write: it refuses the byte that is one too many.
struct Sink {
    out: Vec<u8>,
    total: u64,
    received: u64,
    limit: u64,
    fault: Option<Fault>,
}

impl Sink {
    fn take(&mut self) -> Self {
        Self { out: std::mem::take(&mut self.out), ..*self }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let total = self.total + bytes.len() as u64;
        if total > self.limit {
            self.fault = Some(Fault::TooLarge);
        } else if total > RATIO_FROM && total / self.received.max(1) > MAX_RATIO {
            self.fault = Some(Fault::Ratio);
        }
        if self.fault.is_some() {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.total = total;
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// RFC 8878, one block at a time: a block of four bytes may stand for 128 KiB.
struct Zstd {
    frame: FrameDecoder,
    pending: Vec<u8>,
    started: bool,
    sink: Sink,
}

/// RFC 9659: what every HTTP client must support, and all it needs to.
const ZSTD_WINDOW: u64 = 8 << 20;
/// RFC 8878, 3.1.1: magic number and the longest frame header.
const ZSTD_HEADER: usize = 4 + 14;
const ZSTD_CHECKSUM: usize = 4;

impl Zstd {
    fn new(sink: Sink) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(ZSTD_WINDOW);
        Self { frame, pending: Vec::new(), started: false, sink }
    }

    fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(piece);
        if !self.started && self.pending.len() < ZSTD_HEADER {
            return Ok(());
        }
        self.advance()
    }

    fn advance(&mut self) -> io::Result<()> {
        let broken = |_| io::Error::from(io::ErrorKind::InvalidData);
        if !self.started {
            let mut rest = self.pending.as_slice();
            self.frame.init(&mut rest).map_err(broken)?;
            let used = self.pending.len() - rest.len();
            self.pending.drain(..used);
            self.started = true;
        }
        while !self.frame.is_finished() {
            let Some(length) = self.block() else { return Ok(()) };
            let (used, _) = self.frame.decode_from_to(&self.pending[..length], &mut []).map_err(broken)?;
            if used == 0 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.pending.drain(..used.min(length));
            self.drain()?;
        }
        // What follows the last block is at most its checksum.
        match self.pending.len() <= ZSTD_CHECKSUM {
            true => Ok(()),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Length of the next block with its header, and of the checksum after the last one, when all
    /// of it is here.
    fn block(&self) -> Option<usize> {
        let head = self.pending.get(..3)?;
        let header = u32::from(head[0]) | u32::from(head[1]) << 8 | u32::from(head[2]) << 16;
        let run_length = header >> 1 & 3 == 1;
        let length = 3 + if run_length { 1 } else { (header >> 3) as usize };
        (self.pending.len() >= length).then_some(length)
    }

    fn drain(&mut self) -> io::Result<()> {
        while self.frame.can_collect() > 0 {
            self.frame.collect_to_writer(&mut self.sink)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> io::Result<()> {
        self.advance()?;
        self.drain()?;
        match self.frame.is_finished() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}
