//! `cargo xtask guests`: are the committed components made from the committed sources?
//!
//! - `check` (fast, in every test run): the digests of each guest's sources, of the recipe below and of its component
//!   are those in `guests/RECORD`.
//! - `build`: fetches a compiler with a WebAssembly standard library from Debian, rebuilds every guest and writes the
//!   components and the record.
//! - `build --verify`: rebuilds and compares byte by byte with what is committed; writes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::ambient::{command, output_of, say};
use crate::workspace_root;

/// The packages that make a compiler for WebAssembly: rustup's target is not on Debian's mirrors, these are.
const PACKAGES: [&str; 5] =
    ["rustc-web", "libstd-rust-web-1.96", "libstd-rust-web-dev", "rust-web-src", "libllvm22"];

/// How a guest is compiled. A change here is a change of every guest's sources.
const FLAGS: [&str; 4] = [
    "-Clinker-flavor=wasm-lld",
    // A small stack makes a fresh instance cheaper.
    "-Clink-arg=-zstack-size=65536",
    // A guest that panics traps; its message would name paths of the machine that built it.
    "-Zunstable-options",
    "-Cpanic=immediate-abort",
];
const ARGUMENTS: [&str; 6] =
    ["build", "--release", "--locked", "-Zbuild-std=std,panic_abort", "--target", "wasm32-unknown-unknown"];

/// Runs `check`, `build` or `build --verify`.
pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let root = workspace_root();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["check"] => check(&root),
        ["build"] => build(&root, false),
        ["build", "--verify"] => build(&root, true),
        _ => bail!("usage: cargo xtask guests check | build [--verify]"),
    }
}

/// What the record says of one guest.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Entry {
    sources: String,
    component: String,
}

/// Compares the tree with its record.
pub fn check(root: &Path) -> anyhow::Result<()> {
    let recorded = read_record(root)?;
    let found = names(root)?
        .into_iter()
        .map(|name| {
            let component =
                fs::read(component_file(root, &name)).with_context(|| format!("{name} has no component"))?;
            let entry = Entry { sources: sources_digest(root, &name)?, component: hex(&component) };
            Ok((name, entry))
        })
        .collect::<anyhow::Result<BTreeMap<_, _>>>()?;
    for (name, entry) in &found {
        let known = recorded.get(name).with_context(|| format!("{name} is not in guests/RECORD"))?;
        ensure!(known.component == entry.component, "{name}.wasm is not the component of the record");
        ensure!(
            known.sources == entry.sources,
            "the sources of {name} changed since its component was built: cargo xtask guests build"
        );
    }
    ensure!(recorded.len() == found.len(), "guests/RECORD names a guest that does not exist");
    say(&format!("{} guests match their sources", found.len()));
    Ok(())
}

fn build(root: &Path, verify: bool) -> anyhow::Result<()> {
    let work = root.join("target/guests");
    let compiler = toolchain(&work)?;
    compile(root, &work, &compiler)?;
    let mut record = BTreeMap::new();
    for name in names(root)? {
        let file = format!("wasm32-unknown-unknown/release/{}.wasm", name.replace('-', "_"));
        let built = fs::read(work.join("out").join(file))?;
        let committed = component_file(root, &name);
        if verify {
            let same = fs::read(&committed).is_ok_and(|bytes| bytes == built);
            ensure!(same, "{name}.wasm is not what its sources build");
        } else {
            fs::write(&committed, &built)?;
        }
        say(&format!("{name}: {} bytes, {}", built.len(), &hex(&built)[..12]));
        record.insert(name.clone(), Entry { sources: sources_digest(root, &name)?, component: hex(&built) });
    }
    if verify { check(root) } else { write_record(root, &record) }
}

/// Fetches and unpacks the compiler, once. Nothing is installed.
fn toolchain(work: &Path) -> anyhow::Result<PathBuf> {
    let (packages, unpacked) = (work.join("packages"), work.join("compiler"));
    if !unpacked.join("usr/bin/rustc").exists() {
        fs::create_dir_all(&packages)?;
        let mut fetch = command("apt-get", &packages);
        fetch.arg("download").args(PACKAGES);
        output_of(fetch)?;
        for package in fs::read_dir(&packages)? {
            let mut unpack = command("dpkg", &packages);
            unpack.arg("-x").arg(package?.path()).arg(&unpacked);
            output_of(unpack)?;
        }
    }
    Ok(unpacked)
}

