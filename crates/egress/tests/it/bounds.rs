//! Bounds in bytes and time (attacks A01, A02, C10, W25).

use std::io::Write as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use egress::loopback::{Loopback, reply, reply_in_frames};
use egress::{Failure, Message, SendError};
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::{StreamExt, stream};
use http::StatusCode;
use http_body::Frame;
use safety::BodyFault;
use types::limits::MAX_REQUEST_BODY;
use types::{Field, Host, Verdict};

use crate::world::{Setup, World, host};

/// The highest resident memory of this process so far, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() * 1024
}

/// What the record of the one request says about its end, which was a failure.
async fn ended_by(world: World) -> String {
    let settled = world.settled().await;
    let [record] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!(record.verdict, Verdict::Failed);
    record.field(Field::Reason).unwrap().to_owned()
}

#[tokio::test]
async fn a02_a_large_body_streams_in_little_memory() {
    const PIECES: usize = 480;
    let name = host();
    let line = format!("{}\n", "0123456789abcdef".repeat(64));
    let piece = Bytes::from(line.repeat(64));
    let total = piece.len() * PIECES;
    let upstream = Loopback::https(&Host::Name(name.clone()), move |_| {
        let piece = piece.clone();
        reply_in_frames(stream::iter((0..PIECES).map(move |_| Frame::data(piece.clone()))))
    })
    .await
    .unwrap();
    let world = World::around(&upstream, Setup { response_kib: 32 * 1024, ..Setup::open(&name) }).await;
    world.get("/").await.map(|got| got.bytes.len()).unwrap();
    let before = peak_memory();
    let mut body = world.send("GET", "/", Message::default()).await.unwrap().into_body();
    let mut received = 0;
    while let Some(piece) = body.next().await {
        received += piece.unwrap().len();
    }
    assert_eq!(received, total);
    let grown = peak_memory() - before;
    assert!(grown < 8 << 20, "{} KiB for a body of {} KiB", grown >> 10, total >> 10);
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_not_fetched() {
    let name = host();
    let piece = Bytes::from(vec![b'a'; 64 << 10]);
    let upstream = Loopback::https(&Host::Name(name.clone()), move |_| {
        let piece = piece.clone();
        reply_in_frames(stream::repeat_with(move || Frame::data(piece.clone())))
    })
    .await
    .unwrap();
    let world = World::around(&upstream, Setup { response_kib: 32 * 1024, ..Setup::open(&name) }).await;
    let response = world.send("GET", "/", Message::default()).await.unwrap();
    // Another request goes through meanwhile; the first body's connection rests.
    drop(world.send("GET", "/", Message::default()).await.unwrap());
    drop(response);
    let settled = world.settled().await;
    assert!(settled.iter().all(|record| record.verdict == Verdict::Abandoned), "{settled:?}");
    assert!(settled.iter().all(|record| record.field(Field::Status) == Some("200")));
}

#[tokio::test]
async fn a02_an_endless_body_ends_at_the_limit() {
    let name = host();
    let upstream = Loopback::https(&Host::Name(name.clone()), |_| {
        reply_in_frames(stream::repeat_with(|| Frame::data(Bytes::from("still here\n".repeat(1000)))))
    })
    .await
    .unwrap();
    let world = World::around(&upstream, Setup { response_kib: 256, ..Setup::open(&name) }).await;
    let got = world.get("/").await.unwrap();
    assert!(matches!(got.fault, Some(BodyFault::TooLarge(_))), "{:?}", got.fault);
    assert!(got.bytes.len() <= 256 << 10);
    assert_eq!(ended_by(world).await, "the body is longer than 256 KiB");
}

#[tokio::test]
async fn c10_a_compression_bomb_does_not_unfold() {
    let name = host();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..64 {
        encoder.write_all(&vec![0; 1 << 20]).unwrap();
    }
    let bomb = Bytes::from(encoder.finish().unwrap());
    let upstream = Loopback::https(&Host::Name(name.clone()), move |_| {
        let mut answer = reply(StatusCode::OK, bomb.clone());
        answer.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
        answer
    })
    .await
    .unwrap();
    let world = World::around(&upstream, Setup { response_kib: 32 * 1024, ..Setup::open(&name) }).await;
    let before = peak_memory();
    let got = world.get("/").await.unwrap();
    assert!(matches!(got.fault, Some(BodyFault::Ratio | BodyFault::TooLarge(_))), "{:?}", got.fault);
    assert!(peak_memory() - before < 32 << 20);
    assert_eq!(ended_by(world).await, "the body grows too much in decoding");
}

#[tokio::test]
async fn a_request_body_has_a_limit() {
    let name = host();
    let upstream = Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "")).await.unwrap();
    let world = World::around(&upstream, Setup::open(&name)).await;
    let body = vec![b'a'; MAX_REQUEST_BODY.as_usize()];
    let message = Message { body: body.clone().into(), ..Message::default() };
    assert!(world.send("POST", "/", message).await.is_ok());
    let larger = Message { body: [body, vec![b'a']].concat().into(), ..Message::default() };
    assert_eq!(world.refused("POST", "/", larger).await, "egress.too-large");
    assert_eq!(upstream.connections(), 1);
}

#[tokio::test]
async fn w25_a_silent_upstream_ends_at_the_deadline() {
    let name = host();
    let upstream = Loopback::https(&Host::Name(name.clone()), |_| {
        reply_in_frames(stream::once(async { Frame::data(Bytes::from("first\n")) }).chain(stream::pending()))
    })
    .await
    .unwrap();
    let world = World::around(&upstream, Setup { time_ms: 700, ..Setup::open(&name) }).await;
    let started = Instant::now();
    let got = world.get("/").await.unwrap();
    assert!(matches!(got.fault, Some(BodyFault::Upstream)), "{:?}", got.fault);
    assert!(started.elapsed() < Duration::from_secs(20));
    let settled = world.settled().await;
    assert_eq!(settled[0].verdict, Verdict::Failed);
    assert_eq!(settled[0].field(Field::Reason), Some(Failure::Timeout.to_string().as_str()));
}

/// Each byte is progress; the whole of them is not. The time is for the exchange, not for the next byte.
#[tokio::test]
async fn w25_a_trickle_ends_at_the_deadline() {
    let name = host();
    let upstream = Loopback::https(&Host::Name(name.clone()), |_| {
        let drip = tokio::time::interval(Duration::from_millis(20));
        reply_in_frames(stream::unfold(drip, |mut drip| async {
            drip.tick().await;
            Some((Frame::data(Bytes::from_static(b"x")), drip))
        }))
    })
    .await
    .unwrap();
    let world = World::around(&upstream, Setup { time_ms: 700, ..Setup::open(&name) }).await;
    let started = Instant::now();
    let got = world.get("/").await.unwrap();
    assert!(matches!(got.fault, Some(BodyFault::Upstream)), "{:?}", got.fault);
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(ended_by(world).await, Failure::Timeout.to_string());
}

#[tokio::test]
async fn a01_an_upstream_that_never_shakes_hands() {
    let name = host();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let exception = egress::Exception {
        host: name.clone(),
        port: types::Port::new(443).unwrap(),
        address: listener.local_addr().unwrap(),
        ca: None,
        containers: false,
    };
    let config = egress::Config { exceptions: vec![exception], ..egress::Config::default() };
    let world = World::new(Setup { time_ms: 500, ..Setup::open(&name) }, config).await;
    let error = world.get("/").await.unwrap_err();
    assert!(matches!(error, SendError::Failed(Failure::Timeout)), "{error:?}");
    assert_eq!(world.outcome().await, (Verdict::Failed, None));
}
