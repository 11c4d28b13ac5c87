//! Connections that wait for the next request (attack S11).

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use egress::error::UpstreamFault;
use egress::loopback::{Loopback, reply};
use egress::{Config, Exception, Failure, Message, SendError};
use futures_util::StreamExt;
use http::StatusCode;
use policy::Settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use types::{Host, HostName, Port};

use crate::world::{Setup, World, host};

#[tokio::test]
async fn s11_a_connection_serves_one_caller_under_one_policy() {
    let name = host();
    let upstream = Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "ok")).await.unwrap();
    let mut world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    for path in ["/1", "/2", "/3"] {
        assert_eq!(world.get(path).await.unwrap().bytes, b"ok");
    }
    assert_eq!(upstream.connections(), 1);
    let steps = world.trace.steps();
    let kept = steps.iter().filter(|step| step.stage == "connect" && step.reason.ends_with(", kept open"));
    assert_eq!(kept.count(), 2);

    // The same tool in another call is another caller.
    world.next_call().await;
    world.get("/4").await.unwrap();
    assert_eq!(upstream.connections(), 2);
    world.policy.reload(Settings::default()).unwrap();
    world.next_call().await;
    world.get("/5").await.unwrap();
    assert_eq!(upstream.connections(), 3);
    // A body that nobody reads to its end takes its connection with it.
    drop(world.send("GET", "/6", Message::default()).await.unwrap());
    world.get("/7").await.unwrap();
    assert_eq!(upstream.connections(), 4);
}

/// A server in clear text that says with each request what happens next.
struct Scripted {
    config: Config,
    connections: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
    ended: mpsc::UnboundedReceiver<()>,
    task: JoinHandle<()>,
}

impl Scripted {
    /// Answers the `n`-th request of a connection with `answer(n)`; nothing means to close without one.
    async fn start(name: &HostName, answer: fn(usize) -> &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let exception = Exception {
            host: name.clone(),
            port: Port::new(80).unwrap(),
            address: listener.local_addr().unwrap(),
            ca: None,
            containers: false,
        };
        let (connections, requests) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (tell, ended) = mpsc::unbounded_channel();
        let seen = (connections.clone(), requests.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                seen.0.fetch_add(1, Ordering::SeqCst);
                let (requests, tell) = (seen.1.clone(), tell.clone());
                tokio::spawn(async move {
                    serve(stream, answer, &requests).await;
                    let _ = tell.send(());
                });
            }
        });
        let config = Config { exceptions: vec![exception], ..Config::default() };
        Self { config, connections, requests, ended, task }
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

async fn serve(mut stream: TcpStream, answer: fn(usize) -> &'static str, requests: &AtomicUsize) {
    for n in 1.. {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        requests.fetch_add(1, Ordering::SeqCst);
        match answer(n) {
            "" => return,
            answer => stream.write_all(answer.as_bytes()).await.unwrap(),
        }
    }
}

async fn world(name: &HostName, server: &Scripted) -> World {
    let setup = Setup { port: 80, clear_text: true, ..Setup::open(name) };
    World::new(setup, server.config.clone()).await
}

/// An answer, and one to nothing.
const BOTH: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[tokio::test]
async fn what_does_no_harm_twice_is_sent_again_when_a_waiting_connection_is_closed() {
    let name = host();
    let server = Scripted::start(&name, |n| if n == 1 { OK } else { "" }).await;
    let world = world(&name, &server).await;
    assert_eq!(world.get("/1").await.unwrap().bytes, b"ok");
    assert_eq!(world.get("/2").await.unwrap().bytes, b"ok");
    assert_eq!(server.counts(), (2, 3));
    // What may have been carried out already is not.
    let failed = world.send("POST", "/3", Message::default()).await.unwrap_err();
    let closed = Failure::Upstream(UpstreamFault::ClosedEarly);
    assert!(matches!(failed, SendError::Failed(failure) if failure == closed), "{failed:?}");
    assert_eq!(server.counts(), (2, 4));
}

#[tokio::test]
async fn s11_what_an_upstream_says_unasked_is_no_answer_to_the_next_request() {
    let name = host();
    let server = Scripted::start(&name, |_| BOTH).await;
    let world = world(&name, &server).await;
    for path in ["/1", "/2"] {
        assert_eq!(world.get(path).await.unwrap().bytes, b"ok");
    }
    assert_eq!(server.counts(), (2, 2));
}

#[tokio::test]
async fn s11_content_that_a_server_passes_over_does_not_begin_the_next_request() {
    let name = host();
    // A server that takes each head for a request, whatever its length says.
    let server = Scripted::start(&name, |_| OK).await;
    let world = world(&name, &server).await;
    let get = async || {
        let message = Message { body: "POST /elsewhere HTTP/1.1\r\nX-Rest: ".into(), ..Message::default() };
        let mut body = world.send("GET", "/1", message).await.unwrap().into_body();
        while body.next().await.is_some() {}
    };
    get().await;
    world.get("/2").await.unwrap();
    assert_eq!(server.counts(), (2, 2));
    // Nor is it sent where others went before.
    get().await;
    assert_eq!(server.counts(), (3, 3));
}

#[tokio::test]
async fn s11_what_a_tool_posts_beside_a_secret_leaves_no_connection_behind() {
    let name = host();
    let upstream = Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "ok")).await.unwrap();
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    for connections in 1..=2 {
        let message = Message { body: "POST /elsewhere HTTP/1.1\r\nX-Rest: ".into(), ..Message::default() };
        let mut body = world.send("POST", "/1", message).await.unwrap().into_body();
        while body.next().await.is_some() {}
        assert_eq!(upstream.connections(), connections);
    }
    // Without a secret there is nothing to win.
    let upstream = Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "ok")).await.unwrap();
    let world = World::around(&upstream, Setup::open(&name)).await;
    for _ in 1..=2 {
        let message = Message { body: "a=1".into(), ..Message::default() };
        let mut body = world.send("POST", "/1", message).await.unwrap().into_body();
        while body.next().await.is_some() {}
        assert_eq!(upstream.connections(), 1);
    }
}

#[tokio::test]
async fn a_connection_waits_for_seconds() {
    let name = host();
    let mut server = Scripted::start(&name, |_| OK).await;
    let world = world(&name, &server).await;
    world.get("/").await.unwrap();
    let since = std::time::Instant::now();
    timeout(Duration::from_secs(20), server.ended.recv()).await.unwrap().unwrap();
    assert!(since.elapsed() > Duration::from_secs(1), "{:?}", since.elapsed());
    assert_eq!(world.get("/").await.unwrap().bytes, b"ok");
}
