//! W10, W26, W29: what a hostile call leaves for the next one, and for those beside it.

use std::sync::Arc;

use types::Verdict;
use wasm::{CallError, Slots};

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

/// How a hostile tool of the crowd is made: its limits, its component, and the rule that stops it.
fn hostile() -> [(&'static str, Vec<u8>, &'static str); 6] {
    let log = r#"(import "ironclaw:tool/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#;
    let flood =
        "(loop $again (call $log (i32.const 0) (i32.const 64) (i32.const 2)) (br $again)) unreachable";
    let deeper = "(func $deeper (param i64) (result i64) \
        (i64.add (call $deeper (i64.add (local.get 0) (i64.const 1))) (i64.const 1)))";
    [
        ("fuel = 2_000_000", committed("evil-loop"), "wasm.fuel"),
        ("", committed("evil-memory"), "wasm.memory"),
        ("host_calls = 2000", tool(log, flood, ""), "wasm.host-calls"),
        ("", tool("", "(drop (call $deeper (i64.const 1))) (call $ok)", deeper), "wasm.stack"),
        (
            "output_kib = 1",
            tool("", "(call $return (i32.const 0) (i32.const 0) (i32.const 131072))", ""),
            "wasm.output",
        ),
        (
            "",
            tool(log, "(call $log (i32.const 9) (i32.const 64) (i32.const 2)) (call $ok)", ""),
            "wasm.interface",
        ),
    ]
}

/// The crowd of the list of attacks, in the seconds that a test has instead of ten minutes: 1,000 calls of 50 tools, a
/// third of them hostile, 250 at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn w29_honest_calls_succeed_beside_hostile_ones() {
    const TOOLS: usize = 50;
    const ROUNDS: usize = 4;
    const CALLS: usize = 250;
    let world = World::new().await;
    let hostile = hostile();
    let kind = |index: usize| (index % 3 == 2).then(|| (index / 3) % hostile.len());
    for index in 0..TOOLS {
        let named = |limits: &str| probe(limits).replace("\"probe\"", &format!("\"t{index}\""));
        match kind(index) {
            Some(kind) => world.install(&named(hostile[kind].0), &hostile[kind].1).await,
            None => world.install(&named(""), &tool("", "(call $ok)", "")).await,
        };
    }
    let world = Arc::new(world);
    let mut resident_after = Vec::new();
    for _ in 0..ROUNDS {
        let mut calls = tokio::task::JoinSet::new();
        for index in 0..CALLS {
            let world = world.clone();
            calls.spawn(async move {
                let index = index % TOOLS;
                (index, world.call(&format!("t{index}"), "{}").await)
            });
        }
        while let Some(ended) = calls.join_next().await {
            match ended.unwrap() {
                (index, Ok(text)) => assert_eq!((kind(index), text.as_str()), (None, "ok")),
                (index, Err(CallError::Refused(refusal))) => {
                    let kind = kind(index).unwrap_or_else(|| panic!("an honest call was stopped: {refusal}"));
                    assert_eq!(refusal.rule.id, hostile[kind].2);
                }
                (index, Err(CallError::Failed(_))) => panic!("t{index} failed"),
            }
        }
        resident_after.push(resident());
    }
    let grown = resident_after[ROUNDS - 1].saturating_sub(resident_after[0]);
    assert!(grown < 24 << 20, "resident after each round: {resident_after:?}");
    let settled = Arc::into_inner(world).unwrap().settled().await;
    assert_eq!(settled.len(), ROUNDS * CALLS);
    let blocked =
        settled.iter().filter(|(verdict, rule)| *verdict == Verdict::Block && rule.is_some()).count();
    assert_eq!(blocked, ROUNDS * (0..CALLS).filter(|index| kind(index % TOOLS).is_some()).count());
}

/// Where so few addresses may be reserved that the slots do not fit, tools run all the same and under every limit.
/// These tests of this binary are run once more, in a process that may not.
#[test]
fn a_process_with_few_addresses_runs_tools_too() {
    let again = [
        "state::w10_nothing_is_kept_from_call_to_call",
        "limits::w01_endless_loop_ends_by_fuel",
        "limits::w03_memory_does_not_grow_beyond_its_limit",
        "limits::w03_several_memories_share_one_limit",
        "state::memory_comes_from_slots_where_there_are_addresses_for_them",
    ];
    #[allow(clippy::disallowed_methods, reason = "this test under a limit that a process cannot take back")]
    let output = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 4194304 && exec \"$@\"", "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--test-threads=1"])
        .args(again)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("5 passed"), "{said}");
}

#[tokio::test]
async fn memory_comes_from_slots_where_there_are_addresses_for_them() {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let unlimited =
        limits.lines().any(|line| line.starts_with("Max address space") && line.contains("unlimited"));
    let expected = if unlimited { Slots::Reserved } else { Slots::OnDemand };
    assert_eq!(World::new().await.sandbox.slots(), expected);
}
