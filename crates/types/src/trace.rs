//! The life of one request, step by step, for `--trace`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::{Layer, Verdict};

/// One thing one layer did.
#[derive(Clone, Debug)]
pub struct Step {
    /// The layer that acted.
    pub layer: Layer,
    /// What it did, as a fixed word: `sanitizer`, `allowlist`, `instance`.
    pub stage: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// Why, made of fixed words, numbers and parsed names only.
    pub reason: String,
    /// When it began.
    pub began: Instant,
    /// How long it took, with whatever it waited for inside.
    pub took: Duration,
}

/// A list of steps shared by all layers of one turn. Without `--trace` it collects nothing.
#[derive(Clone, Debug, Default)]
pub struct Trace(Option<Arc<Mutex<Vec<Step>>>>);

impl Trace {
    /// A trace that keeps its steps.
    pub fn collecting() -> Self {
        Self(Some(Arc::default()))
    }

    /// A trace that drops its steps.
    pub fn off() -> Self {
        Self(None)
    }

    /// Adds a step that began at `since` and ends now.
    pub fn step(
        &self,
        layer: Layer,
        stage: &'static str,
        verdict: Verdict,
        since: Instant,
        reason: impl FnOnce() -> String,
    ) {
        self.at(layer, stage, verdict, since, since.elapsed(), reason);
    }

    /// Adds a step that ends now and whose duration was measured elsewhere.
    pub fn push(
        &self,
        layer: Layer,
        stage: &'static str,
        verdict: Verdict,
        took: Duration,
        reason: impl FnOnce() -> String,
    ) {
        let now = Instant::now();
        self.at(layer, stage, verdict, now.checked_sub(took).unwrap_or(now), took, reason);
    }

    /// Adds a step whose beginning and duration were measured elsewhere.
    pub fn at(
        &self,
        layer: Layer,
        stage: &'static str,
        verdict: Verdict,
        began: Instant,
        took: Duration,
        reason: impl FnOnce() -> String,
    ) {
        if let Some(steps) = &self.0 {
            let step = Step { layer, stage, verdict, reason: reason(), began, took };
            steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
        }
    }

    /// The steps so far, in the order in which they began: what holds others inside stands before them.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = match &self.0 {
            Some(steps) => steps.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            None => Vec::new(),
        };
        steps.sort_by_key(|step| step.began);
        steps
    }
}
