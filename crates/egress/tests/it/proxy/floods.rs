//! More than a proxy should have to bear (attacks A01, A08, T08, X02).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use egress::loopback::{Loopback, reply};
use egress::proxy::Bounds;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use types::{Field, Host, HostName, Kind, Port, Verdict};

use super::world::{World, leads_to, reach};
use crate::world::host;

const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
pub(super) const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

/// A frame as RFC 9113, 4.1 writes it.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET https://NAME/` in the static table of RFC 7541, the name as a literal.
pub(super) fn get(name: &HostName) -> Vec<u8> {
    let mut block = vec![0x82, 0x87, 0x84, 0x01, u8::try_from(name.as_str().len()).unwrap()];
    block.extend(name.as_str().as_bytes());
    block
}

/// A client that has begun to speak HTTP/2, with these settings.
pub(super) async fn begun(world: &World, name: &HostName, settings: &[u8]) -> TlsStream<TcpStream> {
    let mut stream = world.secured_for_http2(name.as_str()).await;
    let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    hello.extend(frame(SETTINGS, 0, 0, settings));
    stream.write_all(&hello).await.unwrap();
    stream
}

/// The kinds of the frames that come until the connection ends.
async fn to_the_end(mut stream: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let read = async {
        let mut kinds = Vec::new();
        let mut head = [0; 9];
        while stream.read_exact(&mut head).await.is_ok() {
            kinds.push(head[3]);
            let mut payload =
                vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
            if stream.read_exact(&mut payload).await.is_err() {
                break;
            }
        }
        kinds
    };
    timeout(Duration::from_secs(30), read).await.expect("the connection is ended")
}

async fn world(bounds: Bounds) -> (Loopback, World, HostName) {
    let name = host();
    let served = Host::Name(name.clone());
    let upstream = Loopback::https(&served, |_| reply(StatusCode::OK, vec![b'x'; 300_000])).await.unwrap();
    let world = World::with(leads_to(&upstream, &name), reach(&[name.as_str()]), None, bounds).await;
    (upstream, world, name)
}

async fn honest(world: &World, name: &HostName) {
    let answer = world.inside(name.as_str(), &format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn t08_a_head_without_an_end_ends_the_connection() {
    let (upstream, world, name) = world(Bounds::default()).await;
    let mut stream = begun(&world, &name, &[]).await;
    stream.write_all(&frame(HEADERS, END_STREAM, 1, &get(&name))).await.unwrap();
    // A literal header of 16,000 bytes, whole, in each; 64 MiB of them.
    let mut header = vec![0x00, 0x01, b'x', 0x7f, 0x80 + 1, 0x7c];
    header.resize(header.len() + 16_000, b'y');
    let mut sent = 0;
    let flood = frame(CONTINUATION, 0, 1, &header);
    while sent < 64 << 20 && stream.write_all(&flood).await.is_ok() {
        sent += flood.len();
    }
    assert!(sent < 64 << 20, "all of it was taken");
    assert_eq!(upstream.received(), 0);
    honest(&world, &name).await;
}

#[tokio::test]
async fn t08_rapid_resets_end_the_connection() {
    let (upstream, world, name) = world(Bounds::default()).await;
    let stream = begun(&world, &name, &[]).await;
    let (reader, mut writer) = tokio::io::split(stream);
    let mut burst = Vec::new();
    for number in (1..20_000).step_by(2) {
        burst.extend(frame(HEADERS, END_HEADERS | END_STREAM, number, &get(&name)));
        burst.extend(frame(RST_STREAM, 0, number, &8u32.to_be_bytes()));
    }
    let writing = tokio::spawn(async move { drop(writer.write_all(&burst).await) });
    let kinds = to_the_end(reader).await;
    writing.abort();
    assert!(kinds.contains(&GOAWAY), "{kinds:?}");
    assert!(upstream.requests().len() < 200, "{}", upstream.requests().len());
    honest(&world, &name).await;
}

#[tokio::test]
async fn t08_a_head_that_unfolds_is_not_read() {
    let (upstream, world, name) = world(Bounds::default()).await;
    let mut stream = begun(&world, &name, &[]).await;
    // One header of 4,000 bytes into the dynamic table, then 12,000 times by its number: 48 MB in 16 KB.
    let mut block = get(&name);
    block.extend([0x40, 0x01, b'x', 0x7f, 0x80 + 0x21, 0x1e]);
    block.resize(block.len() + 4_000, b'y');
    block.resize(block.len() + 12_000, 0xbe);
    assert!(block.len() <= 16_384);
    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await.unwrap();
    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 3, &get(&name))).await.unwrap();
    honest(&world, &name).await;
    assert!(upstream.requests().iter().all(|seen| !seen.headers().contains_key("x")));
}

