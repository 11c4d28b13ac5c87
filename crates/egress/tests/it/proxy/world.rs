//! A proxy on a port of loopback, with the token that its clients show.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::secrets::{Plain, Unlock, Vault};
use audit::{Audit, Drain, Entry, Log};
use egress::ca::Authority;
use egress::loopback::Loopback;
use egress::proxy::{Bounds, Parts, Proxy, serve_tcp};
use egress::{Config, Egress};
use http::Method;
use policy::{Catalog, Policy, Reach, Run, Settings, Turn};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use safety::Safety;
use store::{ApprovalState, Mutation, Reader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use types::{
    CallId, Caller, Digest, Field, FindingId, Grant, HostName, Injection, Kind, PathPrefix, Port, Record,
    SecretName, Site, Tenant, ToolName, Trace, Verdict,
};

pub(super) struct World {
    pub(super) proxy: Arc<Proxy>,
    pub(super) port: u16,
    pub(super) token: String,
    /// The value of the secret.
    pub(super) key: String,
    /// Where the certificate of the proxy's authority is.
    pub(super) ca: PathBuf,
    pub(super) policy: Policy,
    vault: Arc<Vault>,
    serving: tokio::task::JoinHandle<()>,
    audit: Audit,
    reader: Reader,
    drain: Drain,
    folder: tempfile::TempDir,
}

/// What the secret is granted for.
pub(super) struct Granted<'a> {
    pub(super) host: &'a HostName,
    pub(super) path: &'a str,
    pub(super) inject: &'a str,
}

