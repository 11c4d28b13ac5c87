//! What intercepting proxies cost: a service of 1 KiB answers on loopback, and a client that asks it directly and through
//! each of them, in turn.
//!
//! `scripts/bench-proxy` runs it: it prints where the service is and reads a line `NAME ADDRESS TOKEN CA PROCESS` for each
//! proxy, `-` for no token, for the service's own authority and for no process whose time is counted.

#![allow(clippy::disallowed_macros, reason = "a measuring program for developers, not part of the product")]
#![allow(clippy::disallowed_methods, reason = "the client of a benchmark is not the product's way out")]

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use egress::loopback::{Loopback, reply};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use types::{Host, HostName};

/// What a client of a local service calls it; all proxies resolve it alike.
const HOST: &str = "localhost";

/// Rounds over all ways, so that what else the machine does falls on each of them.
const ROUNDS: usize = 10;

/// Requests one after the other in a round.
const REQUESTS: usize = 200;

/// Connections at a time, and for how long, where requests a second are counted.
const CONNECTIONS: usize = 16;
const LOAD: Duration = Duration::from_millis(500);

type Failure = Box<dyn Error + Send + Sync>;

/// One way to the service.
struct Way {
    name: String,
    proxy: Option<String>,
    token: Option<String>,
    process: Option<String>,
    tls: TlsConnector,
    took: Vec<Duration>,
    rates: Vec<f64>,
    /// Processor time a request under load.
    costs: Vec<Duration>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let body = Bytes::from(vec![b'a'; 1024]);
    let host = Host::Name(HostName::parse(HOST)?);
    let service = Loopback::https(&host, move |_| reply(StatusCode::OK, body.clone())).await?;
    let own = std::env::temp_dir().join(format!("proxy-bench-{}.pem", std::process::id()));
    std::fs::write(&own, service.ca_pem().unwrap_or_default())?;
    println!("{} {}", service.addr().port(), own.display());

    let mut ways = vec![Way::parse("direct - - - -", &own)?];
    for line in std::io::stdin().lines() {
        ways.push(Way::parse(&line?, &own)?);
    }
    let to = service.addr().port();
    for round in 0..=ROUNDS {
        for way in &mut ways {
            let took = way.latencies(to).await.map_err(|error| format!("{}: {error}", way.name))?;
            let before = way.processor_time()?;
            let (done, rate) = way.rate(to).await?;
            let spent = way.processor_time()?.saturating_sub(before);
            // The first round warms up.
            if round > 0 {
                way.took.extend(took);
                way.rates.push(rate);
                way.costs.push(spent / done.max(1));
            }
        }
    }
    std::fs::remove_file(own)?;
    report(&mut ways);
    Ok(())
}

