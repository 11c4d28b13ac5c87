//! W12 to W14 and W27: what may be installed, and what of it is loaded.

use std::time::Duration;

use types::limits::Bytes;
use wasm::{Budget, CompileError, InstallError, Installer};

use crate::guest::{committed, component, importing, tool};
use crate::world::{World, compiler, probe};

#[tokio::test]
async fn w12_unlisted_imports_are_refused_by_name() {
    let world = World::new().await;
    for (wit, module, name) in [
        ("import backdoor;", r#"(import "evil:corp/backdoor" "open" (func))"#, "evil:corp/backdoor"),
        (
            "import wasi:sockets/instance-network@0.2.12;",
            r#"(import "wasi:sockets/instance-network@0.2.12" "instance-network" (func (result i32)))"#,
            "wasi:sockets/instance-network@0.2.12",
        ),
        (
            "import wasi:filesystem/types@0.2.12;",
            r#"(import "wasi:filesystem/types@0.2.12" "[method]descriptor.unlink-file-at" (func (param i32 i32 i32 i32)))"#,
            "wasi:filesystem/types@0.2.12 [method]descriptor.unlink-file-at",
        ),
        (
            "import wasi:http/incoming-handler@0.2.12;",
            r#"(import "wasi:http/incoming-handler@0.2.12" "handle" (func (param i32 i32)))"#,
            "wasi:http/incoming-handler@0.2.12",
        ),
    ] {
        let (rule, detail) = world.not_admitted(&importing(wit, module)).await;
        assert_eq!(rule, "wasm.import");
        assert!(detail.contains(name), "{detail}");
    }
}

#[tokio::test]
async fn w12_what_toolchains_always_import_is_empty() {
    let world = World::new().await;
    // `get-environment` and `get-directories` write the list at the given place: its length must be zero.
    let imports = r#"
        (import "wasi:cli/environment@0.2.12" "get-environment" (func $environment (param i32)))
        (import "wasi:cli/environment@0.2.12" "get-arguments" (func $arguments (param i32)))
        (import "wasi:filesystem/preopens@0.2.12" "get-directories" (func $folders (param i32)))"#;
    let wit = "import wasi:cli/environment@0.2.12; import wasi:filesystem/preopens@0.2.12;";
    let call = r#"(func (export "call") (param i32 i32) (result i32)
        (call $environment (i32.const 400)) (call $arguments (i32.const 408)) (call $folders (i32.const 416))
        (if (i32.or (i32.load (i32.const 404)) (i32.or (i32.load (i32.const 412)) (i32.load (i32.const 420))))
          (then unreachable))
        (call $ok))"#;
    world.install_probe("", &crate::guest::in_other_world(wit, imports, call)).await;
    assert_eq!(world.call("probe", "{}").await.unwrap(), "ok");
}

#[tokio::test]
async fn w13_proposals_that_are_off_are_refused() {
    let world = World::new().await;
    for module in [
        "(memory 1 2 shared)",
        "(memory i64 1)",
        "(memory 1) (memory 1)",
        "(func (param i32) (return_call 0 (local.get 0)))",
        "(type (struct (field i32)))",
        "(tag)",
    ] {
        let (rule, _) = world.not_admitted(&component(&format!("(core module {module})"))).await;
        assert_eq!(rule, "wasm.malformed", "{module}");
    }
}

#[tokio::test]
async fn w14_malformed_components_are_refused() {
    let world = World::new().await;
    let good = committed("weather");
    let nested = "(component ".repeat(200) + &")".repeat(200);
    for (what, bytes) in [
        ("nothing", Vec::new()),
        ("noise", vec![0x5a; 10_000]),
        ("a core module", wat::parse_str("(module)").unwrap()),
        ("cut short", good[..good.len() / 2].to_vec()),
        ("deeply nested", wat::parse_str(nested).unwrap_or_default()),
        ("machine code", wasm::compile_in_this_process(&good).unwrap()),
    ] {
        assert_eq!(world.not_admitted(&bytes).await.0, "wasm.malformed", "{what}");
    }
    let flipped: Vec<Vec<u8>> = (0..8)
        .map(|at| {
            let mut bytes = good.clone();
            bytes[100 + at * 997] ^= 0x55;
            bytes
        })
        .collect();
    for bytes in flipped {
        // A changed constant may leave a valid component; anything else is a clean refusal.
        match Installer::new(world.folder.path(), compiler(Budget::default())).unwrap().admit(&bytes).await {
            Ok(_) | Err(InstallError::Refused { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn w14_a_component_without_the_function_is_refused() {
    let world = World::new().await;
    assert_eq!(world.not_admitted(&wat::parse_str("(component)").unwrap()).await.0, "wasm.export");
}

#[tokio::test]
async fn w14_a_compile_bomb_ends_with_its_budget() {
    let bomb = "(local.set $length (i32.mul (local.get $length) (i32.const 3)))".repeat(60_000);
    let bomb = tool("", &format!("{bomb} (call $ok)"), "");
    let late = Budget { time: Duration::from_millis(150), ..Budget::default() };
    assert!(matches!(compiler(late).compile(&bomb).await, Err(CompileError::Budget)));
    let small = Budget { memory: Bytes::mib(96), ..Budget::default() };
    assert!(matches!(compiler(small).compile(&bomb).await, Err(CompileError::Budget)));
    let huge = vec![0; types::limits::MAX_COMPONENT.as_usize() + 1];
    assert!(matches!(compiler(Budget::default()).compile(&huge).await, Err(CompileError::TooLarge)));
}

#[tokio::test]
async fn w27_a_compiled_component_that_was_changed_is_not_loaded() {
    let world = World::new().await;
    let digest = world.install(&probe(""), &tool("", "(call $ok)", "")).await;
    let cache = world.folder.path().join("cache");
    let file = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    assert!(file.file_name().unwrap().to_str().unwrap().starts_with(&digest.to_string()));
    let mut compiled = std::fs::read(&file).unwrap();
    *compiled.last_mut().unwrap() ^= 1;
    std::fs::write(&file, compiled).unwrap();
    assert_eq!(world.stopped().await, "wasm.compiled");
    std::fs::remove_file(&file).unwrap();
    assert_eq!(world.stopped().await, "wasm.compiled");
}
