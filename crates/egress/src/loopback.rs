//! A real HTTPS or HTTP server on 127.0.0.1, for the demo and for tests.
//!
//! It listens on a port the kernel chooses, answers through a closure, and keeps what it received:
//! connections, bytes below TLS, and every request as it arrived. So "not one byte reached the
//! upstream" is something a test can ask the upstream. Dropped, it closes everything.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use types::{Host, HostName, Port};

use crate::ca::{Authority, AuthorityError, Identity};
use crate::config::Exception;
use crate::link::Version;
use crate::tls;

/// What a handler answers.
pub type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

type Handler = dyn Fn(Request<Bytes>) -> Reply + Send + Sync;

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    /// Its certificate could not be made or used.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The TLS library refused the certificate.
    #[error("the certificate cannot be used")]
    Tls,
    /// No port could be opened.
    #[error("no port on 127.0.0.1 could be opened")]
    Listen(#[source] io::Error),
}

/// A running server.
#[derive(Debug)]
pub struct Loopback {
    addr: SocketAddr,
    ca: Option<String>,
    seen: Arc<Seen>,
    accepting: AbortHandle,
}

/// What reached a server.
#[derive(Debug, Default)]
struct Seen {
    connections: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    requests: Mutex<Vec<Request<Bytes>>>,
}

