//! The body of a client's request. Short ones are read whole, so that nothing at all leaves of one that may not; longer
//! ones stream, and are cut off where something is found.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::unfold;
use http::HeaderMap;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use safety::BodyFault;
use tokio::time::{Instant, timeout, timeout_at};
use types::Refusal;

use super::Shared;
use crate::budget::Share;
use crate::headers::is_in_messages;
use crate::limits::{EXCHANGE_MEMORY, MAX_DECODED, WHOLE_BODY};
use crate::payload::{self, Payload, Upload};
use crate::rules;
use crate::silence::Silence;

/// How long to wait for the end of a body that does not say how long it is: the client may be waiting for an answer to
/// its beginning.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long to wait for the end of a short body. A permit lasts twice as long.
const LONGEST_WHOLE: Duration = Duration::from_secs(30);

/// A body as far as it is here.
pub(super) struct Arrived {
    pub(super) payload: Payload,
    /// What a whole one stands for.
    pub(super) plain: Bytes,
    /// How long it is quiet, where it streams.
    pub(super) silence: Option<Arc<Silence>>,
}

/// A body that is still on its way.
struct Arriving {
    /// What was read while it was hoped to be short.
    first: Option<Bytes>,
    body: Incoming,
    /// How long the client may pause.
    pause: Duration,
    silence: Arc<Silence>,
    ended: bool,
}

impl Shared {
    /// Reads a body whole where it is short. Placeholders are looked for in what it stands for. The share of its exchange
    /// has room for it as it comes, and is made to have room for what is needed to decode it.
    pub(super) async fn payload(
        self: &Arc<Self>,
        mut body: Incoming,
        headers: &HeaderMap,
        share: &mut Share,
    ) -> Result<Arrived, Refusal> {
        if body.is_end_stream() {
            return Ok(Arrived { payload: Payload::default(), plain: Bytes::new(), silence: None });
        }
        let encoding = payload::encoding(headers)?;
        if let Some(encoding) = encoding {
            let decoding = encoding.window().max(MAX_DECODED.as_usize());
            share.grow_to(EXCHANGE_MEMORY + decoding, LONGEST_WHOLE).await?;
        }
        let length = body.size_hint().exact();
        let mut first = BytesMut::new();
        let patience = match length {
            Some(length) if length <= WHOLE_BODY as u64 => LONGEST_WHOLE,
            Some(_) => Duration::ZERO,
            None => PATIENCE,
        };
        let deadline = Instant::now() + patience;
        let mut ended = false;
        while !ended && !body.is_end_stream() && first.len() <= WHOLE_BODY && Instant::now() < deadline {
            let Ok(next) = timeout_at(deadline, next(&mut body, self.bounds.pause)).await else { break };
            match next? {
                Some(bytes) => first.extend_from_slice(&bytes),
                None => ended = true,
            }
        }
        let first = first.freeze();
        if ended || body.is_end_stream() {
            let payload = Payload::Whole(first);
            let plain = payload.plain(headers)?;
            self.placeholders.look(&plain)?;
            share.shrink_to(EXCHANGE_MEMORY + encoding.map_or(0, |_| plain.len()));
            return Ok(Arrived { payload, plain, silence: None });
        }
        if encoding.is_none() {
            self.placeholders.look(&first)?;
        }
        // Who converses may be silent while the other side speaks.
        let pause = if is_in_messages(headers) { self.bounds.connection } else { self.bounds.pause };
        let first = Some(first).filter(|bytes| !bytes.is_empty());
        let mut watch = self.placeholders.watch();
        let silence = Silence::of(self.bounds.silence);
        let upload = Upload::new(
            Arriving { first, body, pause, silence: silence.clone(), ended: false }.into_stream(),
            length,
        )
        .watched(Box::new(move |plain| watch.pass(plain).map(drop)));
        Ok(Arrived { payload: Payload::Stream(upload), plain: Bytes::new(), silence: Some(silence) })
    }
}

/// The next bytes. Trailers are refused: they come when the request, headers and all, is decided already.
async fn next(body: &mut Incoming, pause: Duration) -> Result<Option<Bytes>, Refusal> {
    loop {
        let frame = timeout(pause, body.frame()).await;
        let frame = frame.map_err(|_| Refusal::new(&rules::TOO_SLOW, "the body of a request"))?;
        match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
            Some(Ok(Ok(bytes))) => return Ok(Some(bytes)),
            Some(Ok(Err(frame))) if frame.trailers_ref().is_some_and(|trailers| !trailers.is_empty()) => {
                return Err(Refusal::new(&rules::REQUEST_TRAILERS, ""));
            }
            Some(Ok(Err(_))) => {}
            Some(Err(_)) => {
                return Err(Refusal::new(&rules::MALFORMED, "a body that is cut short or misframed"));
            }
            None => return Ok(None),
        }
    }
}

impl Arriving {
    fn into_stream(self) -> impl Stream<Item = Result<Bytes, BodyFault>> + Send + 'static {
        unfold(self, |mut this| async move {
            if this.ended {
                return None;
            }
            let item = match this.first.take() {
                Some(bytes) => Ok(Some(bytes)),
                None => next(&mut this.body, this.pause).await,
            };
            this.silence.broken();
            this.ended = !matches!(item, Ok(Some(_)));
            item.map_err(BodyFault::Refused).transpose().map(|item| (item, this))
        })
    }
}
