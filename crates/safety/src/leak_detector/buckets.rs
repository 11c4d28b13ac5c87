//! Which keys share a bucket of a filter.
//!
//! A bucket admits every combination of the halves of its keys' bytes, so keys belong together that are alike. From
//! one bucket for each key, the two that cost least together become one until few enough are left; then single keys
//! move on while that makes the buckets admit less of ordinary text. It runs when the program is built.

use super::filter::{Filter, HEAD};
use super::lane::{CREDENTIALS, Key, Lane, OPENINGS, SECRET_KINDS, fold};

/// Buckets of a filter: the bits of two bytes.
const BUCKETS: usize = 16;
/// So often all keys are tried in every other bucket.
const MOST_ROUNDS: usize = 8;

/// The filters of an engine for rules in these lanes: for keys that may stand anywhere, with those of private keys, of
/// credentials and of Secrets, and for keys around long runs.
pub(super) fn filters<'a>(lanes: impl Iterator<Item = &'a Lane>) -> [Filter; 2] {
    let words = OPENINGS.iter().chain(&CREDENTIALS).chain(&SECRET_KINDS);
    let mut anywhere: Vec<Key> = words.map(|word| Key::of(word.bytes())).collect();
    let mut near = Vec::new();
    for lane in lanes {
        match lane {
            Lane::Anywhere { keys, .. } | Lane::Line(keys) => anywhere.extend_from_slice(keys),
            Lane::Near { keys, .. } => near.extend_from_slice(keys),
            _ => {}
        }
    }
    [filter(&anywhere), filter(&near)]
}

/// A filter for keys.
pub(super) fn filter(keys: &[Key]) -> Filter {
    let head = |key: &Key| Key::of(key.bytes[..usize::from(key.length).min(HEAD)].iter().copied());
    let mut heads: Vec<Key> = keys.iter().map(head).collect();
    heads.sort_unstable();
    heads.dedup();
    // What begins with another key is admitted with it.
    let begins = |key: &Key, head: &Key| {
        head.length < key.length && key.bytes.starts_with(&head.bytes[..usize::from(head.length)])
    };
    let heads: Vec<Key> =
        heads.iter().filter(|key| !heads.iter().any(|head| begins(key, head))).copied().collect();
    let mut filter = Filter::default();
    for (bucket, keys) in of(&heads).into_iter().enumerate() {
        for key in keys {
            admit(&mut filter, bucket, &key);
        }
    }
    filter
}

fn admit(filter: &mut Filter, bucket: usize, key: &Key) {
    for at in 0..HEAD {
        let (mut low, mut high) = (0..16, 0..16);
        if at < usize::from(key.length) {
            let byte = usize::from(key.bytes[at]);
            (low, high) = (byte & 15..(byte & 15) + 1, byte >> 4..(byte >> 4) + 1);
        }
        let (half, bit) = (bucket / 8, 1 << (bucket % 8));
        low.for_each(|entry| filter.low[at][half][entry] |= bit);
        high.for_each(|entry| filter.high[at][half][entry] |= bit);
    }
}

/// Keys in at most [`BUCKETS`] buckets.
fn of(keys: &[Key]) -> Vec<Vec<Key>> {
    let weights = Weights::new();
    let mut buckets = joined(keys.iter().map(|key| Bucket::of(vec![*key], &weights)).collect(), &weights);
    for _ in 0..MOST_ROUNDS {
        if keys.iter().filter(|key| moves(key, &mut buckets, &weights)).count() == 0 {
            break;
        }
    }
    buckets.into_iter().map(|bucket| bucket.keys).collect()
}

/// Makes one bucket of two, the cheapest pair first, until few enough are left.
fn joined(mut buckets: Vec<Bucket>, weights: &Weights) -> Vec<Bucket> {
    // For each bucket, which of those behind it is the cheapest to join, and by how much more both cost then.
    let nearest = |at: usize, buckets: &[Bucket]| {
        let behind = buckets.iter().enumerate().skip(at + 1);
        let costs = behind.map(|(other, bucket)| (bucket.extra(&buckets[at], weights), other));
        costs.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f32::INFINITY, at))
    };
    let mut near: Vec<_> = (0..buckets.len()).map(|at| nearest(at, &buckets)).collect();
    while buckets.len() > BUCKETS {
        let cheapest = (0..buckets.len()).min_by(|a, b| near[*a].0.total_cmp(&near[*b].0)).unwrap_or(0);
        let gone = near[cheapest].1;
        let other = buckets.swap_remove(gone);
        near.swap_remove(gone);
        let last = buckets.len();
        buckets[cheapest].take(other, weights);
        for at in 0..last {
            let (_, other) = near[at];
            // The last bucket stands where the one that is gone stood.
            if at == cheapest || at == gone || [cheapest, gone, last].contains(&other) {
                near[at] = nearest(at, &buckets);
            } else if at < cheapest {
                let extra = buckets[cheapest].extra(&buckets[at], weights);
                near[at] = if extra < near[at].0 { (extra, cheapest) } else { near[at] };
            }
        }
    }
    buckets
}

