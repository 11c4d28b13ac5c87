//! WebSockets (RFC 6455): opened by a request like every other, and read message by message, both ways, for as long as
//! they last.
//!
//! Each side ends here. A message is put together from its frames, within a bound, read whole, and made anew for the other
//! side; what is made is made of [`Screened`] bytes and of nothing else. Compression is not offered, so that
//! there is nothing that cannot be read; pings are answered here, since what they carry is read by nobody. Where something
//! is found both sides are told that a policy was violated (1008), and the record says by which rule.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use futures_util::{Sink, SinkExt as _, Stream, StreamExt as _};
use http::header::{
    CONNECTION, HeaderMap, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Response, StatusCode};
use policy::Permit;
use safety::{BodyFault, Channel, Conversation, Safety, Screened, ScreenedBody};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{CapacityError, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message as Frame};
use types::limits::Bytes as Limit;
use types::{Outbound, Refusal, Source, Trace};

use crate::account::Sent;
use crate::budget::Share;
use crate::connect::Line;
use crate::cut::Cut;
use crate::error::{Failure, SendError, UpstreamFault};
use crate::headers::{self, Message};
use crate::metered::{Full, Metered, Room, Side};
use crate::payload::Watch;
use crate::send::{Egress, Exchange};
use crate::silence::Silence;
use crate::token_watch::TokenWatch;
use crate::{limits, rules};

/// How long a side may take to hear that it is over.
const CLOSE_TIME: Duration = Duration::from_secs(2);

/// What came of a request to open a WebSocket.
pub(crate) enum Opened {
    /// The upstream agreed. The head is for the client, without what is between the upstream and us.
    Socket(Response<()>, Box<Socket>),
    /// It answered with something else.
    Answer(Box<Response<ScreenedBody>>),
}

/// The upstream's end of a WebSocket.
pub(crate) struct Socket {
    line: Box<dyn Line>,
    /// What came together with the head.
    first: Bytes,
    safety: Arc<Safety>,
    effect: Outbound,
    deadline: Instant,
    sent: Sent,
}

/// Our side of the handshake (RFC 6455, 4.1).
pub(crate) struct Opening {
    key: String,
}

impl Opening {
    fn new() -> Self {
        Self { key: generate_key() }
    }

    /// Says what a request asks for. No extension is.
    pub(crate) fn ask(&self, headers: &mut HeaderMap) -> Result<(), Refusal> {
        let key = HeaderValue::from_str(&self.key).map_err(|_| Refusal::new(&rules::MALFORMED, "a key"))?;
        headers.insert(SEC_WEBSOCKET_KEY, key);
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.remove(SEC_WEBSOCKET_EXTENSIONS);
        Ok(())
    }

    /// True when an answer agrees to that and to nothing else.
    fn is_met(&self, answer: &HeaderMap, asked: Option<&HeaderValue>) -> bool {
        let accept = derive_accept_key(self.key.as_bytes());
        let one = |name| {
            let mut values = answer.get_all(name).iter();
            values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
        };
        let asked = asked.and_then(|asked| asked.to_str().ok()).unwrap_or_default();
        let is_asked = |chosen: &HeaderValue| {
            asked.split(',').any(|own| !own.trim().is_empty() && own.trim().as_bytes() == chosen.as_bytes())
        };
        one(SEC_WEBSOCKET_ACCEPT) == Some(accept.as_bytes())
            && one(UPGRADE).is_some_and(|to| to.eq_ignore_ascii_case(b"websocket"))
            && !answer.contains_key(SEC_WEBSOCKET_EXTENSIONS)
            && answer.get_all(SEC_WEBSOCKET_PROTOCOL).iter().count() <= 1
            && answer.get(SEC_WEBSOCKET_PROTOCOL).is_none_or(is_asked)
    }
}

