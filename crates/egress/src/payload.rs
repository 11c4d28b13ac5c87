//! The body of a request: whole, or a stream that is scanned while it leaves.
//!
//! A whole body is scanned before anything is dialled. Of a stream the part before a hit has left already when the hit
//! is found: the request is then cut off before its end, so that no server takes it for complete, and the record says
//! how many bytes had left.
//!
//! A body with a content encoding leaves as it is and is read as what it stands for, decoded within bounds.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use http_body::{Body, Frame, SizeHint};
use safety::credential_detect::{self, Carried};
use safety::{BodyFault, Encoding, Safety, ScreenedBody, body};
use types::{Refusal, Trace};

use crate::limits::{MAX_DECODED, MAX_UPLOAD};
use crate::{headers, rules};

/// A body on its way out.
#[derive(Debug)]
pub enum Payload {
    /// All of it.
    Whole(Bytes),
    /// Bytes that arrive while they are sent.
    Stream(Upload),
}

/// A body that is not here yet.
pub struct Upload {
    stream: Pin<Box<dyn Stream<Item = Result<Bytes, BodyFault>> + Send>>,
    length: Option<u64>,
    watch: Option<Watch>,
}

/// Reads along, after decoding, and may end the body.
pub(crate) type Watch = Box<dyn FnMut(&[u8]) -> Result<(), Refusal> + Send>;

impl Upload {
    /// A stream, and its exact length where the sender gave one.
    pub fn new(
        stream: impl Stream<Item = Result<Bytes, BodyFault>> + Send + 'static,
        length: Option<u64>,
    ) -> Self {
        Self { stream: Box::pin(stream), length, watch: None }
    }

    /// Lets somebody else read along.
    pub(crate) fn watched(mut self, watch: Watch) -> Self {
        self.watch = Some(watch);
        self
    }
}

/// The encoding of a request's body.
pub(crate) fn encoding(headers: &HeaderMap) -> Result<Option<Encoding>, Refusal> {
    let refused =
        || Refusal::new(&rules::ENCODED_BODY, "a body with another encoding than gzip, deflate, br or zstd");
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let first = values.next().map(|value| value.to_str().map_err(|_| refused())).transpose()?;
    if values.next().is_some() {
        return Err(refused());
    }
    Encoding::parse(first.unwrap_or_default()).map_err(|_| refused())
}

impl Payload {
    /// Whether it is known to hold nothing.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    /// Its bytes that are here.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Stream(_) => 0,
        }
    }

    /// What a whole body stands for. Of a stream nothing is known before it leaves.
    pub(crate) fn plain(&self, headers: &HeaderMap) -> Result<Bytes, Refusal> {
        let Self::Whole(bytes) = self else { return Ok(Bytes::new()) };
        let refused = |why: String| Refusal::new(&rules::ENCODED_BODY, why);
        let plain = match encoding(headers)? {
            None => bytes.clone(),
            Some(encoding) => {
                let decoded = encoding.decode(bytes, MAX_DECODED);
                decoded.map_err(|fault| refused(fault.to_string()))?.into()
            }
        };
        match headers::is_in_messages(headers) && body::holds_compressed_message(&plain) {
            true => Err(refused("a message that is compressed by itself".to_owned())),
            false => Ok(plain),
        }
    }

    /// A whole body as it leaves, where that is not what it stands for; else nothing.
    pub(crate) fn encoded(&self, headers: &HeaderMap) -> Result<&[u8], Refusal> {
        Ok(match (self, encoding(headers)?) {
            (Self::Whole(bytes), Some(_)) => bytes,
            _ => &[],
        })
    }

    /// The credentials that a body brings along which stands for these bytes.
    pub(crate) fn brought(plain: &[u8], headers: &HeaderMap) -> Vec<Carried> {
        let media = headers.get(CONTENT_TYPE).and_then(|media| media.to_str().ok());
        credential_detect::carried_in_body(media, plain)
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(bytes.into())
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::Whole(text.into())
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Self::Whole(text.into())
    }
}

/// Without the bytes.
impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upload({:?} bytes)", self.length)
    }
}

/// What became of a streamed body so far.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    sent: AtomicU64,
    fault: OnceLock<BodyFault>,
}

impl Meter {
    /// Bytes that were handed to the connection.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// What ended the body before its end.
    pub(crate) fn fault(&self) -> Option<&BodyFault> {
        self.fault.get()
    }
}

/// A body as the connection takes it.
pub(crate) enum Outflow {
    /// Scanned already; `None` once it was taken.
    Whole(Option<Bytes>),
    /// Scanned while it is taken.
    Stream {
        /// The bytes that passed.
        body: Box<ScreenedBody>,
        /// How many are to come, where that is known.
        left: Option<u64>,
        /// What is said of it in the record.
        meter: Arc<Meter>,
    },
}

impl Outflow {
    /// Puts the scanner between a payload and the connection.
    pub(crate) fn of(
        payload: Payload,
        headers: &HeaderMap,
        safety: &Arc<Safety>,
        trace: &Trace,
    ) -> Result<Self, Refusal> {
        let Upload { stream, length, watch } = match payload {
            Payload::Whole(bytes) => return Ok(Self::Whole(Some(bytes).filter(|bytes| !bytes.is_empty()))),
            Payload::Stream(upload) => upload,
        };
        let mut body = safety.outgoing_body(stream, encoding(headers)?, MAX_UPLOAD, trace.clone());
        if headers::is_in_messages(headers) {
            body = body.by_messages(&rules::ENCODED_BODY);
        }
        if let Some(watch) = watch {
            body = body.watched(watch);
        }
        Ok(Self::Stream { body: Box::new(body), left: length, meter: Arc::default() })
    }

    /// The same once more; `None` for a stream, which passes once.
    pub(crate) fn again(&self) -> Option<Self> {
        match self {
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Stream { .. } => None,
        }
    }

    /// Where to read what became of a stream.
    pub(crate) fn meter(&self) -> Option<Arc<Meter>> {
        match self {
            Self::Whole(_) => None,
            Self::Stream { meter, .. } => Some(meter.clone()),
        }
    }
}

/// A body that the vault filled in; it is not scanned, for it holds what it is for.
impl From<Bytes> for Outflow {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Some(bytes))
    }
}

/// A body that ended before its end; the meter knows why.
#[derive(Debug, thiserror::Error)]
#[error("the request was cut off")]
pub(crate) struct CutOff;

impl Body for Outflow {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        let (body, left, meter) = match self.get_mut() {
            Self::Whole(bytes) => return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Stream { body, left, meter } => (body, left, meter),
        };
        Poll::Ready(match ready!(Pin::new(&mut **body).poll_next(cx)) {
            Some(Ok(bytes)) => {
                meter.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                *left = left.map(|left| left.saturating_sub(bytes.len() as u64));
                Some(Ok(Frame::data(bytes)))
            }
            Some(Err(fault)) => {
                let _ = meter.fault.set(fault);
                Some(Err(CutOff))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Stream { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}