fn compile(root: &Path, work: &Path, compiler: &Path) -> anyhow::Result<()> {
    let mut sysroot = command("rustc", root);
    sysroot.args(["--print", "sysroot"]);
    let tools = Path::new(output_of(sysroot)?.trim()).join("lib/rustlib/x86_64-unknown-linux-gnu/bin");
    let linker = format!("-Clink-arg=--wasm-ld-path={}", tools.join("gcc-ld/wasm-ld").display());
    let mut cargo = command("cargo", &root.join("guests"));
    cargo
        .args(ARGUMENTS)
        .env("RUSTC", compiler.join("usr/bin/rustc"))
        .env("LD_LIBRARY_PATH", compiler.join("usr/lib/x86_64-linux-gnu"))
        // The standard library is built from source, which only a nightly compiler admits to.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTFLAGS", format!("{} {linker}", FLAGS.join(" ")))
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", tools.join("wasm-component-ld"))
        .env("CARGO_TARGET_DIR", work.join("out"));
    output_of(cargo).map(drop)
}

/// Every folder of `guests/` with a manifest.
fn names(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for found in fs::read_dir(root.join("guests"))? {
        let found = found?;
        if found.path().join("manifest.toml").is_file() {
            names.push(found.file_name().into_string().ok().context("a guest's name is UTF-8")?);
        }
    }
    names.sort();
    Ok(names)
}

fn component_file(root: &Path, name: &str) -> PathBuf {
    root.join("guests").join(name).join(format!("{name}.wasm"))
}

/// One digest over the recipe and everything that a component is made from, each part behind its name and length.
fn sources_digest(root: &Path, name: &str) -> anyhow::Result<String> {
    let guests = root.join("guests");
    let mut files = vec![guests.join("Cargo.toml"), guests.join("Cargo.lock")];
    for folder in [root.join("wit"), guests.join("kit"), guests.join(name)] {
        collect(&folder, &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    let mut part = |name: &str, bytes: &[u8]| {
        for piece in [name.as_bytes(), bytes] {
            hasher.update((piece.len() as u64).to_be_bytes());
            hasher.update(piece);
        }
    };
    part("recipe", [FLAGS.join(" "), ARGUMENTS.join(" "), PACKAGES.join(" ")].join("\n").as_bytes());
    for file in files {
        let relative = file.strip_prefix(root)?.to_str().context("a source's name is UTF-8")?;
        part(relative, &fs::read(&file)?);
    }
    Ok(digits(&hasher.finalize()))
}

/// Adds what the compiler reads: Rust, TOML and WIT. A guest's manifest is no part of its component.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for found in fs::read_dir(folder)? {
        let path = found?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|ending| ["rs", "toml", "wit"].iter().any(|known| ending == *known))
            && path.file_name().is_some_and(|name| name != "manifest.toml")
        {
            files.push(path);
        }
    }
    Ok(())
}

fn read_record(root: &Path) -> anyhow::Result<BTreeMap<String, Entry>> {
    let text = fs::read_to_string(root.join("guests/RECORD")).context("guests/RECORD")?;
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, sources, component] => {
                Ok((name.to_owned(), Entry { sources: sources.to_owned(), component: component.to_owned() }))
            }
            _ => bail!("a line of guests/RECORD is not: name, sources, component"),
        })
        .collect()
}

fn write_record(root: &Path, record: &BTreeMap<String, Entry>) -> anyhow::Result<()> {
    let mut text = String::from(
        "# Written by `cargo xtask guests build`: guest, SHA-256 of its sources and recipe, SHA-256 of its component.\n",
    );
    for (name, entry) in record {
        writeln!(text, "{name} {} {}", entry.sources, entry.component)?;
    }
    fs::write(root.join("guests/RECORD"), text).context("guests/RECORD")
}

fn hex(bytes: &[u8]) -> String {
    digits(&Sha256::digest(bytes))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_components_match_their_sources() {
        check(&workspace_root()).unwrap();
    }

    #[test]
    fn a_changed_source_is_noticed() {
        let root = workspace_root();
        let name = names(&root).unwrap().swap_remove(0);
        let copy = tempfile::tempdir().unwrap();
        copy_tree(&root.join("guests"), &copy.path().join("guests"));
        copy_tree(&root.join("wit"), &copy.path().join("wit"));
        check(copy.path()).unwrap();
        let source = copy.path().join("guests").join(&name).join("src/lib.rs");
        let changed = fs::read_to_string(&source).unwrap() + "\n";
        fs::write(&source, changed).unwrap();
        assert!(check(copy.path()).unwrap_err().to_string().contains("changed"));
        fs::write(component_file(copy.path(), &name), b"other").unwrap();
        assert!(check(copy.path()).unwrap_err().to_string().contains("not the component"));
    }

    fn copy_tree(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for found in fs::read_dir(from).unwrap() {
            let path = found.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            if path.is_dir() {
                copy_tree(&path, &target);
            } else {
                fs::copy(&path, &target).unwrap();
            }
        }
    }
}
