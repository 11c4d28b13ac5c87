//! HTTP/1.1 over one connection: the only place where an armed request is taken apart.
//!
//! Every request has a connection of its own, which ends with its response. No background task holds
//! it: the connection is driven by whoever waits for the head or reads the body, so that dropping
//! either closes the socket at once, and with it go the buffers that held a secret.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

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

use crate::connect::Line;
use crate::error::{Failure, UpstreamFault};
use crate::limits;
use crate::payload::Outflow;

type Driver = Fuse<Connection<TokioIo<Box<dyn Line>>, Outflow>>;

/// Sends one armed request and waits for the head of its response.
pub(crate) async fn exchange(
    line: Box<dyn Line>,
    armed: Armed<Outflow>,
    deadline: Instant,
) -> Result<(response::Parts, Arriving), Failure> {
    let (mut sender, connection) = Builder::new()
        .max_headers(limits::MAX_HEADERS)
        .max_buf_size(limits::READ_BUFFER)
        .max_header_size(limits::MAX_RESPONSE_HEAD)
        .handshake(TokioIo::new(line))
        .await
        .map_err(|error| fault(&error))?;
    let mut connection = connection.fuse();
    let response = sender.send_request(for_the_wire(armed));
    let head = timeout_at(deadline, driven(&mut connection, response)).await;
    let response = head.map_err(|_| Failure::Timeout)?.map_err(|error| fault(&error))?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Upstream(UpstreamFault::Switched));
    }
    let (parts, body) = response.into_parts();
    let open = Open { body, connection, _sender: sender };
    Ok((parts, Arriving { open: Some(open), deadline: Box::pin(sleep_until(deadline)) }))
}

/// In origin form and for this connection alone. From here on the request holds its secrets in clear.
#[allow(clippy::disallowed_methods, reason = "the one place that writes armed requests to a connection")]
fn for_the_wire(armed: Armed<Outflow>) -> Request<Outflow> {
    let mut request = armed.disarm_for_the_wire();
    let origin = request.uri().path_and_query().cloned().map(Uri::from).unwrap_or_default();
    *request.uri_mut() = origin;
    request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
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

/// A response body on its way in, with its connection. Ends with the body, the deadline or a fault,
/// and closes the connection as it ends.
pub(crate) struct Arriving {
    open: Option<Open>,
    deadline: Pin<Box<Sleep>>,
}

struct Open {
    body: Incoming,
    connection: Driver,
    /// A connection without its handle takes itself for finished.
    _sender: SendRequest<Outflow>,
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
            let _ = open.connection.poll_unpin(cx);
            let frame = ready!(Pin::new(&mut open.body).poll_frame(cx));
            frame.map(|frame| frame.map_err(|error| fault(&error)))
        };
        if !matches!(next, Some(Ok(_))) {
            this.open = None;
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
