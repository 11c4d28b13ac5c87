//! Text in the encoding that its byte order mark names, read as UTF-8.
//!
//! What stands as UTF-16 or UTF-32 in a file is found like any other text, and told by its place in the file.

use std::io::{self, Chain, Cursor, Read};

/// Bytes at the beginning by which text is told from what is none.
const HEAD: usize = 8192;

/// Bytes that are decoded at a time; a multiple of every unit.
const CHUNK: usize = 64 << 10;

/// Which byte of a unit comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    Little,
    Big,
}

/// How characters stand as bytes (Unicode 16, section 3.10).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Encoding {
    /// Or anything else in which ASCII is one byte a character.
    Utf8,
    Utf16(Order),
    Utf32(Order),
}

impl Encoding {
    /// By the byte order mark, with its length. Without one a text is UTF-16 where its beginning is almost nothing but
    /// ASCII in units of two bytes, since some programs leave the mark out.
    fn of(head: &[u8]) -> (Self, usize) {
        match head {
            [0xef, 0xbb, 0xbf, ..] => (Self::Utf8, 3),
            // Begins like the mark of UTF-16, after which no text has a NUL.
            [0xff, 0xfe, 0, 0, ..] => (Self::Utf32(Order::Little), 4),
            [0, 0, 0xfe, 0xff, ..] => (Self::Utf32(Order::Big), 4),
            [0xff, 0xfe, ..] => (Self::Utf16(Order::Little), 2),
            [0xfe, 0xff, ..] => (Self::Utf16(Order::Big), 2),
            _ if is_wide_ascii(head, Order::Little) => (Self::Utf16(Order::Little), 0),
            _ if is_wide_ascii(head, Order::Big) => (Self::Utf16(Order::Big), 0),
            _ => (Self::Utf8, 0),
        }
    }

    /// Bytes of the input for which this byte of the UTF-8 text stands: those of its character, at its first byte.
    pub(super) fn width(self, byte: u8) -> usize {
        match (self, byte) {
            (Self::Utf8, _) => 1,
            (_, 0x80..=0xbf) => 0,
            // What takes four bytes in UTF-8 takes a pair of surrogates in UTF-16.
            (Self::Utf16(_), 0xf0..) => 4,
            (Self::Utf16(_), _) => 2,
            (Self::Utf32(_), _) => 4,
        }
    }

    /// Bytes of one unit.
    fn unit(self) -> usize {
        match self {
            Self::Utf8 => 1,
            Self::Utf16(_) => 2,
            Self::Utf32(_) => 4,
        }
    }

    /// Whole units as text. What is no character stands as one for each unit.
    fn decode(self, bytes: &[u8]) -> String {
        match self {
            Self::Utf8 => String::from_utf8_lossy(bytes).into_owned(),
            Self::Utf16(order) => char::decode_utf16(units(bytes, order))
                .map(|decoded| decoded.unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
            Self::Utf32(order) => bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|unit| match order {
                    Order::Little => u32::from_le_bytes(*unit),
                    Order::Big => u32::from_be_bytes(*unit),
                })
                .map(|scalar| char::from_u32(scalar).unwrap_or(char::REPLACEMENT_CHARACTER))
                .collect(),
        }
    }
}

fn units(bytes: &[u8], order: Order) -> impl Iterator<Item = u16> {
    bytes.as_chunks::<2>().0.iter().map(move |unit| match order {
        Order::Little => u16::from_le_bytes(*unit),
        Order::Big => u16::from_be_bytes(*unit),
    })
}

/// True where at least nine of ten units are ASCII, and none is a NUL.
fn is_wide_ascii(head: &[u8], order: Order) -> bool {
    let (all, ascii) = units(head, order).fold((0, 0), |(all, ascii), unit| match unit {
        1..=0x7f => (all + 1, ascii + 1),
        _ => (all + 1, ascii),
    });
    all >= 8 && ascii * 10 >= all * 9 && !units(head, order).any(|unit| unit == 0)
}

/// An input whose encoding is known, without its mark. Reads as UTF-8, or as it is where it is in no other encoding.
pub(super) struct Text<R> {
    encoding: Encoding,
    mark: usize,
    is_binary: bool,
    from: Chain<Cursor<Vec<u8>>, R>,
    /// Read and not decoded.
    raw: Vec<u8>,
    /// Decoded and not handed out.
    text: Cursor<Vec<u8>>,
    ended: bool,
}

impl<R: Read> Text<R> {
    /// Looks at the beginning.
    pub(super) fn open(mut from: R) -> io::Result<Self> {
        let mut head = Vec::with_capacity(HEAD);
        from.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
        let (encoding, mark) = Encoding::of(&head);
        let is_binary = encoding == Encoding::Utf8 && head.contains(&0);
        let mut head = Cursor::new(head);
        head.set_position(mark as u64);
        let from = head.chain(from);
        Ok(Self { encoding, mark, is_binary, from, raw: Vec::new(), text: Cursor::default(), ended: false })
    }

