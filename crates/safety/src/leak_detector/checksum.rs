//! Checks that a token carries in itself: a right one makes a guess a certainty.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Which check a token format has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Checksum {
    /// CRC-32 of the random part in six base62 digits at the end, after the last underscore
    /// (GitHub since 2021, npm).
    Crc32Base62,
    /// Three base64url parts, the first a JSON object with `alg` (RFC 7519).
    Jwt,
}

impl Checksum {
    /// True when the token's own check is right.
    pub(super) fn holds(self, token: &[u8]) -> bool {
        match self {
            Self::Crc32Base62 => crc32_base62(token).unwrap_or(false),
            Self::Jwt => jwt(token).unwrap_or(false),
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
    let json = URL_SAFE_NO_PAD.decode(head).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&json).ok()?;
    Some(value.get("alg").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

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
