//! Secret values in memory: wiped when dropped, and without a way to look at them.
//!
//! A [`Plain`] can be made by anyone who has a value and read by nobody outside this crate. It can
//! not be printed (K13):
//!
//! ```compile_fail
//! fn show(value: secrets::Plain) -> String { format!("{value:?}") }
//! ```
//!
//! ```compile_fail
//! fn show(value: secrets::Plain) -> String { format!("{value}") }
//! ```
//!
//! ```
//! fn show(value: secrets::Plain) -> String { format!("{} bytes", value.len()) }
//! ```
//!
//! nor copied:
//!
//! ```compile_fail
//! fn copy<T: Clone>(_: &T) {}
//! fn two(value: secrets::Plain) { copy(&value) }
//! ```
//!
//! nor compared, which would tell a guess from a miss:
//!
//! ```compile_fail
//! fn same<T: PartialEq>(_: &T) {}
//! fn guess(value: secrets::Plain) { same(&value) }
//! ```
//!
//! nor turned into bytes or text, which is also how every serialiser would begin:
//!
//! ```compile_fail
//! fn read<T: AsRef<[u8]>>(_: &T) {}
//! fn serialise(value: secrets::Plain) { read(&value) }
//! ```
//!
//! ```compile_fail
//! fn read(value: &secrets::Plain) -> &[u8] { value.expose() }
//! ```
//!
//! only handed on:
//!
//! ```
//! fn any<T>(_: &T) {}
//! fn hand_on(value: secrets::Plain) { any(&value) }
//! ```

use safety::leak_detector::TooWeak;
use zeroize::Zeroizing;

/// A secret value or a passphrase in clear.
pub struct Plain(Zeroizing<Vec<u8>>);

/// Why a value cannot become a secret.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ValueError {
    /// Shorter than [`Plain::MIN`].
    #[error("the value is shorter than {} bytes: too short to be recognised when it leaks", Plain::MIN)]
    TooShort,
    /// Longer than [`Plain::MAX`].
    #[error("the value is longer than {} bytes", Plain::MAX)]
    TooLong,
    /// A carriage return, a line feed or a NUL would end a header early.
    #[error("the value holds a line break or a NUL byte")]
    LineBreak,
    /// The leak detector could not tell it from harmless text.
    #[error(transparent)]
    Weak(#[from] TooWeak),
}

impl Plain {
    /// The shortest secret in bytes. A shorter one would be found in harmless text or not at all.
    pub const MIN: usize = 8;
    /// The longest secret in bytes: what a head of a request can hold on any usual server.
    pub const MAX: usize = 16 * 1024;

    /// Takes over a value. The caller's buffer becomes this one and is wiped with it.
    pub fn new(value: Vec<u8>) -> Self {
        Self(Zeroizing::new(value))
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value itself. Never leaves this crate but inside an armed request.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Refuses what could not be stored, found or injected.
    pub fn check(&self) -> Result<(), ValueError> {
        match self.0.len() {
            n if n < Self::MIN => return Err(ValueError::TooShort),
            n if n > Self::MAX => return Err(ValueError::TooLong),
            _ => {}
        }
        if breaks_a_line(&self.0) {
            return Err(ValueError::LineBreak);
        }
        Ok(())
    }
}

/// True when the value would end a header, a request line or a C string early.
pub(crate) fn breaks_a_line(value: &[u8]) -> bool {
    value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k11_c17_values_that_cannot_be_sent_or_found_are_refused() {
        let check = |value: &[u8]| Plain::new(value.to_vec()).check();
        assert_eq!(check(b""), Err(ValueError::TooShort));
        assert_eq!(check(b"seven!!"), Err(ValueError::TooShort));
        assert_eq!(check(&vec![b'x'; 1 << 20]), Err(ValueError::TooLong));
        for bad in [b"token\r\nX-Evil: 1".as_slice(), b"token\nmore", b"token\rmore", b"token\0more"] {
            assert_eq!(check(bad), Err(ValueError::LineBreak));
        }
        assert_eq!(check(b"\xff\xfe\x80binary"), Ok(()));
        assert_eq!(check(&[b'x'; Plain::MAX]), Ok(()));
    }
}
