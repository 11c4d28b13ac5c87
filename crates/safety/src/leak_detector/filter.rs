//! What says for a few bytes in a row whether one of a set of keys may be there.
//!
//! For each of the first bytes of a key there is a table for its low and one for its high half, in which each of
//! sixteen buckets of keys has a bit (the "Teddy" of Hyperscan, Wang et al., NSDI 2019). Which keys share a bucket
//! is found when the program is built ([`super::buckets`]).

/// The first bytes of a key, by which a filter knows it.
pub(super) const HEAD: usize = 4;

/// A filter for a set of keys.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Filter {
    /// For each byte of a head, the buckets of each half: the first eight, then the others.
    pub(super) low: [[[u8; 16]; 2]; HEAD],
    pub(super) high: [[[u8; 16]; 2]; HEAD],
}
