//! A recovery code: a slot's key on paper, for the day when every other slot is lost.
//!
//! 160 random bits, printed once in eight groups of four (Crockford's base 32: no letter that a hand
//! confuses with a digit). That is too much to guess, so no slow function stands before it. Nothing of
//! the code is kept but the master key sealed under what is derived from it.

use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::crypto::{self, CryptoError, Purpose};
use crate::key::Key;
use crate::types::Plain;

/// Crockford's digits: without I, L, O and U.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const BYTES: usize = 20;
const LETTERS: usize = BYTES * 8 / 5;

/// What was typed is no recovery code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a recovery code has {LETTERS} letters and digits in groups of four")]
pub struct CodeError;

/// A new code, as it is to be written down.
pub fn fresh() -> Result<Zeroizing<String>, CryptoError> {
    let mut bytes = Zeroizing::new([0; BYTES]);
    rand::fill(bytes.as_mut_slice()).map_err(|_| CryptoError)?;
    let mut code = Zeroizing::new(String::with_capacity(LETTERS + LETTERS / 4));
    for letter in 0..LETTERS {
        if letter > 0 && letter % 4 == 0 {
            code.push('-');
        }
        // Five bits that begin at `letter * 5`, across at most two bytes.
        let (at, shift) = (letter * 5 / 8, letter * 5 % 8);
        let pair = u16::from(bytes[at]) << 8 | u16::from(bytes.get(at + 1).copied().unwrap_or(0));
        code.push(char::from(DIGITS[usize::from(pair >> (11 - shift)) & 31]));
    }
    Ok(code)
}

/// The slot's key of a code as somebody typed it: case, spaces and hyphens do not matter, and the letters
/// that look like digits are taken for them.
pub(crate) fn key(typed: &Plain) -> Result<Key, CodeError> {
    let mut letters = Zeroizing::new(Vec::with_capacity(LETTERS));
    for byte in typed.expose().iter().filter(|byte| !matches!(byte, b' ' | b'-' | b'\t')) {
        let letter = match byte.to_ascii_uppercase() {
            b'O' => b'0',
            b'I' | b'L' => b'1',
            other => other,
        };
        if !DIGITS.contains(&letter) || letters.len() == LETTERS {
            return Err(CodeError);
        }
        letters.push(letter);
    }
    if letters.len() != LETTERS {
        return Err(CodeError);
    }
    crypto::stretch(&letters, Purpose::RecoveryCode).map_err(|_| CodeError)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(typed: &str) -> Result<[u8; 32], CodeError> {
        key(&Plain::new(typed.into())).map(|key| *key.as_bytes())
    }

    #[test]
    fn a_code_is_read_however_it_is_typed() {
        let code = fresh().unwrap();
        assert_eq!((code.len(), code.matches('-').count()), (39, 7));
        let read = bytes_of(&code).unwrap();
        assert_eq!(bytes_of(&code.to_lowercase()), Ok(read));
        assert_eq!(bytes_of(&code.replace('-', " ")), Ok(read));
        assert_eq!(bytes_of(&code.replace('0', "o").replace('1', "l")), Ok(read));
        assert_ne!(bytes_of(&fresh().unwrap()), Ok(read));
    }

    #[test]
    fn what_is_no_code_is_refused() {
        let code = fresh().unwrap();
        for bad in ["", "ABCD", &code[1..], &format!("{}0", *code), &code.replacen('-', "U", 1), "\u{1d7d8}"]
        {
            assert_eq!(bytes_of(bad), Err(CodeError), "{bad}");
        }
    }

    #[test]
    fn every_digit_occurs() {
        let many: String = (0..64).map(|_| fresh().unwrap().to_string()).collect();
        assert!(DIGITS.iter().all(|digit| many.as_bytes().contains(digit)));
    }
}
