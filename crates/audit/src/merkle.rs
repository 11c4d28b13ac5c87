//! A Merkle tree over the records (RFC 6962, section 2.1; RFC 9162, section 2.1): one hash that stands
//! for all of them, and short proofs that a record is among them and that one tree is the beginning of
//! another.
//!
//! The leaf of a record is its link of the chain ([`crate::chain`]), which binds its number, its bytes and
//! all records before it. So the leaves are in the log already, and remain when the bytes of old records
//! are kept elsewhere.
//!
//! ```text
//! leaf(n)     = SHA-256(0x00 ‖ chain(n))
//! node(l, r)  = SHA-256(0x01 ‖ l ‖ r)
//! root of none = SHA-256("")
//! ```

use std::ops::Range;

use sha2::{Digest as _, Sha256};
use types::Digest;

/// The hash of a leaf.
pub fn leaf(chain: &[u8]) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(chain);
    Digest::from_bytes(hasher.finalize().into())
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut hasher = Sha256::new();
    hasher.update([1]);
    hasher.update(left.as_bytes());
    hasher.update(right.as_bytes());
    Digest::from_bytes(hasher.finalize().into())
}

/// A tree that grows at its end and keeps only what it needs for that: one root for each full subtree
/// along its right edge, the largest first. A tree of a million leaves keeps at most twenty.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    size: u64,
    peaks: Vec<Digest>,
}

