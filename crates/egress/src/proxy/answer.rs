//! Answers of the proxy's own: JSON that a program and a model understand.
//!
//! `{"error":{"code","layer","asked","message","refusal"}}`. `code` is the rule, `asked` method and address without the
//! query, `refusal` the id by which the owner finds the detail and what would allow it: `ironclaw policy explain ID`.
//! Nothing of the request's headers or body stands in an answer (attack C09), and no command that would widen anything.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::unfold;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, PROXY_AUTHENTICATE};
use http::{Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use safety::{BodyFault, Encoding, ScreenedBody};
use secrets::Taken;
use serde_json::{Value, json};
use types::{Refusal, SecretName};

use super::Shared;
use crate::budget::Share;
use crate::error::{Failure, SendError};
use crate::limits::EXCHANGE_MEMORY;
use crate::receive::Trailers;
use crate::rules;
use crate::silence::Silence;

/// A body toward a client.
pub(super) type Outward = UnsyncBoxBody<Bytes, BodyFault>;

impl Shared {
    /// An answer of an upstream, its trailers last. When a scan fails in mid-stream, or `stopped` comes about, the client
    /// sees the body break. `share` is the room that the exchange has; what a decoder looks back on is added to it.
    pub(super) fn passed_on(
        self: Arc<Self>,
        mut response: Response<ScreenedBody>,
        (stopped, of): (BoxFuture<'static, Refusal>, String),
        (share, silence): (Share, Option<Arc<Silence>>),
    ) -> Response<Outward> {
        let trailers = response.extensions_mut().remove::<Trailers>();
        let window = response.extensions_mut().remove::<Encoding>().map_or(0, Encoding::window);
        let open = |body| {
            let pieces = Pieces { shared: self, body, share, silence, window, passed: 0 };
            Open { pieces, stopped, of, trailers }
        };
        response.map(|body| StreamBody::new(unfold(Some(open(body)), next)).boxed_unsync())
    }
}

/// An answer that is being passed on.
struct Open {
    pieces: Pieces,
    stopped: BoxFuture<'static, Refusal>,
    /// What was asked, `METHOD HOST:PORT`, for its record.
    of: String,
    trailers: Option<Trailers>,
}

/// Its body, in the room that there is.
struct Pieces {
    shared: Arc<Shared>,
    body: ScreenedBody,
    share: Share,
    silence: Option<Arc<Silence>>,
    /// The most that its decoder looks back on.
    window: usize,
    /// How much was passed on, up to that.
    passed: usize,
}

async fn next(open: Option<Open>) -> Option<(Result<Frame<Bytes>, BodyFault>, Option<Open>)> {
    let mut open = open?;
    let piece = tokio::select! {
        piece = open.pieces.next() => piece,
        refusal = &mut open.stopped => {
            let Shared { policy, run, .. } = &*open.pieces.shared;
            Some(Err(BodyFault::Refused(policy.note_refused(run, refusal, &open.of).await)))
        }
    };
    match piece {
        Some(Ok(piece)) => Some((Ok(Frame::data(piece)), Some(open))),
        Some(Err(fault)) => Some((Err(fault), None)),
        None => open.trailers?.get().map(|trailers| (Ok(Frame::trailers(trailers.clone())), None)),
    }
}

impl Pieces {
    /// The next one, once there is room for what is kept of those before.
    async fn next(&mut self) -> Option<Result<Bytes, BodyFault>> {
        let Self { shared, share, .. } = self;
        if let Err(refusal) = share.grow_to(EXCHANGE_MEMORY + self.passed, shared.bounds.handshake).await {
            let refusal = shared.policy.note_refused(&shared.run, refusal, "an answer that is decoded").await;
            return Some(Err(BodyFault::Refused(refusal)));
        }
        let piece = self.body.next().await;
        self.silence.iter().for_each(|silence| silence.broken());
        if let Some(Ok(piece)) = &piece {
            self.passed = self.window.min(self.passed + piece.len());
        }
        piece
    }
}

/// Nothing but a status.
pub(super) fn empty() -> Response<Outward> {
    Response::new(Full::default().map_err(|never| match never {}).boxed_unsync())
}

/// A refusal. `asked` is left out where it could not be read or must not be repeated.
pub(super) fn refused(refusal: &Refusal, asked: Option<&str>) -> Response<Outward> {
    let rule = refusal.rule;
    let id = refusal.id.to_string();
    let mut answer = written(status(refusal), rule.id, rule.layer.as_str(), rule.says, asked, Some(&id));
    if *rule == rules::CLIENT_UNKNOWN {
        let how = HeaderValue::from_static("Basic realm=\"ironclaw\"");
        answer.headers_mut().insert(PROXY_AUTHENTICATE, how);
    }
    if *rule == rules::MALFORMED || *rule == rules::TOO_SLOW {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// A request that was permitted and did not come to an answer.
pub(super) fn unsent(error: &SendError, asked: &str) -> Response<Outward> {
    let failure = match error {
        SendError::Refused(refusal) => return refused(refusal, Some(asked)),
        SendError::Failed(failure) => failure,
    };
    let status = match failure {
        Failure::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Failure::Sender => StatusCode::BAD_REQUEST,
        _ => StatusCode::BAD_GATEWAY,
    };
    let code = format!("upstream.{}", failure.blame());
    written(status, &code, "egress", &failure.to_string(), Some(asked), None)
}

/// What a token endpoint answered, with what stands for each token in its place (RFC 6749, 5.1 and 5.2). Everything else
/// that it may have said is left out. How long the access token is good is left out beside a refresh token: the owner lets
/// the vault renew it, and what stands for it stays.
pub(super) fn taken<'a>(
    status: StatusCode,
    taken: &Taken,
    stands_for: impl Fn(&SecretName) -> Option<&'a str>,
) -> Response<Outward> {
    let body = match taken {
        Taken::Refused(word) => json!({ "error": word }),
        Taken::Tokens { stored, seconds } => {
            let mut body = json!({ "token_type": "Bearer" });
            for (member, name) in stored {
                body[*member] = json!(stands_for(name));
            }
            if let (Some(seconds), None) = (seconds, body.get("refresh_token")) {
                body["expires_in"] = json!(seconds);
            }
            body
        }
    };
    json_with(status, &body)
}

fn written(
    status: StatusCode,
    code: &str,
    layer: &str,
    message: &str,
    asked: Option<&str>,
    refusal: Option<&str>,
) -> Response<Outward> {
    let error =
        json!({ "code": code, "layer": layer, "asked": asked, "message": message, "refusal": refusal });
    json_with(status, &json!({ "error": error }))
}

fn json_with(status: StatusCode, body: &Value) -> Response<Outward> {
    let text = body.to_string() + "\n";
    let mut answer = Response::new(Full::from(text).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

fn status(refusal: &Refusal) -> StatusCode {
    let of_rule = [
        (&rules::MALFORMED, StatusCode::BAD_REQUEST),
        (&rules::REQUEST_TRAILERS, StatusCode::BAD_REQUEST),
        (&rules::TOO_SLOW, StatusCode::REQUEST_TIMEOUT),
        (&rules::SILENT, StatusCode::GATEWAY_TIMEOUT),
        (&rules::NESTED_TUNNEL, StatusCode::METHOD_NOT_ALLOWED),
        (&rules::NAMES_DISAGREE, StatusCode::MISDIRECTED_REQUEST),
        (&rules::CLIENT_UNKNOWN, StatusCode::PROXY_AUTHENTICATION_REQUIRED),
        (&rules::BUSY, StatusCode::SERVICE_UNAVAILABLE),
        (&rules::MEMORY, StatusCode::SERVICE_UNAVAILABLE),
        (&rules::TOO_LARGE, StatusCode::PAYLOAD_TOO_LARGE),
    ];
    let known = of_rule.iter().find(|(rule, _)| **rule == *refusal.rule).map(|(_, status)| *status);
    // Nothing was done because it could not be put on record; later it may.
    let unrecorded = || {
        (refusal.rule.layer == types::Layer::Policy && refusal.rule.id.starts_with("audit."))
            .then_some(StatusCode::SERVICE_UNAVAILABLE)
    };
    known.or_else(unrecorded).unwrap_or(StatusCode::FORBIDDEN)
}
