//! A client that asks for a WebSocket: its handshake (RFC 6455, 4.2.1), and what becomes of it.
//!
//! It is a request like every other until it is answered. HTTP/2 has a handshake of its own (RFC 8441), which is not
//! offered: a client that knows it asks in HTTP/1.1 then, on another connection.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::BoxFuture;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{Method, Response, Version};
use hyper::Request;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use policy::Permit;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use types::{Outbound, Refusal};

use super::Shared;
use super::answer::{self, Outward};
use crate::headers::Message;
use crate::rules;
use crate::socket::{Opened, Socket};

/// WebSockets of one run that are open at a time: a message of each side may be held whole.
pub(super) const MOST_SOCKETS: usize = 64;

/// A client that waits for its WebSocket.
pub(super) struct Upgrade {
    accept: HeaderValue,
    client: OnUpgrade,
    slot: OwnedSemaphorePermit,
}

impl Shared {
    /// Takes the handshake out of a request. `None` where there is none for a WebSocket; what else asks for another
    /// protocol is refused with the other headers that change what a request means.
    pub(super) fn upgrade(&self, request: &mut Request<Incoming>) -> Result<Option<Upgrade>, Refusal> {
        let headers = request.headers();
        let to = headers.get(UPGRADE).map(HeaderValue::as_bytes).unwrap_or_default();
        if !to.eq_ignore_ascii_case(b"websocket") || !headers.contains_key(SEC_WEBSOCKET_KEY) {
            return Ok(None);
        }
        let malformed = || Refusal::new(&rules::MALFORMED, "the handshake of a WebSocket");
        let one = |name| one(headers, &name).ok_or_else(malformed);
        let (key, version) = (one(SEC_WEBSOCKET_KEY)?, one(SEC_WEBSOCKET_VERSION)?);
        one(UPGRADE)?;
        let decoded = STANDARD.decode(key).unwrap_or_default();
        let may = request.method() == Method::GET && request.version() == Version::HTTP_11;
        if !may || version != b"13" || decoded.len() != 16 || !is_for_upgrade(headers) {
            return Err(malformed());
        }
        let accept = derive_accept_key(key);
        let accept = HeaderValue::from_str(&accept).map_err(|_| malformed())?;
        let busy = |_| Refusal::new(&rules::BUSY, format!("{MOST_SOCKETS} WebSockets are open"));
        let slot = self.sockets.clone().try_acquire_owned().map_err(busy)?;
        for name in [UPGRADE, CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_EXTENSIONS]
        {
            request.headers_mut().remove(name);
        }
        Ok(Some(Upgrade { accept, client: hyper::upgrade::on(request), slot }))
    }

    /// Opens a WebSocket for which there is a permit.
    pub(super) async fn open(
        self: Arc<Self>,
        permit: Permit<Outbound>,
        message: Message,
        upgrade: Upgrade,
        asked: &str,
    ) -> Response<Outward> {
        let mut revoked = self.clone().revoked(permit.effect());
        let opened = tokio::select! {
            opened = self.egress.open(permit, message, self.run.turn().trace()) => opened,
            refusal = &mut revoked => return answer::refused(&refusal, Some(asked)),
        };
        let (head, socket) = match opened {
            Ok(Opened::Socket(head, socket)) => (head, socket),
            Ok(Opened::Answer(response)) => return answer::passed_on(*response, revoked),
            Err(error) => return answer::unsent(&error, asked),
        };
        let mut response = answer::empty();
        *response.status_mut() = head.status();
        *response.headers_mut() = head.into_parts().0.headers;
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, upgrade.accept.clone());
        tokio::spawn(self.converse(upgrade, socket, revoked));
        response
    }

    /// Carries the conversation until it ends or the proxy is dropped.
    async fn converse(
        self: Arc<Self>,
        upgrade: Upgrade,
        socket: Box<Socket>,
        revoked: BoxFuture<'static, Refusal>,
    ) {
        let Upgrade { client, slot: _slot, .. } = upgrade;
        let Ok(Ok(client)) = timeout(self.bounds.handshake, client).await else { return };
        let mut watch = self.placeholders.watch();
        let watch = Box::new(move |bytes: &[u8]| watch.pass(bytes).map(drop));
        let mut closed = self.closed.clone();
        drop(self);
        tokio::select! {
            () = socket.relay(TokioIo::new(client), watch, revoked) => {}
            _ = closed.changed() => {}
        }
    }
}

/// The value of a header that stands there once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
}

fn is_for_upgrade(headers: &HeaderMap) -> bool {
    let values = headers.get_all(CONNECTION).iter();
    let mut tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    tokens.any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"))
}
