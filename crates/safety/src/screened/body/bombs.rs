//! Small bodies that stand for large ones, behind enough ordinary content for them to be within the bounds (attack C10).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::Poll;

use super::*;
use crate::rulebook::Config;

/// 256 KiB, and a block of zstd.
const MOST_IN_A_TURN: u64 = 384 * 1024;

const LINE: &[u8] = b"the quick brown fox jumps over it\n";

/// Bits, the first one the lowest of its byte (RFC 7932, 1.5).
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    used: usize,
}

impl Bits {
    fn put(&mut self, value: u32, count: usize) {
        for at in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= u8::from(value >> at & 1 == 1) << (self.used % 8);
            self.used += 1;
        }
    }

    fn put_all(&mut self, values: &[(u32, usize)]) {
        values.iter().for_each(|(value, count)| self.put(*value, *count));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.used = self.bytes.len() * 8;
    }
}

/// So many stored meta-blocks of 64 KiB, and then meta-blocks of 16 MiB: one letter and a copy of it.
fn brotli(ordinary: usize, blocks: usize) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put_all(&[(1, 1), (7, 3)]);
    let text: Vec<u8> = LINE.iter().copied().cycle().take(65536).collect();
    for _ in 0..ordinary {
        bits.put_all(&[(0, 1), (0, 2), (65535, 16), (1, 1)]);
        bits.bytes(&text);
    }
    for _ in 0..blocks {
        bits.put_all(&[(0, 1), (2, 2), (0xff_ffff, 24), (0, 1)]);
        bits.put_all(&[(0, 1), (0, 1), (0, 1), (0, 2), (0, 4), (0, 2), (0, 1), (0, 1)]);
        bits.put_all(&[(1, 2), (0, 2), (10, 8), (1, 2), (0, 2), (399, 10), (1, 2), (0, 2), (16, 6)]);
        bits.put_all(&[((1 << 24) - 1 - 2118, 24), (0, 1)]);
    }
    bits.put(3, 2);
    bits.bytes
}

/// So many raw blocks of 64 KiB, and then so many of one letter, each of 128 KiB (RFC 8878, 3.1.1.2).
fn zstd(ordinary: usize, blocks: u32, checksum: bool) -> Vec<u8> {
    // A window of 8 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, u8::from(checksum) << 2, 13 << 3];
    let text: Vec<u8> = LINE.iter().copied().cycle().take(65536).collect();
    for _ in 0..ordinary {
        frame.extend_from_slice(&(65536u32 << 3).to_le_bytes()[..3]);
        frame.extend_from_slice(&text);
    }
    for nth in 1..=blocks {
        frame.extend_from_slice(&(131_072u32 << 3 | 1 << 1 | u32::from(nth == blocks)).to_le_bytes()[..3]);
        frame.push(b'\n');
    }
    frame.extend_from_slice(if checksum { b"\xff\xff\xff\xff" } else { b"" });
    frame
}

fn gzip(ordinary: usize, blocks: usize) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let text: Vec<u8> = LINE.iter().copied().cycle().take(65536).collect();
    (0..ordinary).for_each(|_| encoder.write_all(&text).unwrap());
    let mut body = encoder.finish().unwrap();
    let mut encoder = flate2::write::GzEncoder::new(&mut body, flate2::Compression::best());
    (0..blocks).for_each(|_| encoder.write_all(&vec![b'\n'; 1 << 20]).unwrap());
    encoder.finish().unwrap();
    body
}

/// Pieces as the network may bring them.
struct Pieces(VecDeque<Bytes>);

