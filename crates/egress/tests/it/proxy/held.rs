//! What the programs of one run make the proxy hold (attacks A02, C10, T13).

use std::time::Duration;

use egress::loopback::{Loopback, reply};
use egress::proxy::Bounds;
use futures_util::SinkExt as _;
use http::StatusCode;
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use types::limits::Bytes;
use types::{Field, Host, HostName, Verdict};

use super::sockets::{Server, echo, hear, last, open};
use super::world::{World, exchange, leads_to, reach};
use crate::world::host;

/// Room for so many exchanges.
fn room(exchanges: u64) -> Bounds {
    let memory = Bytes(exchanges * egress::limits::EXCHANGE_MEMORY as u64);
    Bounds { handshake: Duration::from_secs(2), memory, ..Bounds::default() }
}

async fn world(name: &HostName, bounds: Bounds) -> (Loopback, World) {
    let served = Host::Name(name.clone());
    let upstream = Loopback::https(&served, |seen| match seen.uri().path() {
        "/packed" => {
            let mut response = reply(StatusCode::OK, zstd(3 << 20));
            response.headers_mut().insert("content-encoding", "zstd".parse().unwrap());
            response
        }
        _ => reply(StatusCode::OK, "fine"),
    });
    let upstream = upstream.await.unwrap();
    let world = World::with(leads_to(&upstream, name), reach(&[name.as_str()]), None, bounds).await;
    (upstream, world)
}

/// So many bytes of text in raw blocks, which may look back on 8 MiB (RFC 8878, 3.1.1).
fn zstd(length: usize) -> Vec<u8> {
    let mut packed = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 13 << 3];
    let block = b"a line of text\n\n".repeat(4096);
    for nth in 1..=length / block.len() {
        let is_last = u32::from(nth == length / block.len());
        packed.extend_from_slice(&((block.len() as u32) << 3 | is_last).to_le_bytes()[..3]);
        packed.extend_from_slice(&block);
    }
    packed
}

#[tokio::test]
async fn a02_who_asks_past_the_budget_is_refused_and_the_next_is_served() {
    let name = host();
    let (_upstream, world) = world(&name, room(2)).await;
    let asks = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let slow =
        format!("POST / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nContent-Length: 9\r\n\r\nhalf");
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
        stream.write_all(slow.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        held.push(stream);
    }
    // Whichever comes first is served: of three, two are held at a time.
    let refused = world.inside(name.as_str(), &asks).await;
    assert_eq!((refused.status, &*refused.code()), (503, "egress.memory"), "{refused:?}");
    let first = exchange(held.remove(0), b" body").await;
    assert_eq!(first.status, 200, "{first:?}");
    let next = world.inside(name.as_str(), &asks).await;
    assert_eq!(next.status, 200, "{next:?}");
    drop(held);
    assert_eq!(world.refusals().await.iter().filter(|rule| *rule == "egress.memory").count(), 1);
}

#[tokio::test]
async fn c10_what_is_needed_to_decode_counts() {
    let name = host();
    let packed = format!("GET /packed HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let (_upstream, world) = world(&name, room(2)).await;
    let cut = world.inside(name.as_str(), &packed).await;
    assert!(cut.status == 200 && cut.body.len() < 3 << 20, "{} {}", cut.status, cut.body.len());
    let posts = format!(
        "POST / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"
    );
    // It is held whole: what it may stand for is more than there is.
    let refused = world.inside(name.as_str(), &posts).await;
    assert_eq!((refused.status, &*refused.code()), (503, "egress.memory"), "{refused:?}");
    assert!(world.refusals().await.iter().filter(|rule| *rule == "egress.memory").count() >= 2);

    let (_upstream, world) = self::world(&name, room(4)).await;
    let whole = world.inside(name.as_str(), &packed).await;
    assert!(whole.status == 200 && whole.body.len() > 3 << 20, "{} {}", whole.status, whole.body.len());
}

#[tokio::test]
async fn t13_messages_past_the_budget_end_a_socket_and_the_next_is_served() {
    let name = host();
    let server = Server::start(&name, echo).await;
    let world = World::with(server.config.clone(), reach(&[name.as_str()]), None, room(4)).await;
    let mut client = open(&world, &name, "/", &[]).await.unwrap();
    let piece = "x".repeat(512 * 1024);
    for nth in 0..7 {
        let kind = if nth == 0 { Data::Text } else { Data::Continue };
        let part = Frame::message(piece.clone(), OpCode::Data(kind), false);
        if client.send(Message::Frame(part)).await.is_err() {
            break;
        }
    }
    let end = last(&mut client).await.0.unwrap();
    assert_eq!((end.code, end.reason.as_str()), (CloseCode::Again, "egress.memory"));
    drop(client);
    let mut next = open(&world, &name, "/", &[]).await.unwrap();
    next.send(Message::text("x".repeat(1 << 20))).await.unwrap();
    assert_eq!(hear(&mut next).await.len(), 1 << 20);
    drop(next);
    let settled = world.settled().await;
    let full = |record: &&types::Record| record.field(Field::Rule) == Some("egress.memory");
    let [record] = settled.iter().filter(full).collect::<Vec<_>>()[..] else { panic!("{settled:?}") };
    assert_eq!(record.verdict, Verdict::Block);
}