impl Egress {
    /// Carries out one permitted request to open a WebSocket. If the upstream agrees, the record waits for its end.
    pub(crate) async fn open(
        &self,
        permit: Permit<Outbound>,
        message: Message,
        trace: &Trace,
        cut: &mut Cut,
    ) -> Result<Opened, SendError> {
        let opening = Opening::new();
        let asked = message.headers.get(SEC_WEBSOCKET_PROTOCOL).cloned();
        let exchange = self.exchange(permit, message, Some(&opening), (trace, &mut *cut)).await?;
        if exchange.head.status != StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Opened::Answer(Box::new(self.answer(exchange))));
        }
        let Exchange { mut head, arriving, effect, mut sent, .. } = exchange;
        let deadline = sent.account().deadline();
        let line = match opening.is_met(&head.headers, asked.as_ref()) {
            true => cut.unless(async { Ok(arriving.into_line().await?) }).await,
            false => Err(Failure::Upstream(UpstreamFault::Switched).into()),
        };
        let (line, first) = match line {
            Ok(line) => line,
            Err(error) => return Err(sent.close(error).await),
        };
        head.headers.remove(SEC_WEBSOCKET_ACCEPT);
        let head = headers::incoming(&effect, head, ());
        let safety = self.safety.clone();
        let socket = Socket { line, first, safety, effect, deadline, sent };
        Ok(Opened::Socket(head, Box::new(socket)))
    }
}

impl Socket {
    /// Ends it before a word was said: there is no client.
    pub(crate) async fn close(self) {
        self.sent.close(Failure::Sender.into()).await;
    }

    /// Passes on what either side says until one of them ends it, something is found, its time is over, or `cut`
    /// comes about. `watch` reads along on the way out; `share` is the room that there is for messages, and grows with them;
    /// `silence` ends it where neither side says anything.
    pub(crate) async fn relay<S>(
        self,
        client: S,
        (share, silence): (Share, Arc<Silence>),
        watch: Watch,
        mut cut: Cut,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self { line, first, safety, effect, deadline, sent } = self;
        let room = Room::new(share, silence.clone());
        let upstream = Metered { stream: line, room: room.clone(), side: Side::Upstream };
        let upstream =
            WebSocketStream::from_partially_read(upstream, first.to_vec(), Role::Client, Some(bounds()))
                .await;
        let client = Metered { stream: client, room: room.clone(), side: Side::Client };
        let client = WebSocketStream::from_raw_socket(client, Role::Server, Some(bounds())).await;
        let (mut to_upstream, mut from_upstream) = upstream.split();
        let (mut to_client, mut from_client) = client.split();
        let origin = Source::Web(effect.target.host().clone());
        let mut out =
            Reader { watch: Some(watch), most: limits::MAX_UPLOAD, ..Reader::new(&safety, Source::Model) };
        let watch =
            TokenWatch::of(&effect).map(|mut watch| -> Watch { Box::new(move |said| watch.read(said)) });
        let mut back = Reader { watch, most: effect.response, ..Reader::new(&safety, origin) };
        let end = tokio::select! {
            stop = pump(&mut from_client, &mut to_upstream, &mut out, || room.passed(Side::Client)) => stop.of_client(),
            stop = pump(&mut from_upstream, &mut to_client, &mut back, || room.passed(Side::Upstream)) => stop.of_upstream(),
            error = cut.comes() => End::cut(error),
            refusal = silence.too_long() => End::refused(refusal, CloseCode::Away),
            () = sleep_until(deadline) => End::failed(Failure::Timeout, CloseCode::Away),
        };
        let bytes = (out.conversation.received(), back.conversation.received());
        // First on record: who is told that it is over takes the time that they like.
        sent.close_socket(bytes, end.outcome, back.conversation.findings()).await;
        join(
            say_last(&mut to_client, &mut from_client, end.last.clone()),
            say_last(&mut to_upstream, &mut from_upstream, end.last),
        )
        .await;
    }
}

/// What is said by one side.
struct Reader {
    conversation: Conversation,
    watch: Option<Watch>,
    most: Limit,
}

impl Reader {
    fn new(safety: &Arc<Safety>, source: Source) -> Self {
        let channel = if source == Source::Model { Channel::Outbound } else { Channel::Response };
        Self { conversation: safety.conversation(channel, source), watch: None, most: limits::MAX_UPLOAD }
    }

