//! The one place that opens a connection: to a pinned address, with TLS where the target says so.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use types::{Refusal, Scheme, Target};

use crate::error::{ConnectFault, Failure, SendError};
use crate::link::Version;
use crate::resolve::Pinned;
use crate::rules;
use crate::tls::{self, Offer, Tls};

/// A byte stream to a peer, whatever lies beneath.
pub(crate) trait Line: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Line for T {}

/// A connection whose peer proved to be the target's host, unless the target asks for no proof.
pub(crate) struct Connected {
    /// The bytes.
    pub(crate) line: Box<dyn Line>,
    /// The address that took the connection.
    pub(crate) addr: IpAddr,
    /// What the peer chose to speak.
    pub(crate) version: Version,
}

/// Connects to the first pinned address that answers. `time` is for each address.
pub(crate) async fn connect(
    pinned: &Pinned,
    target: &Target,
    (tls, offer): (&Tls, Offer),
    time: Duration,
) -> Result<Connected, SendError> {
    let mut last = Failure::Connect(ConnectFault::Other);
    for socket in pinned.sockets() {
        match timeout(time, dial(socket)).await {
            Ok(Ok(stream)) => return secure(stream, pinned, target, (tls, offer), time).await,
            Ok(Err(error)) => last = Failure::Connect(fault(&error)),
            Err(_) => last = Failure::Connect(ConnectFault::TimedOut),
        }
    }
    Err(last.into())
}

/// Every connection of the program that a user, a tool or a model can influence begins here.
#[allow(clippy::disallowed_methods, reason = "the one door out: the address was classified and pinned")]
async fn dial(socket: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(socket).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn secure(
    stream: TcpStream,
    pinned: &Pinned,
    target: &Target,
    (tls, offer): (&Tls, Offer),
    time: Duration,
) -> Result<Connected, SendError> {
    let peer = stream.peer_addr().map_err(|error| Failure::Connect(fault(&error)))?;
    let local = stream.local_addr().map_err(|error| Failure::Connect(fault(&error)))?;
    // A public address of this very machine: its own services trust whoever connects from it.
    if !pinned.is_excepted() && local.ip().to_canonical() == peer.ip().to_canonical() {
        return Err(Refusal::new(&rules::SELF, format!("{} is an address of this machine", peer.ip())).into());
    }
    let addr = peer.ip();
    if target.scheme == Scheme::Http {
        return Ok(Connected { line: Box::new(stream), addr, version: Version::Http1 });
    }
    let (config, name) = tls.of(&target.endpoint, offer).map_err(Failure::Tls)?;
    match timeout(time, TlsConnector::from(config).connect(name, stream)).await {
        Ok(Ok(stream)) => {
            let version = tls::version(stream.get_ref().1);
            Ok(Connected { line: Box::new(stream), addr, version })
        }
        Ok(Err(error)) => Err(Failure::Tls(tls::fault(&error)).into()),
        Err(_) => Err(Failure::Connect(ConnectFault::TimedOut).into()),
    }
}

fn fault(error: &io::Error) -> ConnectFault {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectFault::Refused,
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::AddrNotAvailable => ConnectFault::Unreachable,
        io::ErrorKind::TimedOut => ConnectFault::TimedOut,
        _ => ConnectFault::Other,
    }
}
