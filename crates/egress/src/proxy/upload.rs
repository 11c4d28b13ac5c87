//! The body of a client's request. Short ones are read whole, so that nothing at all leaves of one that may not; longer
//! ones stream, and are cut off where something is found.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use futures_util::stream::unfold;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use safety::BodyFault;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};
use types::Refusal;

use super::Shared;
use super::placeholder::Watch;
use crate::payload::{Payload, Upload};
use crate::rules;

/// Bodies up to this length are read whole. Calls of APIs are shorter.
const WHOLE: usize = 256 * 1024;

/// How long to wait for the end of a body that does not say how long it is: the client may be waiting for an answer to
/// its beginning.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long to wait for the end of a short body. A permit lasts twice as long.
const LONGEST_WHOLE: Duration = Duration::from_secs(30);

/// Bodies of one run that are held whole at a time, 16 MiB together; more wait.
pub(super) const MOST_WHOLE: usize = 64;

/// A body that is still on its way.
struct Arriving {
    /// What was read while it was hoped to be short.
    first: Option<Bytes>,
    body: Incoming,
    watch: Watch,
    shared: Arc<Shared>,
    ended: bool,
}

impl Shared {
    /// The body, and the place that it takes among those that are held whole.
    pub(super) async fn payload(
        self: &Arc<Self>,
        mut body: Incoming,
    ) -> Result<(Payload, Option<OwnedSemaphorePermit>), Refusal> {
        if body.is_end_stream() {
            return Ok((Payload::Whole(Bytes::new()), None));
        }
        let slot = timeout(LONGEST_WHOLE, self.whole.clone().acquire_owned()).await;
        let Ok(Ok(slot)) = slot else {
            return Err(Refusal::new(&rules::BUSY, format!("{MOST_WHOLE} bodies are held whole")));
        };
        let mut watch = self.placeholders.watch();
        let length = body.size_hint().exact();
        let mut first = BytesMut::new();
        let patience = match length {
            Some(length) if length <= WHOLE as u64 => LONGEST_WHOLE,
            Some(_) => Duration::ZERO,
            None => PATIENCE,
        };
        let deadline = Instant::now() + patience;
        while !body.is_end_stream() && first.len() <= WHOLE && Instant::now() < deadline {
            let Ok(next) = timeout_at(deadline, self.next(&mut body)).await else { break };
            match next? {
                Some(bytes) => first.extend_from_slice(watch.pass(&bytes)?),
                None => return Ok((Payload::Whole(first.freeze()), Some(slot))),
            }
        }
        if body.is_end_stream() {
            return Ok((Payload::Whole(first.freeze()), Some(slot)));
        }
        let first = Some(first.freeze()).filter(|bytes| !bytes.is_empty());
        let arriving = Arriving { first, body, watch, shared: self.clone(), ended: false };
        Ok((Payload::Stream(Upload::new(arriving.into_stream(), length)), None))
    }

    /// The next bytes; trailers are dropped.
    async fn next(&self, body: &mut Incoming) -> Result<Option<Bytes>, Refusal> {
        loop {
            let frame = timeout(self.bounds.pause, body.frame()).await;
            let frame = frame.map_err(|_| Refusal::new(&rules::TOO_SLOW, "the body of a request"))?;
            match frame.map(|frame| frame.map(http_body::Frame::into_data)) {
                Some(Ok(Ok(bytes))) => return Ok(Some(bytes)),
                Some(Ok(Err(_))) => {}
                Some(Err(_)) => {
                    return Err(Refusal::new(&rules::MALFORMED, "a body that is cut short or misframed"));
                }
                None => return Ok(None),
            }
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
                None => this.more().await,
            };
            this.ended = !matches!(item, Ok(Some(_)));
            item.map_err(BodyFault::Refused).transpose().map(|item| (item, this))
        })
    }

    async fn more(&mut self) -> Result<Option<Bytes>, Refusal> {
        let next = self.shared.next(&mut self.body).await?;
        if let Some(bytes) = &next {
            self.watch.pass(bytes)?;
        }
        Ok(next)
    }
}
