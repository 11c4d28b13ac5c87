//! The door as an HTTP proxy, for programs that this one knows nothing of.
//!
//! A client sends `CONNECT` or a request in absolute form (RFC 9112, 3.2). TLS is ended here, with a certificate of an
//! authority that is made for this proxy, lives in memory and is never written; what comes out of it is one request
//! after the other, and each is read ([`request`]), decided by policy and sent through [`Egress::send`]. There is no
//! tunnel whose bytes are passed on unread, so there is nothing to smuggle anything through.
//!
//! One identity counts: the host of `CONNECT` is the server name of the TLS handshake, the `Host` or `:authority` of
//! each request, the host that rules are asked about, the name that is dialled and the name in both certificates. What
//! disagrees is refused with 421.

mod answer;
mod clients;
mod entry;
pub mod identity;
mod leaf;
mod listen;
mod placeholder;
mod request;
mod tunnel;
mod upgrade;
mod upload;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use policy::{Policy, Run};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use types::limits;
use types::{Digest, Endpoint, Scheme, SecretName};

use crate::Egress;
use crate::budget::Budget;
use crate::ca::Authority;
use crate::limits::{RUN_MEMORY, SILENCE};
pub use clients::environment;
use entry::Entry;
use leaf::Leaves;
pub use listen::serve_tcp;
#[cfg(unix)]
pub use listen::{is_abandoned, serve_unix};
use placeholder::Placeholders;
pub use placeholder::{PlaceholderError, token};

/// How long requests may take to end when the proxy does.
const END_TIME: Duration = Duration::from_secs(10);

/// A proxy for one run. Ended or dropped, it ends every connection that it serves.
pub struct Proxy {
    shared: Arc<Shared>,
    /// Connections hold the other end.
    open: watch::Sender<()>,
}

/// What a proxy is made of.
pub struct Parts {
    /// The door.
    pub egress: Arc<Egress>,
    /// Who decides.
    pub policy: Policy,
    /// What the clients may do.
    pub run: Arc<Run>,
    /// Who vouches for hosts toward the clients: this run's alone, and limited to its rules where those stay.
    pub authority: Authority,
    /// Times and counts.
    pub bounds: Bounds,
}

/// What clients may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Connections of known clients at a time, and tunnels; more wait until one ends. Half as many may be of clients that
    /// have not shown who they are.
    pub connections: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of a request may take, and how long a connection may lie idle.
    pub head: Duration,
    /// How long a client may pause within a body.
    pub pause: Duration,
    /// How long a conversation may say nothing: a WebSocket, or an exchange whose request streams.
    pub silence: Duration,
    /// How long one connection may last.
    pub connection: Duration,
    /// Bytes that their requests may make this program hold at a time; who asks for more waits, and is refused then.
    pub memory: limits::Bytes,
}

impl Default for Bounds {
    /// Browsers open about 100 connections, package managers 50; the kernel often allows 1,024 files.
    fn default() -> Self {
        Self {
            connections: 256,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
            pause: Duration::from_secs(60),
            silence: SILENCE,
            connection: Duration::from_secs(2 * 60 * 60),
            memory: RUN_MEMORY,
        }
    }
}

/// How a connection begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Dialled {
    /// The client knows that this is a proxy.
    Proxy(Client),
    /// The client took it for this host: on the scheme's own terms, TLS or clear text. The name is the client's claim,
    /// and is judged as the one in a `CONNECT` is. Its peer was proven by whoever accepted the connection.
    Host(Scheme, Endpoint),
}

/// Whether it is known who speaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Client {
    /// By the credentials of its socket: every request is this run's.
    Proven,
    /// Each request shows the run's token, as `Proxy-Authorization` (RFC 9110, 11.7.2).
    Token(Digest),
}

struct Shared {
    egress: Arc<Egress>,
    policy: Policy,
    run: Arc<Run>,
    leaves: Leaves,
    placeholders: Placeholders,
    bounds: Bounds,
    tunnels: Arc<Semaphore>,
    budget: Budget,
    closed: watch::Receiver<()>,
    /// Whoever is being answered holds the other end.
    answering: watch::Sender<()>,
}

impl Proxy {
    /// Makes a placeholder for each secret of the run. It begins with what `shape` gives for the name, as in `sk-`, for
    /// programs that look at the shape of their keys.
    pub fn new(parts: Parts, shape: impl Fn(&SecretName) -> String) -> Result<Self, PlaceholderError> {
        let (open, closed) = watch::channel(());
        let mark = parts.egress.vault.as_ref().map(|vault| vault.placeholder_mark()).transpose();
        let secrets = parts.run.secrets().iter().map(|name| (name.clone(), shape(name)));
        let placeholders = Placeholders::new(mark.map_err(|_| PlaceholderError::Mark)?, secrets)?;
        let Parts { egress, policy, run, authority, bounds } = parts;
        let (leaves, tunnels) = (Leaves::new(authority), Arc::new(Semaphore::new(bounds.connections)));
        let budget = Budget::of(bounds.memory);
        let answering = watch::Sender::new(());
        let shared =
            Shared { egress, policy, run, leaves, placeholders, bounds, tunnels, budget, closed, answering };
        Ok(Self { shared: Arc::new(shared), open })
    }

    /// The certificate that clients have to trust, as PEM text. Its key stays in memory.
    pub fn ca_pem(&self) -> &str {
        self.shared.leaves.ca_pem()
    }

    /// What stands for each secret in the environment of a client.
    pub fn placeholders(&self) -> impl Iterator<Item = (&SecretName, &str)> {
        self.shared.placeholders.each()
    }

    /// What the clients may do.
    pub fn run(&self) -> &Run {
        &self.shared.run
    }

    /// Ends every connection, and waits until what became of each request is on record.
    pub async fn end(&self) {
        self.open.send_replace(());
        let _ = timeout(END_TIME, self.shared.answering.closed()).await;
    }

    /// Serves one connection to its end.
    pub async fn serve<S>(&self, stream: S, dialled: Dialled)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shared = self.shared.clone();
        match dialled {
            Dialled::Proxy(client) => {
                shared.serve_http(stream, Place::Front(client, Arc::new(Entry::open()))).await;
            }
            Dialled::Host(scheme, endpoint) => {
                // It counts as a tunnel does: it lasts as long.
                let slot = timeout(shared.bounds.handshake, shared.tunnels.clone().acquire_owned()).await;
                let Ok(Ok(_slot)) = slot else { return };
                match scheme {
                    Scheme::Http => shared.serve_http(stream, Place::Inside(scheme, endpoint)).await,
                    Scheme::Https => shared.dialled(stream, endpoint).await,
                }
            }
        }
    }
}

impl Shared {
    /// Has something come to its end, whoever stops waiting for it: the proxy waits when it ends.
    fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        let running = self.answering.subscribe();
        tokio::spawn(async move {
            let done = work.await;
            drop(running);
            done
        })
    }
}

/// Where a request was read.
#[derive(Clone, Debug)]
enum Place {
    /// On the proxy itself, by a client that comes in as soon as it is known.
    Front(Client, Arc<Entry>),
    /// On a connection that the client takes for one to this host.
    Inside(Scheme, Endpoint),
}

/// As refusals are told apart by it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Front(..) => Ok(()),
            Self::Inside(_, endpoint) => write!(f, "CONNECT {endpoint}"),
        }
    }
}

/// Without secrets, of which it holds none.
impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("run", &self.shared.run).finish_non_exhaustive()
    }
}
