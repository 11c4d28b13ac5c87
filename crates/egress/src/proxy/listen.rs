//! Listeners: who may speak to a proxy, and how many at a time.

use std::io;
#[cfg(unix)]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;
use types::Digest;

use super::entry::{Entry, Strangers};
use super::{Client, Dialled, Place, Proxy};

/// How long to wait when the kernel has no file left for a connection.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves clients that show a token, until the listener fails. Anyone on this machine, and a web page in its owner's
/// browser, can open a connection to a port on loopback (attack M06): until a client has shown the token it has a place
/// among strangers, which they cannot keep from others, and a short time.
pub async fn serve_tcp(proxy: Arc<Proxy>, listener: &TcpListener, token: Digest) -> io::Error {
    let bounds = proxy.shared.bounds;
    let slots = Arc::new(Semaphore::new(bounds.connections));
    let (mut strangers, mut connections) = (Strangers::of(bounds.connections.div_ceil(2)), JoinSet::new());
    loop {
        // What is not accepted waits with the kernel, which holds little for it.
        let place = strangers.place().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if is_passing(&error) => {
                sleep(PAUSE).await;
                continue;
            }
            Err(error) => return error,
        };
        let _ = stream.set_nodelay(true);
        let (place, entry) = (strangers.came(place), Arc::new(Entry::to(slots.clone())));
        let front = Place::Front(Client::Token(token), entry.clone());
        let serving = proxy.shared.clone().serve_http(stream, front);
        connections.spawn(async move { place.serve(&entry, bounds.handshake, serving).await });
        while connections.try_join_next().is_some() {}
    }
}

/// Serves clients whose socket says that they run as `user`, until the listener fails.
#[cfg(unix)]
pub async fn serve_unix(proxy: Arc<Proxy>, listener: &UnixListener, user: u32) -> io::Error {
    let slots = Arc::new(Semaphore::new(proxy.shared.bounds.connections));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return io::ErrorKind::Other.into() };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if is_passing(&error) => {
                sleep(PAUSE).await;
                continue;
            }
            Err(error) => return error,
        };
        if !stream.peer_cred().is_ok_and(|peer| peer.uid() == user) {
            continue;
        }
        let proxy = proxy.clone();
        connections.spawn(async move {
            proxy.serve(stream, Dialled::Proxy(Client::Proven)).await;
            drop(slot);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// True for a socket of that user's on which nobody listens any more: its process was killed.
#[cfg(unix)]
pub fn is_abandoned(path: &Path, user: u32) -> bool {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let is_own = |file: std::fs::Metadata| file.file_type().is_socket() && file.uid() == user;
    #[allow(clippy::disallowed_methods, reason = "asks a socket of this user's whether somebody listens")]
    let dialled = || std::os::unix::net::UnixStream::connect(path);
    std::fs::symlink_metadata(path).is_ok_and(is_own)
        && matches!(dialled(), Err(error) if error.kind() == io::ErrorKind::ConnectionRefused)
}

/// True for a client that went away before it was accepted, and where the process or the machine has as many files open
/// as it may: ENFILE and EMFILE (accept(2)).
fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
        || matches!(error.raw_os_error(), Some(23 | 24))
}
