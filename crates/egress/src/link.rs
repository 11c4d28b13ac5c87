//! One connection to an upstream, on which HTTP/1.1 or HTTP/2 is spoken, one request after the other.
//!
//! No background task drives a connection: whoever waits for the head or reads the body does. The HTTP/2 library hands
//! the work of a connection to an executor; here that is a [`Crew`], which only collects it, and the link polls
//! what it has collected. So dropping a link closes its socket at once and drops every buffer that held a secret.
//!
//! HTTP/2 could carry many requests at a time on one connection. Here it carries one: then a connection belongs to one
//! exchange, whichever version is spoken, and what is said of one connection holds for one request.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::{Fuse, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use crate::connect::{Connected, Line};
use crate::error::{Failure, UpstreamFault};
use crate::limits;
use crate::payload::Outflow;

type Io = TokioIo<Box<dyn Line>>;

/// A version of HTTP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Version {
    /// RFC 9112.
    Http1,
    /// RFC 9113.
    Http2,
}

/// A connection and the half of it that takes requests.
pub(crate) struct Link {
    speaker: Speaker,
    addr: IpAddr,
    since: Instant,
    used: bool,
}

enum Speaker {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
}

struct Http1 {
    connection: http1::Connection<Io, Outflow>,
    sender: http1::SendRequest<Outflow>,
    ended: bool,
}

struct Http2 {
    connection: Fuse<http2::Connection<Io, Outflow, Crew>>,
    sender: http2::SendRequest<Outflow>,
    crew: Crew,
    work: FuturesUnordered<Work>,
}

impl Link {
    /// Begins to speak on a new connection.
    pub(crate) async fn over(connected: Connected) -> Result<Self, Failure> {
        let Connected { line, addr, version } = connected;
        let io = TokioIo::new(line);
        let speaker = match version {
            Version::Http1 => http1(io).await,
            Version::Http2 => http2(io).await,
        };
        let speaker = speaker.map_err(|error| fault(&error))?;
        Ok(Self { speaker, addr, since: Instant::now(), used: false })
    }

    /// Who is at the other end.
    pub(crate) fn addr(&self) -> IpAddr {
        self.addr
    }

    /// What is spoken.
    pub(crate) fn version(&self) -> Version {
        match &self.speaker {
            Speaker::Http1(_) => Version::Http1,
            Speaker::Http2(_) => Version::Http2,
        }
    }

    /// Whether it had a request before.
    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    /// The same after an exchange that ended as it should.
    pub(crate) fn after_use(self) -> Self {
        Self { used: true, ..self }
    }

    /// True while the last exchange is over on both sides and the peer has neither closed the connection nor said
    /// anything unasked.
    pub(crate) fn waits(&mut self) -> bool {
        let open = self.poll(&mut Context::from_waker(Waker::noop())).is_pending();
        let is_ready = match &self.speaker {
            Speaker::Http1(own) => own.sender.is_ready(),
            // Of the work only the connection's own is left: nothing of a request is still being sent.
            Speaker::Http2(own) => own.sender.is_ready() && own.work.len() == 1,
        };
        open && is_ready && self.since.elapsed() < limits::CONNECTION_AGE
    }

    /// Sends a request that was shaped for this version, and waits for the head of the answer.
    pub(crate) async fn send(
        &mut self,
        request: Request<Outflow>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outflow>>> {
        match &mut self.speaker {
            Speaker::Http1(own) => {
                let answer = own.sender.try_send_request(request);
                self.driven(answer).await
            }
            Speaker::Http2(own) => {
                let answer = own.sender.try_send_request(request);
                self.driven(answer).await
            }
        }
    }

    /// Waits for a future that makes progress only while the connection does.
    async fn driven<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            // How the connection ended is told by the work that waits for it.
            let _ = self.poll(cx);
            work.as_mut().poll(cx)
        })
        .await
    }

    /// The bytes of a connection on which the protocol was changed, and those that came with the head; `None` in HTTP/2,
    /// which does not change.
    pub(crate) async fn into_line(mut self) -> Option<(Box<dyn Line>, Bytes)> {
        poll_fn(|cx| self.poll(cx)).await;
        let Speaker::Http1(own) = self.speaker else { return None };
        let parts = own.connection.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }

    /// Lets the connection make progress; ready when it has ended.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.speaker {
            Speaker::Http1(own) => own.poll(cx),
            Speaker::Http2(own) => own.poll(cx),
        }
    }
}

