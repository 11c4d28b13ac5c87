//! Bodies that a client compresses (attacks C06, C10).

use std::io::Write as _;

use egress::loopback::{Loopback, reply};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use types::{Field, Host, HostName, Verdict};

use super::world::{World, leads_to, reach};
use crate::world::host;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Lines that do not compress to nothing.
fn lines(count: u32) -> String {
    (0..count).map(|nth| format!("{}\n", types::Digest::of(&nth.to_be_bytes()))).collect()
}

async fn world(name: &HostName) -> (Loopback, World) {
    let served = Host::Name(name.clone());
    let upstream = Loopback::https(&served, |_| reply(StatusCode::OK, "ok")).await.unwrap();
    let world = World::new(leads_to(&upstream, name), reach(&[name.as_str()])).await;
    (upstream, world)
}

/// The most memory that this process has held, in MiB.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// 1 MiB of ordinary content, and then 125 MiB in 4 KiB: blocks of zstd that are one letter each (RFC 8878, 3.1.1.2).
#[cfg(target_os = "linux")]
#[tokio::test]
async fn c10_a_small_piece_that_stands_for_much_takes_neither_memory_nor_the_turn_of_others() {
    // A window of 128 KiB.
    let mut bomb = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3];
    let text: Vec<u8> = b"the quick brown fox jumps over it\n".iter().copied().cycle().take(65536).collect();
    for _ in 0..16 {
        bomb.extend_from_slice(&(65536u32 << 3).to_le_bytes()[..3]);
        bomb.extend_from_slice(&text);
    }
    for nth in 1..=1000 {
        bomb.extend_from_slice(&(131_072u32 << 3 | 1 << 1 | u32::from(nth == 1000)).to_le_bytes()[..3]);
        bomb.push(b'\n');
    }
    let name = host();
    let served = Host::Name(name.clone());
    let upstream = Loopback::https(&served, move |seen| {
        if seen.uri().path() != "/bomb" {
            return reply(StatusCode::OK, "ok");
        }
        let mut answer = reply(StatusCode::OK, bomb.clone());
        answer.headers_mut().insert("content-encoding", "zstd".parse().unwrap());
        answer
    });
    let upstream = upstream.await.unwrap();
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let honest = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
    assert_eq!(world.inside(name.as_str(), &honest).await.status, 200);
    let before = peak();
    let mut slow = world.secured(name.as_str(), name.as_str()).await.unwrap();
    slow.write_all(format!("GET /bomb HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).await.unwrap();
    let mut piece = vec![0; 65536];
    let mut came = 0;
    while came < 2 << 20 {
        let read = slow.read(&mut piece).await.unwrap();
        assert_ne!(read, 0, "after {came} bytes");
        came += read;
    }
    // While it goes on, and nobody takes what comes of it.
    assert_eq!(world.inside(name.as_str(), &honest).await.status, 200);
    let grown = peak() - before;
    assert!(grown < 48, "{grown} MiB more");
}

/// Posts bytes under an encoding; the status, and the code of a refusal.
async fn post(world: &World, name: &HostName, encoding: &str, body: &[u8]) -> (u16, String) {
    let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nContent-Encoding: {encoding}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // The answer may come before the end.
    let _ = stream.write_all(body).await;
    let _ = stream.flush().await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(std::time::Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let value: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, value["error"]["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn c06_a_compressed_body_is_read_and_leaves_as_it_is() {
    let name = host();
    let (upstream, world) = world(&name).await;
    let (short, long) = (gzip(lines(20).as_bytes()), gzip(lines(20_000).as_bytes()));
    assert!(long.len() > 512 * 1024, "{} bytes do not stream", long.len());
    for body in [&short, &long] {
        assert_eq!(post(&world, &name, "gzip", body).await.0, 200);
        let seen = upstream.requests().pop().unwrap();
        assert_eq!(seen.headers()["content-encoding"], "gzip");
        assert!(seen.body() == body, "{} of {} bytes", seen.body().len(), body.len());
    }
}

#[tokio::test]
async fn c06_what_is_hidden_by_compression_does_not_leave() {
    let name = host();
    let (upstream, world) = world(&name).await;
    let (own, key) = (world.placeholder(), world.key.clone());
    let twice = gzip(&gzip(b"compressed twice"));
    let zeros = gzip(&vec![0; 32 << 20]);
    for (what, encoding, body, code) in [
        ("a value", "gzip", gzip(format!("a {key} b").as_bytes()), "leaks.known-value"),
        ("a placeholder", "gzip", gzip(format!("a {own} b").as_bytes()), "egress.placeholder"),
        ("a bomb", "gzip", zeros, "egress.encoded-body"),
        ("an encoding that nobody here knows", "compress", b"x".to_vec(), "egress.encoded-body"),
        ("two encodings", "gzip, gzip", twice, "egress.encoded-body"),
        ("what is no gzip", "gzip", b"plain".to_vec(), "egress.encoded-body"),
        (
            "a gzip that is cut short",
            "gzip",
            gzip(lines(20).as_bytes())[..200].to_vec(),
            "egress.encoded-body",
        ),
    ] {
        assert_eq!(post(&world, &name, encoding, &body).await, (403, code.to_owned()), "{what}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

/// A decoder passes over the comment of a gzip (RFC 1952, 2.3.1).
#[tokio::test]
async fn c06_what_a_decoder_passes_over_is_read_too() {
    let name = host();
    let (upstream, world) = world(&name).await;
    for count in [20, 20_000] {
        let builder = flate2::GzBuilder::new().comment(world.key.clone());
        let mut encoder = builder.write(Vec::new(), Compression::fast());
        encoder.write_all(lines(count).as_bytes()).unwrap();
        let body = encoder.finish().unwrap();
        let told = post(&world, &name, "gzip", &body).await;
        assert_eq!(told, (403, "leaks.known-value".to_owned()), "{} bytes", body.len());
    }
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn c06_a_value_late_in_a_long_compressed_body_cuts_it_off() {
    for (is_key, code) in [(true, "leaks.known-value"), (false, "egress.placeholder")] {
        let name = host();
        let (upstream, world) = world(&name).await;
        let hidden = if is_key { world.key.clone() } else { world.placeholder() };
        let body = gzip(format!("{}{hidden}\n{}", lines(15_000), lines(5_000)).as_bytes());
        assert_eq!(post(&world, &name, "gzip", &body).await, (403, code.to_owned()));
        assert_eq!(upstream.requests().len(), 0);
        let settled = world.settled().await;
        let [record] = &settled[..] else { panic!("{settled:?}") };
        assert_eq!((record.verdict, record.field(Field::Rule)), (Verdict::Block, Some(code)));
        // What was held back of it did not leave: the value stands at three quarters.
        let sent: usize = record.field(Field::Sent).unwrap().parse().unwrap();
        assert!(sent < body.len() * 3 / 4 + 1024, "{sent} of {}", body.len());
    }
}