/// What came back to a raw client.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    /// The code of a refusal.
    pub(super) fn code(&self) -> String {
        let value: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        value["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

pub(super) fn reach(rules: &[&str]) -> Reach {
    Reach::of_words(rules.iter().copied()).unwrap()
}

/// The exception that leads the host on port 443 to the server.
pub(super) fn leads_to(upstream: &Loopback, host: &HostName) -> Config {
    let port = Port::new(443).unwrap();
    Config { exceptions: vec![upstream.exception(host, port)], ..Config::default() }
}

impl World {
    pub(super) async fn new(config: Config, reach: Reach) -> Self {
        Self::with(config, reach, None, Bounds::default()).await
    }

    /// A proxy with a secret `KEY`, and one `NEXT` that has no value yet; the first granted for one place.
    pub(super) async fn with_secret(config: Config, reach: Reach, granted: Granted<'_>) -> Self {
        Self::with(config, reach, Some(granted), Bounds::default()).await
    }

    pub(super) async fn with(
        config: Config,
        reach: Reach,
        granted: Option<Granted<'_>>,
        bounds: Bounds,
    ) -> Self {
        Self::made(config, Site::Machine, reach, granted, bounds, None, None).await
    }

    /// A proxy whose decisions cannot be recorded: the disk under the log is gone.
    pub(super) async fn without_log(config: Config, reach: Reach) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (_, writer) = store::open(&folder.path().join("data").join("gone.db")).await.unwrap();
        let (gone, _) = Audit::start(writer);
        folder.close().unwrap();
        Self::made(config, Site::Machine, reach, None, Bounds::default(), Some(gone), None).await
    }

    /// A proxy whose requests wait so long for the owner.
    pub(super) async fn waiting(config: Config, reach: Reach, wait: Duration) -> Self {
        Self::made(config, Site::Machine, reach, None, Bounds::default(), None, Some(wait)).await
    }

    /// A proxy whose clients run in a container.
    pub(super) async fn contained(config: Config, reach: Reach) -> Self {
        Self::made(config, Site::Container, reach, None, Bounds::default(), None, None).await
    }

    async fn made(
        config: Config,
        site: Site,
        reach: Reach,
        granted: Option<Granted<'_>>,
        bounds: Bounds,
        log: Option<Audit>,
        wait: Option<Duration>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer) = store::open(&folder.path().join("data").join("test.db")).await.unwrap();
        let (audit, drain) = Audit::start(writer);
        let safety = Arc::new(Safety::new(Default::default()).unwrap());
        let unlock = Unlock::File(folder.path().join("keys"));
        let vault = Vault::create(reader.clone(), &audit, &unlock).await.unwrap();
        let catalog = Catalog::new(reader.clone(), safety.clone(), Tenant::local(), Vec::new());
        let log = log.unwrap_or_else(|| audit.clone());
        let policy = Policy::new(log, reader.clone(), catalog, Settings::default()).unwrap();
        let key = format!("k-{}", CallId::new());
        let secret = SecretName::parse("KEY").unwrap();
        vault.put(&secret, Plain::new(key.clone().into_bytes()), None).await.unwrap();
        if let Some(granted) = granted {
            vault.grant(&grant(&secret, &granted)).await.unwrap();
        }
        safety.learn(vault.known_values().await.unwrap());
        let vault = Arc::new(vault);
        let egress = Arc::new(Egress::new(config, safety, Some(vault.clone())).unwrap());
        let run = Run::open(
            Turn::begin(Trace::off()),
            site,
            reach,
            vec![secret, SecretName::parse("NEXT").unwrap()],
        );
        let run = Arc::new(run.asking(wait, Box::new(|_| {})));
        let authority = Authority::new().unwrap();
        let parts = Parts { egress, policy: policy.clone(), run, authority, bounds };
        let proxy = Arc::new(Proxy::new(parts, |_| "sk-".to_owned()).unwrap());
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, proxy.ca_pem()).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let token = CallId::new().to_string();
        let (serves, shown) = (proxy.clone(), Digest::of(token.as_bytes()));
        let serving = tokio::spawn(async move { drop(serve_tcp(serves, &listener, shown).await) });
        Self { proxy, port, token, key, ca, policy, vault, serving, audit, reader, drain, folder }
    }

    pub(super) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(super) fn placeholder(&self) -> String {
        self.proxy.placeholders().next().unwrap().1.to_owned()
    }

    /// One of another run of the same installation, for the same secret.
    pub(super) fn placeholder_of_another_run(&self) -> String {
        let safety = Arc::new(Safety::new(Default::default()).unwrap());
        let egress = Arc::new(Egress::new(Config::default(), safety, Some(self.vault.clone())).unwrap());
        let secrets = vec![SecretName::parse("KEY").unwrap()];
        let run = Run::open(Turn::begin(Trace::off()), Site::Machine, reach(&[]), secrets);
        let (run, authority, bounds) = (Arc::new(run), Authority::new().unwrap(), Bounds::default());
        let parts = Parts { egress, policy: self.policy.clone(), run, authority, bounds };
        let another = Proxy::new(parts, |_| "sk-".to_owned()).unwrap();
        another.placeholders().next().unwrap().1.to_owned()
    }

    /// What clients are told: `http://user:token@address`.
    pub(super) fn url(&self) -> String {
        format!("http://ironclaw:{}@127.0.0.1:{}", self.token, self.port)
    }

    /// A connection to the proxy.
    #[allow(clippy::disallowed_methods, reason = "a client of the proxy under test, on loopback")]
    pub(super) async fn dial(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// Sends bytes to the proxy, `TOKEN` replaced by a header that shows the token, and reads to the end.
    pub(super) async fn raw(&self, request: &str) -> Answer {
        let request = request.replace("TOKEN", &format!("Proxy-Authorization: Bearer {}", self.token));
        exchange(self.dial().await, request.as_bytes()).await
    }

    /// A tunnel to that host, as far as the answer to CONNECT.
    pub(super) async fn tunnel(&self, host: &str) -> TcpStream {
        self.try_tunnel(host).await.expect("a tunnel")
    }

    /// The same, where the proxy may have no room for one.
    pub(super) async fn try_tunnel(&self, host: &str) -> Option<TcpStream> {
        let mut stream = self.dial().await;
        let connect = format!(
            "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\nProxy-Authorization: Bearer {}\r\n\r\n",
            self.token
        );
        stream.write_all(connect.as_bytes()).await.ok()?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        head.starts_with(b"HTTP/1.1 200").then_some(stream)
    }

    /// A tunnel in which TLS was set up with that server name.
    pub(super) async fn secured(
        &self,
        host: &str,
        server_name: &str,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        self.secure(self.tunnel(host).await, server_name).await
    }

    /// A tunnel in which TLS was set up for HTTP/2.
    pub(super) async fn secured_for_http2(&self, host: &str) -> tokio_rustls::client::TlsStream<TcpStream> {
        let mut config = self.trusting();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        connector.connect(name, self.tunnel(host).await).await.unwrap()
    }

    /// The client's side of TLS on a stream.
    pub(super) async fn secure<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        server_name: &str,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<S>> {
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(self.trusting())).connect(name, stream).await
    }

    /// A client that trusts the proxy's authority.
    pub(super) fn trusting(&self) -> rustls::ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth()
    }

    /// The proxy's authority alone.
    pub(super) fn roots(&self) -> rustls::RootCertStore {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.proxy.ca_pem().as_bytes()).unwrap()).unwrap();
        roots
    }

    /// The request that waits, once one does.
    pub(super) async fn waits(&self) -> FindingId {
        for _ in 0..1000 {
            let rows = self.reader.approvals(&Tenant::local()).await.unwrap();
            if let Some(row) = rows.iter().find(|row| row.state == ApprovalState::Waiting) {
                return row.id;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing waits");
    }

    /// Approves it.
    pub(super) async fn approve(&self) {
        let (from, to) = (ApprovalState::Waiting, ApprovalState::Approved);
        let change = Mutation::Answer { tenant: Tenant::local(), id: self.waits().await, from, to };
        self.audit.change(Record::new(Kind::Approval, Verdict::Allow), change).await.unwrap();
    }

    /// What waits.
    pub(super) async fn waiting_rows(&self) -> Vec<store::ApprovalRow> {
        let mut rows = self.reader.approvals(&Tenant::local()).await.unwrap();
        rows.retain(|row| row.state == ApprovalState::Waiting);
        rows
    }

    /// Returns once nothing waits any more.
    pub(super) async fn until_none_waits(&self) {
        for _ in 0..1000 {
            if self.waiting_rows().await.is_empty() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("something still waits");
    }

    /// Approves the one request that waits whose card says so, and gives the card.
    pub(super) async fn approve_one(&self, says: &str) -> String {
        for _ in 0..1000 {
            let rows = self.waiting_rows().await;
            if let Some(row) = rows.iter().find(|row| row.card.contains(says)) {
                let (from, to) = (ApprovalState::Waiting, ApprovalState::Approved);
                let change = Mutation::Answer { tenant: Tenant::local(), id: row.id, from, to };
                self.audit.change(Record::new(Kind::Approval, Verdict::Allow), change).await.unwrap();
                return row.card.clone();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing waits");
    }

    /// Returns once so many refusals are on the record: some are written when the client has its answer already.
    pub(super) async fn until_refused(&self, number: usize) {
        for _ in 0..1000 {
            let entries = Log::new(self.reader.clone()).tail(1000).await.unwrap();
            if entries.iter().filter(|entry| entry.record.verdict == Verdict::Block).count() >= number {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("not {number} refusals");
    }

    /// Takes the secret's grant back.
    pub(super) async fn revoke(&self) {
        for grant in self.vault.grants().await.unwrap() {
            self.vault.revoke(&grant.id).await.unwrap();
        }
    }

    /// Keeps the secret from being used.
    pub(super) async fn disable(&self) {
        self.vault.disable(&SecretName::parse("KEY").unwrap()).await.unwrap();
    }

    /// Sends bytes inside a tunnel to that host, and reads to the end.
    pub(super) async fn inside(&self, host: &str, request: &str) -> Answer {
        exchange(self.secured(host, host).await.unwrap(), request.as_bytes()).await
    }

    /// What is on record by now.
    pub(super) async fn records(&self) -> Vec<Record> {
        let entries = Log::new(self.reader.clone()).tail(1000).await.unwrap();
        entries.into_iter().map(|entry| entry.record).collect()
    }

    /// Every record, after the writer has drained and the chain was verified.
    pub(super) async fn close(self) -> Vec<Entry> {
        let Self { proxy, policy, vault, serving, audit, reader, drain, folder: _folder, .. } = self;
        serving.abort();
        let _ = serving.await;
        proxy.end().await;
        drop((proxy, policy, vault, audit));
        drain.finish().await;
        let log = Log::new(reader);
        log.verify().await.unwrap();
        log.tail(1000).await.unwrap()
    }

    /// The rules that refused requests, oldest first.
    pub(super) async fn refusals(self) -> Vec<String> {
        let entries = self.close().await;
        let blocked = entries.iter().filter(|entry| entry.record.verdict == Verdict::Block);
        blocked.filter_map(|entry| entry.record.field(Field::Rule).map(str::to_owned)).collect()
    }

    /// The records of how requests ended.
    pub(super) async fn settled(self) -> Vec<Record> {
        let entries = self.close().await;
        entries.into_iter().map(|entry| entry.record).filter(|record| record.kind == Kind::Settle).collect()
    }
}

/// Writes a request and reads the answer until the other side closes or has sent all that it announced.
pub(super) async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Answer {
    let _ = stream.write_all(request).await;
    let _ = stream.flush().await;
    let mut bytes = Vec::new();
    let whole = tokio::time::timeout(Duration::from_secs(20), async {
        let mut piece = [0; 4096];
        while !is_whole(&bytes) {
            match stream.read(&mut piece).await {
                Ok(0) | Err(_) => break,
                Ok(length) => bytes.extend_from_slice(&piece[..length]),
            }
        }
    });
    whole.await.expect("an answer in time");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn is_whole(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let head = head.to_ascii_lowercase();
    let announced = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    match announced {
        Some(length) => body.len() >= length.parse().unwrap_or(0),
        None => body.ends_with("0\r\n\r\n"),
    }
}

fn grant(secret: &SecretName, granted: &Granted<'_>) -> Grant {
    let (tool, digest) = Caller::proxy_identity();
    assert_eq!(tool, ToolName::proxy());
    Grant {
        tool,
        digest,
        secret: secret.clone(),
        host: granted.host.clone(),
        port: Port::new(443).unwrap(),
        methods: vec![Method::GET, Method::POST],
        path: PathPrefix::parse(granted.path).unwrap(),
        inject: Injection::parse(granted.inject).unwrap(),
        expires_ms: None,
        max_uses: None,
    }
}
