//! The binary as people and scripts use it: real processes, a real installation, real TLS.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up should fail loudly")]

mod attacks;
mod auditing;
mod database;
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
mod proxy;
mod question;
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
