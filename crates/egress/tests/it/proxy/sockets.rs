//! WebSockets, read message by message (attacks T13, C04, C08, C19).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use egress::Config;
use egress::loopback::{Loopback, reply};
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::handshake::server::{Request as Asked, Response as Agreed};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};
use types::{Field, Host, HostName, Verdict};

use super::world::{Granted, World, leads_to, reach};
use crate::listener::Listener;
use crate::raw::Raw;
use crate::world::host;

const TIME: Duration = Duration::from_secs(20);

/// A server that answers each message by what a function makes of it and of the headers it was opened with.
pub(super) struct Server {
    pub(super) config: Config,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
    heard: Arc<Mutex<Vec<Message>>>,
    task: JoinHandle<()>,
}

pub(super) type Answer = fn(&HeaderMap, &Message) -> Vec<Message>;

pub(super) fn echo(_: &HeaderMap, message: &Message) -> Vec<Message> {
    vec![message.clone()]
}

impl Server {
    pub(super) async fn start(name: &HostName, answer: Answer) -> Self {
        // It would speak HTTP/2, too, if it was offered.
        let (listener, config) = Listener::of(name, &["h2", "http/1.1"]).await;
        let (heads, heard) = (Arc::<Mutex<Vec<HeaderMap>>>::default(), Arc::<Mutex<Vec<Message>>>::default());
        let seen = (heads.clone(), heard.clone());
        let task = tokio::spawn(async move {
            while let Some(stream) = listener.next().await {
                let (heads, heard) = seen.clone();
                tokio::spawn(async move {
                    let mut own = HeaderMap::new();
                    #[allow(clippy::result_large_err, reason = "the library's signature")]
                    let agree = |asked: &Asked, mut agreed: Agreed| {
                        own = asked.headers().clone();
                        heads.lock().unwrap().push(own.clone());
                        if let Some(protocol) = own.get("sec-websocket-protocol") {
                            agreed.headers_mut().insert("sec-websocket-protocol", protocol.clone());
                        }
                        Ok(agreed)
                    };
                    let Ok(mut socket) = accept_hdr_async(stream, agree).await else { return };
                    while let Some(Ok(message)) = socket.next().await {
                        heard.lock().unwrap().push(message.clone());
                        if message.is_text() || message.is_binary() {
                            for message in answer(&own, &message) {
                                let _ = socket.send(message).await;
                            }
                        }
                    }
                });
            }
        });
        Self { config, heads, heard, task }
    }

