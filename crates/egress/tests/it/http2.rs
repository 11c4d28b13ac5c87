//! Upstreams that speak HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use egress::error::UpstreamFault;
use egress::loopback::{Loopback, Reply, reply, reply_in_frames};
use egress::{Config, Failure, Message, Payload, SendError, Upload};
use futures_util::{StreamExt as _, stream};
use h2::Reason;
use h2::server::{Connection, SendResponse};
use http::{HeaderMap, Request, StatusCode, Version};
use http_body::Frame;
use safety::BodyFault;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_rustls::server::TlsStream;
use types::{Host, HostName, Verdict};

use crate::listener::Listener;
use crate::world::{Setup, World, headers, host};

const KNOWN: &str = "leaks.known-value";

async fn upstream(
    name: &HostName,
    handler: impl Fn(Request<Bytes>) -> Reply + Send + Sync + 'static,
) -> Loopback {
    Loopback::http2(&Host::Name(name.clone()), handler).await.unwrap()
}

#[tokio::test]
async fn t06_requests_leave_in_http2_where_the_upstream_speaks_it() {
    let name = host();
    let upstream = upstream(&name, |_| reply(StatusCode::OK, "ok")).await;
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    for path in ["/1", "/2?a=b"] {
        let message = headers(&[("te", "gzip"), ("connection", "keep-alive"), ("x-own", "1")]);
        let mut body = world.send("GET", path, message).await.unwrap().into_body();
        while let Some(piece) = body.next().await {
            assert_eq!(piece.unwrap(), "ok");
        }
    }
    assert_eq!(upstream.connections(), 1);
    let requests = upstream.requests();
    let seen = requests.last().unwrap();
    assert_eq!((seen.version(), requests.len()), (Version::HTTP_2, 2));
    assert_eq!(seen.uri().to_string(), format!("https://{name}/2?a=b"));
    let mut names: Vec<_> = seen.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept-encoding", "authorization", "user-agent", "x-own"]);
    assert_eq!(seen.headers()["authorization"], format!("Bearer {}", world.key));
}

/// Where an upstream gives the secret back.
#[derive(Clone, Copy, Debug)]
enum Echo {
    Header,
    Body,
    Bytewise,
    Trailer,
}

fn echo(place: Echo, request: &Request<Bytes>) -> Reply {
    let value = request.headers()["authorization"].clone();
    let frames = |pieces: Vec<Frame<Bytes>>| reply_in_frames(stream::iter(pieces));
    match place {
        Echo::Header => {
            let mut answer = reply(StatusCode::OK, "");
            answer.headers_mut().insert("x-seen", value);
            answer
        }
        Echo::Body => frames(vec![Frame::data(Bytes::copy_from_slice(value.as_bytes()))]),
        Echo::Bytewise => frames(
            value.as_bytes().iter().map(|byte| Frame::data(Bytes::copy_from_slice(&[*byte]))).collect(),
        ),
        Echo::Trailer => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-seen", value);
            frames(vec![Frame::data(Bytes::from("fine")), Frame::trailers(trailers)])
        }
    }
}

#[tokio::test]
async fn c08_c11_c15_a_secret_that_comes_back_over_http2_is_cut_off() {
    for place in [Echo::Header, Echo::Body, Echo::Bytewise, Echo::Trailer] {
        let name = host();
        let upstream = upstream(&name, move |request| echo(place, &request)).await;
        let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
        match world.get("/").await {
            Err(SendError::Refused(refusal)) => assert_eq!(refusal.rule.id, KNOWN),
            Ok(got) => {
                assert!(matches!(got.fault, Some(BodyFault::Blocked(_))), "{place:?}: {got:?}");
                let text = String::from_utf8_lossy(&got.bytes).into_owned();
                assert!(
                    world
                        .key
                        .as_bytes()
                        .windows(16)
                        .all(|part| { !text.contains(std::str::from_utf8(part).unwrap()) })
                );
            }
            other => panic!("{place:?}: {other:?}"),
        }
        assert_eq!(world.outcome().await, (Verdict::Block, Some(KNOWN.to_owned())), "{place:?}");
    }
}

#[tokio::test]
async fn t08_a_head_that_is_too_long_is_no_answer() {
    let name = host();
    let upstream = upstream(&name, |_| {
        let mut answer = reply(StatusCode::OK, "ok");
        for nth in 0..10 {
            let name = http::HeaderName::try_from(format!("x-{nth}")).unwrap();
            answer.headers_mut().insert(name, "x".repeat(8 * 1024).parse().unwrap());
        }
        answer
    })
    .await;
    let world = World::around(&upstream, Setup::open(&name)).await;
    let failed = world.get("/").await.unwrap_err();
    let malformed = Failure::Upstream(UpstreamFault::Malformed);
    assert!(matches!(failed, SendError::Failed(failure) if failure == malformed), "{failed:?}");
}

#[tokio::test]
async fn c04_a_value_in_a_streamed_body_resets_the_stream_before_its_end() {
    let name = host();
    let upstream = upstream(&name, |_| reply(StatusCode::OK, "ok")).await;
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    let lines = "an honest line of an upload\n".repeat(10_000);
    let pieces = [lines.clone().into(), Bytes::from(world.key.clone()), Bytes::from("\n"), lines.into()];
    let body = Payload::Stream(Upload::new(stream::iter(pieces).map(Ok), None));
    let answered = world.send("POST", "/", Message { body, ..Message::default() }).await;
    assert!(matches!(answered, Err(SendError::Refused(refusal)) if refusal.rule.id == KNOWN));
    assert_eq!(upstream.requests().len(), 0);
    assert_eq!(world.outcome().await, (Verdict::Block, Some(KNOWN.to_owned())));
}

