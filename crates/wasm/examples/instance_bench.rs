//! What a fresh instance and a trivial call cost, beside wasmtime's own floor, measured in the same run:
//!
//!     cargo run --release -p wasm --example instance_bench
//!
//! The floor is what no host can avoid: a store, an instance of a linked component, one call, and dropping them, with
//! wasmtime's pooling allocator and nothing of ours. Ours is [`wasm::Sandbox::call`] from the redeemed permit to the
//! judged result, as its own trace reports it: every limit, clock and interface, the screening of the log. The
//! decision before it and the record after it are synced to disk and measured with those layers.

#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on should say where it stopped")]
#![allow(clippy::disallowed_macros, reason = "a benchmark speaks to the developer")]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit::Audit;
use egress::Egress;
use policy::{Catalog, Decision, Manifest, Policy, Settings, Turn};
use safety::{Channel, Safety, Untrusted};
use store::{Mutation, ToolRow, ToolState};
use types::{Digest, Kind, Layer, Record, Source, Tenant, ToolName, Trace, Verdict};
use wasm::{Cache, Config, Sandbox, compile_in_this_process};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

const SAMPLES: usize = 500;
const MANIFEST: &str =
    "name = \"probe\"\nversion = \"1.0.0\"\ndescription = \"Answers\"\nparameters.type = \"object\"\n";

#[tokio::main]
async fn main() {
    let text = wat::parse_str(TRIVIAL).unwrap();
    let guest = std::fs::read(guests().join("evil-memory/evil-memory.wasm")).unwrap();
    println!("{SAMPLES} samples each, microseconds; resident memory at the start {}", resident());
    for (name, component, call) in [("text guest", text, true), ("Rust guest, instance only", guest, false)] {
        let floor = floor(&component, call).await;
        let ours = ours(&component, call).await;
        let over = |at: usize| ours[at].as_secs_f64() * 1e6 - floor[at].as_secs_f64() * 1e6;
        let (half, most) = (SAMPLES / 2, SAMPLES * 9 / 10);
        println!(
            "{name}: floor {:.1?} median, {:.1?} at 90%; ours {:.1?} and {:.1?}; over the floor {:.1} µs and {:.1} µs",
            floor[half],
            floor[most],
            ours[half],
            ours[most],
            over(half),
            over(most)
        );
    }
}

/// wasmtime alone.
async fn floor(component: &[u8], call: bool) -> Vec<Duration> {
    let mut pool = PoolingAllocationConfig::new();
    pool.linear_memory_keep_resident(64 << 10).table_keep_resident(64 << 10);
    let mut config = wasmtime::Config::new();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    let engine = Engine::new(&config).unwrap();
    let component = Component::new(&engine, component).unwrap();
    let tool = Linker::<()>::new(&engine).instantiate_pre(&component).unwrap();
    let mut samples = Vec::new();
    for _ in 0..SAMPLES {
        let began = Instant::now();
        {
            let mut store = Store::new(&engine, ());
            let instance = tool.instantiate_async(&mut store).await.unwrap();
            let function =
                instance.get_typed_func::<(&str,), (Result<String, String>,)>(&mut store, "call").unwrap();
            if call {
                function.call_async(&mut store, ("{}",)).await.unwrap().0.unwrap();
            }
        }
        samples.push(began.elapsed());
    }
    sorted(samples)
}

/// The sandbox, as it reports itself: the whole call, or its instance alone.
async fn ours(component: &[u8], call: bool) -> Vec<Duration> {
    let folder = tempfile::tempdir().unwrap();
    let (reader, writer) = store::open(&folder.path().join("data").join("bench.db")).await.unwrap();
    let (audit, _drain) = Audit::start(writer);
    let safety = Arc::new(Safety::new(Default::default()).unwrap());
    let catalog = Catalog::new(reader.clone(), safety.clone(), Tenant::local(), Vec::new());
    let policy = Policy::new(audit.clone(), reader, catalog, Settings::default()).unwrap();
    let egress = Arc::new(Egress::new(Default::default(), safety.clone(), None).unwrap());
    let config =
        Config { cache: folder.path().join("cache"), workspaces: folder.path().join("tools"), log: None };
    let sandbox = Sandbox::new(config, egress, policy.clone(), safety.clone()).unwrap();
    println!("  resident memory with a sandbox that idles: {}", resident());

    let manifest = Manifest::pin(MANIFEST, &Digest::of(component)).unwrap();
    let digest = Digest::of(manifest.as_bytes());
    let compiled = compile_in_this_process(component).unwrap();
    let compiled = Some(Cache::open(&folder.path().join("cache")).unwrap().put(&digest, &compiled).unwrap());
    let (tenant, name, state) = (Tenant::local(), ToolName::parse("probe").unwrap(), ToolState::Approved);
    let row = ToolRow { tenant, name: name.clone(), digest, manifest, compiled, state, installed_ms: 0 };
    let record = Record::new(Kind::Tool, Verdict::Done);
    audit.change(record, Mutation::InstallTool { row, expected: None }).await.unwrap();

    let mut samples = Vec::new();
    for _ in 0..=SAMPLES {
        let trace = Trace::collecting();
        let arguments = Untrusted::new(Source::Owner, serde_json::json!({}));
        let arguments = safety.screen_json(arguments, Channel::Arguments, &Trace::off()).unwrap();
        let turn = Turn::begin(trace.clone());
        let Decision::Permit(permit) = policy.decide_call(&turn, &name, arguments).await.unwrap() else {
            panic!("asked");
        };
        // The guest that takes memory is stopped; what its instance cost is in the trace all the same.
        let _ = sandbox.call(permit).await;
        let stage = if call { "fuel" } else { "instance" };
        let steps = trace.steps();
        let step = steps.iter().find(|step| step.layer == Layer::Wasm && step.stage == stage).unwrap();
        samples.push(step.took);
    }
    // The first call loads the tool from disk.
    samples.remove(0);
    sorted(samples)
}

fn sorted(mut samples: Vec<Duration>) -> Vec<Duration> {
    samples.sort_unstable();
    samples
}

fn guests() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests")
}

fn resident() -> String {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().nth(1).unwrap().parse().unwrap();
    format!("{:.1} MiB", pages as f64 * 4096.0 / f64::from(1 << 20))
}

const TRIVIAL: &str = r#"(component
  (core module $tool
    (memory (export "memory") 1)
    (data (i32.const 64) "ok")
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
    (func (export "call") (param i32 i32) (result i32)
      (i32.store8 (i32.const 16) (i32.const 0))
      (i32.store (i32.const 20) (i32.const 64))
      (i32.store (i32.const 24) (i32.const 2))
      (i32.const 16)))
  (core instance $tool (instantiate $tool))
  (func (export "call") (param "arguments" string) (result (result string (error string)))
    (canon lift (core func $tool "call") (memory $tool "memory") (realloc (func $tool "realloc")))))"#;
