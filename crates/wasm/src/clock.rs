//! The clocks a guest sees: right to the millisecond, and no finer.
//!
//! A fine clock tells a guest what other code leaves behind in caches and branch predictors. No tool needs one.

use std::time::{Duration, Instant, SystemTime};

use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// What both clocks round down to.
const GRAIN: Duration = Duration::from_millis(1);

/// The time of day.
pub(crate) struct CoarseWall;

/// Time since the call began: its first reading tells nothing about the machine.
pub(crate) struct CoarseMonotonic {
    began: Instant,
}

impl CoarseMonotonic {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }
}

impl HostWallClock for CoarseWall {
    fn resolution(&self) -> Duration {
        GRAIN
    }

    #[allow(clippy::disallowed_methods, reason = "a guest may know the time of day; no record depends on it")]
    fn now(&self) -> Duration {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }
}

impl HostMonotonicClock for CoarseMonotonic {
    fn resolution(&self) -> u64 {
        u64::try_from(GRAIN.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        let grains = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        grains.saturating_mul(self.resolution())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w11_clocks_are_coarse() {
        let clock = CoarseMonotonic::new();
        assert_eq!(clock.now() % 1_000_000, 0);
        assert_eq!(CoarseWall.now().subsec_nanos() % 1_000_000, 0);
        let before = clock.now();
        assert!(clock.now() >= before);
    }
}
