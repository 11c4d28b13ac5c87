//! The engine: what WebAssembly may do here, how much may run at once, and the clock that interrupts it.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use types::limits::{Bytes, ToolLimits};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::limits::{MAX_ELEMENTS, MAX_INSTANCES, MAX_MEMORIES, MAX_TABLES};

/// Calls that run at the same time; more wait for a slot. Slots reserve addresses, not memory.
pub(crate) const MAX_CONCURRENT: u32 = 64;
/// Bytes of stack for WebAssembly frames.
const MAX_WASM_STACK: usize = 512 << 10;
/// Bytes of stack for one call with the host functions above it.
const STACK: usize = 2 << 20;
/// Memory of an idle slot that stays resident, so that the next instance need not fault it in.
const KEEP_RESIDENT: usize = 64 << 10;
/// Idle slots that stay warm. Each holds at most [`KEEP_RESIDENT`] for its memory.
const WARM_SLOTS: u32 = 8;
/// How often a running guest is interrupted to let others run and its deadline be seen.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Addresses reserved for each memory: the most that a manifest may ask for. With wasmtime's own 4 GiB for each, the
/// slots of one process would take a tebibyte of addresses, which `ulimit -v` and some containers refuse. The price is
/// explicit bounds checks: a loop of nothing but loads and stores, 200 million of them, takes 0.58 s instead of 0.43 s.
const MEMORY_RESERVATION: Bytes = ToolLimits::MAX.memory;
/// Addresses after each memory that are never mapped.
const MEMORY_GUARD: Bytes = Bytes::mib(1);

/// Where the memory of instances comes from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Slots {
    /// From slots whose addresses were reserved when the engine started: about 17 GiB of them.
    Reserved,
    /// Mapped call by call, because this process may not reserve so many addresses. Every limit of a call holds; a
    /// fresh instance takes longer.
    OnDemand,
}

/// The engine that runs tools.
pub(crate) fn running_engine() -> wasmtime::Result<(Engine, Slots)> {
    let mut pooled = config();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    match Engine::new(&pooled) {
        Ok(engine) => Ok((engine, Slots::Reserved)),
        Err(_) => Ok((Engine::new(&config())?, Slots::OnDemand)),
    }
}

/// The engine that only compiles, for [`running_engine`]. It reserves nothing.
pub(crate) fn compiling_engine() -> wasmtime::Result<Engine> {
    Engine::new(&config())
}

/// What every engine has in common: all of them make and accept the same compiled code.
fn config() -> Config {
    let mut config = Config::new();
    config
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_WASM_STACK)
        .async_stack_size(STACK)
        .memory_reservation(MEMORY_RESERVATION.0)
        .memory_guard_size(MEMORY_GUARD.0)
        // Deterministic where it can be.
        .cranelift_nan_canonicalization(true)
        .wasm_relaxed_simd(false)
        // Proposals that no supported toolchain needs. Threads, shared memory, garbage collection, exceptions and
        // asynchronous components are not compiled in at all.
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        // A backtrace is made of names that the guest chose.
        .wasm_backtrace_max_frames(None);
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(MAX_CONCURRENT)
        .total_stacks(MAX_CONCURRENT)
        .total_core_instances(MAX_CONCURRENT * MAX_INSTANCES as u32)
        .total_memories(MAX_CONCURRENT * MAX_MEMORIES as u32)
        .total_tables(MAX_CONCURRENT * MAX_TABLES as u32)
        .max_core_instances_per_component(MAX_INSTANCES as u32)
        .max_memories_per_component(MAX_MEMORIES as u32)
        .max_tables_per_component(MAX_TABLES as u32)
        .max_tables_per_module(MAX_TABLES as u32)
        .table_elements(MAX_ELEMENTS)
        .max_memory_size(ToolLimits::MAX.memory.as_usize())
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT);
    pool
}

/// Advances the engine's epoch while a call runs, and sleeps while none does: an idle program wakes nobody.
#[derive(Debug)]
pub(crate) struct Ticker {
    running: Arc<(Mutex<Running>, Condvar)>,
}

#[derive(Debug, Default)]
struct Running {
    calls: usize,
    over: bool,
}

/// One running call; the ticker goes on while any of these exists.
#[derive(Debug)]
pub(crate) struct Ticking {
    running: Arc<(Mutex<Running>, Condvar)>,
}

impl Ticker {
    /// Starts the thread that ticks.
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let running = Arc::new((Mutex::new(Running::default()), Condvar::new()));
        let (seen, engine) = (running.clone(), engine.weak());
        std::thread::Builder::new().name("wasm-ticker".into()).spawn(move || {
            let (state, changed) = &*seen;
            let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
            while !guard.over {
                if guard.calls == 0 {
                    guard = changed.wait(guard).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                guard = changed.wait_timeout(guard, TICK).unwrap_or_else(PoisonError::into_inner).0;
                match engine.upgrade() {
                    Some(engine) => engine.increment_epoch(),
                    None => break,
                }
            }
        })?;
        Ok(Self { running })
    }

    /// Ticks until the value that comes back is dropped.
    pub(crate) fn during_call(&self) -> Ticking {
        let (state, changed) = &*self.running;
        let mut guard = state.lock().unwrap_or_else(PoisonError::into_inner);
        guard.calls += 1;
        if guard.calls == 1 {
            changed.notify_one();
        }
        Ticking { running: self.running.clone() }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.running.0.lock().unwrap_or_else(PoisonError::into_inner).calls -= 1;
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        let (state, changed) = &*self.running;
        state.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        changed.notify_one();
    }
}