    fn read(&mut self, bytes: &[u8], is_text: bool) -> Result<Screened<Vec<u8>>, BodyFault> {
        if self.conversation.received() + bytes.len() as u64 > self.most.0 {
            return Err(BodyFault::TooLarge(self.most));
        }
        if let Some(watch) = &mut self.watch {
            watch(bytes).map_err(BodyFault::Refused)?;
        }
        self.conversation.read(bytes, is_text)
    }
}

/// Messages are put together up to a bound; what is written waits in no buffer.
fn bounds() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(limits::MAX_SOCKET_MESSAGE))
        .max_frame_size(Some(limits::MAX_SOCKET_MESSAGE))
        .read_buffer_size(limits::READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * limits::MAX_SOCKET_MESSAGE)
}

/// Why one side is read no further.
enum Stop {
    /// It said so.
    Closed(Option<CloseFrame>),
    /// It went away without a word.
    Gone,
    /// The other side did.
    OtherGone,
    /// What it sent is no WebSocket.
    Malformed,
    /// A message of more than [`limits::MAX_SOCKET_MESSAGE`] bytes.
    TooLarge,
    /// What it said may not pass.
    Fault(BodyFault),
    /// There is no room for what it says.
    Full(Refusal),
}

/// Passes on what one side says; `passed` is told of each message.
async fn pump<R, W>(from: &mut R, to: &mut W, reader: &mut Reader, passed: impl Fn()) -> Stop
where
    R: Stream<Item = Result<Frame, Error>> + Unpin,
    W: Sink<Frame, Error = Error> + Unpin,
{
    loop {
        let read = match from.next().await {
            Some(Ok(Frame::Text(text))) => reader.read(text.as_bytes(), true).map(|read| (read, true)),
            Some(Ok(Frame::Binary(bytes))) => reader.read(&bytes, false).map(|read| (read, false)),
            Some(Ok(Frame::Close(words))) => return reader.last_words(words),
            Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_))) => continue,
            Some(Err(Error::Capacity(CapacityError::MessageTooLong { .. }))) => return Stop::TooLarge,
            Some(Err(Error::Io(error))) => return Stop::of_io(&error),
            Some(Err(
                Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::ConnectionClosed,
            ))
            | None => {
                return Stop::Gone;
            }
            Some(Err(_)) => return Stop::Malformed,
        };
        let message = match read {
            Ok((read, is_text)) => message(read, is_text),
            Err(fault) => return Stop::Fault(fault),
        };
        let Some(message) = message else { return Stop::Malformed };
        if to.send(message).await.is_err() {
            return Stop::OtherGone;
        }
        passed();
    }
}

/// The one place where a message for the other side is made.
fn message(read: Screened<Vec<u8>>, is_text: bool) -> Option<Frame> {
    let bytes = read.into_inner();
    match is_text {
        true => String::from_utf8(bytes).ok().map(Frame::text),
        false => Some(Frame::binary(bytes)),
    }
}

impl Reader {
    /// The reason that a side gives is text like any other.
    fn last_words(&mut self, words: Option<CloseFrame>) -> Stop {
        let Some(words) = words else { return Stop::Closed(None) };
        let read = match self.read(words.reason.as_bytes(), true) {
            Ok(read) => read.into_inner(),
            Err(fault) => return Stop::Fault(fault),
        };
        // What was put in the place of something may not fit.
        let fits = String::from_utf8(read).ok().filter(|reason| reason.len() <= 123);
        Stop::Closed(Some(CloseFrame { code: words.code, reason: fits.unwrap_or_default().into() }))
    }
}

/// How it ended: what both sides are told, and what the record says.
struct End {
    last: Option<CloseFrame>,
    outcome: Outcome,
}

/// How a WebSocket ended.
pub(crate) enum Outcome {
    /// As it should.
    Done,
    /// The client went away.
    Left,
    /// It was cut off, or broke.
    Error(SendError),
}

