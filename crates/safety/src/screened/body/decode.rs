//! Content encodings, decoded step by step within bounds on size, growth and what a step may do.
//!
//! A few bytes can stand for gigabytes. So nobody gives a decoder a piece to be decoded whole: it is asked for its next
//! [`Step`], takes what it needs for that, and has to be asked again for more.

mod brotli;
mod zstd;

use std::io::{self, Write};

use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use types::limits;

use self::brotli::Brotli;
use self::zstd::Zstd;
use super::BodyFault;

/// A content encoding of RFC 9110 (gzip, deflate), RFC 7932 (br) or RFC 8878 (zstd).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950, or RFC 1951 as some servers send it.
    Deflate,
    /// RFC 7932, without the large windows that some encoders add to it.
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
        let (mut decoder, mut plain, mut rest) = (Decoder::new(Some(self), limit), Vec::new(), bytes);
        while !rest.is_empty() || decoder.has_more() {
            rest = &rest[decoder.step(rest, &mut plain).map_err(|fault| fault.of(limit))?..];
        }
        decoder.finish(&mut plain).map_err(|fault| fault.of(limit))?;
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

/// Bytes that one step takes at most, of which it need not use all.
const MOST_TAKEN: usize = 4096;

/// Bytes that one step makes at most of what it takes, more or less: flate2 has a buffer of 32 KiB.
const MOST_MADE: usize = 32 * 1024;

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
    Brotli(Box<Brotli>),
    Zstd(Box<Zstd>),
}

impl Decoder {
    pub(super) fn new(encoding: Option<Encoding>, limit: limits::Bytes) -> Self {
        let sink = Sink { out: Vec::new(), total: 0, received: 0, limit: limit.0, fault: None };
        let format = match encoding {
            None => Format::Plain(sink),
            Some(Encoding::Gzip) => Format::Gzip(Box::new(MultiGzDecoder::new(sink))),
            Some(Encoding::Deflate) => Format::DeflateStart(Vec::new(), sink),
            Some(Encoding::Brotli) => Format::Brotli(Box::new(Brotli::new(sink))),
            Some(Encoding::Zstd) => Format::Zstd(Box::new(Zstd::new(sink))),
        };
        Self { format, received: 0 }
    }

    /// Bytes after decoding.
    pub(super) fn decoded(&self) -> u64 {
        self.sink().total
    }

    /// The most bytes after decoding that there can be of what was taken: decoders hold some of them back.
    pub(super) fn reached(&self) -> u64 {
        let held = match &self.format {
            // A buffer, and what its decoder has made beyond that.
            Format::Gzip(_) => 2 * MOST_MADE as u64,
            Format::Zstd(decoder) => decoder.held(),
            Format::Plain(_) | Format::DeflateStart(..) | Format::Brotli(_) => 0,
            Format::Zlib(_) | Format::Deflate(_) => 0,
        };
        self.decoded() + held
    }

    /// Whether more comes of what was taken, before anything else is.
    pub(super) fn has_more(&self) -> bool {
        match &self.format {
            Format::Brotli(decoder) => decoder.has_more,
            Format::Zstd(decoder) => decoder.has_more(),
            // They hold back 32 KiB at most, until the next step or the end.
            Format::Plain(_) | Format::Gzip(_) | Format::DeflateStart(..) => false,
            Format::Zlib(_) | Format::Deflate(_) => false,
        }
    }

    /// Decodes a step further and appends what comes of it. Gives how many of the bytes were taken: none where more came
    /// of those before.
    pub(super) fn step(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, Fault> {
        let more = self.has_more();
        let piece = if more { &[] } else { &bytes[..bytes.len().min(MOST_TAKEN)] };
        let received = self.received + piece.len() as u64;
        self.sink_mut().received = received;
        let taken = match &mut self.format {
            Format::Plain(sink) => sink.write(piece),
            Format::Gzip(decoder) => decoder.write(piece),
            Format::DeflateStart(head, _) => {
                let taken = piece.len().min(2 - head.len());
                head.extend_from_slice(&piece[..taken]);
                self.received += taken as u64;
                return if head.len() < 2 { Ok(taken) } else { self.start_deflate(out).map(|()| taken) };
            }
            Format::Zlib(decoder) => decoder.write(piece).and_then(|taken| decoder.flush().map(|()| taken)),
            Format::Deflate(decoder) => {
                decoder.write(piece).and_then(|taken| decoder.flush().map(|()| taken))
            }
            Format::Brotli(decoder) => decoder.step(piece),
            Format::Zstd(decoder) => decoder.step(piece),
        };
        // What takes nothing and makes nothing has ended before the body did.
        let taken = taken.and_then(|taken| match taken {
            0 if !piece.is_empty() && !self.has_more() => Err(io::ErrorKind::WriteZero.into()),
            taken => Ok(taken),
        });
        self.received += *taken.as_ref().unwrap_or(&0) as u64;
        self.settle(taken, out)
    }

    /// Ends the body, of which nothing is left to decode.
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
            Format::Brotli(decoder) => decoder.finish(),
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
        match self.step(&head, out)? {
            taken if taken == head.len() => Ok(()),
            _ => Err(Fault::Encoding),
        }
    }

    /// Hands out what was decoded, and the fault behind an I/O error.
    fn settle<T>(&mut self, result: io::Result<T>, out: &mut Vec<u8>) -> Result<T, Fault> {
        let sink = self.sink_mut();
        out.append(&mut sink.out);
        match (sink.fault, result) {
            (Some(fault), _) => Err(fault),
            (None, Err(_)) => Err(Fault::Encoding),
            (None, Ok(done)) => Ok(done),
        }
    }

    fn sink(&self) -> &Sink {
        match &self.format {
            Format::Plain(sink) | Format::DeflateStart(_, sink) => sink,
            Format::Gzip(decoder) => decoder.get_ref(),
            Format::Zlib(decoder) => decoder.get_ref(),
            Format::Deflate(decoder) => decoder.get_ref(),
            Format::Brotli(decoder) => &decoder.sink,
            Format::Zstd(decoder) => &decoder.sink,
        }
    }

    fn sink_mut(&mut self) -> &mut Sink {
        match &mut self.format {
            Format::Plain(sink) | Format::DeflateStart(_, sink) => sink,
            Format::Gzip(decoder) => decoder.get_mut(),
            Format::Zlib(decoder) => decoder.get_mut(),
            Format::Deflate(decoder) => decoder.get_mut(),
            Format::Brotli(decoder) => &mut decoder.sink,
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
