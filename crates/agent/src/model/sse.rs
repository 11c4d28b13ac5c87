//! Server-sent events (WHATWG HTML, section 9.2) without I/O: bytes in, the data of events out.
//!
//! Only `data` matters to the protocol above; `event`, `id` and `retry` are read over. Chunks may end
//! anywhere, also between the two bytes of a line end or inside a character.

use safety::StaticFault;

/// The longest line and the longest data of one event. The longest honest event carries one tool call's
/// arguments, some kilobytes.
const MAX_EVENT: usize = 1 << 20;

/// A stream that is being read.
#[derive(Debug, Default)]
pub struct Decoder {
    line: Vec<u8>,
    data: Option<Vec<u8>>,
    /// The last byte was a carriage return, so a line feed that follows belongs to it.
    after_return: bool,
    /// A line was read, so a byte order mark can no longer come.
    begun: bool,
}

impl Decoder {
    /// Reads the next bytes and hands the data of each event that they complete to `event`.
    pub fn feed(
        &mut self,
        bytes: &[u8],
        mut event: impl FnMut(&[u8]) -> Result<(), StaticFault>,
    ) -> Result<(), StaticFault> {
        for &byte in bytes {
            let continues_return = std::mem::take(&mut self.after_return);
            match byte {
                b'\n' if continues_return => {}
                b'\n' => self.end_line(&mut event)?,
                b'\r' => {
                    self.after_return = true;
                    self.end_line(&mut event)?;
                }
                _ if self.line.len() == MAX_EVENT => {
                    return Err(StaticFault("a line of the answer is too long"));
                }
                byte => self.line.push(byte),
            }
        }
        Ok(())
    }

    fn end_line(
        &mut self,
        event: &mut impl FnMut(&[u8]) -> Result<(), StaticFault>,
    ) -> Result<(), StaticFault> {
        let whole = std::mem::take(&mut self.line);
        let first = !std::mem::replace(&mut self.begun, true);
        let line = match whole.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if first => rest,
            _ => &whole,
        };
        if line.is_empty() {
            return self.data.take().map_or(Ok(()), |data| event(&data));
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = (&line[..colon], line.get(colon + 1..).unwrap_or_default());
        if name == b"data" {
            self.append(value.strip_prefix(b" ").unwrap_or(value))?;
        }
        Ok(())
    }

    /// Lines of data in one event are joined by line feeds.
    fn append(&mut self, value: &[u8]) -> Result<(), StaticFault> {
        let data = match &mut self.data {
            Some(data) => {
                data.push(b'\n');
                data
            }
            none => none.insert(Vec::new()),
        };
        if data.len() + value.len() > MAX_EVENT {
            return Err(StaticFault("an event of the answer is too long"));
        }
        data.extend_from_slice(value);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, StaticFault> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for chunk in chunks {
            decoder.feed(chunk, |data| {
                out.push(data.to_vec());
                Ok(())
            })?;
        }
        Ok(out)
    }

    #[test]
    fn reads_every_line_end_comments_and_lines_of_data() {
        let stream = b"\xef\xbb\xbf: hello\r\ndata: one\r\n\r\nevent: x\ndata:two\ndata:  three\n\nid: 4\n\ndata\r\rdata: lost";
        let expected: Vec<Vec<u8>> = vec![b"one".to_vec(), b"two\n three".to_vec(), b"".to_vec()];
        assert_eq!(events(&[stream]), Ok(expected.clone()));
        for at in 0..=stream.len() {
            assert_eq!(events(&[&stream[..at], &stream[at..]]), Ok(expected.clone()), "split at {at}");
        }
    }

    #[test]
    fn what_does_not_end_is_bounded() {
        assert!(events(&[&vec![b'x'; MAX_EVENT + 1]]).is_err());
        let line = [b"data: ".as_slice(), &vec![b'x'; MAX_EVENT / 2], b"\n"].concat();
        assert!(events(&[&line, &line, &line]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic_and_no_split_changes_anything(
            stream in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), Just(b':'), Just(b' '), any::<u8>()], 0..200),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for cut in cuts {
                chunks.push(&stream[from..cut]);
                from = cut;
            }
            chunks.push(&stream[from..]);
            prop_assert_eq!(events(&chunks), events(&[&stream]));
        }
    }
}
