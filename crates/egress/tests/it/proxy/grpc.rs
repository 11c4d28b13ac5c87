//! Conversations: gRPC, and bodies that are answered before they end (attacks T10, T14, C03, C15).

use std::time::Duration;

use bytes::Bytes;
use egress::proxy::Bounds;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;
use tokio::time::timeout;
use types::{Field, Verdict};

use super::world::{Granted, World, reach};
use crate::echo_server::EchoServer;
use crate::world::host;

const TIME: Duration = Duration::from_secs(20);

fn ok(_: &HeaderMap) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static("0"))])
}

/// Gives the credential back in a trailer.
fn telling(headers: &HeaderMap) -> HeaderMap {
    HeaderMap::from_iter([("grpc-message".parse().unwrap(), headers["authorization"].clone())])
}

/// A message behind its prefix.
fn message(text: &str) -> Bytes {
    [&[0][..], &u32::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat().into()
}

pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Sends a request and waits for the head of its answer.
pub(super) async fn answer_to(
    world: &World,
    mut request: Request<Body>,
    version: Version,
) -> hyper::Result<Response<Incoming>> {
    let name = request.headers()["host"].to_str().unwrap().to_owned();
    if version == Version::HTTP_2 {
        let stream = TokioIo::new(world.secured_for_http2(&name).await);
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
        tokio::spawn(connection);
        request.headers_mut().remove("host");
        return sender.send_request(request).await;
    }
    let stream = TokioIo::new(world.secured(&name, &name).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    *request.uri_mut() = request.uri().path().parse().unwrap();
    sender.send_request(request).await
}

fn whole(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A request whose body is what is said, and its answer as it comes.
struct Call {
    say: mpsc::UnboundedSender<Frame<Bytes>>,
    answer: Response<Incoming>,
}

impl Call {
    /// Sends the head and the first message, and waits for the head of the answer.
    async fn begin(world: &World, request: http::request::Builder, version: Version, first: Bytes) -> Self {
        let (say, said) = mpsc::unbounded_channel();
        say.send(Frame::data(first)).unwrap();
        let said = stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
        let pieces = futures_util::StreamExt::map(said, Ok::<_, std::io::Error>);
        let request = request.body(StreamBody::new(pieces).boxed_unsync()).unwrap();
        let answer = timeout(TIME, answer_to(world, request, version)).await.expect("a head in time");
        Self { say, answer: answer.unwrap() }
    }

    /// The next bytes that come back, as many as were said.
    async fn hears(&mut self, length: usize) -> Bytes {
        let mut heard = Vec::new();
        while heard.len() < length {
            let frame = timeout(TIME, self.answer.body_mut().frame()).await.expect("an answer in time");
            heard.extend_from_slice(&frame.expect("more").unwrap().into_data().unwrap());
        }
        heard.into()
    }
}

fn post(name: &str, path: &str) -> http::request::Builder {
    Request::post(format!("https://{name}{path}")).header("host", name)
}

fn grpc(name: &str, path: &str) -> http::request::Builder {
    post(name, path).header("content-type", "application/grpc+proto").header("te", "trailers")
}

#[tokio::test]
async fn t14_a_grpc_conversation_goes_back_and_forth_and_ends_with_its_trailers() {
    let name = host();
    let server = EchoServer::start(&name, Version::HTTP_2, ok).await;
    let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
    let request = grpc(name.as_str(), "/pkg.Service/Talk").header("grpc-accept-encoding", "gzip");
    let mut call = Call::begin(&world, request, Version::HTTP_2, message("first")).await;
    assert_eq!((call.answer.status(), call.answer.version()), (StatusCode::OK, Version::HTTP_2));
    for said in ["first", "second, without a line's end", "", "third"] {
        if said != "first" {
            call.say.send(Frame::data(message(said))).unwrap();
        }
        assert_eq!(call.hears(message(said).len()).await, message(said));
    }
    let Call { say, answer } = call;
    drop(say);
    let rest = timeout(TIME, answer.into_body().collect()).await.unwrap().unwrap();
    assert_eq!(rest.trailers().unwrap()["grpc-status"], "0");
    let heads = server.heads.lock().unwrap().clone();
    let [head] = &heads[..] else { panic!("{heads:?}") };
    assert_eq!(head["te"], "trailers");
    assert!(!head.contains_key("grpc-accept-encoding"));
}

#[tokio::test]
async fn t14_an_answer_begins_before_the_request_has_ended_in_either_version() {
    const LINE: &str = "a line of a conversation\n";
    let line = LINE.repeat(20);
    for upstream in [Version::HTTP_11, Version::HTTP_2] {
        for client in [Version::HTTP_11, Version::HTTP_2] {
            let name = host();
            let server = EchoServer::start(&name, upstream, |_| HeaderMap::new()).await;
            let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
            let media = post(name.as_str(), "/").header("content-type", "text/event-stream");
            let mut call = Call::begin(&world, media, client, line.clone().into()).await;
            // The end, which could be the beginning of a value, waits, and with it its line.
            let heard = call.hears(line.len() - LINE.len()).await;
            assert!(line.as_bytes().starts_with(&heard), "{upstream:?} {client:?}");
            let Call { say, answer } = call;
            drop(say);
            timeout(TIME, answer.into_body().collect()).await.unwrap().unwrap();
        }
    }
}

#[tokio::test]
async fn c15_a_key_in_a_trailer_does_not_reach_the_client() {
    let name = host();
    let server = EchoServer::start(&name, Version::HTTP_2, telling).await;
    let granted = Granted { host: &name, path: "/", inject: "bearer" };
    let world = World::with_secret(server.config.clone(), reach(&[name.as_str()]), granted).await;
    let request =
        grpc(name.as_str(), "/S/M").header("authorization", format!("Bearer {}", world.placeholder()));
    let Call { say, answer } = Call::begin(&world, request, Version::HTTP_2, message("hello")).await;
    drop(say);
    assert!(timeout(TIME, answer.into_body().collect()).await.unwrap().is_err());
    let settled = world.settled().await;
    let ended: Vec<_> =
        settled.iter().map(|record| (record.verdict, record.field(Field::Rule).map(str::to_owned))).collect();
    assert_eq!(ended, [(Verdict::Block, Some("leaks.known-value".to_owned()))]);
}

#[tokio::test]
async fn t10_a_request_with_trailers_is_refused() {
    let name = host();
    let server = EchoServer::start(&name, Version::HTTP_2, ok).await;
    let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("7"))]);
    let frames = [Frame::data(message("hello")), Frame::trailers(trailers)];
    let body = StreamBody::new(stream::iter(frames.map(Ok::<_, std::io::Error>)));
    let stream = TokioIo::new(world.secured_for_http2(name.as_str()).await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post(format!("https://{name}/S/M")).header("content-type", "application/grpc");
    let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 400);
    let told = timeout(TIME, answer.into_body().collect()).await.unwrap().unwrap().to_bytes();
    let told: serde_json::Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["error"]["code"], "egress.request-trailers");
    assert_eq!(world.refusals().await, ["egress.request-trailers"]);
}