impl Tree {
    /// A tree of so many leaves from the roots along its edge; `None` where their number is wrong.
    pub fn from_peaks(size: u64, peaks: Vec<Digest>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// How many leaves it has.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the full subtrees along the right edge, the largest first.
    pub fn peaks(&self) -> &[Digest] {
        &self.peaks
    }

    /// Adds a leaf, given by the chain after its record.
    pub fn push(&mut self, chain: &[u8]) {
        let mut hash = leaf(chain);
        // Each trailing one of the size is a full subtree that the new leaf completes to the next larger.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size += 1;
    }

    /// The hash that stands for all leaves.
    pub fn root(&self) -> Digest {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Digest::of(b"") };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

/// The subtrees whose roots prove that leaf `index` (counted from 0) is in the tree of `size` leaves, in
/// the order of the proof; `None` for a leaf that is not.
pub fn inclusion(index: u64, size: u64) -> Option<Vec<Range<u64>>> {
    if index >= size {
        return None;
    }
    let (mut ranges, mut range, mut at) = (Vec::new(), 0..size, index);
    while range.end - range.start > 1 {
        let middle = range.start + split(range.end - range.start);
        if at < middle {
            ranges.push(middle..range.end);
            range.end = middle;
        } else {
            ranges.push(range.start..middle);
            range.start = middle;
        }
    }
    at = range.start;
    debug_assert_eq!(at, index);
    ranges.reverse();
    Some(ranges)
}

/// The subtrees whose roots prove that the tree of `old` leaves is the beginning of the tree of `new`
/// leaves, in the order of the proof; `None` where there is nothing to prove it with.
pub fn consistency(old: u64, new: u64) -> Option<Vec<Range<u64>>> {
    if old == 0 || old > new {
        return None;
    }
    let (mut ranges, mut range) = (Vec::new(), 0..new);
    while range.end > old {
        let middle = range.start + split(range.end - range.start);
        if old <= middle {
            ranges.push(middle..range.end);
            range.end = middle;
        } else {
            ranges.push(range.start..middle);
            range.start = middle;
        }
    }
    // The old tree itself is known to whoever asks.
    if range.start > 0 {
        ranges.push(range);
    }
    ranges.reverse();
    Some(ranges)
}

/// The largest power of two below a size of at least two.
fn split(size: u64) -> u64 {
    1 << (u64::BITS - 1 - (size - 1).leading_zeros())
}

/// Whether a proof leads from a leaf to a root (RFC 9162, section 2.1.3.2).
pub fn is_included(chain: &[u8], index: u64, size: u64, proof: &[Digest], root: &Digest) -> bool {
    if index >= size {
        return false;
    }
    let (mut at, mut last, mut hash) = (index, size - 1, leaf(chain));
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            hash = node(sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node(&hash, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether a proof shows that one tree is the beginning of another (RFC 9162, section 2.1.4.2).
pub fn is_consistent(old: (u64, &Digest), new: (u64, &Digest), proof: &[Digest]) -> bool {
    let ((old_size, old_root), (new_size, new_root)) = (old, new);
    if old_size == 0 || old_size > new_size {
        return false;
    }
    if old_size == new_size {
        return proof.is_empty() && old_root == new_root;
    }
    let mut proof = proof.iter();
    let first = if old_size.is_power_of_two() { Some(old_root) } else { proof.next() };
    let Some(first) = first else { return false };
    let (mut at, mut last) = (old_size - 1, new_size - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut left, mut both) = (*first, *first);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            left = node(sibling, &left);
            both = node(sibling, &both);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            both = node(&both, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && left == *old_root && both == *new_root
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn chains(size: u64) -> Vec<Digest> {
        (0..size).map(|index| Digest::of(&index.to_be_bytes())).collect()
    }

    fn tree(chains: &[Digest]) -> Tree {
        let mut tree = Tree::default();
        chains.iter().for_each(|chain| tree.push(chain.as_bytes()));
        tree
    }

    fn roots(chains: &[Digest], ranges: Vec<Range<u64>>) -> Vec<Digest> {
        ranges
            .into_iter()
            .map(|range| tree(&chains[range.start as usize..range.end as usize]).root())
            .collect()
    }

    /// The definition of RFC 6962, section 2.1, word for word.
    fn defined(chains: &[Digest]) -> Digest {
        match chains {
            [] => Digest::of(b""),
            [one] => leaf(one.as_bytes()),
            many => {
                let (left, right) = many.split_at(split(many.len() as u64) as usize);
                node(&defined(left), &defined(right))
            }
        }
    }

    #[test]
    fn the_hashes_are_those_of_the_standard() {
        // RFC 6962's own empty tree; the leaf of no bytes is the one that Certificate Transparency's
        // reference tests give.
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Tree::default().root().to_string(), empty);
        let no_bytes = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(leaf(b"").to_string(), no_bytes);
        for size in 0..70 {
            let chains = chains(size);
            assert_eq!(tree(&chains).root(), defined(&chains), "{size}");
            let grown = tree(&chains);
            assert_eq!(Tree::from_peaks(size, grown.peaks().to_vec()), Some(grown));
        }
    }

    #[test]
    fn every_record_and_every_beginning_has_its_proof_and_no_other() {
        for size in 1..40u64 {
            let chains = chains(size);
            let root = tree(&chains).root();
            for index in 0..size {
                let chain = chains[index as usize].as_bytes();
                let proof = roots(&chains, inclusion(index, size).unwrap());
                assert!(is_included(chain, index, size, &proof, &root));
                assert!(!is_included(b"other", index, size, &proof, &root));
                for other in (0..size).filter(|other| *other != index) {
                    assert!(!is_included(chain, other, size, &proof, &root));
                }
            }
            for old in 1..=size {
                let before = tree(&chains[..old as usize]).root();
                let proof = roots(&chains, consistency(old, size).unwrap());
                assert!(is_consistent((old, &before), (size, &root), &proof), "{old} {size}");
                assert!(!is_consistent((old, &Digest::of(b"other")), (size, &root), &proof));
                assert!(old == size || !is_consistent((old, &before), (size, &Digest::of(b"other")), &proof));
                if let Some((_, shorter)) = proof.split_last() {
                    assert!(!is_consistent((old, &before), (size, &root), shorter));
                }
            }
        }
        assert_eq!((inclusion(3, 3), consistency(0, 3), consistency(4, 3)), (None, None, None));
    }

    proptest! {
        #[test]
        fn a_changed_proof_proves_nothing(size in 2u64..300, at in any::<prop::sample::Index>(), which in any::<prop::sample::Index>(), bit in 0usize..256) {
            let chains = chains(size);
            let root = tree(&chains).root();
            let index = at.index(size as usize) as u64;
            let mut proof = roots(&chains, inclusion(index, size).unwrap());
            let place = which.index(proof.len());
            let mut bytes = *proof[place].as_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            proof[place] = Digest::from_bytes(bytes);
            prop_assert!(!is_included(chains[index as usize].as_bytes(), index, size, &proof, &root));
        }
    }
}
