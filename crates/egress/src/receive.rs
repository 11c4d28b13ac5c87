//! What comes back: a head that was read by the leak detector, a body that is read while it streams.
//!
//! Everything of an answer that can carry a byte is either scanned or not passed on: status and
//! headers, the body after decoding, and the trailers, which go to who asks for them when the body has ended. The
//! reason phrase and informational answers (1xx) are dropped unread.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CONTENT_ENCODING, HeaderMap};
use http::response;
use http_body::Frame;
use safety::{Blocked, BodyFault, Channel, Encoding, Safety, ScreenedBody};
use types::{Outbound, Refusal, Source};

use crate::account::Sent;
use crate::error::{Failure, SendError, UpstreamFault};
use crate::token_watch::TokenWatch;
use crate::wire::Arriving;
use crate::{headers, rules};

/// Scans a head and reads how its body is encoded.
pub(crate) fn screen_head(
    safety: &Safety,
    effect: &Outbound,
    head: &response::Parts,
) -> Result<Option<Encoding>, SendError> {
    // What asks for a part is taken out of the request; a server may know another way to be asked.
    if effect.is_watched() && headers::is_part(head) {
        return Err(Refusal::new(&rules::PARTIAL, "an answer; it was not passed on").into());
    }
    if let Some(mut watch) = TokenWatch::of(effect) {
        watch.read(&headers::fields(&head.headers))?;
    }
    scan_fields(safety, &head.headers).map_err(|blocked| blocked.refusal)?;
    encoding(&head.headers).map_err(SendError::Failed)
}

/// The body of an answer as its reader gets it. However it ends, its settlement is recorded.
pub(crate) fn body(
    arriving: Arriving,
    (encoding, ends): (Option<Encoding>, Ends),
    effect: &Outbound,
    safety: &Arc<Safety>,
    mut sent: Sent,
) -> (ScreenedBody, Trailers) {
    let (failed, trailers) = (Arc::new(OnceLock::new()), Trailers::default());
    let watch = Watch {
        safety: safety.clone(),
        start: encoding.is_none().then(Vec::new).filter(|_| effect.is_watched()),
        trailers: trailers.clone(),
    };
    let stream = data(arriving, watch, failed.clone());
    let origin = Source::Web(effect.target.host().clone());
    let trace = sent.account().trace().clone();
    let body = safety.body(stream, origin, encoding, effect.response, trace);
    let body = match TokenWatch::of(effect) {
        Some(mut watch) => body.watched(Box::new(move |plain| watch.read(plain))),
        None => body,
    };
    let body = match ends {
        Ends::Once => body,
        Ends::Lines => body.by_lines(),
        Ends::Messages => body.by_messages(&rules::DISGUISED_BODY),
    };
    (body.on_end(Box::new(move |end| sent.close_with_body(end, failed.get()))), trailers)
}

/// Where the reader of a body may want what was sent before more of it is.
#[derive(Clone, Copy)]
pub(crate) enum Ends {
    /// At its end alone.
    Once,
    /// At the end of each line.
    Lines,
    /// At the end of each message behind a prefix.
    Messages,
}

impl Ends {
    /// As the head says.
    pub(crate) fn of(head: &response::Parts) -> Self {
        match &head.headers {
            headers if headers::is_events(headers) => Self::Lines,
            headers if headers::is_in_messages(headers) => Self::Messages,
            _ => Self::Once,
        }
    }
}

/// The trailers of an answer, once its body has ended: scanned, and only those that its reader may see.
#[derive(Clone, Default)]
pub(crate) struct Trailers(Arc<OnceLock<HeaderMap>>);

impl Trailers {
    /// What came.
    pub(crate) fn get(&self) -> Option<&HeaderMap> {
        self.0.get().filter(|trailers| !trailers.is_empty())
    }
}

/// The data of a body. When the exchange breaks, `failed` is told how.
fn data(
    arriving: Arriving,
    mut watch: Watch,
    failed: Arc<OnceLock<Failure>>,
) -> impl Stream<Item = Result<Bytes, BodyFault>> + Send + 'static {
    arriving.filter_map(move |frame| {
        let frame = frame.map_err(|failure| {
            let _ = failed.set(failure);
            BodyFault::Upstream
        });
        std::future::ready(frame.and_then(|frame| watch.pass(frame)).transpose())
    })
}

/// Looks at what the leak detector does not see as text.
struct Watch {
    safety: Arc<Safety>,
    /// The first bytes of a body that claims not to be compressed and could hold a secret.
    start: Option<Vec<u8>>,
    trailers: Trailers,
}

impl Watch {
    fn pass(&mut self, frame: Frame<Bytes>) -> Result<Option<Bytes>, BodyFault> {
        match frame.into_data() {
            Ok(data) => self.sniff(&data).map(|()| Some(data)).map_err(BodyFault::Refused),
            Err(frame) => {
                let Ok(trailers) = frame.into_trailers() else { return Ok(None) };
                scan_fields(&self.safety, &trailers).map_err(BodyFault::Blocked)?;
                let _ = self.trailers.0.set(headers::trailing(trailers));
                Ok(None)
            }
        }
    }

    /// Refuses a compressed body that does not say so: nothing could be found in it. The bytes that
    /// tell are fewer than those the detector holds back, so none has been released.
    fn sniff(&mut self, data: &[u8]) -> Result<(), Refusal> {
        const LONGEST: usize = 4;
        let Some(start) = &mut self.start else { return Ok(()) };
        start.extend(data.iter().take(LONGEST - start.len()));
        // gzip, zstd, and zlib at every level whose mark is not text; brotli and raw deflate have no mark.
        let known = [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd", b"\x78\x01", b"\x78\x9c", b"\x78\xda"];
        if known.iter().any(|magic| start.starts_with(magic)) {
            return Err(Refusal::new(
                &rules::DISGUISED_BODY,
                "gzip, zlib or zstd without a Content-Encoding",
            ));
        }
        if start.len() == LONGEST {
            self.start = None;
        }
        Ok(())
    }
}

fn scan_fields(safety: &Safety, fields: &HeaderMap) -> Result<(), Blocked> {
    safety.scan_bytes(&headers::fields(fields), Channel::Response)
}

/// Refuses an answer that is encoded in any way.
pub(crate) fn refuse_encoded(headers: &HeaderMap) -> Result<(), SendError> {
    match encoding(headers)? {
        None => Ok(()),
        Some(_) => Err(Failure::Upstream(UpstreamFault::Encoding).into()),
    }
}

/// One encoding that can be undone, or none.
fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Failure> {
    let unknown = Failure::Upstream(UpstreamFault::Encoding);
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let first = values.next().map(|value| value.to_str().map_err(|_| unknown)).transpose()?;
    if values.next().is_some() {
        return Err(unknown);
    }
    Encoding::parse(first.unwrap_or_default()).map_err(|_| unknown)
}