impl Way {
    fn parse(line: &str, own: &std::path::Path) -> Result<Self, Failure> {
        let [name, proxy, token, ca, process] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("not NAME ADDRESS TOKEN CA PROCESS: {line}").into());
        };
        let given = |word: &str| (word != "-").then(|| word.to_owned());
        let mut roots = RootCertStore::empty();
        let pem = given(ca).map_or_else(|| own.to_owned(), std::path::PathBuf::from);
        for certificate in CertificateDer::pem_file_iter(pem)? {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_root_certificates(roots).with_no_client_auth();
        Ok(Self {
            name: name.to_owned(),
            proxy: given(proxy),
            token: given(token),
            process: given(process),
            tls: TlsConnector::from(Arc::new(config)),
            took: Vec::new(),
            rates: Vec::new(),
            costs: Vec::new(),
        })
    }

    /// A connection to the service, in a tunnel where there is a proxy.
    async fn open(&self, to: u16) -> Result<SendRequest<Empty<Bytes>>, Failure> {
        let direct = format!("127.0.0.1:{to}");
        let mut stream = TcpStream::connect(self.proxy.as_ref().unwrap_or(&direct)).await?;
        stream.set_nodelay(true)?;
        if self.proxy.is_some() {
            let token = self.token.as_ref().map_or(String::new(), |token| {
                format!("Proxy-Authorization: Basic {}\r\n", STANDARD.encode(format!("ironclaw:{token}")))
            });
            let ask = format!("CONNECT {HOST}:{to} HTTP/1.1\r\nHost: {HOST}:{to}\r\n{token}\r\n");
            stream.write_all(ask.as_bytes()).await?;
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            if !head.starts_with(b"HTTP/1.1 200") && !head.starts_with(b"HTTP/1.0 200") {
                return Err(String::from_utf8_lossy(&head).into());
            }
        }
        let stream = self.tls.connect(ServerName::try_from(HOST)?, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn latencies(&self, to: u16) -> Result<Vec<Duration>, Failure> {
        let mut sender = self.open(to).await?;
        once(&mut sender, to).await?;
        let mut took = Vec::with_capacity(REQUESTS);
        for _ in 0..REQUESTS {
            let since = Instant::now();
            once(&mut sender, to).await?;
            took.push(since.elapsed());
        }
        Ok(took)
    }

    /// Requests on some connections at once: how many, and how many a second.
    async fn rate(&self, to: u16) -> Result<(u32, f64), Failure> {
        let mut senders = Vec::with_capacity(CONNECTIONS);
        for _ in 0..CONNECTIONS {
            senders.push(self.open(to).await?);
        }
        let since = Instant::now();
        let asking = senders.into_iter().map(|mut sender| {
            tokio::spawn(async move {
                let mut done = 0_u32;
                while since.elapsed() < LOAD {
                    once(&mut sender, to).await?;
                    done += 1;
                }
                Ok::<_, Failure>(done)
            })
        });
        let mut done = 0;
        for task in asking.collect::<Vec<_>>() {
            done += task.await??;
        }
        Ok((done, f64::from(done) / since.elapsed().as_secs_f64()))
    }

    /// Processor time of the proxy so far (proc(5), `schedstat` of each thread).
    fn processor_time(&self) -> Result<Duration, Failure> {
        let Some(process) = &self.process else { return Ok(Duration::ZERO) };
        let mut nanos = 0;
        for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
            let told = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            nanos += told.split(' ').next().and_then(|first| first.parse::<u64>().ok()).ok_or("no time")?;
        }
        Ok(Duration::from_nanos(nanos))
    }

    fn quantile(&self, percent: usize) -> Duration {
        self.took[(self.took.len() - 1) * percent / 100]
    }
}

async fn once(sender: &mut SendRequest<Empty<Bytes>>, to: u16) -> Result<(), Failure> {
    sender.ready().await?;
    let request = Request::get("/").header("host", format!("{HOST}:{to}")).body(Empty::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    match (status, body.len()) {
        (StatusCode::OK, 1024) => Ok(()),
        _ => Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into()),
    }
}

fn report(ways: &mut [Way]) {
    for way in ways.iter_mut() {
        way.took.sort_unstable();
        way.rates.sort_unstable_by(f64::total_cmp);
        way.costs.sort_unstable();
    }
    let floor = (ways[0].quantile(50), ways[0].quantile(99));
    println!(
        "{} samples each; {CONNECTIONS} connections where requests a second are counted",
        ways[0].took.len()
    );
    println!(
        "{:<28}{:>10}{:>10}{:>12}{:>12}{:>12}{:>12}",
        "", "median", "p99", "added", "added p99", "requests/s", "processor"
    );
    for way in ways.iter() {
        let (median, high) = (way.quantile(50), way.quantile(99));
        let micros = |took: Duration| format!("{} \u{b5}s", took.as_micros());
        println!(
            "{:<28}{:>10}{:>10}{:>12}{:>12}{:>12.0}{:>12}",
            way.name,
            micros(median),
            micros(high),
            micros(median.saturating_sub(floor.0)),
            micros(high.saturating_sub(floor.1)),
            way.rates[way.rates.len() / 2],
            way.process.as_ref().map_or("-".to_owned(), |_| micros(way.costs[way.costs.len() / 2])),
        );
    }
}
