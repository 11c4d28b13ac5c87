//! HTTP/1.1 over one connection: the only place where an armed request is taken apart.
//!
//! No background task drives a connection: whoever waits for the head or reads the body does, so that dropping
//! either closes the socket at once, and with it go the buffers that held a secret. After an answer that ended as it
//! should, a connection may wait in the pool for the next request of the same kind.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::future::{Fuse, FutureExt};
use http::header::{CONNECTION, HeaderValue};
use http::{Request, StatusCode, Uri, response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use secrets::Armed;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::connect::{Connected, Line};
use crate::error::{Failure, SendError, UpstreamFault};
use crate::limits;
use crate::payload::Outflow;
use crate::pool::Home;

type Driver = Fuse<Connection<TokioIo<Box<dyn Line>>, Outflow>>;

/// A connection on which HTTP/1.1 is spoken, one request after the other.
pub(crate) struct Link {
    connection: Driver,
    sender: SendRequest<Outflow>,
    addr: IpAddr,
    since: Instant,
    used: bool,
}

impl Link {
    /// Begins to speak on a new connection.
    pub(crate) async fn over(connected: Connected) -> Result<Self, Failure> {
        let Connected { line, addr } = connected;
        let (sender, connection) = Builder::new()
            .max_headers(limits::MAX_HEADERS)
            .max_buf_size(limits::READ_BUFFER)
            .max_header_size(limits::MAX_RESPONSE_HEAD)
            .handshake(TokioIo::new(line))
            .await
            .map_err(|error| fault(&error))?;
        Ok(Self { connection: connection.fuse(), sender, addr, since: Instant::now(), used: false })
    }

    /// Who is at the other end.
    pub(crate) fn addr(&self) -> IpAddr {
        self.addr
    }

    /// Whether it had a request before.
    pub(crate) fn is_used(&self) -> bool {
        self.used
    }

    /// True while the last exchange is over on both sides and the peer has neither closed the connection nor said
    /// anything unasked.
    pub(crate) fn waits(&mut self) -> bool {
        let open = self.connection.poll_unpin(&mut Context::from_waker(Waker::noop())).is_pending();
        open && self.sender.is_ready() && self.since.elapsed() < limits::CONNECTION_AGE
    }
}

/// Sends one armed request and waits for the head of its response.
///
/// A connection that waited may be closed by its peer in the very moment in which it is used. A request of which
/// nothing was written, or one that only reads (RFC 9110, 9.2.1), then goes out on a connection that
/// `redial` makes.
pub(crate) async fn exchange(
    mut link: Link,
    home: Option<Home>,
    armed: Armed<Outflow>,
    deadline: Instant,
    redial: impl Future<Output = Result<Link, SendError>>,
) -> Result<(response::Parts, Arriving), SendError> {
    let request = for_the_wire(armed, home.is_some());
    let again = repeatable(&request).filter(|_| link.used);
    let sent = match once(&mut link, request, deadline).await? {
        Ok(response) => Ok(response),
        Err((failure, unsent)) => match unsent.or(again.filter(|_| failure == CLOSED)) {
            Some(request) if link.used => {
                link = timeout_at(deadline, redial).await.map_err(|_| Failure::Timeout)??;
                once(&mut link, request, deadline).await?
            }
            _ => Err((failure, None)),
        },
    };
    let response = sent.map_err(|(failure, _)| failure)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Upstream(UpstreamFault::Switched).into());
    }
    let (parts, body) = response.into_parts();
    let addr = link.addr;
    let open = Open { body, link, home };
    Ok((parts, Arriving { open: Some(open), addr, deadline: Box::pin(sleep_until(deadline)) }))
}

const CLOSED: Failure = Failure::Upstream(UpstreamFault::ClosedEarly);

/// An answer, or why there is none and the request, if nothing of it was written.
type Sent = Result<http::Response<Incoming>, (Failure, Option<Request<Outflow>>)>;

async fn once(link: &mut Link, request: Request<Outflow>, deadline: Instant) -> Result<Sent, Failure> {
    let response = link.sender.try_send_request(request);
    let answer = timeout_at(deadline, driven(&mut link.connection, response)).await;
    Ok(answer
        .map_err(|_| Failure::Timeout)?
        .map_err(|mut error| (fault(error.error()), error.take_message())))
}

/// A copy of a request that may be sent twice.
fn repeatable(request: &Request<Outflow>) -> Option<Request<Outflow>> {
    let body = request.body().again().filter(|_| request.method().is_safe())?;
    let mut copy = Request::new(body);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

/// In origin form and for a connection that ends with it, or `stays`. From here on the request holds its secrets in clear.
#[allow(clippy::disallowed_methods, reason = "the one place that writes armed requests to a connection")]
fn for_the_wire(armed: Armed<Outflow>, stays: bool) -> Request<Outflow> {
    let mut request = armed.disarm_for_the_wire();
    let origin = request.uri().path_and_query().cloned().map(Uri::from).unwrap_or_default();
    *request.uri_mut() = origin;
    if !stays {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    request
}

/// Waits for a future that makes progress only while the connection does.
async fn driven<T>(connection: &mut Driver, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // How the connection ended is told by the work that waits for it.
        let _ = connection.poll_unpin(cx);
        work.as_mut().poll(cx)
    })
    .await
}

/// A response body on its way in, with its connection. Ends with the body, the deadline or a fault; only after the
/// first of these may the connection wait for another request.
pub(crate) struct Arriving {
    open: Option<Open>,
    addr: IpAddr,
    deadline: Pin<Box<Sleep>>,
}

impl Arriving {
    /// Who answers.
    pub(crate) fn addr(&self) -> IpAddr {
        self.addr
    }
}

struct Open {
    body: Incoming,
    link: Link,
    home: Option<Home>,
}

impl Stream for Arriving {
    type Item = Result<Frame<Bytes>, Failure>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(open) = &mut this.open else {
            return Poll::Ready(None);
        };
        let next = if this.deadline.as_mut().poll(cx).is_ready() {
            Some(Err(Failure::Timeout))
        } else {
            let _ = open.link.connection.poll_unpin(cx);
            let frame = ready!(Pin::new(&mut open.body).poll_frame(cx));
            frame.map(|frame| frame.map_err(|error| fault(&error)))
        };
        if !matches!(next, Some(Ok(_)))
            && let Some(Open { link, home, body }) = this.open.take()
            && next.is_none()
            && let Some(home) = home
        {
            drop(body);
            home.keep(Link { used: true, ..link });
        }
        Poll::Ready(next)
    }
}

/// Reads what the HTTP library says about a failed exchange, without its words.
fn fault(error: &hyper::Error) -> Failure {
    Failure::Upstream(if error.is_parse_too_large() {
        UpstreamFault::HeadTooLarge
    } else if error.is_parse() {
        UpstreamFault::Malformed
    } else {
        UpstreamFault::ClosedEarly
    })
}
