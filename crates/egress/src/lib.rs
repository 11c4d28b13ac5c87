//! The only door out: parse, resolve, classify, pin, inject, send, scan.
//!
//! Begin with [`Egress::send`] in `send.rs`. It takes a permit for one target and gives back a
//! screened answer; there is no other way from this program to the network that a user, a tool or a
//! model can influence.
//!
//! - [`address`], `resolve`: which addresses may be dialled. Only what was judged is dialled.
//! - `connect`, `tls`: the one site that opens a connection, and who may vouch for whom.
//! - [`headers`]: what a sender has no word in.
//! - `credential_injector`, `wire`: secrets enter at the last moment; the wire alone sees them.
//! - `link`, `pool`: a connection on which HTTP/1.1 or HTTP/2 is spoken, and where it waits.
//! - `receive`: what comes back is scanned before its reader sees it.
//! - `socket`, `metered`: a WebSocket, read message by message both ways, within the room that there is.
//! - `silence`: how long a conversation may say nothing.
//! - `budget`: how many bytes the programs of one run make this one hold.
//! - `token_watch`: tokens that come from another place than the one where they are captured.
//! - `renew`: the vault's own request for a new token, whose answer the vault alone reads.
//! - `account`: trace and audit record of every request, allowed, refused or failed.
//! - [`proxy`]: the same door for programs, as an HTTP proxy that ends their TLS and reads each request.
//! - [`ca`], [`loopback`]: a real upstream for the demo and for tests.

mod account;
pub mod address;
mod budget;
pub mod ca;
mod capture;
pub mod config;
mod connect;
mod credential_injector;
mod cut;
pub mod error;
pub mod headers;
pub mod java;
pub mod limits;
mod link;
pub mod loopback;
mod metered;
mod payload;
mod pool;
pub mod proxy;
mod receive;
mod renew;
mod resolve;
pub mod rules;
mod send;
mod silence;
mod socket;
mod tls;
mod token_watch;
mod wire;

pub use config::{Config, ConfigError, Exception};
pub use error::{Failure, SendError};
pub use headers::Message;
pub use payload::{Payload, Upload};
pub use send::Egress;
pub use tls::Roots;