    /// True for what holds a NUL where no text has one.
    pub(super) fn is_binary(&self) -> bool {
        self.is_binary
    }

    /// The encoding, for [`Encoding::width`].
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Bytes of the mark before the text.
    pub(super) fn mark(&self) -> usize {
        self.mark
    }

    /// Reads on and decodes what is whole.
    fn decode(&mut self) -> io::Result<()> {
        let read = self.from.by_ref().take(CHUNK as u64).read_to_end(&mut self.raw)?;
        self.ended = read < CHUNK;
        let mut whole = self.raw.len() / self.encoding.unit() * self.encoding.unit();
        if let Encoding::Utf16(order) = self.encoding
            && !self.ended
            && units(&self.raw[..whole], order).last().is_some_and(|unit| (0xd800..0xdc00).contains(&unit))
        {
            // The other half of the pair is to come.
            whole -= 2;
        }
        let mut text = self.encoding.decode(&self.raw[..whole]);
        self.raw.drain(..whole);
        if self.ended && !self.raw.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
        }
        self.text = Cursor::new(text.into_bytes());
        Ok(())
    }
}

impl<R: Read> Read for Text<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.encoding == Encoding::Utf8 {
            return self.from.read(buffer);
        }
        loop {
            let read = self.text.read(buffer)?;
            if read > 0 || self.ended || buffer.is_empty() {
                return Ok(read);
            }
            self.decode()?;
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The text in an encoding, after its mark.
    pub(in super::super) fn encoded(text: &str, encoding: Encoding) -> Vec<u8> {
        let marked = format!("\u{feff}{text}");
        let pair =
            |unit: u16, order| if order == Order::Little { unit.to_le_bytes() } else { unit.to_be_bytes() };
        let four = |c: char, order| {
            let scalar = u32::from(c);
            if order == Order::Little { scalar.to_le_bytes() } else { scalar.to_be_bytes() }
        };
        match encoding {
            Encoding::Utf8 => marked.into_bytes(),
            Encoding::Utf16(order) => marked.encode_utf16().flat_map(|unit| pair(unit, order)).collect(),
            Encoding::Utf32(order) => marked.chars().flat_map(|c| four(c, order)).collect(),
        }
    }

    /// Every encoding.
    pub(in super::super) const ALL: [Encoding; 5] = [
        Encoding::Utf8,
        Encoding::Utf16(Order::Little),
        Encoding::Utf16(Order::Big),
        Encoding::Utf32(Order::Little),
        Encoding::Utf32(Order::Big),
    ];

    fn read(bytes: &[u8]) -> (Encoding, String) {
        let mut opened = Text::open(bytes).unwrap();
        let mut text = String::new();
        opened.read_to_string(&mut text).unwrap();
        (opened.encoding(), text)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_marked_text_reads_alike_in_every_encoding_and_no_byte_of_it_is_lost(text in "[a-z\u{e9}\u{4e00}\u{1f600}\n]{1,80}", times in 1usize..2000) {
            let text = text.repeat(times);
            for encoding in ALL {
                let bytes = encoded(&text, encoding);
                prop_assert_eq!(read(&bytes), (encoding, text.clone()));
                let width: usize = text.bytes().map(|byte| encoding.width(byte)).sum();
                prop_assert_eq!(width + Text::open(bytes.as_slice()).unwrap().mark(), bytes.len());
            }
        }
    }

    #[test]
    fn what_is_no_character_stands_as_one_and_ends_nothing() {
        assert_eq!(read(b"\xff\xfea\0\0\xd8b\0").1, "a\u{fffd}b");
        assert_eq!(read(b"\xff\xfea\0\0\xd8").1, "a\u{fffd}");
        assert_eq!(read(b"\xff\xfea\0b").1, "a\u{fffd}");
        assert_eq!(read(b"\xff\xfe\0\0a\0\0\0\0\0\x11\0").1, "a\u{fffd}");
    }

    #[test]
    fn utf_16_without_a_mark_is_told_from_what_is_no_text() {
        let wide: Vec<u8> = "KEY = value\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read(&wide), (Encoding::Utf16(Order::Little), "KEY = value\r\n".to_owned()));
        for (bytes, is_binary) in [
            (b"KEY = value\n".as_slice(), false),
            (b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0", true),
            (&[1, 0, 2, 0, 3, 0, 0, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8, 0], true),
            (b"", false),
        ] {
            let text = Text::open(bytes).unwrap();
            assert_eq!((text.encoding(), text.is_binary()), (Encoding::Utf8, is_binary));
        }
    }
}
