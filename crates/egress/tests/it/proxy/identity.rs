//! One host from CONNECT to certificate (attacks T01, T02, T03, T05, T06, T12), and who may speak at all (M06).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use egress::loopback::{Loopback, reply};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use types::{Host, HostName};

use super::world::{World, exchange, leads_to, reach};
use crate::world::host;

async fn world(name: &HostName) -> (Loopback, World) {
    let upstream =
        Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "fine")).await.unwrap();
    let world = World::new(leads_to(&upstream, name), reach(&[name.as_str()])).await;
    (upstream, world)
}

#[tokio::test]
async fn t01_another_server_name_than_that_of_the_tunnel_is_refused() {
    let name = host();
    let (upstream, world) = world(&name).await;
    for other in ["evil.example", "sub.example.com", "127.0.0.1"] {
        assert!(world.secured(name.as_str(), other).await.is_err(), "{other}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    assert_eq!(world.refusals().await, ["egress.names-disagree"; 3]);
}

#[tokio::test]
async fn t02_another_host_than_that_of_the_tunnel_is_421() {
    let name = host();
    let (upstream, world) = world(&name).await;
    for request in [
        "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: {name}:8443\r\n\r\n"),
        format!("GET https://evil.example/ HTTP/1.1\r\nHost: {name}\r\n\r\n"),
        format!("GET http://{name}/ HTTP/1.1\r\nHost: {name}\r\n\r\n"),
    ] {
        let answer = world.inside(name.as_str(), &request).await;
        assert_eq!((answer.status, &*answer.code()), (421, "egress.names-disagree"), "{request}");
    }
    let answer =
        world.raw(&format!("CONNECT {name}:443 HTTP/1.1\r\nHost: evil.example:443\r\nTOKEN\r\n\r\n")).await;
    assert_eq!(answer.status, 421);
    // The same name in another spelling is the same name (N01, N02).
    let spelt = format!("GET / HTTP/1.1\r\nHost: {}.:443\r\n\r\n", name.as_str().to_uppercase());
    assert_eq!(world.inside(name.as_str(), &spelt).await.status, 200);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn t05_what_is_not_tls_does_not_pass_a_tunnel() {
    let name = host();
    let (upstream, world) = world(&name).await;
    for bytes in
        ["SSH-2.0-OpenSSH_9.6\r\n", "POST / HTTP/1.1\r\nHost: x\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = world.tunnel(name.as_str()).await;
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(!String::from_utf8_lossy(&answer).contains("HTTP/"), "{bytes}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    assert_eq!(world.refusals().await, ["egress.not-tls"; 3]);
}

/// A connection that sends one byte at a time.
struct Dribble(TcpStream);

impl AsyncRead for Dribble {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Dribble {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, &buf[..buf.len().min(1)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn t04_a_hello_in_single_bytes_is_read() {
    let name = host();
    let (upstream, world) = world(&name).await;
    let stream = world.tunnel(name.as_str()).await;
    stream.set_nodelay(true).unwrap();
    let stream = world.secure(Dribble(stream), name.as_str()).await.unwrap();
    let answer = exchange(stream, format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.requests().len(), 1);
}

#[tokio::test]
async fn t12_a_tunnel_inside_a_tunnel_is_405() {
    let name = host();
    let (upstream, world) = world(&name).await;
    let answer = world
        .inside(name.as_str(), &format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n"))
        .await;
    assert_eq!((answer.status, &*answer.code()), (405, "egress.nested-tunnel"));
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}

#[tokio::test]
async fn m06_a_client_without_the_token_is_not_served() {
    let name = host();
    let (upstream, world) = world(&name).await;
    for shown in [
        "X-Nothing: x",
        "Proxy-Authorization: Bearer wrong",
        "Proxy-Authorization: Basic eDp3cm9uZw==",
        "Authorization: Bearer x",
    ] {
        for line in [format!("CONNECT {name}:443"), format!("GET https://{name}/")] {
            let request = format!("{line} HTTP/1.1\r\nHost: {name}:443\r\n{shown}\r\n\r\n");
            let answer = exchange(world.dial().await, request.as_bytes()).await;
            assert_eq!((answer.status, &*answer.code()), (407, "egress.client-unknown"), "{request}");
        }
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}
