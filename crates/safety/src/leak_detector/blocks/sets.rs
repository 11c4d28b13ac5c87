//! Sets of ASCII characters, in the form in which 32 bytes at a time are looked up in them.

/// For the low half of a byte, a bit for each high half with which it belongs to the set.
#[derive(Clone, Copy)]
pub(super) struct Set(pub(super) [u8; 16]);

/// Letters and digits, token characters, base64 digits.
pub(super) const KINDS: [Set; 3] = {
    let alnum = Set::of(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
    let run = alnum.with(b"_-");
    [alnum, run, run.with(b"+/")]
};

/// What fills base64 up, what begins an escape in a string, what begins one in an address, what ends a line.
pub(super) const SIGNS: [u8; 4] = *b"=\\%\n";

/// The base64 digits that begin, go on in the second, and in the third place of a group that stands for three bytes
/// under 128, the first of them from the tabulator on; the hexadecimal digits that begin a pair for a printable
/// character; all of them; `0`, and what makes a line end or a tabulator with it.
pub(super) const FORMS: [Set; 7] = [
    Set::base64(0, 0b00_0010, 0b01_1111),
    Set::base64(0b00_1000, 0, 0b11_1111),
    Set::base64(0b00_0010, 0, 0b11_1111),
    Set::of(b"234567"),
    Set::of(b"0123456789ABCDEFabcdef"),
    Set::of(b"0"),
    Set::of(b"9ADad"),
];

/// [`KINDS`] and [`SIGNS`], and [`FORMS`]: for each character a bit for each of those that it belongs to.
#[cfg(target_arch = "x86_64")]
pub(super) const KIND_BITS: [u8; 128] = {
    let [padding, escape, percent, line_end] = SIGNS;
    let signs = [Set::of(&[padding]), Set::of(&[escape]), Set::of(&[percent]), Set::of(&[line_end])];
    bits([KINDS[0], KINDS[1], KINDS[2], signs[0], signs[1], signs[2], signs[3]])
};
#[cfg(target_arch = "x86_64")]
pub(super) const FORM_BITS: [u8; 128] = bits(FORMS);

#[cfg(target_arch = "x86_64")]
const fn bits(sets: [Set; 7]) -> [u8; 128] {
    let mut bits = [0; 128];
    let mut at = 0;
    while at < 7 * bits.len() {
        let (byte, set) = (at / 7, at % 7);
        bits[byte] |= (sets[set].has(byte as u8) as u8) << set;
        at += 1;
    }
    bits
}

impl Set {
    const fn of(bytes: &[u8]) -> Self {
        Self([0; 16]).with(bytes)
    }

    const fn with(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0[(bytes[at] & 15) as usize] |= 1 << (bytes[at] >> 4);
            at += 1;
        }
        self
    }

    /// The base64 digits, of both alphabets, whose values have none of the bits of `without` and lie between `least`
    /// and `most`.
    const fn base64(without: u8, least: u8, most: u8) -> Self {
        const DIGITS: &[u8; 66] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_";
        let mut set = Self([0; 16]);
        let mut at = 0;
        while at < DIGITS.len() {
            let value = if at < 64 { at as u8 } else { at as u8 - 2 };
            if value & without == 0 && value >= least && value <= most {
                set = set.with(&[DIGITS[at]]);
            }
            at += 1;
        }
        set
    }

    pub(super) const fn has(self, byte: u8) -> bool {
        byte < 128 && self.0[(byte & 15) as usize] >> (byte >> 4) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_the_sets_are_those_of_printable_text() {
        let [first, second, third, ..] = FORMS;
        use base64::Engine as _;
        let encode = |bytes: [u8; 3]| base64::engine::general_purpose::STANDARD.encode(bytes).into_bytes();
        for byte in 0..=255u8 {
            let good = |bytes| {
                let group = encode(bytes);
                first.has(group[0]) && second.has(group[1]) && third.has(group[2])
            };
            assert_eq!(good([byte, b'a', b'a']), (8..128).contains(&byte), "{byte}");
            assert_eq!(
                (good([b'a', byte, b'a']), good([b'a', b'a', byte])),
                (byte < 128, byte < 128),
                "{byte}"
            );
        }
    }
}
