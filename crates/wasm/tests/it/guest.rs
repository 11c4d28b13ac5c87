//! Components written as WebAssembly text.

use std::path::Path;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The two helpers every guest needs: memory for what the host hands in, and a result to hand out.
const RUNTIME: &str = r#"
  (memory (export "memory") 2)
  (global $heap (mut i32) (i32.const 65536))
  (func $allocate (export "cabi_realloc") (param i32 i32 i32) (param $size i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $size)))
    (block $enough (loop $more
      (br_if $enough (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
      (br_if $enough (i32.eq (memory.grow (i32.const 1)) (i32.const -1)))
      (br $more)))
    (local.get $at))
  (func $return (param $error i32) (param $at i32) (param $length i32) (result i32)
    (i32.store8 (i32.const 16) (local.get $error))
    (i32.store (i32.const 20) (local.get $at))
    (i32.store (i32.const 24) (local.get $length))
    (i32.const 16))
  (data (i32.const 64) "ok")
  (func $ok (result i32) (call $return (i32.const 0) (i32.const 64) (i32.const 2)))
"#;

/// A tool whose `call` has this body. `imports` come first, `more` are further fields of the module.
pub(crate) fn tool(imports: &str, body: &str, more: &str) -> Vec<u8> {
    let export =
        format!("(func (export \"call\") (param $arguments i32) (param $length i32) (result i32) {body})");
    in_world("tool", "", &format!("(module {imports} {RUNTIME} {more} {export})"))
}

/// A component that imports what these lines of WIT say, with a `call` that traps.
pub(crate) fn importing(imports: &str, module_imports: &str) -> Vec<u8> {
    let call = "(func (export \"call\") (param i32 i32) (result i32) unreachable)";
    in_other_world(imports, module_imports, call)
}

/// A component of another world than the contract's.
pub(crate) fn in_other_world(imports: &str, module_imports: &str, call: &str) -> Vec<u8> {
    let wit = format!(
        "package evil:corp; interface backdoor {{ open: func(); }} \
         world evil {{ {imports} export call: func(arguments: string) -> result<string, string>; }}"
    );
    in_world("evil:corp/evil", &wit, &format!("(module {module_imports} {RUNTIME} {call})"))
}

fn in_world(world: &str, wit: &str, module: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let contract = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../wit");
    let (mut package, _) = resolve.push_dir(&contract).unwrap();
    if !wit.is_empty() {
        package = resolve.push_str("evil.wit", wit).unwrap();
    }
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    let mut module = wat::parse_str(module).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().module(&module).unwrap().validate(true).encode().unwrap()
}

/// A component in text, with a `call` that traps beside whatever else it holds.
pub(crate) fn component(more: &str) -> Vec<u8> {
    wat::parse_str(format!(
        r#"(component {more}
          (core module $tool
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
            (func (export "call") (param i32 i32) (result i32) unreachable))
          (core instance $tool (instantiate $tool))
          (func (export "call") (param "arguments" string) (result (result string (error string)))
            (canon lift (core func $tool "call") (memory $tool "memory") (realloc (func $tool "realloc")))))"#
    ))
    .unwrap()
}

/// A committed guest.
pub(crate) fn committed(name: &str) -> Vec<u8> {
    let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests");
    std::fs::read(guests.join(name).join(format!("{name}.wasm"))).unwrap()
}