/// A server that says with each request of a connection what happens next.
struct Scripted {
    config: Config,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// An answer.
    Ok,
    /// An answer, and the announcement that no other request is taken.
    OkAndGo,
    /// The stream is refused before it was looked at.
    Refuse,
    /// An answer before the request has ended, whose rest is waited for.
    OkAndMore,
    /// It was looked at and failed.
    Fail,
    /// The connection is closed.
    Close,
}

/// What happens to the n-th request of a connection.
type Script = fn(usize) -> Step;

impl Scripted {
    async fn start(name: &HostName, script: Script) -> Self {
        let (listener, config) = Listener::of(name, &["h2"]).await;
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let seen = (connections.clone(), requests.clone());
        let task = tokio::spawn(async move {
            while let Some(stream) = listener.next().await {
                seen.0.fetch_add(1, Ordering::SeqCst);
                let requests = seen.1.clone();
                tokio::spawn(async move { serve(stream, script, &requests).await });
            }
        });
        Self { config, connections, requests, task }
    }

    fn counts(&self) -> (usize, usize) {
        (self.connections.load(Ordering::SeqCst), self.requests.load(Ordering::SeqCst))
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TlsStream<TcpStream>, script: Script, requests: &AtomicUsize) {
    let Ok(mut connection): Result<Connection<_, Bytes>, _> = h2::server::handshake(stream).await else {
        return;
    };
    let (mut nth, mut held) = (0, Vec::new());
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        nth += 1;
        requests.fetch_add(1, Ordering::SeqCst);
        let step = script(nth);
        held.extend((step == Step::OkAndMore).then_some(request));
        match step {
            Step::Close => return,
            Step::Refuse => respond.send_reset(Reason::REFUSED_STREAM),
            Step::Fail => respond.send_reset(Reason::INTERNAL_ERROR),
            step => {
                if step == Step::OkAndGo {
                    connection.graceful_shutdown();
                }
                ok(&mut respond);
            }
        }
    }
}

fn ok(respond: &mut SendResponse<Bytes>) {
    let mut body = respond.send_response(http::Response::new(()), false).unwrap();
    body.send_data(Bytes::from("ok"), true).unwrap();
}

async fn post(world: &World, path: &str) -> Result<(), SendError> {
    let message = Message { body: "a=1".into(), ..Message::default() };
    let mut body = world.send("POST", path, message).await?.into_body();
    while let Some(piece) = body.next().await {
        assert_eq!(piece.unwrap(), "ok");
    }
    Ok(())
}

#[tokio::test]
async fn what_an_upstream_has_not_processed_is_sent_again() {
    let name = host();
    let refusing = |nth| if nth == 1 { Step::Ok } else { Step::Refuse };
    let server = Scripted::start(&name, refusing).await;
    let world = World::new(Setup::open(&name), server.config.clone()).await;
    for path in ["/1", "/2"] {
        post(&world, path).await.unwrap();
    }
    assert_eq!(server.counts(), (2, 3));
    // A peer that goes away is not asked again.
    let server = Scripted::start(&name, |_| Step::OkAndGo).await;
    let world = World::new(Setup::open(&name), server.config.clone()).await;
    for path in ["/1", "/2"] {
        post(&world, path).await.unwrap();
    }
    assert_eq!(server.counts(), (2, 2));
}

#[tokio::test]
async fn what_an_upstream_may_have_processed_is_not_sent_again() {
    let failing: [(Script, bool); 2] = [
        (|nth| if nth == 1 { Step::Ok } else { Step::Fail }, false),
        (|nth| if nth == 1 { Step::Ok } else { Step::Close }, true),
    ];
    for (script, closes) in failing {
        let name = host();
        let server = Scripted::start(&name, script).await;
        let world = World::new(Setup::open(&name), server.config.clone()).await;
        post(&world, "/1").await.unwrap();
        let failed = post(&world, "/2").await.unwrap_err();
        let closed = Failure::Upstream(UpstreamFault::ClosedEarly);
        assert!(matches!(failed, SendError::Failed(failure) if failure == closed), "{failed:?}");
        assert_eq!(server.counts(), (1, 2));
        if closes {
            // What only reads is, as ever.
            world.get("/3").await.unwrap();
            world.get("/4").await.unwrap();
            assert_eq!(server.counts(), (3, 5));
        }
    }
}

#[tokio::test]
async fn s11_a_connection_on_which_something_is_still_being_sent_serves_nobody_else() {
    let name = host();
    let server = Scripted::start(&name, |_| Step::OkAndMore).await;
    let world = World::new(Setup::open(&name), server.config.clone()).await;
    let (open, mut closed) = tokio::sync::mpsc::channel::<()>(1);
    let endless =
        stream::iter([Ok(Bytes::from("the beginning\n"))]).chain(stream::pending().map(move |()| {
            let _ = &open;
            Ok(Bytes::new())
        }));
    let body = Payload::Stream(Upload::new(endless, None));
    let answer = world.send("POST", "/1", Message { body, ..Message::default() }).await.unwrap();
    let mut body = answer.into_body();
    while let Some(piece) = body.next().await {
        assert_eq!(piece.unwrap(), "ok");
    }
    world.get("/2").await.unwrap();
    assert_eq!(server.counts(), (2, 2));
    // What was being sent was dropped with its connection.
    let dropped = tokio::time::timeout(std::time::Duration::from_secs(20), closed.recv()).await;
    assert_eq!(dropped.unwrap(), None);
}