impl Stop {
    fn of_io(error: &std::io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<Full>()) {
            Some(Full(refusal)) => Self::Full(refusal.clone()),
            None => Self::Gone,
        }
    }

    fn of_client(self) -> End {
        match self {
            Self::Closed(last) => End { last, outcome: Outcome::Done },
            Self::Gone => End { last: words(CloseCode::Away, ""), outcome: Outcome::Left },
            Self::OtherGone => End::failed(Failure::Upstream(UpstreamFault::ClosedEarly), CloseCode::Away),
            Self::Malformed => {
                End::refused(Refusal::new(&rules::MALFORMED, "a frame of a WebSocket"), CloseCode::Protocol)
            }
            Self::TooLarge => {
                let detail = format!("a message of more than {} bytes", limits::MAX_SOCKET_MESSAGE);
                End::refused(Refusal::new(&rules::TOO_LARGE, detail), CloseCode::Size)
            }
            Self::Fault(BodyFault::TooLarge(most)) => End::refused(
                Refusal::new(&rules::TOO_LARGE, format!("messages of more than {most}")),
                CloseCode::Size,
            ),
            Self::Fault(fault) => End::of(fault),
            Self::Full(refusal) => End::refused(refusal, CloseCode::Again),
        }
    }

    fn of_upstream(self) -> End {
        let failed = |fault, code| End::failed(Failure::Upstream(fault), code);
        match self {
            Self::Closed(last) => End { last, outcome: Outcome::Done },
            Self::Gone => failed(UpstreamFault::ClosedEarly, CloseCode::Away),
            Self::OtherGone => End { last: words(CloseCode::Away, ""), outcome: Outcome::Left },
            Self::Malformed => failed(UpstreamFault::Malformed, CloseCode::Protocol),
            Self::TooLarge => failed(UpstreamFault::BodyTooLarge, CloseCode::Size),
            Self::Fault(fault) => End::of(fault),
            Self::Full(refusal) => End::refused(refusal, CloseCode::Again),
        }
    }
}

impl End {
    fn of(fault: BodyFault) -> Self {
        match fault.refusal() {
            Some(refusal) => Self::refused(refusal.clone(), CloseCode::Policy),
            None => Self::failed(Failure::Upstream(UpstreamFault::BodyTooLarge), CloseCode::Size),
        }
    }

    /// Both sides are told the rule.
    fn refused(refusal: Refusal, code: CloseCode) -> Self {
        Self { last: words(code, refusal.rule.id), outcome: Outcome::Error(refusal.into()) }
    }

    fn cut(error: SendError) -> Self {
        match error {
            SendError::Refused(refusal) => Self::refused(refusal, CloseCode::Policy),
            SendError::Failed(failure) => Self::failed(failure, CloseCode::Away),
        }
    }

    fn failed(failure: Failure, code: CloseCode) -> Self {
        Self { last: words(code, ""), outcome: Outcome::Error(failure.into()) }
    }
}

fn words(code: CloseCode, reason: &'static str) -> Option<CloseFrame> {
    Some(CloseFrame { code, reason: reason.into() })
}

/// Tells a side that it is over, and waits a moment for it to agree.
async fn say_last<R, W>(to: &mut W, from: &mut R, last: Option<CloseFrame>)
where
    R: Stream<Item = Result<Frame, Error>> + Unpin,
    W: Sink<Frame, Error = Error> + Unpin,
{
    let said = async {
        // It may have said so itself, or be gone.
        let _ = to.send(Frame::Close(last)).await;
        while let Some(Ok(_)) = from.next().await {}
    };
    let _ = timeout(CLOSE_TIME, said).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever said too much is named in the record: a client's is a refusal, an upstream's a failure.
    #[test]
    fn t13_too_much_is_laid_to_the_side_that_said_it() {
        let fault = || Stop::Fault(BodyFault::TooLarge(Limit::kib(1)));
        let own = fault().of_client();
        assert_eq!(own.last.unwrap().code, CloseCode::Size);
        assert!(
            matches!(own.outcome, Outcome::Error(SendError::Refused(refusal)) if refusal.rule.id == rules::TOO_LARGE.id)
        );
        let theirs = fault().of_upstream();
        assert_eq!(theirs.last.unwrap().code, CloseCode::Size);
        let failure = Failure::Upstream(UpstreamFault::BodyTooLarge);
        assert!(matches!(theirs.outcome, Outcome::Error(SendError::Failed(found)) if found == failure));
    }
}
