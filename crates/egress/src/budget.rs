//! The bytes that the programs of one run make this one hold, all together within one bound.
//!
//! A [`Share`] is room for so many bytes, and belongs to whatever holds them: an exchange, a body that is decoded, a
//! message of a WebSocket, a connection's window. It goes back when that is dropped. Who asks for more than is left waits
//! a while, where it can, and is refused then; who asks when many wait is refused at once, since who waits holds
//! something, too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use types::Refusal;
use types::limits::Bytes;

use crate::rules;

/// Bytes are counted in units of so many.
const UNIT: usize = 4096;

/// Asks that wait at a time. Each holds the head of its request.
const MOST_WAITING: usize = 256;

/// What is left for one run.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    left: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    whole: Bytes,
}

/// Room for some bytes.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    held: OwnedSemaphorePermit,
}

impl Budget {
    /// So much and no more.
    pub(crate) fn of(whole: Bytes) -> Self {
        let (left, waiting) = (whole.as_usize() / UNIT, MOST_WAITING);
        Self { left: Arc::new(Semaphore::new(left)), waiting: Arc::new(Semaphore::new(waiting)), whole }
    }

    /// Room for `bytes`, once there is some.
    pub(crate) async fn share(&self, bytes: usize, patience: Duration) -> Result<Share, Refusal> {
        Ok(Share { budget: self.clone(), held: self.wait(bytes, patience).await? })
    }

    async fn wait(&self, bytes: usize, patience: Duration) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(held) = self.take(bytes) {
            return Ok(held);
        }
        let full = || self.full(bytes);
        // More than there is at all never comes free.
        if bytes as u64 > self.whole.0 {
            return Err(full());
        }
        let _place = self.waiting.try_acquire().map_err(|_| full())?;
        let held = timeout(patience, self.left.clone().acquire_many_owned(units(bytes))).await;
        held.map_err(|_| full())?.map_err(|_| full())
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
        self.left.clone().try_acquire_many_owned(units(bytes)).map_err(|_| self.full(bytes))
    }

    fn full(&self, bytes: usize) -> Refusal {
        let left = Bytes((self.left.available_permits() * UNIT) as u64);
        Refusal::new(
            &rules::MEMORY,
            format!("{} more, {left} of {} are left", Bytes(bytes as u64), self.whole),
        )
    }
}

impl Share {
    /// How many bytes there is room for.
    pub(crate) fn bytes(&self) -> usize {
        self.held.num_permits() * UNIT
    }

    /// Makes room for `bytes` in all, once there is some.
    pub(crate) async fn grow_to(&mut self, bytes: usize, patience: Duration) -> Result<(), Refusal> {
        if let Some(more) = self.lacks(bytes) {
            self.held.merge(self.budget.wait(more, patience).await?);
        }
        Ok(())
    }

    /// The same, at once or not at all.
    pub(crate) fn try_grow_to(&mut self, bytes: usize) -> Result<(), Refusal> {
        if let Some(more) = self.lacks(bytes) {
            self.held.merge(self.budget.take(more)?);
        }
        Ok(())
    }

    /// Gives back what is not needed for `bytes`.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let more = self.held.num_permits().saturating_sub(units(bytes) as usize);
        drop(self.held.split(more));
    }

    fn lacks(&self, bytes: usize) -> Option<usize> {
        bytes.checked_sub(self.bytes()).filter(|more| *more > 0)
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}
