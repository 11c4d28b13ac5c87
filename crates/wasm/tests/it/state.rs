//! W10, W26, W29: what a hostile call leaves for the next one, and for those beside it.

use std::sync::Arc;

use types::Verdict;

use crate::guest::{committed, tool};
use crate::world::{World, probe, resident};

#[tokio::test]
async fn w10_nothing_is_kept_from_call_to_call() {
    let world = World::new().await;
    let count = r#"
        (i32.store8 (i32.const 500) (i32.add (i32.load8_u (i32.const 500)) (i32.const 1)))
        (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
        (drop (table.grow $table (ref.null func) (i32.const 1)))
        (if (i32.or (i32.ne (global.get $calls) (i32.const 1))
                    (i32.or (i32.ne (i32.load8_u (i32.const 500)) (i32.const 0x31))
                            (i32.ne (table.size $table) (i32.const 2))))
          (then unreachable))
        (call $ok)"#;
    let state =
        r#"(global $calls (mut i32) (i32.const 0)) (table $table 1 funcref) (data (i32.const 500) "0")"#;
    world.install_probe("", &tool("", count, state)).await;
    for _ in 0..50 {
        assert_eq!(world.call("probe", "{}").await.unwrap(), "ok");
    }
}

#[tokio::test]
async fn w26_a_guest_that_traps_in_a_host_call_is_gone_and_the_next_is_fresh() {
    let world = World::new().await;
    let log = r#"(import "ironclaw:tool/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    for arguments in
        ["(i32.const 9) (i32.const 64) (i32.const 2)", "(i32.const 1) (i32.const -8) (i32.const 100)"]
    {
        world.install_probe("", &tool(log, &format!("(call $log {arguments}) (call $ok)"), "")).await;
        assert_eq!(world.stopped().await, "wasm.interface");
        world.install_probe("", &tool(log, "(call $ok)", "")).await;
        assert_eq!(world.call("probe", "{}").await.unwrap(), "ok");
    }
    world.install_probe("", &tool("", "unreachable", "")).await;
    assert!(world.failure("probe", "{}").await.contains("unreachable"));
}

#[tokio::test]
async fn w26_handles_that_do_not_exist_are_refused() {
    let world = World::new().await;
    let imports = r#"(import "wasi:io/poll@0.2.12" "[method]pollable.block" (func $block (param i32)))
        (import "wasi:io/poll@0.2.12" "[resource-drop]pollable" (func $drop (param i32)))"#;
    for body in ["(call $block (i32.const 7)) (call $ok)", "(call $drop (i32.const 3)) (call $ok)"] {
        world.install_probe("", &tool(imports, body, "")).await;
        assert_eq!(world.stopped().await, "wasm.interface");
    }
}

/// The list asks for 1,000 calls of 50 tools over ten minutes; this is the same mix in the seconds that a test has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w29_honest_calls_succeed_beside_hostile_ones() {
    const CALLS: usize = 300;
    let world = World::new().await;
    let named = |name: &str, limits: &str| probe(limits).replace("\"probe\"", &format!("\"{name}\""));
    world.install(&named("honest", ""), &tool("", "(call $ok)", "")).await;
    world.install(&named("loops", "fuel = 2_000_000"), &committed("evil-loop")).await;
    world.install(&named("grows", ""), &committed("evil-memory")).await;
    let warm = world.call("honest", "{}").await.unwrap();
    assert_eq!(warm, "ok");
    let before = resident();
    let world = Arc::new(world);
    let mut calls = tokio::task::JoinSet::new();
    for index in 0..CALLS {
        let world = world.clone();
        calls.spawn(async move {
            let name = ["honest", "honest", "loops", "honest", "honest", "grows"][index % 6];
            (name, world.call(name, "{}").await.is_ok())
        });
    }
    while let Some(ended) = calls.join_next().await {
        let (name, succeeded) = ended.unwrap();
        assert_eq!(succeeded, name == "honest", "{name}");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 160 << 20, "{grown} bytes more are resident after {CALLS} calls");
    let world = Arc::into_inner(world).unwrap();
    let settled = world.settled().await;
    assert_eq!(settled.len(), CALLS + 1);
    assert_eq!(settled.iter().filter(|(verdict, _)| *verdict == Verdict::Block).count(), CALLS / 3);
}
