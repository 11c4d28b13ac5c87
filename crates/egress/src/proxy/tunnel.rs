//! Tunnels: what a client takes for a connection to its host ends here, and is HTTP or nothing.

use std::io;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Response;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use policy::Asker;
use rustls::server::Acceptor;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use types::{Endpoint, Refusal, Scheme};

use super::answer::{self, Outward};
use super::request::malformed;
use super::{Place, Shared, identity};
use crate::{limits, rules};

/// Requests of one HTTP/2 connection at a time: what browsers and servers settle on.
const MOST_STREAMS: u32 = 100;

/// Bytes of bodies that a client may send ahead of being read: of one stream, and of a connection with all its
/// streams. What lies in them is held in memory.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;

/// A fatal alert `access_denied` (49) in a record of TLS 1.2, as every version reads it before a key is agreed on (RFC
/// 8446, 6.2).
const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

/// Streams that a client may open and reset before it is cut off (CVE-2023-44487).
const MOST_RESETS: usize = 20;

impl Shared {
    /// Speaks HTTP/1.1 with a client.
    pub(super) async fn serve_http<S>(self: Arc<Self>, stream: S, place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (shared, bounds, of) = (self.clone(), self.bounds, place.to_string());
        let service = service_fn(move |request| {
            let (shared, place) = (shared.clone(), place.clone());
            shared.respond(place, request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.head)
            .max_headers(limits::MAX_HEADERS)
            .max_buf_size(limits::READ_BUFFER)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Some(error) = self.to_its_end(connection).await {
            self.note_unread(&error, &of).await;
        }
    }

    /// Speaks HTTP/2 with a client, within the bounds that its known floods ask for (attack T08).
    async fn serve_http2<S>(self: Arc<Self>, stream: S, place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (shared, bounds) = (self.clone(), self.bounds);
        let room = self.budget.share(CONNECTION_WINDOW as usize, bounds.handshake).await;
        let _room = match room {
            Ok(room) => room,
            Err(refusal) => {
                return drop(self.policy.note_refused(&self.run, refusal, "a connection in HTTP/2").await);
            }
        };
        let service = service_fn(move |request| {
            let (shared, place) = (shared.clone(), place.clone());
            shared.respond(place, request)
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .enable_connect_protocol()
            .max_concurrent_streams(MOST_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_pending_accept_reset_streams(MOST_RESETS)
            .max_local_error_reset_streams(MOST_RESETS)
            .max_header_list_size(limits::MAX_REQUEST_HEAD as u32)
            .max_send_buf_size(limits::READ_BUFFER)
            .keep_alive_interval(bounds.head)
            .keep_alive_timeout(bounds.handshake)
            .serve_connection(TokioIo::new(stream), service);
        self.to_its_end(connection).await;
    }

    /// Answers a request in a task of its own. It is told when the client leaves or the proxy ends, and not dropped then: what was
    /// decided and sent is on record with all that is known of it.
    fn respond(
        self: Arc<Self>,
        place: Place,
        request: Request<Incoming>,
    ) -> BoxFuture<'static, io::Result<Response<Outward>>> {
        let mut closed = self.closed.clone();
        let aborted = || io::Error::from(io::ErrorKind::ConnectionAborted);
        let answer = async move {
            // Who leaves before it is let in leaves nothing behind.
            if place.turns_away(request.headers()).await {
                return Ok(self.refuse(Refusal::new(&rules::CLIENT_UNKNOWN, ""), "").await);
            }
            let (_here, asker) = Asker::watched();
            self.see_through(self.clone().answer(place, request, asker)).await.map_err(|_| aborted())
        };
        Box::pin(async move {
            tokio::select! {
                answer = answer => answer,
                _ = closed.changed() => Err(aborted()),
            }
        })
    }

    /// A connection lasts until either side ends it, its time is over, or the proxy is dropped. Gives what broke it.
    async fn to_its_end(
        &self,
        connection: impl Future<Output = Result<(), hyper::Error>>,
    ) -> Option<hyper::Error> {
        let mut closed = self.closed.clone();
        tokio::select! {
            ended = timeout(self.bounds.connection, connection) => ended.ok()?.err(),
            _ = closed.changed() => None,
        }
    }

    /// Records that a client sent what is no request: its connection ended with a bare 400, before there was anything to
    /// decide. What else a client did to its own connection is told to nobody.
    async fn note_unread(&self, error: &hyper::Error, of: &str) {
        let refusal = match error {
            error if error.is_parse_too_large() => Refusal::new(&rules::TOO_LARGE, "the head of a request"),
            error if error.is_parse() => malformed("bytes that are no request of HTTP/1.1; nothing was sent"),
            _ => return,
        };
        drop(self.policy.note_refused(&self.run, refusal, of).await);
    }

    /// Answers `CONNECT`: 200 where some rule names the place, and from then on the client's TLS is ended here.
    pub(super) async fn connect(self: Arc<Self>, request: Request<Incoming>) -> Response<Outward> {
        let endpoint = match identity::of_connect(request.uri(), request.headers()) {
            Ok(endpoint) => endpoint,
            Err(refusal) => {
                return answer::refused(&self.policy.note_refused(&self.run, refusal, "").await, None);
            }
        };
        let asked = format!("CONNECT {endpoint}");
        if let Err(refusal) = self.policy.admit_tunnel(&self.run, Scheme::Https, &endpoint).await {
            return answer::refused(&refusal, Some(&asked));
        }
        let Ok(Ok(slot)) = timeout(self.bounds.handshake, self.tunnels.clone().acquire_owned()).await else {
            let refusal = Refusal::new(&rules::BUSY, format!("{} tunnels are open", self.bounds.connections));
            return answer::refused(
                &self.policy.note_refused(&self.run, refusal, &asked).await,
                Some(&asked),
            );
        };
        tokio::spawn(async move {
            let _slot = slot;
            if let Ok(Ok(stream)) = timeout(self.bounds.handshake, hyper::upgrade::on(request)).await {
                self.intercept(TokioIo::new(stream), endpoint).await;
            }
        });
        answer::empty()
    }

    /// A client that ignores proxies and dialled a name. What it is refused by is on the record; all that TLS lets it be
    /// told is that.
    pub(super) async fn dialled<S>(self: Arc<Self>, stream: S, endpoint: Endpoint)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if self.policy.admit_tunnel(&self.run, Scheme::Https, &endpoint).await.is_ok() {
            return self.intercept(stream, endpoint).await;
        }
        let hello =
            timeout(self.bounds.handshake, LazyConfigAcceptor::new(Acceptor::default(), stream)).await;
        if let Ok(Ok(mut start)) = hello {
            // The client may be gone.
            let _ = start.io.write_all(&ACCESS_DENIED).await;
            let _ = start.io.shutdown().await;
        }
    }

    /// Ends the TLS of a client that takes this connection for one to `endpoint`.
    pub(super) async fn intercept<S>(self: Arc<Self>, stream: S, endpoint: Endpoint)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut closed = self.closed.clone();
        let handshake = timeout(self.bounds.handshake, self.handshake(stream, &endpoint));
        let shaken = tokio::select! {
            shaken = handshake => shaken,
            _ = closed.changed() => return,
        };
        let slow = || Err(Refusal::new(&rules::TOO_SLOW, format!("the handshake for {endpoint}")));
        let stream = match shaken.unwrap_or_else(|_| slow()) {
            Ok(stream) => stream,
            Err(refusal) => {
                let of = format!("CONNECT {endpoint}");
                return drop(self.policy.note_refused(&self.run, refusal, &of).await);
            }
        };
        let is_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        let place = Place::Inside(Scheme::Https, endpoint);
        match is_http2 {
            true => self.serve_http2(stream, place).await,
            false => self.serve_http(stream, place).await,
        }
    }

    async fn handshake<S>(
        &self,
        stream: S,
        endpoint: &Endpoint,
    ) -> Result<tokio_rustls::server::TlsStream<S>, Refusal>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let not_tls = |_| Refusal::new(&rules::NOT_TLS, format!("toward {endpoint}; nothing was sent"));
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await.map_err(not_tls)?;
        if !identity::is_of(start.client_hello().server_name(), &endpoint.host) {
            let detail = format!("the TLS handshake in a tunnel to {endpoint}; nothing was sent");
            return Err(Refusal::new(&rules::NAMES_DISAGREE, detail));
        }
        let leaf = self.leaves.of(&endpoint.host);
        let leaf = leaf.map_err(|_| Refusal::new(&rules::NOT_TLS, "no certificate could be made"))?;
        // A client that does not trust the authority ends the handshake, and one that comes with another protocol.
        start.into_stream(leaf).await.map_err(not_tls)
    }
}
