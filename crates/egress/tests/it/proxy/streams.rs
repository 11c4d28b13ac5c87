//! Bodies that stream, and clients that do not (attacks A01, A02, C04, T14).

use std::time::Duration;

use bytes::Bytes;
use egress::loopback::{Loopback, reply, reply_in_frames};
use egress::proxy::Bounds;
use futures_util::StreamExt as _;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use types::{Field, Host, HostName, Verdict};

use super::grpc::answer_to;
use super::world::{World, exchange, leads_to, reach};
use crate::echo_server::EchoServer;
use crate::world::host;

async fn upstream(name: &HostName) -> Loopback {
    Loopback::https(&Host::Name(name.clone()), |seen| reply(StatusCode::OK, seen.body().len().to_string()))
        .await
        .unwrap()
}

/// Lines of text that are no secret.
fn lines(bytes: usize) -> String {
    "a line of a long and honest upload\n".chars().cycle().take(bytes).collect()
}

#[tokio::test]
async fn a02_a_long_body_streams_in_either_framing() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let body = lines(3_000_000);
    let counted = format!("POST / HTTP/1.1\r\nHost: {name}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let mut chunked = format!("POST / HTTP/1.1\r\nHost: {name}\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.as_bytes().chunks(100_000) {
        chunked += &format!("{:x};ext=\"x\"\r\n{}\r\n", chunk.len(), std::str::from_utf8(chunk).unwrap());
    }
    chunked += "0\r\n\r\n";
    for (request, framing) in [(counted, "content-length"), (chunked, "transfer-encoding")] {
        let answer = world.inside(name.as_str(), &request).await;
        assert!(answer.status == 200 && answer.body.contains("3000000"), "{answer:?}");
        let seen = upstream.requests().pop().unwrap();
        assert!(seen.headers().contains_key(framing) && seen.body() == body.as_bytes());
    }
}

#[tokio::test]
async fn c04_a_value_late_in_a_long_body_cuts_the_request_off_and_the_record_says_what_had_left() {
    let name = host();
    let upstream = upstream(&name).await;
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let (first, second) = world.key.split_at(world.key.len() / 2);
    let before = lines(600_000);
    let length = before.len() + world.key.len() + 100_000;
    let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nHost: {name}\r\nContent-Length: {length}\r\n\r\n{before}{first}");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    let answer = exchange(stream, format!("{second}\n{}", lines(99_999)).as_bytes()).await;
    assert_eq!((answer.status, &*answer.code()), (403, "leaks.known-value"), "{answer:?}");
    // No server took it for a request.
    assert_eq!(upstream.requests().len(), 0);
    let settled = world.settled().await;
    let [record] = &settled[..] else { panic!("{settled:?}") };
    assert_eq!((record.verdict, record.field(Field::Rule)), (Verdict::Block, Some("leaks.known-value")));
    let sent: u64 = record.field(Field::Sent).unwrap().parse().unwrap();
    assert!((500_000..610_000).contains(&sent), "{sent}");
}

