//! How fast the leak detector reads, on one core, against what this machine holds:
//! `cargo run --release -p safety --example leak_speed`. With `DIR...` it reads those folders instead of
//! cargo's registry and `/usr/share`.
//!
//! Four texts: sources and JSON as they are; a log in which every line holds two digests; base64 without
//! line ends; and the first text again in search of a hundred values of a vault. The best of five runs counts.

#![allow(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    reason = "a measuring program for developers"
)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use base64::Engine as _;
use safety::leak_detector::{Fingerprints, KnownValues};
use safety::{Channel, Safety};
use sha2::{Digest as _, Sha256};
use types::SecretName;

/// Bytes of each text.
const SIZE: usize = 32 << 20;
const KEY: [u8; 32] = [7; 32];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut folders: Vec<PathBuf> = std::env::args().skip(1).map(PathBuf::from).collect();
    if folders.is_empty() {
        folders.push(std::env::home_dir().unwrap_or_default().join(".cargo/registry/src"));
        folders.push("/usr/share".into());
    }
    let mut sources = Vec::with_capacity(SIZE);
    for folder in &folders {
        let limit = sources.len() + SIZE / folders.len();
        gather(folder, limit, &mut sources);
    }
    let safety = Safety::new(Default::default())?;
    println!("{:24} {:>8} {:>8}", "", "GB/s", "MB");
    measure("source and JSON", &sources, |text| _ = safety.scan_bytes(text, Channel::Log));
    measure("hex-dense log", &log(), |text| _ = safety.scan_bytes(text, Channel::Log));
    measure("base64", &base64(), |text| _ = safety.scan_bytes(text, Channel::Log));
    for short in [0, 10] {
        let known = vault(short)?;
        let name = format!("100 values, {short} of 12 bytes");
        measure(&name, &sources, |text| assert!(known.find(text).is_empty()));
    }
    Ok(())
}

/// Files that are text and hold code or JSON, in the order of their names.
fn gather(folder: &Path, limit: usize, out: &mut Vec<u8>) {
    const KINDS: [&str; 16] = [
        "rs", "json", "py", "js", "c", "h", "pl", "pm", "sh", "toml", "md", "xml", "html", "txt", "lock",
        "yaml",
    ];
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if out.len() >= limit {
            return;
        }
        if path.is_dir() && !path.is_symlink() {
            gather(&path, limit, out);
        } else if path.extension().and_then(|kind| kind.to_str()).is_some_and(|kind| KINDS.contains(&kind)) {
            let Ok(text) = std::fs::read(&path) else { continue };
            // No one file is to weigh more than the others together.
            let end = text.len().min(256 << 10).min(limit - out.len());
            out.extend_from_slice(&text[..end]);
            out.push(b'\n');
        }
    }
}

fn digest(n: u64) -> String {
    Sha256::digest(n.to_be_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn log() -> Vec<u8> {
    let mut log = String::new();
    for n in 0u64.. {
        if log.len() >= SIZE {
            break;
        }
        let (left, right) = (digest(n), digest(n + 1));
        log +=
            &format!("2026-01-02T03:04:05Z INFO pull layer sha256:{left} parent={} size={n}\n", &right[..40]);
    }
    log.into_bytes()
}

fn base64() -> Vec<u8> {
    let bytes: Vec<u8> = (0..(SIZE / 43) as u64).flat_map(|n| Sha256::digest(n.to_le_bytes())).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes).into_bytes()
}

/// Values of 20 to 59 characters, and `short` of them of 12.
fn vault(short: u64) -> Result<KnownValues, Box<dyn std::error::Error>> {
    let mut known = KnownValues::new(KEY);
    for n in 0..100 {
        let value = base64::engine::general_purpose::STANDARD.encode(digest(n));
        let length = if n < short { 12 } else { 20 + n as usize * 4 / 10 };
        let name = SecretName::parse(&format!("VALUE_{n}"))?;
        known.add(name, Fingerprints::of(&KEY, &value.as_bytes()[..length])?);
    }
    Ok(known)
}

fn measure(name: &str, text: &[u8], mut read: impl FnMut(&[u8])) {
    let mut best = f64::MAX;
    for _ in 0..5 {
        let (started, clock) = (busy(), Instant::now());
        read(text);
        let spent = busy().zip(started).map(|(now, then)| now - then);
        best = best.min(spent.unwrap_or(clock.elapsed().as_secs_f64()));
    }
    println!("{name:24} {:8.3} {:8}", text.len() as f64 / best / 1e9, text.len() >> 20);
}

/// Seconds that this thread was on a processor, where the system says so: other programs then count less.
fn busy() -> Option<f64> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(line.split(' ').next()?.parse::<f64>().ok()? / 1e9)
}
