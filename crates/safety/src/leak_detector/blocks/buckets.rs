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
                bucket.add(key, &weights);
                bucket.cost()
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

/// What a bucket admits at each place.
#[derive(Default)]
struct Bucket {
    /// Halves of bytes.
    low: [u16; HEAD],
    high: [u16; HEAD],
    /// The share of ordinary text that they make up.
    share: [f32; HEAD],
}

impl Bucket {
    fn add(&mut self, key: &Key, weights: &Weights) {
        for at in 0..HEAD {
            let (mut low, mut high) = (u16::MAX, u16::MAX);
            if at < usize::from(key.length) {
                (low, high) = (1 << (key.bytes[at] & 15), 1 << (key.bytes[at] >> 4));
            }
            let (low, high) = (low | self.low[at], high | self.high[at]);
            if (low, high) != (self.low[at], self.high[at]) {
                (self.low[at], self.high[at]) = (low, high);
                self.share[at] = weights.share(low, high);
            }
        }
    }

    /// The share of places in ordinary text that it admits.
    fn cost(&self) -> f32 {
        self.share.iter().product()
    }
}

/// How often each folded byte stands in ordinary text: for each high half, the sums over any of the lower and any of
/// the upper eight low halves.
struct Weights(Vec<[[f32; 256]; 2]>);

impl Weights {
    fn new() -> Self {
        let mut sums = vec![[[0.0; 256]; 2]; 16];
        for byte in 0..=255u8 {
            let share = match byte {
                b' ' => 0.16,
                b'e' | b't' | b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 0.05,
                byte if byte.is_ascii_lowercase() => 0.018,
                byte if byte.is_ascii_graphic() && byte == fold(byte) => 0.004,
                _ => 0.0001,
            };
            let sums = &mut sums[usize::from(byte >> 4)][usize::from(byte >> 3 & 1)];
            let any = sums.iter_mut().enumerate().filter(|(set, _)| set >> (byte & 7) & 1 == 1);
            any.for_each(|(_, sum)| *sum += share);
        }
        Self(sums)
    }

    fn share(&self, low: u16, high: u16) -> f32 {
        let [lower, upper] = low.to_le_bytes().map(usize::from);
        let rows = self.0.iter().enumerate().filter(|(row, _)| high >> row & 1 == 1);
        rows.map(|(_, sums)| sums[0][lower] + sums[1][upper]).sum()
    }
}
