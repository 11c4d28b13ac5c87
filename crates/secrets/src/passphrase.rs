//! A slot's key from a passphrase: Argon2id (RFC 9106).
//!
//! The parameters stand in the slot's row, so that they can rise without a new format, and are bound
//! by the seal of the master key: changed ones give another key. Bounds keep a changed row from
//! using up the machine.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use crate::crypto::CryptoError;
use crate::key::Key;
use crate::types::Plain;

/// The shortest passphrase in bytes. Argon2id makes a guess cost a third of a second and 64 MiB, not
/// more; the rest is length (NIST SP 800-63B, 3.1.1).
pub const MIN_PASSPHRASE: usize = 12;

const SALT: usize = 32;

/// What a passphrase's key is derived with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cost {
    /// KiB of memory.
    memory: u32,
    /// Passes over it.
    passes: u32,
    /// Lanes.
    lanes: u32,
    salt: [u8; SALT],
}

/// The stored parameters are not such as this program would use or accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the passphrase slot has unknown or unreasonable parameters")]
pub struct CostError;

impl Cost {
    /// The second recommendation of RFC 9106, section 4, on one lane.
    const MEMORY: u32 = 64 * 1024;
    const PASSES: u32 = 3;
    const LANES: u32 = 1;

    /// The most that a stored row may ask for: 2 GiB, 64 passes, 16 lanes.
    const MAX: (u32, u32, u32) = (2 * 1024 * 1024, 64, 16);

    const VERSION: u8 = 1;

    /// The length of [`Cost::encode`].
    pub(crate) const ENCODED: usize = 1 + 3 * 4 + SALT;

    /// Today's cost and a fresh salt.
    pub(crate) fn fresh() -> Result<Self, CryptoError> {
        let mut salt = [0; SALT];
        rand::fill(&mut salt).map_err(|_| CryptoError)?;
        Ok(Self { memory: Self::MEMORY, passes: Self::PASSES, lanes: Self::LANES, salt })
    }

    /// The bytes in the slot's row.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![Self::VERSION];
        for number in [self.memory, self.passes, self.lanes] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.salt);
        out
    }

    /// Reads the bytes of a row.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, CostError> {
        let (version, rest) = bytes.split_first().ok_or(CostError)?;
        let (numbers, salt) = rest.split_at_checked(12).ok_or(CostError)?;
        let number =
            |at: usize| numbers[at..at + 4].try_into().map(u32::from_be_bytes).map_err(|_| CostError);
        let cost = Self {
            memory: number(0)?,
            passes: number(4)?,
            lanes: number(8)?,
            salt: salt.try_into().map_err(|_| CostError)?,
        };
        let (memory, passes, lanes) = Self::MAX;
        if *version != Self::VERSION || cost.memory > memory || cost.passes > passes || cost.lanes > lanes {
            return Err(CostError);
        }
        Ok(cost)
    }

    /// The slot's key. Takes about a third of a second, on a thread for blocking work.
    pub(crate) async fn key(&self, passphrase: &Plain) -> Result<Key, CostError> {
        let params =
            Params::new(self.memory, self.passes, self.lanes, Some(Key::LEN)).map_err(|_| CostError)?;
        let (passphrase, salt) = (Zeroizing::new(passphrase.expose().to_vec()), self.salt);
        let derive = move || {
            let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
            Key::filled_by(|key| argon.hash_password_into(&passphrase, &salt, key).map_err(|_| CostError))
        };
        tokio::task::spawn_blocking(derive).await.map_err(|_| CostError)?
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cost(memory: u32, passes: u32, lanes: u32) -> Cost {
        Cost { memory, passes, lanes, salt: [2; SALT] }
    }

    #[test]
    fn fresh_costs_hold_the_promise_and_read_themselves_back() {
        let cost = Cost::fresh().unwrap();
        assert!(cost.memory >= 64 * 1024 && cost.passes >= 3);
        assert_ne!(cost.salt, Cost::fresh().unwrap().salt);
        assert_eq!(Cost::decode(&cost.encode()), Ok(cost));
    }

    #[test]
    fn unreasonable_costs_are_refused_before_they_are_paid() {
        assert_eq!(Cost::decode(&cost(u32::MAX, 1, 1).encode()), Err(CostError));
        assert_eq!(Cost::decode(&cost(64, u32::MAX, 1).encode()), Err(CostError));
        assert_eq!(Cost::decode(&cost(64, 1, 17).encode()), Err(CostError));
        assert_eq!(Cost::decode(b"\x02"), Err(CostError));
    }

    #[tokio::test]
    async fn the_key_depends_on_passphrase_and_every_parameter() {
        let key = async |cost: Cost, passphrase: &str| {
            *cost.key(&Plain::new(passphrase.into())).await.unwrap().as_bytes()
        };
        let base = key(cost(64, 1, 1), "a passphrase").await;
        assert_eq!(base, key(cost(64, 1, 1), "a passphrase").await);
        assert_ne!(base, key(cost(64, 1, 1), "a Passphrase").await);
        assert_ne!(base, key(cost(72, 1, 1), "a passphrase").await);
        assert_ne!(base, key(cost(64, 2, 1), "a passphrase").await);
        assert_ne!(base, key(Cost { salt: [3; SALT], ..cost(64, 1, 1) }, "a passphrase").await);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Cost::decode(&bytes);
        }
    }
}
