//! The only reading of the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970. Rows and records are stamped with it; what orders records is their
/// number, and durations come from `Instant`.
///
/// A clock set before 1970 reads as 0.
pub fn now_ms() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "the one place that stamps records and rows")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
