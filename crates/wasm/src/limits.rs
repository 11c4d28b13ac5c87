//! What one call may use, metered where wasmtime asks.
//!
//! wasmtime's own `StoreLimits` bounds each memory by itself; a component with ten memories would get ten times its
//! grant. [`Meter`] sums over all memories and tables of the call's store, and remembers which limit said no, so that a
//! crash that follows is reported by its cause.

use types::Rule;
use types::limits::ToolLimits;
use wasmtime::ResourceLimiter;

use crate::rules;

/// Core instances of one component: its modules, and the shims between them. Rust and C guests have three, Python
/// guests about twenty.
pub(crate) const MAX_INSTANCES: usize = 32;
/// Memories of one component.
pub(crate) const MAX_MEMORIES: usize = 4;
/// Tables of one component.
pub(crate) const MAX_TABLES: usize = 16;
/// Elements over all tables. A Rust guest has under a hundred, CPython about ten thousand.
pub(crate) const MAX_ELEMENTS: usize = 20_000;
/// Bytes that one host call may copy out of the guest. wasmtime's own default is 128 MiB.
pub(crate) const MAX_HOST_CALL_BYTES: usize = 4 << 20;
/// Handles (streams, requests, fields) that one call may hold open. With [`MAX_FIELDS`] it bounds what a guest can make
/// the host hold beside the guest's own memory: 2 MiB.
pub(crate) const MAX_HANDLES: usize = 256;
/// Bytes of one set of HTTP fields, as held in memory. Servers accept 8 to 16 KiB of headers.
pub(crate) const MAX_FIELDS: usize = 8 << 10;
/// Bytes that the guest moves into a request body at a time.
pub(crate) const MAX_BODY_CHUNK: usize = 64 << 10;
/// Bytes of random numbers that one host call gives.
pub(crate) const MAX_RANDOM: u64 = 4 << 10;

/// Counts what one call uses and refuses what is beyond its limits.
#[derive(Debug)]
pub(crate) struct Meter {
    limits: ToolLimits,
    memory: usize,
    elements: usize,
    host_calls: u32,
    refused: Option<&'static Rule>,
}

impl Meter {
    pub(crate) fn new(limits: ToolLimits) -> Self {
        Self { limits, memory: 0, elements: 0, host_calls: 0, refused: None }
    }

    /// Bytes of linear memory. A memory never shrinks, so this is the peak as well.
    pub(crate) fn memory(&self) -> usize {
        self.memory
    }

    /// Calls into the host so far.
    pub(crate) fn host_calls(&self) -> u32 {
        self.host_calls
    }

    /// The limit that last said no, if one did.
    pub(crate) fn refused(&self) -> Option<&'static Rule> {
        self.refused
    }

    /// Counts a call into the host, before it runs.
    pub(crate) fn count_host_call(&mut self) -> Result<(), wasmtime::Error> {
        self.host_calls += 1;
        if self.host_calls > self.limits.host_calls {
            self.refused = Some(&rules::HOST_CALLS);
            return Err(wasmtime::Error::msg(rules::HOST_CALLS.says));
        }
        Ok(())
    }

    /// Gives back one host call: the host interrupted the guest, not the other way round.
    pub(crate) fn forgive_host_call(&mut self) {
        self.host_calls = self.host_calls.saturating_sub(1);
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total as u64 > self.limits.memory.0 {
            self.refused = Some(&rules::MEMORY);
            return Ok(false);
        }
        self.memory = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.elements.saturating_add(desired.saturating_sub(current));
        if total > MAX_ELEMENTS {
            self.refused = Some(&rules::TABLES);
            return Ok(false);
        }
        self.elements = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}

#[cfg(test)]
mod tests {
    use types::limits::Bytes;

    use super::*;

    #[test]
    fn w03_memories_are_summed() {
        let limits = ToolLimits { memory: Bytes::mib(10), ..ToolLimits::DEFAULT };
        let mut meter = Meter::new(limits);
        assert!(meter.memory_growing(0, 6 << 20, None).unwrap());
        assert!(!meter.memory_growing(0, 6 << 20, None).unwrap(), "a second memory has no grant of its own");
        assert_eq!(meter.refused(), Some(&rules::MEMORY));
        assert!(meter.memory_growing(6 << 20, 10 << 20, None).unwrap());
        assert_eq!(meter.memory(), 10 << 20);
        assert!(!meter.memory_growing(0, usize::MAX, None).unwrap());
    }

    #[test]
    fn w04_tables_are_summed() {
        let mut meter = Meter::new(ToolLimits::DEFAULT);
        for _ in 0..MAX_ELEMENTS {
            assert!(meter.table_growing(0, 1, None).unwrap());
        }
        assert!(!meter.table_growing(0, 1, None).unwrap());
        assert_eq!(meter.refused(), Some(&rules::TABLES));
    }
}