impl Loopback {
    /// Serves HTTPS as `host`, with a certificate of an authority made for this server alone.
    pub async fn https(
        host: &Host,
        handler: impl Fn(Request<Bytes>) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, LoopbackError> {
        Self::vouched(host, Version::Http1, Arc::new(handler)).await
    }

    /// The same in HTTP/2 and nothing else.
    pub async fn http2(
        host: &Host,
        handler: impl Fn(Request<Bytes>) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, LoopbackError> {
        Self::vouched(host, Version::Http2, Arc::new(handler)).await
    }

    async fn vouched(host: &Host, version: Version, handler: Arc<Handler>) -> Result<Self, LoopbackError> {
        let authority = Authority::new()?;
        let tls = acceptor(authority.issue(host)?, version)?;
        Self::start(Some(tls), version, Some(authority.pem().to_owned()), handler).await
    }

    /// Serves HTTPS with any certificate: expired, for another name, signed by itself.
    pub async fn https_as(
        identity: Identity,
        handler: impl Fn(Request<Bytes>) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, LoopbackError> {
        let tls = acceptor(identity, Version::Http1)?;
        Self::start(Some(tls), Version::Http1, None, Arc::new(handler)).await
    }

    /// Serves HTTP in clear text.
    pub async fn http(
        handler: impl Fn(Request<Bytes>) -> Reply + Send + Sync + 'static,
    ) -> Result<Self, LoopbackError> {
        Self::start(None, Version::Http1, None, Arc::new(handler)).await
    }

    async fn start(
        tls: Option<TlsAcceptor>,
        version: Version,
        ca: Option<String>,
        handler: Arc<Handler>,
    ) -> Result<Self, LoopbackError> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(LoopbackError::Listen)?;
        let addr = listener.local_addr().map_err(LoopbackError::Listen)?;
        let seen = Arc::new(Seen::default());
        let accepting = tokio::spawn(accept(listener, (tls, version), seen.clone(), handler)).abort_handle();
        Ok(Self { addr, ca, seen, accepting })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The authority that vouches for it, as PEM text; `None` in clear text.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca.as_deref()
    }

    /// The exception that leads requests for `host` and `port` here, from anywhere but a container.
    pub fn exception(&self, host: &HostName, port: Port) -> Exception {
        Exception {
            host: host.clone(),
            port,
            address: self.addr,
            ca: self.ca.clone().map(String::into_bytes),
            containers: false,
        }
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Bytes that arrived on all connections, TLS handshakes included.
    pub fn received(&self) -> u64 {
        self.seen.received.load(Ordering::SeqCst)
    }

    /// Bytes that the kernel took from this server on all connections.
    pub fn sent(&self) -> u64 {
        self.seen.sent.load(Ordering::SeqCst)
    }

    /// Every request that was read to its end, oldest first.
    pub fn requests(&self) -> Vec<Request<Bytes>> {
        self.seen.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A client of one loopback server with nothing between: the floor of a benchmark.
pub struct Bare {
    addr: SocketAddr,
    tls: TlsConnector,
    name: ServerName<'static>,
}

impl Loopback {
    /// A client of this server, which must speak HTTPS as `host`.
    pub fn bare(&self, host: &HostName) -> Result<Bare, LoopbackError> {
        let ca = self.ca.as_deref().ok_or(LoopbackError::Tls)?;
        let roots = tls::authorities(ca.as_bytes()).ok_or(LoopbackError::Tls)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|_| LoopbackError::Tls)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_string()).map_err(|_| LoopbackError::Tls)?;
        Ok(Bare { addr: self.addr, tls: TlsConnector::from(Arc::new(config)), name })
    }
}

impl Bare {
    /// One request on a connection of its own, its answer read to the end.
    #[allow(clippy::disallowed_methods, reason = "connects to a server of this process, on loopback")]
    pub async fn exchange(&self, request: Request<()>) -> io::Result<StatusCode> {
        let stream = TcpStream::connect(self.addr).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(self.name.clone(), stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        let exchange = async {
            let answer = sender.send_request(request.map(|()| Full::<Bytes>::default())).await?;
            let status = answer.status();
            answer.into_body().collect().await?;
            drop(sender);
            Ok::<_, hyper::Error>(status)
        };
        let (status, _) = futures_util::future::join(exchange, connection).await;
        status.map_err(io::Error::other)
    }
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A reply with a body of known length.
pub fn reply(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    let mut response = Response::new(Full::new(body.into()).boxed_unsync());
    *response.status_mut() = status;
    response
}

/// A reply in chunks exactly as given, each sent as one chunk of the chunked coding; trailers come
/// as a last frame.
pub fn reply_in_frames(frames: impl Stream<Item = Frame<Bytes>> + Send + 'static) -> Reply {
    Response::new(StreamBody::new(frames.map(Ok::<_, Infallible>)).boxed_unsync())
}

fn acceptor(identity: Identity, version: Version) -> Result<TlsAcceptor, LoopbackError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(identity.chain, identity.key))
        .map_err(|_| LoopbackError::Tls)?;
    config.alpn_protocols = vec![tls::alpn(version).to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Accepts until it is aborted; its connections end with it.
async fn accept(
    listener: TcpListener,
    (tls, version): (Option<TlsAcceptor>, Version),
    seen: Arc<Seen>,
    handler: Arc<Handler>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        seen.connections.fetch_add(1, Ordering::SeqCst);
        // As every web server does; where it fails, answers are only slower.
        let _ = stream.set_nodelay(true);
        let stream = Counting { stream, seen: seen.clone() };
        let (tls, seen, handler) = (tls.clone(), seen.clone(), handler.clone());
        connections.spawn(async move {
            match tls {
                None => serve(stream, version, seen, handler).await,
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, version, seen, handler).await;
                    }
                }
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    version: Version,
    seen: Arc<Seen>,
    handler: Arc<Handler>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let (seen, handler) = (seen.clone(), handler.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let request = Request::from_parts(parts, body);
            seen.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
            Ok::<_, hyper::Error>(handler(request))
        }
    });
    // A client that goes away is an everyday event for a server, not an error of ours.
    let stream = TokioIo::new(stream);
    let _ = match version {
        Version::Http1 => http1::Builder::new().serve_connection(stream, service).await,
        Version::Http2 => http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await,
    };
}

/// Counts the bytes below TLS.
struct Counting {
    stream: TcpStream,
    seen: Arc<Seen>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.seen.received.fetch_add((buf.filled().len() - before) as u64, Ordering::SeqCst);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counting {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.seen.sent.fetch_add(written as u64, Ordering::SeqCst);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
