//! Checks that a token carries in itself: a right one makes a guess a certainty.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use crate::validator::json;

/// Which check a token format has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Checksum {
    /// CRC-32 of the random part in six base62 digits at the end, after the last underscore
    /// (GitHub since 2021, npm).
    Crc32Base62,
    /// Three base64url parts, the first a JSON object with `alg` (RFC 7519).
    Jwt,
    /// The last four bytes are the double SHA-256 of the others (keys of Bitcoin's wallets).
    Base58check,
    /// A BCH code over prefix and data (BIP 173; age, Nostr).
    Bech32,
}

impl Checksum {
    /// True when the token's own check is right.
    pub(super) fn holds(self, token: &[u8]) -> bool {
        match self {
            Self::Crc32Base62 => crc32_base62(token).unwrap_or(false),
            Self::Jwt => jwt(token).unwrap_or(false),
            Self::Base58check => base58check(token).unwrap_or(false),
            Self::Bech32 => bech32(token).unwrap_or(false),
        }
    }
}

fn crc32_base62(token: &[u8]) -> Option<bool> {
    let random = match token.iter().rposition(|byte| *byte == b'_') {
        Some(underscore) => &token[underscore + 1..],
        None => token,
    };
    let (body, check) = random.split_at_checked(random.len().checked_sub(6)?)?;
    let mut number = u64::from(crc32fast::hash(body));
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[(number % 62) as usize];
        number /= 62;
    }
    Some(digits == check)
}

fn jwt(token: &[u8]) -> Option<bool> {
    let head = token.split(|byte| *byte == b'.').next()?;
    let head = URL_SAFE_NO_PAD.decode(head).ok()?;
    let has_alg = || json::members(&head).any(|member| member.depth == 1 && member.name == "alg");
    Some(json::is_object(&head) && has_alg())
}

/// No key in base58 is longer: an extended key has 112 characters.
const LONGEST_BASE58: usize = 120;

fn base58check(token: &[u8]) -> Option<bool> {
    const DIGITS: &[u8] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    if token.len() > LONGEST_BASE58 {
        return None;
    }
    // Base 256, the least significant byte first.
    let mut bytes: Vec<u8> = Vec::new();
    for character in token {
        let mut carry = DIGITS.iter().position(|digit| digit == character)? as u32;
        for byte in &mut bytes {
            carry += u32::from(*byte) * 58;
            *byte = carry as u8;
            carry >>= 8;
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    let zeros = token.iter().take_while(|character| **character == b'1').count();
    bytes.resize(bytes.len() + zeros, 0);
    bytes.reverse();
    let (payload, check) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
    Some(Sha256::digest(Sha256::digest(payload)).starts_with(check))
}

fn bech32(token: &[u8]) -> Option<bool> {
    const DIGITS: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
    let lower = token.to_ascii_lowercase();
    let (prefix, data) = lower.split_at(lower.iter().rposition(|byte| *byte == b'1')?);
    let high = prefix.iter().map(|byte| byte >> 5);
    let low = prefix.iter().map(|byte| byte & 31);
    let mut values: Vec<u8> = high.chain([0]).chain(low).collect();
    for character in &data[1..] {
        values.push(DIGITS.iter().position(|digit| digit == character)? as u8);
    }
    let mut check = 1u32;
    for value in values {
        let top = check >> 25;
        check = (check & 0x01ff_ffff) << 5 ^ u32::from(value);
        for (bit, generator) in GENERATOR.iter().enumerate() {
            if top >> bit & 1 == 1 {
                check ^= generator;
            }
        }
    }
    Some(check == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_of_wallets_and_identities() {
        // The published examples of Bitcoin's import format, of BIP 173 and of NIP-19.
        let wif = b"5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ";
        assert!(Checksum::Base58check.holds(wif));
        assert!(!Checksum::Base58check.holds(&wif.map(|byte| if byte == b'X' { b'Y' } else { byte })));
        assert!(!Checksum::Base58check.holds(b"0OIl") && !Checksum::Base58check.holds(b""));
        let address = b"BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4";
        assert!(Checksum::Bech32.holds(address));
        assert!(!Checksum::Bech32.holds(&address.map(|byte| if byte == b'4' { b'5' } else { byte })));
        assert!(Checksum::Bech32.holds(b"nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5"));
        assert!(!Checksum::Bech32.holds(b"no separator"));
    }

    #[test]
    fn a_computed_check_holds_and_a_changed_one_does_not() {
        // The example of GitHub's announcement: CRC-32 of the 30 characters, base62, six digits.
        let body = "zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ";
        let mut number = u64::from(crc32fast::hash(body.as_bytes()));
        let mut digits = Vec::new();
        for _ in 0..6 {
            digits.insert(
                0,
                b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[(number % 62) as usize],
            );
            number /= 62;
        }
        let check = String::from_utf8(digits).unwrap();
        let token = format!("ghp_{body}{check}");
        assert_eq!(check, "0mLq17");
        assert!(Checksum::Crc32Base62.holds(token.as_bytes()));
        assert!(!Checksum::Crc32Base62.holds(token.replace("zQ", "Qz").as_bytes()));
    }
}