#[tokio::test]
async fn t08_a_client_that_takes_nothing_is_cut_off() {
    let bounds = Bounds { connection: Duration::from_secs(2), ..Bounds::default() };
    let (_upstream, world, name) = world(bounds).await;
    // SETTINGS_INITIAL_WINDOW_SIZE of nothing (RFC 9113, 6.5.2).
    let mut stream = begun(&world, &name, &[0, 4, 0, 0, 0, 0]).await;
    stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &get(&name))).await.unwrap();
    let kinds = to_the_end(&mut stream).await;
    assert!(kinds.contains(&HEADERS) && !kinds.contains(&DATA), "{kinds:?}");
    honest(&world, &name).await;
}

/// Files that this process may have open: those of ten thousand clients.
fn with_files(count: u64) {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let more = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, more).unwrap();
    assert!(limit.maximum.is_none_or(|most| most >= count), "ulimit -Hn is {:?}", limit.maximum);
}

/// Opens a tunnel and says nothing in it; some end their half of it. How many such tunnels are open is counted.
async fn idles(
    mut stream: TcpStream,
    connect: Arc<str>,
    half: bool,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
) {
    let _ = stream.write_all(connect.as_bytes()).await;
    if half {
        let _ = stream.shutdown().await;
    }
    let mut head = [0; 12];
    let is_open = stream.read_exact(&mut head).await.is_ok() && &head == b"HTTP/1.1 200";
    if is_open {
        most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    }
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    if is_open {
        open.fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a01_ten_thousand_idle_tunnels_are_bounded_and_honest_clients_are_served_among_them() {
    const CLIENTS: usize = 10_000;
    with_files(CLIENTS as u64 + 2_000);
    let short = Duration::from_millis(50);
    let bounds = Bounds { connections: 64, handshake: short, head: short, ..Bounds::default() };
    let (upstream, world, name) = world(bounds).await;
    let connect = format!(
        "CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\nProxy-Authorization: Bearer {}\r\n\r\n",
        world.token
    );
    let (connect, open, most) =
        (Arc::from(connect), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (mut idle, mut served) = (JoinSet::new(), 0);
    for number in 0..CLIENTS {
        let connect: Arc<str> = Arc::clone(&connect);
        idle.spawn(idles(world.dial().await, connect, number % 4 == 0, open.clone(), most.clone()));
        if number % 1_000 == 999 {
            // Among so many it may be told that there is no room, and comes again.
            let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
            for _ in 0..200 {
                if tries(&world, &name, &request).await {
                    served += 1;
                    break;
                }
            }
        }
    }
    assert_eq!((served, upstream.requests().len()), (10, 10));
    // Each of them ends without a word of its own.
    let all = async { while idle.join_next().await.is_some() {} };
    timeout(Duration::from_secs(60), all).await.expect("the idle ones are cut off");
    let most = most.load(Ordering::SeqCst);
    // As many as may be, and as many of which the end is being told.
    assert!((1..=2 * bounds.connections).contains(&most), "{most} at a time");
    honest(&world, &name).await;
}

/// A port on loopback is open to everyone on this machine; who knows no token cannot keep it from who does.
#[tokio::test]
async fn a01_m06_strangers_that_say_nothing_keep_nobody_out() {
    let bounds = Bounds { connections: 4, ..Bounds::default() };
    let (_upstream, world, name) = world(bounds).await;
    let mut strangers = Vec::new();
    for number in 0..16 {
        let mut stream = world.dial().await;
        if number % 2 == 0 {
            let wrong = format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n\r\n");
            stream.write_all(wrong.as_bytes()).await.unwrap();
        }
        strangers.push(stream);
    }
    // Each of them may stay for ten seconds, and half a second where others wait.
    timeout(Duration::from_secs(20), honest(&world, &name)).await.unwrap();
    // As many clients that are known stay as there are slots, whatever comes after them.
    let mut known = Vec::new();
    for _ in 0..bounds.connections {
        let mut stream = world.dial().await;
        let token = format!("Proxy-Authorization: Bearer {}", world.token);
        let request = format!("GET http://{name}:81/ HTTP/1.1\r\nHost: {name}:81\r\n{token}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        timeout(Duration::from_secs(20), stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(&answer, b"HTTP/1.1 403");
        known.push((stream, request));
    }
    for _ in 0..8 {
        strangers.push(world.dial().await);
    }
    for (stream, request) in &mut known {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let mut piece = [0; 4096];
        while answer.matches("HTTP/1.1 403").count() < 1 {
            let read = timeout(Duration::from_secs(20), stream.read(&mut piece)).await.unwrap().unwrap();
            assert_ne!(read, 0, "a known client was sent away");
            answer += &String::from_utf8_lossy(&piece[..read]);
        }
    }
}

/// Whether a request through a tunnel was answered.
async fn tries(world: &World, name: &HostName, request: &str) -> bool {
    let tunnel = timeout(Duration::from_secs(20), world.try_tunnel(name.as_str())).await;
    let Ok(Some(stream)) = tunnel else { return false };
    let Ok(mut stream) = world.secure(stream, name.as_str()).await else { return false };
    let mut answer = Vec::new();
    let _ = stream.write_all(request.as_bytes()).await;
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    answer.starts_with(b"HTTP/1.1 200")
}

#[tokio::test]
async fn a08_a_storm_of_refusals_is_told_by_its_number() {
    let (upstream, world, _) = world(Bounds::default()).await;
    let name = host();
    let token = format!("Proxy-Authorization: Bearer {}", world.token);
    let request = format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n{token}\r\n\r\n");
    let last = format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n{token}\r\nConnection: close\r\n\r\n");
    let (mut reader, mut writer) = world.dial().await.into_split();
    let writing = tokio::spawn(async move {
        let written = writer.write_all((request.repeat(299) + &last).as_bytes()).await;
        // A client that closes its half has gone.
        written.map(|()| writer)
    });
    let mut answers = String::new();
    reader.read_to_string(&mut answers).await.unwrap();
    drop(writing.await.unwrap().unwrap());
    assert_eq!(answers.matches("HTTP/1.1 403").count(), 300);
    assert_eq!(answers.matches("policy.not-allowed").count(), 300);
    let mut other = world.dial().await;
    let hello = format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n{token}\r\n\r\n");
    other.write_all(hello.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    other.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 403");
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    let entries = world.close().await;
    let refused: Vec<_> = entries
        .iter()
        .filter(|entry| entry.record.field(Field::Rule) == Some("policy.not-allowed"))
        .collect();
    let counts: Vec<&str> = refused.iter().filter_map(|entry| entry.record.field(Field::Count)).collect();
    let expected = ["1", "2", "3", "4", "5", "6", "7", "8", "16", "32", "64", "128", "256"];
    // The first CONNECT is another refusal.
    assert_eq!(counts, [&expected[..], &["1"]].concat());
    assert_eq!(refused.len(), counts.len());
    assert!(refused.iter().all(|entry| entry.record.verdict == Verdict::Block));
}

/// A method is a word of the program's own choosing (attack A08): one of 58 KB was kept in memory for each.
#[tokio::test]
async fn a08_methods_of_a_programs_own_fill_neither_memory_nor_log() {
    let (upstream, world, name) = world(Bounds::default()).await;
    let mut stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
    for number in 0..40 {
        // Short ones are refused by the rule, long ones for what they are.
        let method = format!("M{number}{}", "X".repeat(number % 2 * 20_000));
        let request = format!("{method} / HTTP/1.1\r\nHost: {name}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\n") || !answer.windows(4).any(|end| end == b"\r\n\r\n") {
            answer.push(timeout(Duration::from_secs(20), stream.read_u8()).await.unwrap().unwrap());
            if answer.ends_with(b"}\n") {
                break;
            }
        }
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.len() < 2000, "{} bytes", answer.len());
        if answer.to_ascii_lowercase().contains("connection: close") {
            stream = world.secured(name.as_str(), name.as_str()).await.unwrap();
        }
    }
    assert_eq!(upstream.requests().len(), 0);
    let (kinds, more) = world.proxy.run().refused();
    assert!(kinds.iter().all(|kind| kind.asked == format!("? {name}:443")), "{kinds:?}");
    assert_eq!((kinds.iter().map(|kind| kind.count).sum::<u64>(), more), (40, 0));
    let entries = world.close().await;
    let longest = entries.iter().map(|entry| format!("{:?}", entry.record).len()).max().unwrap();
    assert!(longest < 4000, "{longest}");
}

#[tokio::test]
async fn a08_a_storm_of_headers_that_are_not_sent_is_told_by_its_number() {
    let (upstream, world, name) = world(Bounds::default()).await;
    for _ in 0..40 {
        let request =
            format!("GET / HTTP/1.1\r\nHost: {name}\r\nX-Forwarded-For: 1\r\nConnection: close\r\n\r\n");
        let answer = world.inside(name.as_str(), &request).await;
        assert_eq!((answer.status, &*answer.code()), (403, "egress.routing-header"));
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    let entries = world.close().await;
    let requests = entries.iter().filter(|entry| entry.record.kind == Kind::Request);
    assert_eq!(requests.count(), 8 + 2, "each of eight, then 16 and 32");
}

#[tokio::test]
async fn x02_names_under_a_wildcard_are_bounded_before_they_are_looked_up() {
    let unused = Host::parse("unused.example").unwrap();
    let upstream = Loopback::https(&unused, |_| reply(StatusCode::OK, "fine")).await.unwrap();
    let zone = format!("{}.example.com", host().as_str().split('.').next().unwrap());
    let name = |label: &str| HostName::parse(&format!("{label}.{zone}")).unwrap();
    let mut config = leads_to(&upstream, &name("n0"));
    config.exceptions.push(upstream.exception(&name("one-too-many"), Port::new(443).unwrap()));
    let world = World::new(config, reach(&[&format!("*.{zone}"), &format!("named.{zone}")])).await;
    for number in 0..64 {
        world.tunnel(name(&format!("n{number}")).as_str()).await;
    }
    let connect =
        |name: HostName| format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\nTOKEN\r\n\r\n");
    let refused = world.raw(&connect(name("one-too-many"))).await;
    assert_eq!((refused.status, &*refused.code()), (403, "policy.wildcard-names"));
    // What was used stays usable, and so does what is named by itself.
    world.tunnel(name("n0").as_str()).await;
    world.tunnel(name("named").as_str()).await;
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    let entries = world.close().await;
    let of_names = |verdict| {
        let is = move |entry: &&audit::Entry| {
            entry.record.verdict == verdict
                && entry.record.field(Field::Rule) == Some("policy.wildcard-names")
        };
        entries.iter().filter(is).collect::<Vec<_>>()
    };
    assert_eq!(of_names(Verdict::Block).len(), 1);
    // The owner could know before: once, when three quarters were used.
    let near = of_names(Verdict::Flag);
    assert_eq!(near.len(), 1, "{near:?}");
    let (names, told) = (name("n47"), near[0].record.field(Field::Reason).unwrap());
    assert_eq!(told, format!("48 of 64 names, 134 of 1024 letters with {names}:443"));
}

#[tokio::test]
async fn x02_long_names_under_a_wildcard_are_bounded_by_their_letters() {
    let unused = Host::parse("unused.example").unwrap();
    let upstream = Loopback::https(&unused, |_| reply(StatusCode::OK, "fine")).await.unwrap();
    let zone = format!("{}.example.com", host().as_str().split('.').next().unwrap());
    let long = |number: u32| HostName::parse(&format!("{number:0>60}.{zone}")).unwrap();
    let world = World::new(leads_to(&upstream, &long(0)), reach(&[&format!("*.{zone}")])).await;
    for number in 0..17 {
        world.tunnel(long(number).as_str()).await;
    }
    let connect = |name: &str| format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\nTOKEN\r\n\r\n");
    let refused = world.raw(&connect(long(17).as_str())).await;
    assert_eq!((refused.status, &*refused.code()), (403, "policy.wildcard-names"));
    // One of four letters still fits.
    world.tunnel(&format!("four.{zone}")).await;
    let refused = world.raw(&connect(&format!("a.{zone}"))).await;
    assert_eq!((refused.status, &*refused.code()), (403, "policy.wildcard-names"));
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}