/// Moves a key to where it costs less, if there is such a bucket.
fn moves(key: &Key, buckets: &mut [Bucket], weights: &Weights) -> bool {
    let Some(from) = buckets.iter().position(|bucket| bucket.keys.contains(key)) else { return false };
    let rest = buckets[from].keys.iter().filter(|other| *other != key).copied().collect();
    let (rest, alone) = (Bucket::of(rest, weights), Bucket::of(vec![*key], weights));
    let costs = (0..buckets.len()).filter(|to| *to != from).map(|to| {
        let more = buckets[to].extra(&alone, weights) + alone.cost;
        (more, to)
    });
    let Some((more, to)) = costs.min_by(|a, b| a.0.total_cmp(&b.0)) else { return false };
    let saved = buckets[from].cost - rest.cost;
    // A difference that is more than rounding.
    let better = more < saved * 0.999;
    if better {
        buckets[from] = rest;
        buckets[to].take(alone, weights);
    }
    better
}

/// Keys, and what they admit together at each place.
#[derive(Default)]
struct Bucket {
    keys: Vec<Key>,
    /// Halves of bytes.
    low: [u16; HEAD],
    high: [u16; HEAD],
    /// The share of places in ordinary text that it admits.
    cost: f32,
}

impl Bucket {
    fn of(keys: Vec<Key>, weights: &Weights) -> Self {
        let mut bucket = Self { keys, ..Self::default() };
        for key in &bucket.keys {
            for at in 0..HEAD {
                let known = at < usize::from(key.length);
                bucket.low[at] |= if known { 1 << (key.bytes[at] & 15) } else { u16::MAX };
                bucket.high[at] |= if known { 1 << (key.bytes[at] >> 4) } else { u16::MAX };
            }
        }
        bucket.cost = if bucket.keys.is_empty() { 0.0 } else { weights.cost(&bucket.low, &bucket.high) };
        bucket
    }

    /// What both as one cost more than each alone.
    fn extra(&self, other: &Self, weights: &Weights) -> f32 {
        let low = std::array::from_fn(|at| self.low[at] | other.low[at]);
        let high = std::array::from_fn(|at| self.high[at] | other.high[at]);
        weights.cost(&low, &high) - self.cost - other.cost
    }

    fn take(&mut self, other: Self, weights: &Weights) {
        let mut keys = std::mem::take(&mut self.keys);
        keys.extend(other.keys);
        *self = Self::of(keys, weights);
    }
}

/// How often each folded byte stands in source code: for each high half, the sums over any of the lower and any of the
/// upper eight low halves.
struct Weights(Vec<[[f32; 256]; 2]>);

impl Weights {
    fn new() -> Self {
        let mut sums = vec![[[0.0; 256]; 2]; 16];
        for byte in 0..=255u8 {
            let share = match byte {
                b' ' => 0.19,
                b'e' | b't' => 0.058,
                b'a' | b'o' | b'i' | b'n' | b's' | b'r' => 0.036,
                b'u' | b'c' | b'l' | b'p' | b'd' => 0.025,
                // The lines of comments, and `_`.
                b'*' | b':' | 0x7f => 0.024,
                b'q' | b'j' | b'z' => 0.0012,
                b'0' | b'=' | b',' | b')' | b'/' | b'"' => 0.01,
                byte if byte.is_ascii_lowercase() => 0.01,
                byte if byte.is_ascii_graphic() && byte == fold(byte) => 0.004,
                _ => 0.0001,
            };
            let sums = &mut sums[usize::from(byte >> 4)][usize::from(byte >> 3 & 1)];
            let any = sums.iter_mut().enumerate().filter(|(set, _)| set >> (byte & 7) & 1 == 1);
            any.for_each(|(_, sum)| *sum += share);
        }
        Self(sums)
    }

    /// The share of places at which bytes of these halves follow each other.
    fn cost(&self, low: &[u16; HEAD], high: &[u16; HEAD]) -> f32 {
        low.iter().zip(high).map(|(low, high)| self.share(*low, *high)).product()
    }

    fn share(&self, low: u16, high: u16) -> f32 {
        let [lower, upper] = low.to_le_bytes().map(usize::from);
        let rows = self.0.iter().enumerate().filter(|(row, _)| high >> row & 1 == 1);
        rows.map(|(_, sums)| sums[0][lower] + sums[1][upper]).sum()
    }
}
