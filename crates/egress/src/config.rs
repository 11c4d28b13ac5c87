//! What the owner decides about the way out.

use std::net::SocketAddr;
use std::time::Duration;

use types::{HostName, Port};

use crate::address::Class;
use crate::limits;

/// The owner's settings, read once. The default has no exception.
#[derive(Clone, Debug)]
pub struct Config {
    /// Places outside the public internet that may be reached.
    pub exceptions: Vec<Exception>,
    /// Name servers to use instead of the machine's.
    pub name_servers: Vec<SocketAddr>,
    /// How long one address may take to accept a connection and prove who it is.
    pub connect: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { exceptions: Vec::new(), name_servers: Vec::new(), connect: limits::CONNECT_TIME }
    }
}

/// One host and port that may be reached although its address is not public. The name is not
/// resolved: on that port it leads to this address and to no other.
#[derive(Clone, Debug)]
pub struct Exception {
    /// The name that requests use.
    pub host: HostName,
    /// The one port that requests use.
    pub port: Port,
    /// Where it leads: what is dialled.
    pub address: SocketAddr,
    /// The PEM text of the authorities that may vouch for this host, in place of the public ones.
    pub ca: Option<Vec<u8>>,
    /// Whether it holds for programs in containers, too, where the address is not public.
    pub containers: bool,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// An address that no exception may name.
    #[error("the exception for {host} names a {class} address, which is never reachable")]
    Exception {
        /// The host of the exception.
        host: HostName,
        /// What the address is.
        class: Class,
    },
    /// Two exceptions for one place.
    #[error("there are two exceptions for {host}:{port}")]
    Twice {
        /// The host of both.
        host: HostName,
        /// The port of both.
        port: Port,
    },
    /// A `ca` that holds no certificate or a broken one.
    #[error("the certificate authority of the exception for {host} is not a PEM certificate")]
    Authority {
        /// The host of the exception.
        host: HostName,
    },
    /// The resolver does not take the name servers.
    #[error("the name servers cannot be used")]
    Resolver,
    /// The TLS library refuses its own parameters.
    #[error("TLS cannot be set up")]
    Tls,
}
