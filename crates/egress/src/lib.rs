//! The only door out: parse, resolve, classify, pin, inject, send, scan.

pub mod address;
pub mod ca;
pub mod config;
mod connect;
pub mod error;
pub mod headers;
pub mod limits;
pub mod loopback;
mod resolve;
pub mod rules;
mod tls;

pub use config::{Config, ConfigError, Exception};
pub use error::{Failure, SendError};
pub use headers::Message;
pub use tls::Roots;