#[tokio::test]
async fn t14_what_an_upstream_sends_arrives_while_it_still_sends() {
    let name = host();
    let gate = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let opened = gate.clone();
    let served_as = Host::Name(name.clone());
    let upstream = Loopback::https(&served_as, move |_| {
        let opened = opened.clone();
        let first =
            futures_util::stream::iter([Frame::data(Bytes::from("data: the first event of the stream\n\n"))]);
        let rest = futures_util::stream::once(async move {
            opened.acquire().await.unwrap().forget();
            Frame::data(Bytes::from("data: the second\n\n"))
        });
        let mut answer = reply_in_frames(first.chain(rest));
        answer.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
        answer
    });
    let upstream = upstream.await.unwrap();
    let world = World::new(leads_to(&upstream, &name), reach(&[name.as_str()])).await;
    let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
    stream
        .write_all(format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    let mut seen = String::new();
    let first = async {
        let mut piece = [0; 1024];
        while !seen.contains("data: the first event of the stream\n\n") {
            let length = stream.read(&mut piece).await.unwrap();
            assert!(length > 0, "{seen}");
            seen += std::str::from_utf8(&piece[..length]).unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), first)
        .await
        .expect("the first event before the second is sent");
    gate.add_permits(1);
    let mut rest = String::new();
    let _ = stream.read_to_string(&mut rest).await;
    assert!(rest.contains("the second"), "{rest}");
}

#[tokio::test]
async fn a01_idle_and_slow_clients_are_cut_off_and_the_next_honest_one_is_served() {
    let name = host();
    let upstream = upstream(&name).await;
    let short = Duration::from_millis(300);
    let bounds = Bounds { connections: 8, handshake: short, head: short, pause: short, ..Bounds::default() };
    let world = World::with(leads_to(&upstream, &name), reach(&[name.as_str()]), None, bounds).await;
    let mut idle = Vec::new();
    for index in 0..64 {
        let mut stream = world.dial().await;
        let begun = match index % 3 {
            0 => String::new(),
            1 => "GET http://a/ HTTP/1.1\r\nHo".to_owned(),
            _ => format!(
                "CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\nProxy-Authorization: Bearer {}\r\n\r\n",
                world.token
            ),
        };
        stream.write_all(begun.as_bytes()).await.unwrap();
        idle.push(stream);
    }
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
    let honest = world.inside(name.as_str(), &request);
    let answer =
        tokio::time::timeout(Duration::from_secs(30), honest).await.expect("the honest client is served");
    assert_eq!(answer.status, 200);
    for mut stream in idle {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "an idle connection is still open");
    }
    // A body that stops in its middle.
    let slow = format!("POST / HTTP/1.1\r\nHost: {name}\r\nContent-Length: 100\r\n\r\nonly the beginning");
    let answer = world.inside(name.as_str(), &slow).await;
    assert_eq!((answer.status, &*answer.code()), (408, "egress.too-slow"));
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// Sends so many bytes to a server that gives them back; the most that was resident meanwhile.
async fn there_and_back(world: &World, name: &HostName, version: http::Version, bytes: u64) -> u64 {
    let piece = Bytes::from(lines(64 * 1024));
    let pieces = futures_util::stream::iter(
        (0..bytes / 65_536).map(move |_| Ok::<_, std::io::Error>(Frame::data(piece.clone()))),
    );
    let request = http::Request::post(format!("https://{name}/")).header("host", name.as_str());
    let request = request.body(StreamBody::new(pieces).boxed_unsync()).unwrap();
    let mut body = answer_to(world, request, version).await.unwrap().into_body();
    let (mut came, mut most) = (0, 0);
    while let Some(frame) = body.frame().await {
        let length = frame.unwrap().into_data().map_or(0, |data| data.len() as u64);
        if (came + length) >> 24 > came >> 24 {
            most = most.max(resident());
        }
        came += length;
    }
    assert_eq!(came, bytes / 65_536 * 65_536);
    most
}

/// Client, proxy and server in one process: `cargo nextest run -p egress --run-ignored only a02_five_gigabytes --no-capture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "minutes; for the figures in docs/benchmarks.md"]
#[allow(clippy::disallowed_macros, reason = "figures for whoever runs it")]
async fn a02_five_gigabytes_there_and_back_in_flat_memory() {
    for version in [http::Version::HTTP_11, http::Version::HTTP_2] {
        let name = host();
        let server = EchoServer::start(&name, version, |_| http::HeaderMap::new()).await;
        let world = World::new(server.config.clone(), reach(&[name.as_str()])).await;
        let before = there_and_back(&world, &name, version, 64 << 20).await;
        let since = std::time::Instant::now();
        let most = there_and_back(&world, &name, version, 5 << 30).await;
        let grown = most.saturating_sub(before) >> 20;
        eprintln!("{version:?}: {before} bytes resident, {grown} MiB more at most, {:?}", since.elapsed());
        assert!(grown < 20, "{grown} MiB more");
    }
}
