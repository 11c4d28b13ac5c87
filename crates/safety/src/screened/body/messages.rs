//! Messages behind a prefix of five bytes, as gRPC has them: where each ends, so that it is released before the next.
//!
//! The prefix is one byte of flags and four of length, most significant first (gRPC over HTTP/2, "Length-Prefixed-Message").
//! gRPC-Web marks its trailers by another flag. The lowest flag says that the message is compressed by itself.

const PREFIX: usize = 5;
const COMPRESSED: u8 = 1;

/// Where a body of messages stands.
#[derive(Default)]
pub(super) struct Messages {
    prefix: Vec<u8>,
    left: u64,
}

/// The next part of a message.
pub(super) struct Part {
    /// How many of the bytes belong to it.
    pub(super) length: usize,
    /// Whether the message ends with it.
    pub(super) ends: bool,
}

/// A message that nobody can read without undoing its compression.
pub(super) struct Compressed;

impl Messages {
    /// Reads on; the bytes are not empty.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<Part, Compressed> {
        let length = match PREFIX - self.prefix.len() {
            0 => usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len()),
            missing => missing.min(bytes.len()),
        };
        match self.prefix.len() {
            PREFIX => self.left -= length as u64,
            _ => {
                self.prefix.extend_from_slice(&bytes[..length]);
                if self.prefix[0] & COMPRESSED != 0 {
                    return Err(Compressed);
                }
                if let [_, size @ ..] = &self.prefix[..]
                    && let Ok(size) = <[u8; 4]>::try_from(size)
                {
                    self.left = u32::from_be_bytes(size).into();
                }
            }
        }
        let ends = self.prefix.len() == PREFIX && self.left == 0;
        if ends {
            self.prefix.clear();
        }
        Ok(Part { length, ends })
    }
}

/// True where one of the messages in a whole body is compressed by itself.
pub fn holds_compressed_message(body: &[u8]) -> bool {
    let (mut messages, mut rest) = (Messages::default(), body);
    while !rest.is_empty() {
        match messages.next(rest) {
            Ok(part) => rest = &rest[part.length..],
            Err(Compressed) => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let framed = |message: &Vec<u8>| {
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            [&[0][..], &length, message].concat()
        };
        messages.iter().flat_map(framed).collect()
    }

    proptest! {
        #[test]
        fn messages_end_where_they_end_however_they_arrive(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..6),
            piece in 1usize..64,
        ) {
            let bytes = framed(&messages);
            let (mut reader, mut at, mut ends) = (Messages::default(), 0, Vec::new());
            for piece in bytes.chunks(piece) {
                let mut rest = piece;
                while !rest.is_empty() {
                    let part = reader.next(rest).ok().unwrap();
                    at += part.length;
                    rest = &rest[part.length..];
                    ends.extend(part.ends.then_some(at));
                }
            }
            let lengths = messages.iter().map(|message| message.len() + PREFIX);
            let expected: Vec<usize> = lengths.scan(0, |at, length| { *at += length; Some(*at) }).collect();
            prop_assert_eq!(ends, expected);
        }
    }

    #[test]
    fn a_compressed_message_is_told_by_its_first_byte() {
        assert!(Messages::default().next(&[1]).is_err());
        assert!(Messages::default().next(&[0x80, 0, 0, 0, 0]).is_ok_and(|part| part.ends));
    }
}
