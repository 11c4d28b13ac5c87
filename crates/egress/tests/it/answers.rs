//! What comes back when nothing is wrong, and what never does (attacks S10, C15, C16, T09).

use egress::error::UpstreamFault;
use egress::loopback::{Loopback, reply};
use egress::{Failure, SendError};
use http::StatusCode;
use types::{Host, Layer, Verdict};

use crate::raw::Raw;
use crate::world::{Setup, World, host};

#[tokio::test]
async fn s10_c16_a_redirect_is_an_answer() {
    let (name, other) = (host(), host());
    let second = Loopback::https(&Host::Name(other.clone()), |_| reply(StatusCode::OK, "")).await.unwrap();
    let location = format!("https://{other}/");
    let sent = location.clone();
    let first = Loopback::https(&Host::Name(name.clone()), move |_| {
        let mut redirect = reply(StatusCode::FOUND, "moved");
        redirect.headers_mut().insert("location", sent.parse().unwrap());
        redirect
    })
    .await
    .unwrap();
    let port = types::Port::new(443).unwrap();
    let exceptions = vec![first.exception(&name, port), second.exception(&other, port)];
    let config = egress::Config { exceptions, ..egress::Config::default() };
    let world = World::new(Setup::with_secret(&name, "header:x-api-key"), config).await;
    let got = world.get("/").await.unwrap();
    assert_eq!(
        (got.status, got.headers["location"].to_str().unwrap()),
        (StatusCode::FOUND, location.as_str())
    );
    assert_eq!((second.connections(), second.received()), (0, 0));
    assert_eq!(world.decide("GET", &location).await.unwrap_err().rule.id, "policy.host-not-listed");
}

#[tokio::test]
async fn errors_of_the_upstream_are_answers() {
    let name = host();
    let upstream = Loopback::https(&Host::Name(name.clone()), |_| {
        let mut answer = reply(StatusCode::INTERNAL_SERVER_ERROR, "it broke");
        answer.headers_mut().insert("set-cookie", "id=1".parse().unwrap());
        answer
    })
    .await
    .unwrap();
    let world = World::around(&upstream, Setup::open(&name)).await;
    for _ in 0..2 {
        let got = world.get("/").await.unwrap();
        assert_eq!((got.status.as_u16(), got.bytes.as_slice()), (500, &b"it broke"[..]));
        assert!(!got.headers.contains_key("set-cookie") && !got.headers.contains_key("content-length"));
    }
}

#[tokio::test]
async fn every_step_is_in_the_trace() {
    let name = host();
    let upstream = Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "ok")).await.unwrap();
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    world.get("/").await.unwrap();
    let steps = world.trace.steps();
    let stages: Vec<_> =
        steps.iter().filter(|step| step.layer == Layer::Egress).map(|step| step.stage).collect();
    assert_eq!(stages, ["allowlist", "request", "resolve", "scan out", "secret", "connect", "status"]);
    assert!(steps.iter().all(|step| step.verdict == Verdict::Allow), "{steps:?}");
    let reason = |stage| &steps.iter().find(|step| step.stage == stage).unwrap().reason;
    assert_eq!(reason("resolve"), "127.0.0.1 (loopback), by exception");
    assert_eq!(reason("secret"), "KEY as bearer");
    assert_eq!(reason("connect"), &format!("{name}:443 at 127.0.0.1, https"));
    assert_eq!(reason("status"), "200");
    assert!(steps.iter().any(|step| step.layer == Layer::Leaks));
}

#[tokio::test]
async fn c09_t09_broken_answers_are_failures_in_fixed_words() {
    let big = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(200_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(500));
    for (answer, fault) in [
        ("SSH-2.0-OpenSSH_9.6\r\n\r\n".to_owned(), UpstreamFault::Malformed),
        (
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab".to_owned(),
            UpstreamFault::Malformed,
        ),
        ("HTTP/1.1 200 OK\r\nx : y\r\n\r\n".to_owned(), UpstreamFault::Malformed),
        ("HTTP/1.1 200 OK\r\nx: y\r\n folded\r\n\r\n".to_owned(), UpstreamFault::Malformed),
        (big, UpstreamFault::HeadTooLarge),
        (many, UpstreamFault::HeadTooLarge),
        (
            "HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n".to_owned(),
            UpstreamFault::Switched,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: compress\r\n\r\n".to_owned(), UpstreamFault::Encoding),
        ("HTTP/1.1 200 OK\r\ncontent-encoding: gzip, br\r\n\r\n".to_owned(), UpstreamFault::Encoding),
        (
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-encoding: gzip\r\n\r\n".to_owned(),
            UpstreamFault::Encoding,
        ),
        (String::new(), UpstreamFault::ClosedEarly),
    ] {
        let name = host();
        let sent = answer.clone();
        let raw = Raw::start(&name, move |_| sent.clone().into_bytes()).await;
        let world = World::new(Setup::open(&name), raw.config.clone()).await;
        match world.get("/").await {
            Err(SendError::Failed(failure)) => {
                assert_eq!(failure, Failure::Upstream(fault), "{:.60}", answer);
            }
            other => panic!("{:.60}: {other:?}", answer),
        }
        assert_eq!(world.outcome().await.0, Verdict::Failed);
    }
}