impl Stream for Pieces {
    type Item = Result<Bytes, BodyFault>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

#[tokio::test]
async fn c10_a_body_that_unfolds_is_decoded_a_little_at_a_time_and_others_have_their_turn() {
    let safety = Arc::new(Safety::new(Config::default()).unwrap());
    let mib = 1 << 20;
    for (encoding, body, length) in [
        (Encoding::Brotli, brotli(8, 1), mib / 2 + 16 * mib),
        (Encoding::Zstd, zstd(8, 80, false), mib / 2 + 80 * mib / 8),
        (Encoding::Zstd, zstd(8, 80, true), mib / 2 + 80 * mib / 8),
        (Encoding::Gzip, gzip(8, 6), mib / 2 + 6 * mib),
    ] {
        for out in [false, true] {
            let stream = Pieces(VecDeque::from([body.clone().into()]));
            let limit = limits::Bytes::mib(100);
            let mut screened = match out {
                false => safety.body(stream, Source::Model, Some(encoding), limit, Trace::off()),
                true => safety.outgoing_body(stream, Some(encoding), limit, Trace::off()),
            };
            let (mut came, mut most, mut turns) = (Vec::new(), 0, 0);
            let fault = poll_fn(|context| {
                let before = screened.decoder.decoded();
                let next = Pin::new(&mut screened).poll_next(context);
                most = most.max(screened.decoder.decoded() - before);
                match next {
                    Poll::Pending => turns += 1,
                    Poll::Ready(Some(Ok(piece))) => came.extend_from_slice(&piece),
                    Poll::Ready(Some(Err(fault))) => return Poll::Ready(Some(fault)),
                    Poll::Ready(None) => return Poll::Ready(None),
                }
                context.waker().wake_by_ref();
                Poll::Pending
            });
            let fault = fault.await;
            assert!(fault.is_none(), "{encoding:?} {fault:?}");
            assert_eq!(came.len(), if out { body.len() } else { length as usize }, "{encoding:?}");
            assert!(!out || came == body, "{encoding:?}");
            assert_eq!(screened.decoder.decoded(), length, "{encoding:?}");
            assert!(most <= MOST_IN_A_TURN, "{encoding:?}: {most} bytes in one turn");
            assert!(turns + 1 >= length / MOST_IN_A_TURN, "{encoding:?}: {turns} turns");
        }
    }
}

/// What is looked back on is decoded and not read yet (attack C06): what it came in waits for it.
#[tokio::test]
async fn c06_what_a_decoder_holds_back_does_not_leave_before_it_was_read() {
    let value = b"q7#Zr2/vT9+wLx4KpB8=mN1";
    let safety = Arc::new(Safety::new(Config::default()).unwrap());
    let mut known = crate::leak_detector::KnownValues::new([1; 32]);
    let prints = crate::leak_detector::Fingerprints::of(&[1; 32], value).unwrap();
    known.add(types::SecretName::parse("A_KEY").unwrap(), prints);
    safety.learn(known);
    // A window of 1 MiB, and the value in blocks of six bytes in the midst of 3 MiB that are no text.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 10 << 3];
    let block = |frame: &mut Vec<u8>, bytes: &[u8], last: u32| {
        frame.extend_from_slice(&((bytes.len() as u32) << 3 | last).to_le_bytes()[..3]);
        frame.extend_from_slice(bytes);
    };
    let filler: Vec<u8> = (0..32768u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    (0..48).for_each(|_| block(&mut frame, &filler, 0));
    let at = frame.len();
    value.chunks(6).for_each(|part| block(&mut frame, part, 0));
    (0..48).for_each(|nth| block(&mut frame, &filler, u32::from(nth == 47)));
    let stream = Pieces(frame.chunks(1500).map(Bytes::copy_from_slice).collect());
    let mut body = safety.outgoing_body(stream, Some(Encoding::Zstd), limits::Bytes::mib(100), Trace::off());
    let (mut left, mut fault) = (Vec::new(), None);
    while let Some(next) = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await {
        match next {
            Ok(piece) => left.extend_from_slice(&piece),
            Err(ended) => fault = Some(ended),
        }
    }
    assert!(matches!(fault, Some(BodyFault::Blocked(_))), "{fault:?}");
    assert!(
        left.len() <= at && frame.starts_with(&left),
        "{} of {at} bytes before the value left",
        left.len()
    );
    assert!(left.len() > at / 4, "{} of {at} bytes left", left.len());
}

/// An extension of brotli has windows of up to a gigabyte; RFC 7932 ends at 16 MiB, as RFC 9659 has zstd end at 8.
#[test]
fn c10_a_window_of_a_gigabyte_is_not_opened() {
    let mut large = Bits::default();
    large.put_all(&[(0x11, 8), (30, 6), (3, 2)]);
    let mut wide = zstd(1, 1, false);
    wide[5] = 14 << 3;
    for (encoding, body) in [(Encoding::Brotli, large.bytes), (Encoding::Zstd, wide)] {
        let decoded = encoding.decode(&body, limits::Bytes::mib(1));
        assert!(matches!(decoded, Err(BodyFault::Encoding)), "{encoding:?}");
    }
}

#[test]
fn what_is_whole_is_decoded_within_its_bound() {
    for (encoding, body) in [
        (Encoding::Brotli, brotli(1, 2)),
        (Encoding::Zstd, zstd(1, 100, true)),
        (Encoding::Gzip, gzip(1, 10)),
    ] {
        let whole = encoding.decode(&body, limits::Bytes::mib(100)).map(|plain| plain.len());
        assert!(whole.is_err() || whole.is_ok_and(|length| length > 8 << 20), "{encoding:?}");
        let within = encoding.decode(&body, limits::Bytes::mib(8));
        assert!(matches!(within, Err(BodyFault::TooLarge(_) | BodyFault::Ratio)), "{encoding:?}");
        let beyond = encoding.decode(&[&body[..], b"more"].concat(), limits::Bytes::mib(100));
        assert!(matches!(beyond, Err(BodyFault::Encoding | BodyFault::Ratio)), "{encoding:?}");
    }
}
