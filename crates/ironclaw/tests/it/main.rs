//! The binary as people and scripts use it: real processes, a real installation, real TLS.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]

mod attacks;
mod auditing;
#[cfg(target_os = "linux")]
mod building;
mod database;
#[cfg(target_os = "linux")]
mod engine;
mod errors;
#[cfg(target_os = "linux")]
mod exec;
mod hostile;
mod installation;
#[cfg(unix)]
mod interrupted;
#[cfg(target_os = "linux")]
mod joined;
mod oversight;
#[cfg(target_os = "linux")]
mod ports;
mod proxy;
#[cfg(target_os = "linux")]
mod prune;
#[cfg(target_os = "linux")]
mod pulled;
mod question;
#[cfg(target_os = "linux")]
mod registry;
mod scan;
#[cfg(unix)]
mod scanned_folder;
#[cfg(target_os = "linux")]
mod shell;
mod spine;
#[cfg(target_os = "linux")]
mod startup;
#[cfg(target_os = "linux")]
mod tty;
#[cfg(target_os = "linux")]
mod values;
mod vault;