    fn heard(&self) -> Vec<Message> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(super) type Client = WebSocketStream<TlsStream<TcpStream>>;

/// Opens a WebSocket through the proxy, with a sub-protocol and an extension that it asks for.
pub(super) async fn open(
    world: &World,
    name: &HostName,
    path: &str,
    headers: &[(&'static str, String)],
) -> Result<Client, Error> {
    let stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
    let mut request = Request::get(format!("wss://{name}{path}"))
        .header("host", name.as_str())
        .header("connection", "keep-alive, Upgrade")
        .header("upgrade", "WebSocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("sec-websocket-extensions", "permessage-deflate; client_max_window_bits");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let (client, answer) = timeout(TIME, client_async(request.body(()).unwrap(), stream)).await.unwrap()?;
    assert!(!answer.headers().contains_key("sec-websocket-extensions"));
    Ok(client)
}

pub(super) async fn hear(client: &mut Client) -> Message {
    timeout(TIME, client.next()).await.expect("a message in time").expect("a message").unwrap()
}

/// Why a client was told that it is over, and all that it heard before.
pub(super) async fn last(client: &mut Client) -> (Option<CloseFrame>, Vec<Message>) {
    let mut heard = Vec::new();
    loop {
        match timeout(TIME, client.next()).await.expect("an end in time") {
            Some(Ok(Message::Close(frame))) => return (frame, heard),
            Some(Ok(message)) => heard.push(message),
            other => panic!("no close: {other:?} after {heard:?}"),
        }
    }
}

fn policy(rule: &'static str) -> Option<CloseFrame> {
    Some(CloseFrame { code: CloseCode::Policy, reason: rule.into() })
}

#[tokio::test]
async fn t13_messages_go_back_and_forth_and_the_record_counts_them() {
    let name = host();
    let server = Server::start(&name, echo).await;
    let granted = Granted { host: &name, path: "/chat", inject: "bearer" };
    let world = World::with_secret(server.config.clone(), reach(&[name.as_str()]), granted).await;
    let headers = [
        ("authorization", format!("Bearer {}", world.placeholder())),
        ("sec-websocket-protocol", "talk".to_owned()),
    ];
    let mut client = open(&world, &name, "/chat", &headers).await.unwrap();
    let mut long = vec![7; 300_000];
    long[1000] = 0;
    for message in [Message::text("hello"), Message::binary(long), Message::text("")] {
        client.send(message.clone()).await.unwrap();
        assert_eq!(hear(&mut client).await, message);
    }
    // In pieces, with a ping between them, which is answered and goes no further.
    client.send(Message::Frame(Frame::message("in ", OpCode::Data(Data::Text), false))).await.unwrap();
    client.send(Message::Ping("x".into())).await.unwrap();
    client.send(Message::Frame(Frame::message("pieces", OpCode::Data(Data::Continue), true))).await.unwrap();
    assert_eq!(hear(&mut client).await, Message::Pong("x".into()));
    assert_eq!(hear(&mut client).await, Message::text("in pieces"));
    let bye = CloseFrame { code: CloseCode::Library(4001), reason: "bye".into() };
    client.close(Some(bye.clone())).await.unwrap();
    assert_eq!(last(&mut client).await.0, Some(bye.clone()));
    while timeout(TIME, client.next()).await.unwrap().is_some() {}
    assert_eq!(server.heard().last(), Some(&Message::Close(Some(bye))));
    assert!(!server.heard().iter().any(Message::is_ping));

    let heads = server.heads.lock().unwrap().clone();
    let [head] = &heads[..] else { panic!("{heads:?}") };
    assert_eq!(head["authorization"], format!("Bearer {}", world.key));
    assert_eq!(head["sec-websocket-protocol"], "talk");
    assert!(!head.contains_key("sec-websocket-extensions"));
    assert_ne!(head["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");
    let settled = world.settled().await;
    let [record] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!((record.verdict, record.field(Field::Status)), (Verdict::Done, Some("101")));
    // Both ways: three messages, one of nothing, and three letters of a reason, which one side alone gave.
    let said = 5 + 300_000 + 9;
    assert_eq!(record.field(Field::Received), Some(said.to_string().as_str()));
    assert!(record.field(Field::Sent).unwrap().parse::<usize>().unwrap() > said);
}

#[tokio::test]
async fn t13_a_handshake_is_decided_like_any_request() {
    let name = host();
    let served = Host::Name(name.clone());
    let upstream = Loopback::https(&served, |_| reply(StatusCode::OK, "no socket")).await.unwrap();
    let world = World::new(leads_to(&upstream, &name), reach(&[&format!("GET:{name}/public")])).await;
    let refused = open(&world, &name, "/secret", &[]).await.unwrap_err();
    assert!(matches!(refused, Error::Http(answer) if answer.status() == 403));
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (headers, code) in [
        (format!("Upgrade: websocket\r\nConnection: upgrade\r\n{key}\r\nSec-WebSocket-Version: 12"), "egress.malformed"),
        (format!("Upgrade: websocket\r\n{key}\r\nSec-WebSocket-Version: 13"), "egress.malformed"),
        ("Upgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: short\r\nSec-WebSocket-Version: 13".to_owned(), "egress.malformed"),
        (format!("Upgrade: h2c\r\nConnection: upgrade\r\n{key}"), "egress.routing-header"),
    ] {
        let request = format!("GET /public HTTP/1.1\r\nHost: {name}\r\n{headers}\r\n\r\n");
        assert_eq!(world.inside(name.as_str(), &request).await.code(), code, "{headers}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    // A server that does not agree is heard like any other.
    let other = open(&world, &name, "/public", &[]).await.unwrap_err();
    assert!(matches!(other, Error::Http(answer) if answer.status() == 200));
}

#[tokio::test]
async fn t13_an_answer_that_agrees_to_something_else_opens_nothing() {
    fn accept(head: &str) -> String {
        let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
        tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes())
    }
    type Lines = fn(&str) -> String;
    let answers: [Lines; 5] = [
        |_| "Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".to_owned(),
        |head| format!("Upgrade: h2c\r\nSec-WebSocket-Accept: {}", accept(head)),
        |head| {
            format!(
                "Upgrade: websocket\r\nSec-WebSocket-Accept: {}\r\nSec-WebSocket-Extensions: permessage-deflate",
                accept(head)
            )
        },
        |head| {
            format!(
                "Upgrade: websocket\r\nSec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: other",
                accept(head)
            )
        },
        |_| "Upgrade: websocket".to_owned(),
    ];
    for answer in answers {
        let name = host();
        let raw = Raw::start(&name, move |head| {
            format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n{}\r\n\r\n", answer(head))
                .into_bytes()
        })
        .await;
        let world = World::new(raw.config.clone(), reach(&[name.as_str()])).await;
        let failed = open(&world, &name, "/", &[]).await.unwrap_err();
        assert!(matches!(&failed, Error::Http(answer) if answer.status() == 502), "{failed:?}");
    }
}

/// Ways to say something.
fn ways(text: &str) -> Vec<Vec<Message>> {
    let (first, second) = text.split_at(text.len() / 2);
    let binary = [&b"\0\x01"[..], text.as_bytes(), b"\0"].concat();
    let part = |text: &str, kind, is_last| {
        Message::Frame(Frame::message(text.to_owned(), OpCode::Data(kind), is_last))
    };
    vec![
        vec![Message::text(format!("a {text} b"))],
        vec![Message::binary(binary)],
        vec![part(first, Data::Text, false), Message::Ping("x".into()), part(second, Data::Continue, true)],
        // No part of it is long enough to be recognised by itself.
        text.as_bytes().chunks(13).map(|part| Message::binary(part.to_owned())).collect(),
        vec![Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: text.to_owned().into() }))],
    ]
}

#[tokio::test]
async fn t13_c04_what_may_not_leave_ends_a_socket_however_it_is_said() {
    for (is_key, rule) in [(true, "leaks.known-value"), (false, "egress.placeholder")] {
        for nth in 0..5 {
            let name = host();
            let server = Server::start(&name, echo).await;
            let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
            let hidden = if is_key { world.key.clone() } else { world.placeholder() };
            let mut client = open(&world, &name, "/", &[]).await.unwrap();
            client.send(Message::text("hello")).await.unwrap();
            assert_eq!(hear(&mut client).await, Message::text("hello"));
            for message in ways(&hidden).swap_remove(nth) {
                client.send(message).await.unwrap();
            }
            let (end, _) = last(&mut client).await;
            // Who said that it is over is answered by its own words.
            if nth != 4 {
                assert_eq!(end, policy(rule), "{rule} {nth}");
            }
            while timeout(TIME, client.next()).await.unwrap().is_some() {}
            let settled = world.settled().await;
            let [record] = &settled[..] else { panic!("{settled:?}") };
            assert_eq!((record.verdict, record.field(Field::Rule)), (Verdict::Block, Some(rule)), "{nth}");
            let heard = server.heard();
            assert_eq!(heard.last(), Some(&Message::Close(policy(rule))), "{nth}");
            assert!(!format!("{heard:?}").contains(&hidden), "{nth}: {heard:?}");
        }
    }
}

/// Gives the key back in one of the [`ways`].
fn tell(headers: &HeaderMap, message: &Message) -> Vec<Message> {
    let key = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap().to_owned();
    ways(&key).swap_remove(message.to_text().unwrap().parse().unwrap())
}

#[tokio::test]
async fn c08_t13_a_key_that_comes_back_ends_a_socket_however_it_is_said() {
    for nth in 0..5 {
        let name = host();
        let server = Server::start(&name, tell).await;
        let granted = Granted { host: &name, path: "/", inject: "bearer" };
        let world = World::with_secret(server.config.clone(), reach(&[name.as_str()]), granted).await;
        let headers = [("authorization", format!("Bearer {}", world.placeholder()))];
        let mut client = open(&world, &name, "/", &headers).await.unwrap();
        client.send(Message::text(nth.to_string())).await.unwrap();
        let (end, heard) = last(&mut client).await;
        assert_eq!(end, policy("leaks.known-value"), "{nth}");
        let heard = format!("{heard:?}");
        assert!(
            world.key.as_bytes().windows(20).all(|part| !heard.contains(std::str::from_utf8(part).unwrap())),
            "{nth}: {heard}"
        );
        while timeout(TIME, client.next()).await.unwrap().is_some() {}
        let settled = world.settled().await;
        let [record] = &settled[..] else { panic!("{settled:?}") };
        assert_eq!(
            (record.verdict, record.field(Field::Rule)),
            (Verdict::Block, Some("leaks.known-value")),
            "{nth}"
        );
    }
}

#[tokio::test]
async fn t13_a_message_without_end_is_not_put_together() {
    let name = host();
    let server = Server::start(&name, echo).await;
    let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
    let mut client = open(&world, &name, "/", &[]).await.unwrap();
    let piece = "x".repeat(512 * 1024);
    for nth in 0..9 {
        let kind = if nth == 0 { Data::Text } else { Data::Continue };
        // It may be over before all was said.
        if client
            .send(Message::Frame(Frame::message(piece.clone(), OpCode::Data(kind), false)))
            .await
            .is_err()
        {
            break;
        }
    }
    let end = last(&mut client).await.0.unwrap();
    assert_eq!(end.code, CloseCode::Size);
    assert!(server.heard().iter().all(|message| !message.is_text()));
}

#[tokio::test]
async fn c19_whatever_is_taken_back_ends_a_socket() {
    for taken in ["the grant", "the secret", "the rule"] {
        let name = host();
        let server = Server::start(&name, echo).await;
        let granted = Granted { host: &name, path: "/", inject: "bearer" };
        let world = World::with_secret(server.config.clone(), reach(&[name.as_str()]), granted).await;
        let bearer = [("authorization", format!("Bearer {}", world.placeholder()))];
        // Where there is no secret, the rule alone let it through.
        let headers = if taken == "the rule" { &[][..] } else { &bearer };
        let mut client = open(&world, &name, "/", headers).await.unwrap();
        client.send(Message::text("hello")).await.unwrap();
        assert_eq!(hear(&mut client).await, Message::text("hello"));
        match taken {
            "the grant" => world.revoke().await,
            "the secret" => world.disable().await,
            _ => world.proxy.run().replace(reach(&["other.example"])),
        }
        assert_eq!(last(&mut client).await.0.unwrap().code, CloseCode::Policy, "{taken}");
        assert_eq!(world.refusals().await.len(), 1, "{taken}");
    }
}

type OverHttp2 = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Asks for a protocol in HTTP/2 (RFC 8441); the stream where it was agreed to, the status and code of a refusal else.
async fn open_over_http2(
    world: &World,
    name: &HostName,
    path: &str,
    protocol: &'static str,
    headers: &[(&'static str, String)],
) -> Result<OverHttp2, (u16, String)> {
    let stream = TokioIo::new(world.secured_for_http2(name.as_str()).await);
    let (mut sender, connection) =
        hyper::client::conn::http2::Builder::new(TokioExecutor::new()).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    // The server's settings, which say that it may be asked, are here with the first answer.
    let empty = http_body_util::Empty::<bytes::Bytes>::new;
    let first = Request::get(format!("https://{name}/none")).body(empty()).unwrap();
    let _ = timeout(TIME, sender.send_request(first)).await.unwrap();
    let mut request = Request::connect(format!("https://{name}{path}"));
    request = request.extension(hyper::ext::Protocol::from_static(protocol));
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let answer = timeout(TIME, sender.send_request(request.body(empty()).unwrap())).await.unwrap().unwrap();
    if answer.status() != 200 {
        let status = answer.status().as_u16();
        let told = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        let told: serde_json::Value = serde_json::from_slice(&told).unwrap_or_default();
        return Err((status, told["error"]["code"].as_str().unwrap_or_default().to_owned()));
    }
    assert!(
        ["upgrade", "connection", "sec-websocket-accept"]
            .iter()
            .all(|own| !answer.headers().contains_key(*own))
    );
    let stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    let role = tokio_tungstenite::tungstenite::protocol::Role::Client;
    Ok(WebSocketStream::from_raw_socket(stream, role, None).await)
}

/// What holds of a WebSocket in HTTP/1.1 holds of one in HTTP/2.
#[tokio::test]
async fn t13_over_http2_a_socket_is_decided_and_read_like_any_other() {
    let name = host();
    let server = Server::start(&name, echo).await;
    let granted = Granted { host: &name, path: "/chat", inject: "bearer" };
    let world =
        World::with_secret(server.config.clone(), reach(&[&format!("GET:{name}/chat")]), granted).await;
    let version = ("sec-websocket-version", "13".to_owned());
    let bearer = ("authorization", format!("Bearer {}", world.placeholder()));
    for (path, protocol, headers, refused) in [
        ("/secret", "websocket", vec![version.clone()], (403, "policy.method-or-path")),
        ("/chat", "websocket", vec![], (400, "egress.malformed")),
        ("/chat", "connect-udp", vec![version.clone()], (403, "egress.routing-header")),
    ] {
        let (status, code) = open_over_http2(&world, &name, path, protocol, &headers).await.unwrap_err();
        assert_eq!((status, &*code), refused, "{path} {protocol}");
    }
    assert!(server.heads.lock().unwrap().is_empty());
    let asks = [version, bearer, ("sec-websocket-extensions", "permessage-deflate".to_owned())];
    let mut client = open_over_http2(&world, &name, "/chat", "websocket", &asks).await.unwrap();
    client.send(Message::text("hello")).await.unwrap();
    let heard = timeout(TIME, client.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(heard, Message::text("hello"));
    client.send(Message::text(world.placeholder())).await.unwrap();
    let end = loop {
        match timeout(TIME, client.next()).await.unwrap() {
            Some(Ok(Message::Close(frame))) => break frame,
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(end, policy("egress.placeholder"));
    let heads = server.heads.lock().unwrap().clone();
    let [head] = &heads[..] else { panic!("{heads:?}") };
    assert_eq!(head["authorization"], format!("Bearer {}", world.key));
    assert!(!head.contains_key("sec-websocket-extensions"));
    assert!(!format!("{:?}", server.heard()).contains("sk-"));
    while let Ok(Some(Ok(_))) = timeout(TIME, client.next()).await {}
    let settled = world.settled().await;
    assert!(
        settled.iter().any(|record| record.field(Field::Rule) == Some("egress.placeholder")),
        "{settled:?}"
    );
}

/// Neither side says anything, pings neither.
#[tokio::test]
async fn a01_a_silent_socket_is_ended() {
    let name = host();
    let server = Server::start(&name, echo).await;
    let bounds = egress::proxy::Bounds { silence: Duration::from_secs(1), ..Default::default() };
    let world = World::with(server.config.clone(), reach(&[name.as_str()]), None, bounds).await;
    let mut client = open(&world, &name, "/", &[]).await.unwrap();
    client.send(Message::text("hello")).await.unwrap();
    assert_eq!(hear(&mut client).await, Message::text("hello"));
    let end = last(&mut client).await.0.unwrap();
    assert_eq!((end.code, end.reason.as_str()), (CloseCode::Away, "egress.silent"));
    while timeout(TIME, client.next()).await.unwrap().is_some() {}
    assert_eq!(world.refusals().await, ["egress.silent"]);
}