impl Http1 {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.ended && self.connection.poll_unpin(cx).is_pending() {
            return Poll::Pending;
        }
        self.ended = true;
        Poll::Ready(())
    }
}

impl Http2 {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let ended = self.connection.poll_unpin(cx).map(drop);
            while let Poll::Ready(Some(())) = self.work.poll_next_unpin(cx) {}
            let new = self.crew.take();
            if new.is_empty() {
                return ended;
            }
            self.work.extend(new);
        }
    }
}

async fn http1(io: Io) -> hyper::Result<Speaker> {
    let (sender, connection) = http1::Builder::new()
        .max_headers(limits::MAX_HEADERS)
        .max_buf_size(limits::READ_BUFFER)
        .max_header_size(limits::MAX_RESPONSE_HEAD)
        .handshake(io)
        .await?;
    Ok(Speaker::Http1(Box::new(Http1 { connection, sender, ended: false })))
}

/// Pushes are refused by the library, which also bounds what a peer can make it do: frames that continue a head
/// (CVE-2024-27316), resets (CVE-2023-44487), settings and pings.
async fn http2(io: Io) -> hyper::Result<Speaker> {
    let crew = Crew::default();
    let (sender, connection) = http2::Builder::new(crew.clone())
        .initial_stream_window_size(limits::HTTP2_WINDOW)
        .initial_connection_window_size(limits::HTTP2_WINDOW)
        .max_frame_size(limits::HTTP2_FRAME)
        .max_header_list_size(limits::MAX_RESPONSE_HEAD as u32)
        .max_send_buf_size(limits::READ_BUFFER)
        .handshake(io)
        .await?;
    Ok(Speaker::Http2(Box::new(Http2 {
        connection: connection.fuse(),
        sender,
        crew,
        work: FuturesUnordered::new(),
    })))
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Collects the work of one connection for whoever drives it.
#[derive(Clone, Default)]
struct Crew(Arc<Mutex<Vec<Work>>>);

impl Crew {
    fn take(&self) -> Vec<Work> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Crew {
    fn execute(&self, work: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(work));
    }
}

/// Reads what the HTTP library says about a failed exchange, without its words.
pub(crate) fn fault(error: &hyper::Error) -> Failure {
    Failure::Upstream(if error.is_parse_too_large() {
        UpstreamFault::HeadTooLarge
    } else if error.is_parse() {
        UpstreamFault::Malformed
    } else {
        of_http2(error).filter(|error| error.is_library()).map_or(UpstreamFault::ClosedEarly, judged)
    })
}

/// What the library itself found wrong with the frames of a peer. It says the same of a head that is longer than it
/// was told to take as of one that is broken.
fn judged(error: &h2::Error) -> UpstreamFault {
    match error.reason() {
        Some(h2::Reason::ENHANCE_YOUR_CALM) => UpstreamFault::HeadTooLarge,
        Some(h2::Reason::CANCEL | h2::Reason::NO_ERROR | h2::Reason::INTERNAL_ERROR) | None => {
            UpstreamFault::ClosedEarly
        }
        Some(_) => UpstreamFault::Malformed,
    }
}

/// True where an HTTP/2 peer says that it has done nothing about a request: it refused the stream, or went away before
/// it (RFC 9113, 8.7).
pub(crate) fn is_unprocessed(error: &hyper::Error) -> bool {
    of_http2(error).is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    })
}

fn of_http2(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}
