//! The hash chain: each record is tied to all that came before it.
//!
//! ```text
//! chain(0) = SHA-256("ironclaw audit chain v1: genesis")
//! chain(n) = SHA-256("ironclaw audit chain v1: record" ‖ chain(n-1) ‖ n as u64 ‖ length as u64 ‖ record(n))
//! ```
//!
//! Integers are big-endian. The tags keep a hash from this chain from being a hash of anything else,
//! and of equal length they need no length before them.

use sha2::{Digest as _, Sha256};
use types::Digest;

const GENESIS: &[u8] = b"ironclaw audit chain v1: genesis";
const RECORD: &[u8] = b"ironclaw audit chain v1: record";

/// What the first record is tied to.
pub fn genesis() -> Digest {
    Digest::of(GENESIS)
}

/// The chain after the record with number `seq` and these canonical bytes.
pub fn link(before: &Digest, seq: u64, record: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update(RECORD);
    hasher.update(before.as_bytes());
    hasher.update(seq.to_be_bytes());
    hasher.update((record.len() as u64).to_be_bytes());
    hasher.update(record);
    Digest::from_bytes(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_format_does_not_drift() {
        // Computed with coreutils: printf and sha256sum over the bytes that the module describes.
        assert_eq!(genesis().to_string(), "2fbed6b435875aa1c1d087b51a14a971668747d37bf5e3f75256dd4de26a4d89");
        assert_eq!(
            link(&genesis(), 1, b"record").to_string(),
            "c23ccd55ae5a5aa6d7f6d0accbd6e39a2e78a8f9a4c06cc950d8195df4686434"
        );
    }

    proptest! {
        #[test]
        fn every_input_matters(seq in 1u64..1000, record in prop::collection::vec(any::<u8>(), 0..64), at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let before = genesis();
            let good = link(&before, seq, &record);
            prop_assert_ne!(link(&good, seq, &record), good);
            prop_assert_ne!(link(&before, seq + 1, &record), good);
            let mut longer = record.clone();
            longer.push(0);
            prop_assert_ne!(link(&before, seq, &longer), good);
            if !record.is_empty() {
                let mut changed = record.clone();
                let index = at.index(record.len());
                changed[index] ^= 1 << bit;
                prop_assert_ne!(link(&before, seq, &changed), good);
            }
        }
    }
}
