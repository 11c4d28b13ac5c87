//! How long a conversation may say nothing: neither side, one way or the other.
//!
//! A connection on which nobody speaks holds what was made for it. Servers and clients that mean to go on say so, with
//! pings or empty messages, within minutes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use types::Refusal;

use crate::rules;

/// When something was last heard, and for how long nothing may be.
#[derive(Debug)]
pub(crate) struct Silence {
    heard: Mutex<Instant>,
    most: Duration,
}

impl Silence {
    /// From now on.
    pub(crate) fn of(most: Duration) -> Arc<Self> {
        Arc::new(Self { heard: Mutex::new(Instant::now()), most })
    }

    /// Something was said.
    pub(crate) fn broken(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Comes about when nothing was said for too long.
    pub(crate) async fn too_long(&self) -> Refusal {
        loop {
            let end = *self.heard.lock().unwrap_or_else(PoisonError::into_inner) + self.most;
            if end <= Instant::now() {
                let detail = format!("nothing was said for {} seconds", self.most.as_secs());
                return Refusal::new(&rules::SILENT, detail);
            }
            sleep_until(end).await;
        }
    }
}
