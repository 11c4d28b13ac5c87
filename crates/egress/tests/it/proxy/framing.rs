//! What is no request, or one whose end two programs could see at different places (attacks N04, T04, T06, T07, T09).

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::floods::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, begun, frame, get};
use super::identity::world;
use super::world::{exchange, reach};
use crate::world::host;

#[tokio::test]
async fn n04_t06_t09_what_is_no_request_is_on_the_record() {
    let name = host();
    let (upstream, world) = world(&name).await;
    let lines = [
        format!("CONNECT {name} x:443 HTTP/1.1\r\nHost: {name}:443"),
        format!("CONNECT {name}\0:443 HTTP/1.1\r\nHost: {name}:443"),
        format!("POST http://{name}/ HTTP/1.1\r\nHost: {name}\r\nContent-Length: 5\r\nContent-Length: 6"),
        format!("POST http://{name}/ HTTP/1.1\r\nHost: {name}\r\nTransfer-Encoding: xchunked"),
        format!("GET http://{name}/ HTTP/1.1\r\nHost : {name}"),
        format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n folded"),
    ];
    for line in &lines {
        let answer = world.raw(&format!("{line}\r\nTOKEN\r\n\r\n0\r\n\r\n")).await;
        assert_eq!(answer.status, 400, "{line}: {answer:?}");
    }
    // Prior knowledge of HTTP/2 (RFC 9113, 3.3), in clear text on the proxy itself.
    let answer = world.raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_ne!(answer.status, 200, "{answer:?}");
    // Inside a tunnel, under its place, in which the same is told apart.
    let inside = format!("GET / HTTP/1.1\r\nHost : {name}\r\n\r\n");
    assert_eq!(world.inside(name.as_str(), &inside).await.status, 400);
    let long = format!("GET / HTTP/1.1\r\nHost: {name}\r\nX-Long: {}\r\n\r\n", "x".repeat(1 << 20));
    assert_ne!(world.inside(name.as_str(), &long).await.status, 200);
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    world.until_refused(lines.len() + 3).await;
    let mut rules = world.refusals().await;
    assert_eq!(rules.pop().as_deref(), Some("egress.too-large"));
    assert_eq!(rules, vec!["egress.malformed"; lines.len() + 2]);
}

#[tokio::test]
async fn t09_a_coding_other_than_chunked_is_refused() {
    let name = host();
    let (upstream, world) = world(&name).await;
    for codings in
        ["gzip, chunked", "chunked, chunked", "identity, chunked", "gzip\r\nTransfer-Encoding: chunked"]
    {
        let request =
            format!("POST / HTTP/1.1\r\nHost: {name}\r\nTransfer-Encoding: {codings}\r\n\r\n0\r\n\r\n");
        let answer = world.inside(name.as_str(), &request).await;
        assert_eq!((answer.status, &*answer.code()), (400, "egress.malformed"), "{codings}: {answer:?}");
        assert!(answer.head.contains("connection: close"), "{answer:?}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    let plain = format!("POST / HTTP/1.1\r\nHost: {name}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(world.inside(name.as_str(), &plain).await.status, 200);
}

#[tokio::test]
async fn t06_an_upgrade_to_http2_in_clear_text_is_refused() {
    let name = host();
    let (upstream, world) = world(&name).await;
    world.proxy.run().replace(reach(&[name.as_str(), &format!("http://{name}")]));
    let h2c =
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA";
    let inside = format!("GET / HTTP/1.1\r\nHost: {name}\r\n{h2c}\r\n\r\n");
    let inside = world.inside(name.as_str(), &inside).await;
    let front = format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\nTOKEN\r\n{h2c}\r\n\r\n");
    let front = world.raw(&front).await;
    for answer in [inside, front] {
        assert_eq!((answer.status, &*answer.code()), (403, "egress.routing-header"), "{answer:?}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    assert_eq!(world.refusals().await, ["egress.routing-header"; 2]);
}

#[tokio::test]
async fn t07_upper_case_and_doubled_pseudo_headers_end_their_stream() {
    fn literal(name: &str, value: &str) -> Vec<u8> {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0x00], text(name), text(value)].concat()
    }
    let name = host();
    let (upstream, world) = world(&name).await;
    for more in [
        literal("X-Upper", "a"),
        literal(":path", "/other"),
        literal(":authority", "evil.example"),
        literal(":method", "DELETE"),
        literal("connection", "close"),
        literal("transfer-encoding", "chunked"),
    ] {
        let mut stream = begun(&world, &name, &[]).await;
        let block = [get(&name), more.clone()].concat();
        stream.write_all(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &block)).await.unwrap();
        let ended = async {
            let mut head = [0; 9];
            loop {
                stream.read_exact(&mut head).await.unwrap();
                assert_ne!(head[3], HEADERS, "{more:?} was answered");
                if [RST_STREAM, GOAWAY].contains(&head[3]) {
                    return;
                }
                let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
                stream.read_exact(&mut payload).await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), ended).await.expect("an end in time");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn t04_a_hello_of_more_than_one_record_is_read() {
    let name = host();
    let (_upstream, world) = world(&name).await;
    let mut config = world.trusting();
    // 25 KiB, while a record of TLS holds 16 (RFC 8446, 5.1).
    config.alpn_protocols = (0..100u8).map(|each| vec![each; 250]).collect();
    config.alpn_protocols.push(b"http/1.1".to_vec());
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let server = rustls::pki_types::ServerName::try_from(name.to_string()).unwrap();
    let stream = connector.connect(server, world.tunnel(name.as_str()).await).await.unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n");
    assert_eq!(exchange(stream, request.as_bytes()).await.status, 200);
}
