//! Which keys share a bucket of a filter.
//!
//! A bucket admits every combination of the halves of its keys' bytes, so keys belong together that are alike. In
//! their order, neighbours share bytes; where to cut is found by dynamic programming, so that the buckets together
//! admit as little of ordinary text as they can.

use super::HEAD;
use crate::leak_detector::lane::{Key, fold};

/// Buckets of a filter: the bits of a byte.
const BUCKETS: usize = 8;

/// Keys in their order, cut into at most [`BUCKETS`] pieces.
pub(super) fn of(keys: &[Key]) -> Vec<&[Key]> {
    let weights = Weights::new();
    // What each piece of the keys costs as a bucket: from its first to its last.
    let costs: Vec<Vec<f32>> = (0..keys.len())
        .map(|from| {
            let mut bucket = Bucket::default();
            let add = |key| {
                bucket.add(key);
                bucket.cost(&weights)
            };
            keys[from..].iter().map(add).collect()
        })
        .collect();
    // The least cost of the first keys in so many buckets, and where the last of them begins.
    let mut best = vec![f32::INFINITY; keys.len() + 1];
    best[0] = 0.0;
    let mut cuts = Vec::new();
    for _ in 0..BUCKETS {
        let mut next = best.clone();
        let mut cut: Vec<usize> = (0..=keys.len()).collect();
        for (from, costs) in costs.iter().enumerate() {
            for (end, cost) in (from + 1..).zip(costs) {
                if best[from] + cost < next[end] {
                    (next[end], cut[end]) = (best[from] + cost, from);
                }
            }
        }
        cuts.push(cut);
        best = next;
    }
    let mut end = keys.len();
    let mut pieces: Vec<&[Key]> = Vec::new();
    for cut in cuts.iter().rev() {
        let from = cut[end];
        if from < end {
            pieces.push(&keys[from..end]);
        }
        end = from;
    }
    pieces
}

/// The halves of bytes that a bucket admits at each place.
#[derive(Default)]
struct Bucket {
    low: [u16; HEAD],
    high: [u16; HEAD],
}

impl Bucket {
    fn add(&mut self, key: &Key) {
        for at in 0..HEAD {
            let byte = key.bytes[at];
            let known = at < usize::from(key.length);
            self.low[at] |= if known { 1 << (byte & 15) } else { u16::MAX };
            self.high[at] |= if known { 1 << (byte >> 4) } else { u16::MAX };
        }
    }

    /// The share of places in ordinary text that it admits.
    fn cost(&self, weights: &Weights) -> f32 {
        let place = |(low, high): (&u16, &u16)| -> f32 {
            bits(*high)
                .flat_map(|row| bits(*low).map(move |at| (row, at)))
                .map(|(row, at)| weights.0[row][at])
                .sum()
        };
        self.low.iter().zip(&self.high).map(place).product()
    }
}

fn bits(mut mask: u16) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(bit)
    })
}

/// How often each folded byte stands in ordinary text: a row for each high half.
struct Weights([[f32; 16]; 16]);

impl Weights {
    fn new() -> Self {
        let mut rows = [[0.0; 16]; 16];
        for byte in 0..=255u8 {
            let share = match byte {
                b' ' => 0.16,
                b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 0.05,
                byte if byte.is_ascii_lowercase() => 0.018,
                byte if byte.is_ascii_graphic() && byte == fold(byte) => 0.004,
                _ => 0.0001,
            };
            rows[usize::from(byte >> 4)][usize::from(byte & 15)] = share;
        }
        Self(rows)
    }
}