#[tokio::test]
async fn t10_trailers_end_a_request_that_streams() {
    let name = host();
    let server = EchoServer::start(&name, Version::HTTP_2, ok).await;
    let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
    let mut call = Call::begin(&world, grpc(name.as_str(), "/S/M"), Version::HTTP_2, message("hello")).await;
    assert_eq!(call.hears(10).await, message("hello"));
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("7"))]);
    call.say.send(Frame::trailers(trailers)).unwrap();
    let rest = timeout(TIME, call.answer.into_body().collect()).await.unwrap();
    assert!(rest.is_err(), "{rest:?}");
    assert_eq!(world.refusals().await, ["egress.request-trailers"]);
}

/// Neither side says anything: what was made for the conversation is given back, on the record.
#[tokio::test]
async fn a01_a_silent_conversation_is_ended() {
    let name = host();
    let server = EchoServer::start(&name, Version::HTTP_2, ok).await;
    let bounds = Bounds { silence: Duration::from_secs(1), ..Bounds::default() };
    let world = World::with(server.config.clone(), reach(&[name.as_str()]), None, bounds).await;
    let mut call = Call::begin(&world, grpc(name.as_str(), "/S/M"), Version::HTTP_2, message("hello")).await;
    assert_eq!(call.hears(10).await, message("hello"));
    let rest = timeout(TIME, call.answer.into_body().collect()).await.unwrap();
    assert!(rest.is_err(), "{rest:?}");
    assert_eq!(world.refusals().await, ["egress.silent"]);
}

