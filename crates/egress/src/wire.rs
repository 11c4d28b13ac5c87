//! One exchange over one connection: the only place where an armed request is taken apart.
//!
//! After an answer that ended as it should, the connection may wait in the pool for the next request of the same kind.

use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, TE, UPGRADE};
use http::{Method, Request, Response, StatusCode, Uri, response};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use secrets::Armed;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use crate::connect::Line;
use crate::error::{Failure, SendError, UpstreamFault};
use crate::limits;
use crate::link::{Link, Version, fault, is_unprocessed};
use crate::payload::Outflow;
use crate::pool::Home;

/// Sends one armed request and waits for the head of its response.
///
/// A connection that waited may be closed by its peer in the very moment in which it is used. A request of which
/// nothing was written or processed (RFC 9113, 8.7), or one that only reads (RFC 9110, 9.2.1), then goes out on a
/// connection that `redial` makes.
pub(crate) async fn exchange(
    mut link: Link,
    home: Option<Home>,
    armed: Armed<Outflow>,
    deadline: Instant,
    redial: impl Future<Output = Result<Link, SendError>>,
) -> Result<(response::Parts, Arriving), SendError> {
    let (head, body) = Head::of(armed, home.is_some());
    let again = body.again();
    let mut sent = once(&mut link, &head, body, deadline).await?;
    if link.is_used()
        && let Err(unsent) = &mut sent
        && let Some(body) = unsent.once_more(again, &head.method)
    {
        link = timeout_at(deadline, redial).await.map_err(|_| Failure::Timeout)??;
        sent = once(&mut link, &head, body, deadline).await?;
    }
    let response = sent.map_err(|unsent| unsent.failure)?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS && !head.headers.contains_key(UPGRADE) {
        return Err(Failure::Upstream(UpstreamFault::Switched).into());
    }
    if response.headers().len() > limits::MAX_HEADERS {
        return Err(Failure::Upstream(UpstreamFault::HeadTooLarge).into());
    }
    let (parts, body) = response.into_parts();
    let addr = link.addr();
    let open = Open { body, link, home };
    Ok((parts, Arriving { open: Some(open), addr, deadline: Box::pin(sleep_until(deadline)) }))
}

/// A request that has no answer.
struct Unsent {
    failure: Failure,
    /// What was to be sent, if nothing at all was written.
    body: Option<Outflow>,
    /// Whether the peer may have begun to carry it out.
    processed: bool,
}

impl Unsent {
    /// The body for another attempt, where that does no harm.
    fn once_more(&mut self, again: Option<Outflow>, method: &Method) -> Option<Outflow> {
        const CLOSED: Failure = Failure::Upstream(UpstreamFault::ClosedEarly);
        let harmless = !self.processed || self.failure == CLOSED && method.is_safe();
        self.body.take().or(again.filter(|_| harmless))
    }
}

async fn once(
    link: &mut Link,
    head: &Head,
    body: Outflow,
    deadline: Instant,
) -> Result<Result<Response<Incoming>, Unsent>, Failure> {
    let request = head.shaped(link.version(), body);
    let answer = timeout_at(deadline, link.send(request)).await.map_err(|_| Failure::Timeout)?;
    Ok(answer.map_err(|mut error| Unsent {
        failure: fault(error.error()),
        processed: !is_unprocessed(error.error()),
        body: error.take_message().map(Request::into_body),
    }))
}

/// The head of a request with its secrets in clear. It lives until the head of the answer is here.
struct Head {
    method: Method,
    /// The absolute form.
    uri: Uri,
    headers: HeaderMap,
    /// Whether its connection may stay for another request.
    stays: bool,
}

impl Head {
    #[allow(clippy::disallowed_methods, reason = "the one place that writes armed requests to a connection")]
    fn of(armed: Armed<Outflow>, stays: bool) -> (Self, Outflow) {
        let (parts, body) = armed.disarm_for_the_wire().into_parts();
        (Self { method: parts.method, uri: parts.uri, headers: parts.headers, stays }, body)
    }

    /// The request as that version of HTTP has it.
    fn shaped(&self, version: Version, body: Outflow) -> Request<Outflow> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.headers_mut() = self.headers.clone();
        match version {
            Version::Http1 => {
                // In origin form (RFC 9112, 3.2.1), and for a connection that ends with it unless it stays.
                *request.uri_mut() = self.uri.path_and_query().cloned().map(Uri::from).unwrap_or_default();
                // Trailers could come; nobody here reads them.
                request.headers_mut().remove(TE);
                if !self.stays {
                    request.headers_mut().entry(CONNECTION).or_insert(HeaderValue::from_static("close"));
                }
            }
            Version::Http2 => {
                // The address says the host, as `:authority` (RFC 9113, 8.3.1).
                *request.uri_mut() = self.uri.clone();
                request.headers_mut().remove(HOST);
            }
        }
        request
    }
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

    /// The connection below, after an answer that changed the protocol.
    pub(crate) async fn into_line(self) -> Result<(Box<dyn Line>, Bytes), Failure> {
        let Self { open, mut deadline, .. } = self;
        let switched = Failure::Upstream(UpstreamFault::Switched);
        let Open { link, body, .. } = open.ok_or(switched)?;
        drop(body);
        tokio::select! {
            line = link.into_line() => line.ok_or(switched),
            () = &mut deadline => Err(Failure::Timeout),
        }
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
            let _ = open.link.poll(cx);
            let frame = ready!(Pin::new(&mut open.body).poll_frame(cx));
            frame.map(|frame| frame.map_err(|error| fault(&error)))
        };
        if !matches!(next, Some(Ok(_)))
            && let Some(Open { link, home, body }) = this.open.take()
            && next.is_none()
            && let Some(home) = home
        {
            drop(body);
            home.keep(link.after_use());
        }
        Poll::Ready(next)
    }
}
