//! W01 to W09 and W11: what a guest may use.

use std::time::{Duration, Instant};

use types::Verdict;

use crate::guest::{committed, component, tool};
use crate::world::{World, resident};

const LOG: &str = r#"(import "ironclaw:tool/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
const CLOCK: &str = r#"(import "wasi:clocks/monotonic-clock@0.2.12" "now" (func $now (result i64)))"#;

/// A limit so large that another one ends the call.
const MUCH_FUEL: &str = "fuel = 20_000_000_000";

#[tokio::test]
async fn w01_endless_loop_ends_by_fuel() {
    let world = World::new().await;
    world.install_probe("fuel = 10_000_000\ntime_ms = 120_000", &committed("evil-loop")).await;
    let refusal = world.refusal("probe", "{}").await;
    assert_eq!((refusal.rule.id, refusal.detail.as_str()), ("wasm.fuel", "the limit is 10000000 units"));
    assert_eq!(world.settled().await, [(Verdict::Block, Some("wasm.fuel".into()))]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn w01_endless_loop_ends_at_its_deadline() {
    let world = World::new().await;
    world.install_probe(&format!("{MUCH_FUEL}\ntime_ms = 200"), &committed("evil-loop")).await;
    let began = Instant::now();
    assert_eq!(world.stopped().await, "wasm.time");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn w02_w11_a_loop_of_host_calls_ends() {
    let world = World::new().await;
    let spin = "(loop $again (drop (call $now)) (br $again)) unreachable";
    world
        .install_probe(&format!("{MUCH_FUEL}\nhost_calls = 5000\ntime_ms = 60_000"), &tool(CLOCK, spin, ""))
        .await;
    assert_eq!(world.stopped().await, "wasm.host-calls");
    let spin = "(loop $again (call $log (i32.const 0) (i32.const 64) (i32.const 2)) (br $again)) unreachable";
    world
        .install_probe(&format!("{MUCH_FUEL}\nhost_calls = 5000\ntime_ms = 60_000"), &tool(LOG, spin, ""))
        .await;
    assert_eq!(world.stopped().await, "wasm.host-calls");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn computing_for_long_is_not_calling_the_host() {
    let world = World::new().await;
    world
        .install_probe(&format!("{MUCH_FUEL}\nhost_calls = 3\ntime_ms = 500"), &committed("evil-loop"))
        .await;
    assert_eq!(world.stopped().await, "wasm.time", "an interruption is no call of the guest");
}

#[tokio::test]
async fn w03_memory_does_not_grow_beyond_its_limit() {
    let world = World::new().await;
    world.install_probe("", &committed("evil-memory")).await;
    let refusal = world.refusal("probe", "{}").await;
    assert_eq!((refusal.rule.id, refusal.detail.as_str()), ("wasm.memory", "the limit is 10 MiB"));
    let before = resident();
    for _ in 0..20 {
        assert_eq!(world.stopped().await, "wasm.memory");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes more are resident");
}

#[tokio::test]
async fn w03_one_large_step_fails_and_the_guest_may_go_on() {
    let world = World::new().await;
    let grow = "(if (i32.ne (memory.grow (i32.const 16384)) (i32.const -1)) (then unreachable)) (call $ok)";
    world.install_probe("", &tool("", grow, "")).await;
    assert_eq!(world.call("probe", "{}").await.unwrap(), "ok");
}

#[tokio::test]
async fn w03_several_memories_share_one_limit() {
    let world = World::new().await;
    let two = r#"(core module $big (memory (export "memory") 100))
        (core instance (instantiate $big)) (core instance (instantiate $big))"#;
    world.install_probe("", &component(two)).await;
    assert_eq!(world.stopped().await, "wasm.memory");
    world.install_probe("memory_mib = 20", &component(two)).await;
    assert!(world.failure("probe", "{}").await.contains("unreachable"), "within its limit it runs");
}

#[tokio::test]
async fn w04_tables_and_instances_are_bounded() {
    let world = World::new().await;
    let grow = r#"(loop $again
        (br_if $again (i32.ne (table.grow $table (ref.null func) (i32.const 1000)) (i32.const -1))))
        unreachable"#;
    world.install_probe("", &tool("", grow, "(table $table 1 funcref)")).await;
    assert_eq!(world.stopped().await, "wasm.tables");
    let many = "(core instance (instantiate $empty))".repeat(100);
    let many = component(&format!("(core module $empty) {many}"));
    assert_eq!(world.not_admitted(&many).await.0, "wasm.tables");
}

#[tokio::test]
async fn w05_deep_recursion_ends_by_the_stack() {
    let world = World::new().await;
    let deeper = "(func $deeper (param i64 i64) (result i64) \
        (i64.add (call $deeper (local.get 1) (local.get 0)) (i64.const 1)))";
    let call = "(drop (call $deeper (i64.const 1) (i64.const 2))) (call $ok)";
    world.install_probe(MUCH_FUEL, &tool("", call, deeper)).await;
    assert_eq!(world.stopped().await, "wasm.stack");
}

#[tokio::test]
async fn w06_initialisers_are_bounded_too() {
    let world = World::new().await;
    let spin = "(func $spin (loop $again (br $again))) (start $spin)";
    world.install_probe("fuel = 1_000_000", &tool("", "(call $ok)", spin)).await;
    assert_eq!(world.stopped().await, "wasm.fuel");
}

#[tokio::test]
async fn w07_a_result_is_bounded_before_it_is_copied() {
    let world = World::new().await;
    let returns = |at: u32, length: u32| {
        format!(
            "(drop (memory.grow (i32.const 100))) (call $return (i32.const 0) (i32.const {at}) (i32.const {length}))"
        )
    };
    // Beyond its memory, beyond what one host call may copy, and beyond the output limit.
    for (length, rule) in
        [(1 << 30, "wasm.interface"), (6 << 20, "wasm.interface"), (300 << 10, "wasm.output")]
    {
        world.install_probe("", &tool("", &returns(128, length), "")).await;
        assert_eq!(world.stopped().await, rule, "{length} bytes");
    }
    let brackets = "(memory.fill (i32.const 128) (i32.const 0x5b) (i32.const 10000)) \
        (call $return (i32.const 0) (i32.const 128) (i32.const 10000))";
    world.install_probe("", &tool("", brackets, "")).await;
    assert_eq!(world.stopped().await, "wasm.output");
}

#[tokio::test]
async fn w08_what_is_not_text_is_a_clean_error() {
    let world = World::new().await;
    let bad = r#"(data (i32.const 200) "\ff\fe\ed\a0\80")"#;
    let body = "(call $return (i32.const 0) (i32.const 200) (i32.const 5))";
    world.install_probe("", &tool("", body, bad)).await;
    assert_eq!(world.stopped().await, "wasm.interface");
    let nul = r#"(data (i32.const 200) "a\00b")"#;
    let body = "(call $return (i32.const 1) (i32.const 200) (i32.const 3))";
    world.install_probe("", &tool("", body, nul)).await;
    assert!(world.failure("probe", "{}").await.starts_with('a'));
}

#[tokio::test]
async fn w09_a_flood_of_lines_is_bounded_and_counted() {
    let mut world = World::new().await;
    let flood = r#"(local $left i32) (local.set $left (i32.const 9000))
        (loop $again
          (call $log (i32.const 1) (i32.const 300) (i32.const 9))
          (br_if $again (local.tee $left (i32.sub (local.get $left) (i32.const 1)))))
        (call $ok)"#;
    let forged = r#"(data (i32.const 300) "a\0aF\1b[2Jrge")"#;
    world.install_probe("", &tool(LOG, flood, forged)).await;
    assert_eq!(world.call("probe", "{}").await.unwrap(), "ok");
    let mut lines = Vec::new();
    while let Ok(line) = world.logged.try_recv() {
        lines.push(line.text.into_inner());
    }
    assert_eq!(lines.len(), 1000);
    assert!(lines.iter().all(|line| line == "a\\nF\\u{1b}[2Jrg"), "{:?}", lines[0]);
    let entries = world.close().await;
    let told = |entry: &audit::Entry| {
        entry.record.fields().iter().any(|(_, value)| value == "wasm.log: 8000 lines dropped or cut")
    };
    assert!(entries.iter().any(told));
}