#[tokio::test]
async fn c03_c04_a_placeholder_or_a_value_in_a_message_ends_the_conversation() {
    for (is_key, rule) in [(false, "egress.placeholder"), (true, "leaks.known-value")] {
        let name = host();
        let server = EchoServer::start(&name, Version::HTTP_2, ok).await;
        let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
        let hidden = if is_key { world.key.clone() } else { world.placeholder() };
        let request = grpc(name.as_str(), "/S/M");
        let mut call = Call::begin(&world, request, Version::HTTP_2, message("hello")).await;
        assert_eq!(call.hears(10).await, message("hello"));
        call.say.send(Frame::data(message(&format!("\u{1}{hidden}\u{2}")))).unwrap();
        let rest = timeout(TIME, call.answer.into_body().collect()).await.unwrap();
        assert!(rest.is_err(), "{rest:?}");
        let settled = world.settled().await;
        let ended: Vec<_> =
            settled.iter().map(|record| (record.verdict, record.field(Field::Rule))).collect();
        assert_eq!(ended, [(Verdict::Block, Some(rule))]);
    }
}

#[tokio::test]
async fn c10_a_message_that_is_compressed_by_itself_passes_neither_way() {
    let name = host();
    let server = EchoServer::start(&name, Version::HTTP_2, ok).await;
    let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
    let compressed = Bytes::from_static(&[1, 0, 0, 0, 1, 7]);
    let compressed_again = compressed.clone();
    // Whole, and nothing is sent.
    let request = grpc(name.as_str(), "/S/M").body(whole(compressed.clone())).unwrap();
    let answer = answer_to(&world, request, Version::HTTP_2).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let body = timeout(TIME, answer.into_body().collect()).await.unwrap().unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&body).contains("egress.encoded-body"), "{body:?}");
    assert!(server.heads.lock().unwrap().is_empty());
    // Later in a conversation.
    let mut call = Call::begin(&world, grpc(name.as_str(), "/S/M"), Version::HTTP_2, message("hello")).await;
    call.hears(10).await;
    call.say.send(Frame::data(compressed)).unwrap();
    assert!(timeout(TIME, call.answer.into_body().collect()).await.unwrap().is_err());
    // In an answer, of which the client may see the head.
    let request = grpc(name.as_str(), "/compressed").body(whole(message("hello"))).unwrap();
    if let Ok(answer) = answer_to(&world, request, Version::HTTP_2).await {
        assert!(timeout(TIME, answer.into_body().collect()).await.unwrap().is_err());
    }
    // In a stream of Connect, which has the same prefixes.
    let mut request = grpc(name.as_str(), "/S/M").body(whole(compressed_again)).unwrap();
    request.headers_mut().insert("content-type", "application/connect+proto".parse().unwrap());
    let answer = answer_to(&world, request, Version::HTTP_2).await.unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    let rules = world.refusals().await;
    let (sent, came) = ("egress.encoded-body", "egress.disguised-body");
    assert_eq!(rules, [sent, sent, came, sent]);
}
