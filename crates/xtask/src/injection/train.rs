//! Logistic regression over hashed features, by AdaGrad (Duchi et al., JMLR 2011). Of an attack the window
//! that scores highest is learned from, since nobody said where in a document the attack stands
//! ("multiple-instance learning", Andrews et al., NIPS 2002); of an honest text every window.
//!
//! Everything is in a fixed order from a fixed seed, so equal inputs give equal weights.

use std::collections::HashMap;

/// A text with its features and what is known of it.
#[derive(Clone)]
pub(super) struct Example {
    /// The corpus it is from.
    pub(super) source: String,
    /// What kind of text it is.
    pub(super) kind: String,
    /// True for an attack.
    pub(super) attack: bool,
    /// True when the rules flag it, without any model.
    pub(super) by_rules: bool,
    /// True for an attack inside of a longer honest text.
    pub(super) embedded: bool,
    /// Examples with the same number are never on both sides of a split.
    pub(super) group: u64,
    /// Places of weights, word after word.
    pub(super) slots: Vec<u32>,
    /// For each word the number of places up to its end.
    pub(super) ends: Vec<u32>,
}

/// A trained model: the score of a window is the sum of the weights of its features.
pub(super) struct Model {
    /// One weight a place, in units of which the scanner keeps whole numbers.
    pub(super) weights: Vec<i8>,
    /// What one unit is worth in log odds.
    pub(super) unit: f32,
    /// What is added to every window, in log odds.
    pub(super) bias: f32,
}

const EPOCHS: usize = 12;
/// Epochs before attacks inside of documents are learned from: first the model has to know some.
const ALONE: usize = 3;
const RATE: f32 = 0.08;
const DECAY: f32 = 2e-4;
/// Examples that one source counts as at most, on either side: the model is to know kinds, not sources.
const MOST_OF_A_SOURCE: f32 = 700.0;

/// Trains on the examples that `wanted` chooses.
pub(super) fn train(
    examples: &[Example],
    slots: usize,
    window: usize,
    wanted: impl Fn(&Example) -> bool,
) -> Model {
    let mut order: Vec<&Example> = examples.iter().filter(|example| wanted(example)).collect();
    let mut counts: HashMap<(&str, bool), f32> = HashMap::new();
    for example in &order {
        *counts.entry((example.source.as_str(), example.attack)).or_default() += 1.0;
    }
    let mut learner = Learner { weights: vec![0.0; slots], squares: vec![1e-3; slots], bias: -1.0 };
    let mut random = 0x1234_5678_9abc_def1u64;
    for epoch in 0..EPOCHS {
        for at in (1..order.len()).rev() {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            order.swap(at, (random % (at as u64 + 1)) as usize);
        }
        for example in &order {
            if example.embedded && epoch < ALONE {
                continue;
            }
            let count = counts[&(example.source.as_str(), example.attack)];
            learner.learn(example, window, (MOST_OF_A_SOURCE / count).min(1.0));
        }
    }
    learner.finish()
}

struct Learner {
    weights: Vec<f32>,
    squares: Vec<f32>,
    bias: f32,
}

impl Learner {
    fn learn(&mut self, example: &Example, window: usize, share: f32) {
        let words = example.ends.len();
        let sums = self.sums(example);
        let score = |from: usize| sums[(from + window).min(words)] - sums[from] + self.bias;
        let last = words.saturating_sub(window);
        if example.attack {
            let best = (0..=last).max_by(|a, b| score(*a).total_cmp(&score(*b))).unwrap_or(0);
            let wrong = probability(score(best)) - 1.0;
            self.step(example, best, window, wrong * share);
            return;
        }
        let mut from = 0;
        let due: Vec<(usize, f32)> = std::iter::from_fn(|| {
            let at = from;
            from += window / 2;
            (at == 0 || at < last + window / 2).then(|| (at.min(last), probability(score(at.min(last)))))
        })
        .filter(|(_, wrong)| *wrong > 0.01)
        .collect();
        // A long text is one honest text: its windows share its weight, the worst count in full.
        let most = due.iter().map(|(_, wrong)| *wrong).fold(0.0, f32::max);
        for (at, wrong) in due {
            let weight = if wrong == most { 1.0 } else { 0.3 };
            self.step(example, at, window, wrong * share.max(0.5) * weight);
        }
    }

    /// The scores of all beginnings of a text.
    fn sums(&self, example: &Example) -> Vec<f32> {
        let mut sums = Vec::with_capacity(example.ends.len() + 1);
        let (mut sum, mut from) = (0.0, 0);
        sums.push(0.0);
        for end in &example.ends {
            sum += example.slots[from..*end as usize]
                .iter()
                .map(|slot| self.weights[*slot as usize])
                .sum::<f32>();
            from = *end as usize;
            sums.push(sum);
        }
        sums
    }

    fn step(&mut self, example: &Example, from: usize, window: usize, gradient: f32) {
        let to = (from + window).min(example.ends.len());
        let first = if from == 0 { 0 } else { example.ends[from - 1] as usize };
        let last = if to == 0 { 0 } else { example.ends[to - 1] as usize };
        for slot in &example.slots[first..last] {
            let slot = *slot as usize;
            let due = gradient + DECAY * self.weights[slot];
            self.squares[slot] += due * due;
            self.weights[slot] -= RATE * due / self.squares[slot].sqrt();
        }
        self.bias -= 0.01 * gradient;
    }

    fn finish(self) -> Model {
        let mut sizes: Vec<f32> =
            self.weights.iter().map(|weight| weight.abs()).filter(|size| *size > 0.0).collect();
        sizes.sort_by(f32::total_cmp);
        // One weight in a thousand is cut, so that the rest keep their differences.
        let most = sizes.get(sizes.len() * 999 / 1000).copied().unwrap_or(1.0);
        let unit = most / 127.0;
        let weights =
            self.weights.iter().map(|weight| (weight / unit).round().clamp(-127.0, 127.0) as i8).collect();
        Model { weights, unit, bias: self.bias }
    }
}

fn probability(score: f32) -> f32 {
    1.0 / (1.0 + (-score).exp())
}

impl Model {
    /// The score of a text in units, without the bias: that of its best window, as the scanner computes it.
    pub(super) fn score(&self, example: &Example, window: usize) -> i32 {
        let mut sums = vec![0];
        let (mut sum, mut from) = (0i32, 0);
        for end in &example.ends {
            sum += example.slots[from..*end as usize]
                .iter()
                .map(|slot| i32::from(self.weights[*slot as usize]))
                .sum::<i32>();
            from = *end as usize;
            sums.push(sum);
        }
        (1..sums.len()).map(|end| sums[end] - sums[end.saturating_sub(window)]).max().unwrap_or(0)
    }
}
