//! One host from CONNECT to certificate (attacks N11, N14, T01 to T07, T12, T16), and who may speak at all (M06).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use egress::ca::Authority;
use egress::loopback::{Loopback, reply};
use egress::{Config, Exception};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::{EchGreaseConfig, EchMode};
use rustls::crypto::hpke::Hpke as _;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use types::{Host, HostName, Port};

use super::world::{World, exchange, leads_to, reach};
use crate::world::host;

/// An upstream that answers `fine`, and the proxy that may reach it.
pub(super) async fn world(name: &HostName) -> (Loopback, World) {
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

#[tokio::test]
async fn t03_a_handshake_without_a_name_is_refused_and_a_hidden_one_hides_nothing() {
    let name = host();
    let (upstream, world) = world(&name).await;
    // An address has no server name (RFC 6066, 3), so this handshake names nobody.
    assert!(world.secured(name.as_str(), "93.184.216.34").await.is_err());
    let mut unnamed = world.trusting();
    unnamed.enable_sni = false;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(unnamed));
    let server_name = ServerName::try_from(name.as_str().to_owned()).unwrap();
    assert!(connector.connect(server_name.clone(), world.tunnel(name.as_str()).await).await.is_err());
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
    // Encrypted Client Hello (RFC 9849) in its harmless form: the outer name is the one that counts.
    let suite = rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_128;
    let (public, _) = suite.generate_key_pair().unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let grease = EchMode::Grease(EchGreaseConfig::new(suite, public));
    let hiding = rustls::ClientConfig::builder_with_provider(provider)
        .with_ech(grease)
        .unwrap()
        .with_root_certificates(world.roots())
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(hiding));
    let stream = connector.connect(server_name, world.tunnel(name.as_str()).await).await.unwrap();
    let answer = exchange(stream, format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n").as_bytes()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(world.refusals().await, ["egress.names-disagree"; 2]);
}

#[tokio::test]
async fn t07_each_stream_of_a_connection_is_held_to_the_host_of_its_tunnel() {
    let (name, other) = (host(), host());
    let upstream =
        Loopback::https(&Host::Name(name.clone()), |_| reply(StatusCode::OK, "fine")).await.unwrap();
    // The other host is allowed too, and served by the same address: its requests belong into its own tunnel.
    let mut config = leads_to(&upstream, &name);
    config.exceptions.push(upstream.exception(&other, Port::new(443).unwrap()));
    let world = World::new(config, reach(&[name.as_str(), other.as_str()])).await;
    let stream = TokioIo::new(world.secured_for_http2(name.as_str()).await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for (authority, field, status) in [
        (name.as_str(), None, 200),
        (other.as_str(), None, 421),
        (name.as_str(), Some(other.as_str()), 421),
        (name.as_str(), Some(name.as_str()), 200),
        ("evil.example", None, 421),
    ] {
        let mut request = Request::get(format!("https://{authority}/"));
        if let Some(field) = field {
            request = request.header("host", field);
        }
        let answer = client.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{authority} {field:?}");
        answer.into_body().collect().await.unwrap();
    }
    connection.abort();
    assert_eq!(upstream.requests().len(), 2);
    assert_eq!(world.refusals().await, ["egress.names-disagree"; 3]);
}

#[tokio::test]
async fn t16_an_upstream_that_wants_a_certificate_of_the_client_gets_nothing() {
    let name = host();
    let authority = Authority::new().unwrap();
    let identity = authority.issue(&Host::Name(name.clone())).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(identity.chain[1].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(identity.chain, identity.key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let exception = Exception {
        host: name.clone(),
        port: Port::new(443).unwrap(),
        address: listener.local_addr().unwrap(),
        ca: Some(authority.pem().as_bytes().to_vec()),
        containers: false,
    };
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        acceptor.accept(stream).await.is_err()
    });
    let config = Config { exceptions: vec![exception], ..Config::default() };
    let world = World::new(config, reach(&[name.as_str()])).await;
    let answer = world.inside(name.as_str(), &format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).await;
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(answer.code().starts_with("upstream."), "{answer:?}");
    assert!(serving.await.unwrap(), "the upstream took the client");
}

#[tokio::test]
async fn n11_n14_what_is_no_name_or_no_http_opens_no_tunnel() {
    let name = host();
    let (upstream, world) = world(&name).await;
    for zoned in ["[fe80::1%25eth0]:443", "[fe80::1%eth0]:443", "[fe80::1]%25eth0:443"] {
        let answer = world.raw(&format!("CONNECT {zoned} HTTP/1.1\r\nHost: {zoned}\r\nTOKEN\r\n\r\n")).await;
        assert_eq!(answer.status, 400, "{zoned} {answer:?}");
    }
    // SOCKS 5 with a name and with an address, and SOCKS 4a.
    let mut named = b"\x05\x01\x00\x05\x01\x00\x03".to_vec();
    named.push(u8::try_from(name.as_str().len()).unwrap());
    named.extend(name.as_str().as_bytes());
    named.extend(443u16.to_be_bytes());
    let mut older = b"\x04\x01\x01\xbb\x00\x00\x00\x01\x00".to_vec();
    older.extend(name.as_str().as_bytes());
    older.push(0);
    for greeting in [&named[..], b"\x05\x01\x00\x05\x01\x00\x01\x7f\x00\x00\x01\x01\xbb", &older] {
        let mut stream = world.dial().await;
        stream.write_all(greeting).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400"), "{answer:?}");
    }
    assert_eq!((upstream.connections(), upstream.received()), (0, 0));
}
