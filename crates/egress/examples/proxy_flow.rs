//! What a proxy holds in memory while long bodies go through it: a service on loopback, a client, and the resident memory of
//! the process in between, idle and at its most.
//!
//! `scripts/bench-flow GIB` runs it: it prints where the service is and reads one line `ADDRESS TOKEN CA PROCESS`.

#![allow(clippy::disallowed_macros, reason = "a measuring program for developers, not part of the product")]
#![allow(clippy::disallowed_methods, reason = "the client of a benchmark is not the product's way out")]

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use egress::ca::Authority;
use futures_util::stream::unfold;
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use types::{Host, HostName};

const HOST: &str = "localhost";

/// Bytes of one piece of a body.
const PIECE: usize = 64 * 1024;

/// How often the memory is looked at.
const LOOK: Duration = Duration::from_millis(20);

type Failure = Box<dyn Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, Infallible>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let gib: u64 = std::env::args().nth(1).as_deref().unwrap_or("5").parse()?;
    let length = gib << 30;
    let authority = Authority::new()?;
    let ca = std::env::temp_dir().join(format!("proxy-flow-{}.pem", std::process::id()));
    std::fs::write(&ca, authority.pem())?;
    let to = serve(&authority).await?;
    println!("{to} {}", ca.display());
    let mut line = String::new();
    // Nothing else is to be done meanwhile.
    std::io::stdin().read_line(&mut line)?;
    let [proxy, token, trusted, process] = line.split_whitespace().collect::<Vec<_>>()[..] else {
        return Err("not ADDRESS TOKEN CA PROCESS".into());
    };
    let process: u32 = process.parse()?;
    let mut sender = open(proxy, token, trusted, to).await?;
    // Whatever is made at first use is made.
    ask(&mut sender, to, Method::GET, 1 << 20).await?;
    ask(&mut sender, to, Method::PUT, 1 << 20).await?;
    println!("{:<10}{:>10}{:>12}{:>12}{:>12}{:>12}", "", "GiB", "idle KiB", "peak KiB", "more KiB", "MiB/s");
    for (name, method) in [("download", Method::GET), ("upload", Method::PUT)] {
        let idle = resident(process)?;
        let (peak, since) = (Arc::new(AtomicU64::new(idle)), Instant::now());
        let watched = peak.clone();
        let watch = tokio::spawn(async move {
            loop {
                watched.fetch_max(resident(process).unwrap_or_default(), Ordering::Relaxed);
                tokio::time::sleep(LOOK).await;
            }
        });
        let carried = ask(&mut sender, to, method, length).await?;
        let took = since.elapsed().as_secs_f64();
        watch.abort();
        if carried != length {
            return Err(format!("{carried} bytes of {length}").into());
        }
        let peak = peak.load(Ordering::Relaxed);
        let rate = (length >> 20) as f64 / took;
        println!("{name:<10}{gib:>10}{idle:>12}{peak:>12}{:>12}{rate:>12.0}", peak - idle);
    }
    std::fs::remove_file(ca)?;
    Ok(())
}

/// KiB of memory that a process has in use (proc(5), `VmRSS`).
fn resident(process: u32) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
    Ok(number.parse()?)
}

/// Text that is no secret, as long as is asked for.
fn body(length: u64) -> Body {
    let line = b"a line of a long and honest body, of which there are many\n";
    let piece: Bytes = line.iter().copied().cycle().take(PIECE).collect();
    let pieces = unfold(length, move |left| {
        let next = piece.slice(..(left as usize).min(PIECE));
        async move { (left > 0).then(|| (Ok(Frame::data(next.clone())), left - next.len() as u64)) }
    });
    StreamBody::new(pieces).boxed_unsync()
}

/// Counts what arrives and keeps none of it.
async fn drained(mut body: Incoming) -> Result<u64, hyper::Error> {
    let mut count = 0;
    while let Some(frame) = body.frame().await {
        count += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(count)
}

/// A service that sends as much as it is asked for, and tells how much it was sent.
async fn serve(authority: &Authority) -> Result<u16, Failure> {
    let identity = authority.issue(&Host::Name(HostName::parse(HOST)?))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_no_client_auth().with_single_cert(identity.chain, identity.key)?;
    let (acceptor, listener) = (TlsAcceptor::from(Arc::new(config)), TcpListener::bind("127.0.0.1:0").await?);
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(answer);
                // Whatever a client does to its own connection.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(port)
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
    if request.method() == Method::GET {
        let length = request.uri().path().trim_start_matches('/').parse().unwrap_or_default();
        return Ok(Response::new(body(length)));
    }
    let count = drained(request.into_body()).await?.to_string();
    Ok(Response::new(Full::from(count).map_err(|never| match never {}).boxed_unsync()))
}

/// A tunnel to the service, and TLS in it.
async fn open(proxy: &str, token: &str, trusted: &str, to: u16) -> Result<SendRequest<Body>, Failure> {
    let mut stream = TcpStream::connect(proxy).await?;
    let token = STANDARD.encode(format!("ironclaw:{token}"));
    let connect = format!(
        "CONNECT {HOST}:{to} HTTP/1.1\r\nHost: {HOST}:{to}\r\nProxy-Authorization: Basic {token}\r\n\r\n"
    );
    stream.write_all(connect.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    if !head.starts_with(b"HTTP/1.1 200") {
        return Err(String::from_utf8_lossy(&head).into());
    }
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(trusted)? {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let stream = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST)?, stream).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// One request with a body of that length in one direction; how many bytes arrived.
async fn ask(sender: &mut SendRequest<Body>, to: u16, method: Method, length: u64) -> Result<u64, Failure> {
    sender.ready().await?;
    let is_upload = method == Method::PUT;
    let request = Request::builder().method(method).uri(format!("/{length}"));
    let request = request.header("host", format!("{HOST}:{to}"));
    let response = sender.send_request(request.body(body(if is_upload { length } else { 0 }))?).await?;
    if response.status() != StatusCode::OK {
        let (status, body) = (response.status(), response.into_body().collect().await?.to_bytes());
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
    }
    match is_upload {
        true => Ok(std::str::from_utf8(&response.into_body().collect().await?.to_bytes())?.parse()?),
        false => Ok(drained(response.into_body()).await?),
    }
}
