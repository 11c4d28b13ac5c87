//! `wasi:http`, every request of which ends in egress.
//!
//! The guest's request is read into a [`Target`], decided by policy, sent by egress, and answered with a body that is
//! scanned while it streams. There is no other way out of a guest. What was refused is told to the guest as an ordinary
//! error with one plain sentence, and remembered: a call whose request was refused ends as that refusal, whatever the
//! guest answers. A leak ends the call at once.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use egress::{Egress, Message, SendError};
use futures_util::StreamExt as _;
use http::HeaderName;
use http::header;
use http_body::Frame;
use http_body_util::{BodyExt as _, Limited, StreamBody};
use policy::{Policy, Scope};
use safety::{Blocked, BodyFault, ScreenedBody, credential_detect};
use tokio::sync::{Notify, Semaphore};
use types::limits::MAX_REQUEST_BODY;
use types::{Layer, Refusal, Target};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, WasiBody, WasiHttpHooks,
};

use crate::limits::MAX_BODY_CHUNK;
use crate::rules;

/// Requests of one call that are on their way at the same time; more wait. Each may hold a body of
/// [`MAX_REQUEST_BODY`] in memory.
const MAX_IN_FLIGHT: usize = 4;

/// Headers that a guest may not set and does not see, besides wasi-http's own list: who the sender is, and how the
/// message is framed. Egress refuses more of them by name.
const NOT_THE_GUESTS: [HeaderName; 6] =
    [header::AUTHORIZATION, header::COOKIE, header::SET_COOKIE, header::TE, header::TRAILER, header::EXPECT];

/// The guest's side of the door to the network.
pub(crate) struct Door {
    policy: Policy,
    egress: Arc<Egress>,
    scope: Scope,
    in_flight: Arc<Semaphore>,
    outcome: Outcome,
}

/// What was refused to a guest while it ran. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome(Arc<State>);

#[derive(Debug, Default)]
struct State {
    refused: Mutex<Option<Refusal>>,
    over: Notify,
}

impl Outcome {
    /// Keeps the first refusal. One by the leak detector ends the call.
    pub(crate) fn refuse(&self, refusal: &Refusal) {
        let leak = refusal.rule.layer == Layer::Leaks;
        let mut kept = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_none() || leak {
            *kept = Some(refusal.clone());
        }
        drop(kept);
        if leak {
            self.0.over.notify_one();
        }
    }

    /// The refusal that the call ends as, if it does.
    pub(crate) fn take(&self) -> Option<Refusal> {
        self.0.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Waits until the call must end at once.
    pub(crate) async fn over(&self) {
        self.0.over.notified().await;
    }
}

impl Door {
    pub(crate) fn new(policy: Policy, egress: Arc<Egress>, scope: Scope, outcome: Outcome) -> Self {
        Self { policy, egress, scope, in_flight: Arc::new(Semaphore::new(MAX_IN_FLIGHT)), outcome }
    }
}

impl WasiHttpHooks for Door {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name| DEFAULT_FORBIDDEN_HEADERS.contains(name) || NOT_THE_GUESTS.contains(name))
    }

    /// Egress writes the one `Host` that belongs to the permitted target.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        MAX_BODY_CHUNK
    }

    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _done: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Answer, Error>> + Send> {
        let exchange = Exchange {
            policy: self.policy.clone(),
            egress: self.egress.clone(),
            scope: self.scope.clone(),
            in_flight: self.in_flight.clone(),
            outcome: self.outcome.clone(),
        };
        Box::new(exchange.run(request))
    }
}

/// A response, and the end of its connection, which egress looks after itself.
type Answer = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// One request on its way.
struct Exchange {
    policy: Policy,
    egress: Arc<Egress>,
    scope: Scope,
    in_flight: Arc<Semaphore>,
    outcome: Outcome,
}

impl Exchange {
    async fn run(self, request: http::Request<WasiBody>) -> Result<Answer, Error> {
        let _slot = self.in_flight.acquire().await.map_err(|_| Error::ConnectionLimitReached)?;
        match self.answer(request).await {
            Ok(response) => Ok((response, Box::new(async { Ok(()) }))),
            Err(SendError::Failed(failure)) => Err(Error::InternalError(Some(failure.to_string()))),
            Err(SendError::Refused(refusal)) => {
                self.outcome.refuse(&refusal);
                Err(Error::InternalError(Some(refusal.for_sandbox())))
            }
        }
    }

    /// Parse, decide, send. The permit is minted before a byte of the body is taken from the guest.
    async fn answer(&self, request: http::Request<WasiBody>) -> Result<http::Response<WasiBody>, SendError> {
        let (head, body) = request.into_parts();
        let target = Target::from_parts(head.method, &head.uri)
            .map_err(|error| Refusal::new(&rules::REQUEST, error.to_string()))?;
        let brought = credential_detect::carried(&head.headers, target.query());
        let permit = self.policy.decide_request(&self.scope, target, &brought).await?;
        let body = Limited::new(body, MAX_REQUEST_BODY.as_usize());
        let body = body
            .collect()
            .await
            .map_err(|_| {
                Refusal::new(&rules::REQUEST, format!("a body cut short or over {MAX_REQUEST_BODY}"))
            })?
            .to_bytes();
        let media = head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let brought = credential_detect::carried_in_body(media, &body);
        let permit = self.policy.admit_body(&self.scope, permit, &brought).await?;
        let message = Message { headers: head.headers, body: body.into() };
        let response = self.egress.send(permit, message, self.scope.trace()).await?;
        let outcome = self.outcome.clone();
        Ok(response.map(|body| for_guest(body, outcome)))
    }
}

/// The body as `wasi:http` has it. When a scan fails in mid-stream the guest sees the stream break.
fn for_guest(body: ScreenedBody, outcome: Outcome) -> WasiBody {
    let frames = body.map(move |piece: Result<Bytes, BodyFault>| match piece {
        Ok(bytes) => Ok(Frame::data(bytes)),
        Err(BodyFault::Blocked(Blocked { refusal, .. }) | BodyFault::Refused(refusal)) => {
            outcome.refuse(&refusal);
            Err(Error::InternalError(Some(refusal.for_sandbox())))
        }
        Err(BodyFault::TooLarge(_) | BodyFault::Ratio) => Err(Error::HttpResponseBodySize(None)),
        Err(BodyFault::Encoding) => Err(Error::HttpResponseContentCoding(None)),
        Err(BodyFault::Upstream) => Err(Error::HttpResponseIncomplete),
    });
    WasiBody::new(StreamBody::new(frames))
}
