//! Upstreams that give the secret back (attacks C08, C10 to C13, C15, C21, W22).

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use egress::SendError;
use egress::loopback::{Loopback, Reply, reply, reply_in_frames};
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use futures_util::stream;
use http::{Request, StatusCode};
use http_body::Frame;
use safety::BodyFault;
use types::{Host, HostName, Verdict};

use crate::raw::{Raw, bearer};
use crate::world::{Got, Setup, World, host};

const KNOWN: &str = "leaks.known-value";

fn key(request: &Request<bytes::Bytes>) -> String {
    let value = request.headers()["authorization"].to_str().unwrap();
    value.strip_prefix("Bearer ").unwrap().to_owned()
}

async fn echoing(name: &HostName, answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Loopback {
    Loopback::https(&Host::Name(name.clone()), move |request| answer(&key(&request))).await.unwrap()
}

/// No window of the key longer than its public parts may be seen.
fn assert_free_of(key: &str, got: &Got, what: &str) {
    let text = format!("{} {:?}", String::from_utf8_lossy(&got.bytes), got.headers);
    for window in key.as_bytes().windows(16) {
        assert!(!text.contains(std::str::from_utf8(window).unwrap()), "{what}: {text}");
    }
    assert!(!text.contains(&STANDARD.encode(key)) && !text.contains(&hex(key)), "{what}");
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

async fn assert_blocked(world: World, what: &str) {
    let got = world.get("/").await;
    match got {
        Ok(got) => {
            assert_free_of(&world.key, &got, what);
            match got.fault {
                Some(BodyFault::Blocked(blocked)) => {
                    assert_eq!(blocked.refusal.rule.id, KNOWN, "{what}");
                    assert!(!blocked.refusal.to_string().contains(&world.key));
                }
                other => panic!("{what}: {other:?}"),
            }
        }
        Err(SendError::Refused(refusal)) => assert_eq!(refusal.rule.id, KNOWN, "{what}"),
        Err(other) => panic!("{what}: {other:?}"),
    }
    assert_eq!(world.outcome().await, (Verdict::Block, Some(KNOWN.to_owned())), "{what}");
}

#[tokio::test]
async fn c08_a_version_that_another_process_stored_does_not_come_back_either() {
    let name = host();
    let upstream = echoing(&name, |key| reply(StatusCode::OK, format!("you sent {key}"))).await;
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    // Nothing of it stands in the one that is known, in whatever writing.
    let newer = types::Digest::of(world.key.as_bytes()).to_string();
    let secret = types::SecretName::parse("KEY").unwrap();
    world.vault().await.put(&secret, secrets::Plain::new(newer.clone().into_bytes()), Some(1)).await.unwrap();
    match world.get("/").await {
        Ok(got) => {
            assert_free_of(&newer, &got, "newer");
            assert!(
                matches!(got.fault, Some(BodyFault::Blocked(blocked)) if blocked.refusal.rule.id == KNOWN)
            );
        }
        Err(SendError::Refused(refusal)) => assert_eq!(refusal.rule.id, KNOWN),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn c08_w22_in_the_body_however_it_is_written() {
    type Write = fn(&str) -> String;
    let forms: [(&str, Write); 7] = [
        ("plain", |key| format!("{{\"headers\": {{\"Authorization\": \"Bearer {key}\"}}}}")),
        ("base64", |key| STANDARD.encode(format!("Bearer {key}"))),
        ("base64 at another offset", |key| STANDARD.encode(format!("xBearer {key}"))),
        ("hex", hex),
        ("percent", |key| key.bytes().map(|byte| format!("%{byte:02X}")).collect()),
        ("JSON escapes", |key| key.bytes().map(|byte| format!("\\u{byte:04x}")).collect()),
        ("after fifty decoys", |key| {
            let decoys = (0..60).map(|nth| format!("password={nth}aB3dE5gH7jK9mN1pQ\n")).collect::<String>();
            format!("{decoys}{key}")
        }),
    ];
    for (what, form) in forms {
        let name = host();
        let upstream = echoing(&name, move |key| reply(StatusCode::OK, form(key))).await;
        assert_blocked(World::around(&upstream, Setup::with_secret(&name, "bearer")).await, what).await;
    }
}

#[tokio::test]
async fn c11_w22_in_the_body_split_anywhere() {
    let split = |at: usize| {
        move |key: &str| {
            let text = format!("before {key} after\n").into_bytes();
            let pieces: Vec<_> = match at {
                0 => text.chunks(1).map(<[u8]>::to_vec).collect(),
                at => vec![text[..at].to_vec(), text[at..].to_vec()],
            };
            reply_in_frames(stream::iter(pieces.into_iter().map(|piece| Frame::data(piece.into()))))
        }
    };
    for at in [0, 7, 8, 15, 22, 30, 40] {
        let name = host();
        let upstream = echoing(&name, split(at)).await;
        assert_blocked(
            World::around(&upstream, Setup::with_secret(&name, "bearer")).await,
            &format!("split at {at}"),
        )
        .await;
    }
}

#[tokio::test]
async fn c10_w22_in_a_compressed_body() {
    let gzip = |key: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(format!("your key is {key}").as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let deflate = |key: &str| {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(format!("your key is {key}").as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    type Compress = fn(&str) -> Vec<u8>;
    for (encoding, compress) in [("gzip", gzip as Compress), ("deflate", deflate as Compress)] {
        let name = host();
        let upstream = echoing(&name, move |key| {
            let mut answer = reply(StatusCode::OK, compress(key));
            answer.headers_mut().insert("content-encoding", encoding.parse().unwrap());
            answer
        })
        .await;
        assert_blocked(World::around(&upstream, Setup::with_secret(&name, "bearer")).await, encoding).await;
    }
}

#[tokio::test]
async fn c10_compressed_without_saying_so() {
    fn gzip(key: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(key.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }
    fn zlib(key: &str, level: Compression) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), level);
        encoder.write_all(key.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }
    type Compress = fn(&str) -> Vec<u8>;
    let ways: [Compress; 4] = [
        gzip,
        |key| zlib(key, Compression::default()),
        |key| zlib(key, Compression::fast()),
        |key| zlib(key, Compression::best()),
    ];
    for compress in ways {
        let name = host();
        let upstream = echoing(&name, move |key| {
            let pieces = compress(key).into_iter().map(|byte| Frame::data(vec![byte].into()));
            reply_in_frames(stream::iter(pieces.collect::<Vec<_>>()))
        })
        .await;
        let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
        let got = world.get("/").await.unwrap();
        assert!(got.bytes.is_empty() && matches!(got.fault, Some(BodyFault::Refused(_))), "{:?}", got.fault);
        assert_eq!(world.outcome().await, (Verdict::Block, Some("egress.disguised-body".to_owned())));
    }
}

#[tokio::test]
async fn c15_w22_in_a_header() {
    for header in ["x-echo", "set-cookie", "location", "www-authenticate", "alt-svc", "link"] {
        let name = host();
        let upstream = echoing(&name, move |key| {
            let mut answer = reply(StatusCode::UNAUTHORIZED, "no");
            answer.headers_mut().insert(header, format!("a={key}; b").parse().unwrap());
            answer
        })
        .await;
        assert_blocked(World::around(&upstream, Setup::with_secret(&name, "bearer")).await, header).await;
    }
}

#[tokio::test]
async fn c15_w22_in_a_trailer() {
    let name = host();
    let raw = Raw::start(&name, |head| {
        let key = bearer(head);
        format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-echo\r\n\r\n2\r\nok\r\n0\r\nx-echo: {key}\r\n\r\n")
            .into_bytes()
    })
    .await;
    let world = World::new(Setup::with_secret(&name, "bearer"), raw.config.clone()).await;
    assert_blocked(world, "trailer").await;
}

#[tokio::test]
async fn c15_reason_phrases_and_informational_answers_reach_nobody() {
    let name = host();
    let raw = Raw::start(&name, |head| {
        let key = bearer(head);
        format!("HTTP/1.1 103 {key}\r\nlink: {key}\r\n\r\nHTTP/1.1 200 {key}\r\ncontent-length: 2\r\n\r\nok")
            .into_bytes()
    })
    .await;
    let world = World::new(Setup::with_secret(&name, "bearer"), raw.config.clone()).await;
    let response = world.send("GET", "/", egress::Message::default()).await.unwrap();
    // Nothing but where its trailers will be.
    assert_eq!(response.extensions().len(), 1);
    assert!(!format!("{:?}", response.headers()).contains(&world.key));
    assert_eq!(response.into_body().collect().await.unwrap().get(), b"ok");
}

#[tokio::test]
async fn c13_a_secret_across_the_limit_is_not_cut_into_view() {
    let name = host();
    let upstream =
        echoing(&name, |key| reply(StatusCode::OK, format!("{}\n{key}", "a".repeat(2048 - 20)))).await;
    let setup = Setup { response_kib: 2, ..Setup::with_secret(&name, "bearer") };
    let world = World::around(&upstream, setup).await;
    let got = world.get("/").await.unwrap();
    assert!(got.fault.is_some() && got.bytes.len() <= 2048);
    for window in world.key.as_bytes().windows(8) {
        assert!(!got.bytes.windows(8).any(|seen| seen == window), "{}", String::from_utf8_lossy(&got.bytes));
    }
}

#[tokio::test]
async fn c21_a_blocked_answer_says_the_same_to_every_guess() {
    let mut said = Vec::new();
    for form in [|key: &str| key.to_owned(), |key: &str| hex(key), |key: &str| format!("{key}{key}")] {
        let name = host();
        let upstream = echoing(&name, move |key| reply(StatusCode::OK, form(key))).await;
        let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
        match world.get("/").await.unwrap().fault {
            Some(BodyFault::Blocked(blocked)) => said.push(blocked.refusal.for_sandbox()),
            other => panic!("{other:?}"),
        }
    }
    assert!(said.windows(2).all(|pair| pair[0] == pair[1]), "{said:?}");
}

#[tokio::test]
async fn what_holds_no_secret_passes_unchanged() {
    let name = host();
    let body = "{\"temp\": 18, \"sky\": \"clear\"}\n".repeat(100);
    let sent = body.clone();
    let upstream = echoing(&name, move |_| reply(StatusCode::OK, sent.clone())).await;
    let world = World::around(&upstream, Setup::with_secret(&name, "bearer")).await;
    let got = world.get("/").await.unwrap();
    assert!(got.fault.is_none() && got.bytes == body.as_bytes());
}
