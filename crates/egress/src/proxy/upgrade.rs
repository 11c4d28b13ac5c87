//! A client that asks for a WebSocket: its handshake (RFC 6455, 4.2.1), and what becomes of it.
//!
//! It is a request like every other until it is answered. In HTTP/2 it is an extended CONNECT (RFC 8441), which is read as
//! the same request: what is decided, asked of the upstream and screened does not depend on the version.

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
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use policy::{Asker, Permit};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use types::{Outbound, Refusal};

use super::Shared;
use super::answer::{self, Outward};
use super::request::place_of;
use crate::budget::Share;
use crate::cut::Cut;
use crate::headers::Message;
use crate::rules;
use crate::silence::Silence;
use crate::socket::{Opened, Socket};

/// A client that waits for its WebSocket.
pub(super) struct Upgrade {
    /// What proves the handshake was read, which HTTP/1.1 alone asks for.
    accept: Option<HeaderValue>,
    client: OnUpgrade,
}

impl Shared {
    /// Takes the handshake out of a request. `None` where there is none for a WebSocket; what else asks for another
    /// protocol is refused with the other headers that change what a request means.
    pub(super) fn upgrade(&self, request: &mut Request<Incoming>) -> Result<Option<Upgrade>, Refusal> {
        if let Some(protocol) = request.extensions_mut().remove::<Protocol>() {
            return extended(&protocol, request).map(Some);
        }
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
        for name in [UPGRADE, CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_EXTENSIONS]
        {
            request.headers_mut().remove(name);
        }
        Ok(Some(Upgrade { accept: Some(accept), client: hyper::upgrade::on(request) }))
    }

    /// Opens a WebSocket for which there is a permit.
    pub(super) async fn open(
        self: Arc<Self>,
        permit: Permit<Outbound>,
        message: Message,
        upgrade: Upgrade,
        share: Share,
        (asked, asker): (&str, Asker),
    ) -> Response<Outward> {
        let of = place_of(permit.effect());
        let mut cut = Cut { refused: self.clone().revoked(&permit), left: Box::pin(asker.gone()) };
        let opened = self.egress.open(permit, message, self.run.turn().trace(), &mut cut).await;
        let (head, socket) = match opened {
            Ok(Opened::Socket(head, socket)) => (head, socket),
            Ok(Opened::Answer(response)) => {
                return self.passed_on(*response, (cut.refused, of), (share, None));
            }
            Err(error) => return answer::unsent(&error, asked),
        };
        let mut response = answer::empty();
        let (status, headers) = (head.status(), head.into_parts().0.headers);
        *response.headers_mut() = headers;
        // In HTTP/2 the stream is opened by 200, and no header is about the connection (RFC 8441, 5).
        if let Some(accept) = upgrade.accept.clone() {
            *response.status_mut() = status;
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
            response.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
        }
        self.see_through(self.clone().converse(upgrade, socket, cut.refused, share));
        response
    }

    /// Carries the conversation until it ends or the proxy is dropped.
    async fn converse(
        self: Arc<Self>,
        upgrade: Upgrade,
        socket: Box<Socket>,
        refused: BoxFuture<'static, Refusal>,
        share: Share,
    ) {
        let Upgrade { client, .. } = upgrade;
        let Ok(Ok(client)) = timeout(self.bounds.handshake, client).await else {
            return socket.close().await;
        };
        let mut watch = self.placeholders.watch();
        let watch = Box::new(move |bytes: &[u8]| watch.pass(bytes).map(drop));
        let (mut closed, silence) = (self.closed.clone(), Silence::of(self.bounds.silence));
        let left = Box::pin(async move { drop(closed.changed().await) });
        drop(self);
        socket.relay(TokioIo::new(client), (share, silence), watch, Cut { refused, left }).await;
    }
}

/// Takes an extended CONNECT for the GET that it is in HTTP/1.1 (RFC 8441, 4 and 5).
fn extended(protocol: &Protocol, request: &mut Request<Incoming>) -> Result<Upgrade, Refusal> {
    if protocol.as_str() != "websocket" {
        return Err(Refusal::new(
            &rules::ROUTING_HEADER,
            "an extended CONNECT for another protocol than websocket",
        ));
    }
    let headers = request.headers();
    let is_known = one(headers, &SEC_WEBSOCKET_VERSION) == Some(b"13");
    let is_keyed = [SEC_WEBSOCKET_KEY, UPGRADE, CONNECTION].iter().any(|name| headers.contains_key(name));
    if !is_known || is_keyed || request.uri().path().is_empty() {
        return Err(Refusal::new(&rules::MALFORMED, "the handshake of a WebSocket in HTTP/2"));
    }
    for name in [SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_EXTENSIONS] {
        request.headers_mut().remove(name);
    }
    *request.method_mut() = Method::GET;
    Ok(Upgrade { accept: None, client: hyper::upgrade::on(request) })
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
