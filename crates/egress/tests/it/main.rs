//! The way out against real parts: policy, audit log, store, vault and scanners in a temporary folder,
//! name servers that speak DNS and upstreams that speak TLS on 127.0.0.1.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where it stopped")]

/// As in the binary: what is freed is wiped, here also what the tests themselves free.
#[global_allocator]
static WIPING: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);

mod answers;
mod bounds;
mod certificates;
mod echo_server;
mod echoes;
mod http2;
mod kept;
mod listener;
mod memory;
mod name_server;
mod names;
mod proxy;
mod raw;
mod records;
mod renewals;
mod requests;
mod world;
