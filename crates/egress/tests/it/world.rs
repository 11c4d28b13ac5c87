//! A real installation in a temporary folder, with one tool that may send requests to one host.

use std::sync::Arc;

use audit::{Audit, Drain, Entry, Log};
use egress::loopback::Loopback;
use egress::{Config, Egress, Message, SendError};
use futures_util::StreamExt;
use http::{HeaderMap, Method, Response, StatusCode};
use policy::{Catalog, Decision, Manifest, Permit, Policy, Scope, Settings, Turn};
use safety::{BodyFault, Channel, Safety, ScreenedBody, Untrusted};
use secrets::{Plain, Unlock, Vault};
use store::{Mutation, Reader, ToolRow, ToolState};
use types::{
    CallId, Digest, Field, Grant, HostName, Injection, Kind, Outbound, PathPrefix, Port, Record, Refusal,
    SecretName, Source, Target, Tenant, ToolName, Trace, Verdict,
};

/// What the tool may do and what it needs.
pub(crate) struct Setup {
    pub(crate) host: HostName,
    pub(crate) port: u16,
    pub(crate) clear_text: bool,
    pub(crate) inject: Option<&'static str>,
    pub(crate) response_kib: u64,
    pub(crate) time_ms: u64,
}

impl Setup {
    /// A tool that needs no secret.
    pub(crate) fn open(host: &HostName) -> Self {
        Self {
            host: host.clone(),
            port: 443,
            clear_text: false,
            inject: None,
            response_kib: 1024,
            time_ms: 60_000,
        }
    }

    /// A tool whose requests carry the secret in that place.
    pub(crate) fn with_secret(host: &HostName, inject: &'static str) -> Self {
        Self { inject: Some(inject), ..Self::open(host) }
    }

    fn manifest(&self) -> String {
        let Self { host, port, clear_text, response_kib, time_ms, .. } = self;
        let secret = self.inject.map_or(String::new(), |inject| {
            format!("[[secrets]]\nname = \"KEY\"\nhost = \"{host}\"\ninject = \"{inject}\"\n")
        });
        let methods = r#"["GET", "POST", "HEAD"]"#;
        format!(
            "name = \"probe\"\nversion = \"1.0.0\"\ndescription = \"Sends a request\"\n\
             parameters.type = \"object\"\n\
             [[hosts]]\nhost = \"{host}\"\nport = {port}\nclear_text = {clear_text}\nmethods = {methods}\n\
             {secret}[limits]\nrequests = 200\nresponse_kib = {response_kib}\ntime_ms = {time_ms}\n"
        )
    }
}

pub(crate) struct World {
    pub(crate) egress: Egress,
    pub(crate) policy: Policy,
    pub(crate) trace: Trace,
    /// The value of the secret.
    pub(crate) key: String,
    setup: Setup,
    scope: Scope,
    safety: Arc<Safety>,
    pub(crate) audit: Audit,
    pub(crate) reader: Reader,
    drain: Drain,
    pub(crate) folder: tempfile::TempDir,
}

/// What came back, as far as its reader got it.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    pub(crate) fault: Option<BodyFault>,
}

impl World {
    /// A tool whose host is that server, reached by an exception.
    pub(crate) async fn around(upstream: &Loopback, setup: Setup) -> Self {
        let port = Port::new(setup.port).unwrap();
        let config = Config { exceptions: vec![upstream.exception(&setup.host, port)], ..Config::default() };
        Self::new(setup, config).await
    }

    pub(crate) async fn new(setup: Setup, config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer) = store::open(&folder.path().join("data").join("test.db")).await.unwrap();
        let (audit, drain) = Audit::start(writer);
        let safety = Arc::new(Safety::new(Default::default()).unwrap());
        let unlock = Unlock::File(folder.path().join("keys"));
        let vault = Vault::create(reader.clone(), &audit, &unlock).await.unwrap();
        let catalog = Catalog::new(reader.clone(), safety.clone(), Tenant::local(), Vec::new());
        let policy = Policy::new(audit.clone(), reader.clone(), catalog, Settings::default()).unwrap();
        let digest = install(&audit, &setup).await;
        let key = format!("k-{}", CallId::new());
        if let Some(inject) = setup.inject {
            let secret = SecretName::parse("KEY").unwrap();
            vault.put(&secret, Plain::new(key.clone().into_bytes()), None).await.unwrap();
            vault.grant(&grant(&setup, digest, secret, inject)).await.unwrap();
            safety.learn(vault.known_values().await.unwrap());
        }
        let egress = Egress::new(config, safety.clone(), Some(Arc::new(vault))).unwrap();
        let trace = Trace::collecting();
        let scope = scope(&policy, &safety, &trace).await;
        Self { egress, policy, trace, key, setup, scope, safety, audit, reader, drain, folder }
    }

    /// From here on requests belong to another call of the tool.
    pub(crate) async fn next_call(&mut self) {
        self.scope = scope(&self.policy, &self.safety, &self.trace).await;
    }

    /// The vault, opened as another process would.
    pub(crate) async fn vault(&self) -> Vault {
        let unlock = Unlock::File(self.folder.path().join("keys"));
        Vault::open(self.reader.clone(), self.audit.clone(), &unlock).await.unwrap()
    }

    pub(crate) async fn decide(&self, method: &str, url: &str) -> Result<Permit<Outbound>, Refusal> {
        self.policy.decide_request(&self.scope, Target::parse(method, url).unwrap(), &[]).await
    }

    /// A permit for a path at the tool's host.
    pub(crate) async fn permit(&self, method: &str, path: &str) -> Permit<Outbound> {
        let scheme = if self.setup.clear_text { "http" } else { "https" };
        let url = format!("{scheme}://{}:{}{path}", self.setup.host, self.setup.port);
        self.decide(method, &url).await.unwrap()
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        message: Message,
    ) -> Result<Response<ScreenedBody>, SendError> {
        self.egress.send(self.permit(method, path).await, message, &self.trace).await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Got, SendError> {
        let (parts, mut body) = self.send("GET", path, Message::default()).await?.into_parts();
        let mut got = Got { status: parts.status, headers: parts.headers, bytes: Vec::new(), fault: None };
        while let Some(piece) = body.next().await {
            match piece {
                Ok(piece) => got.bytes.extend_from_slice(&piece),
                Err(fault) => got.fault = Some(fault),
            }
        }
        Ok(got)
    }

    /// The rule by which a request without body is refused before it is sent.
    pub(crate) async fn refused(&self, method: &str, path: &str, message: Message) -> &'static str {
        match self.send(method, path, message).await {
            Err(SendError::Refused(refusal)) => refusal.rule.id,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Every record, after the writer has drained and the chain was verified.
    pub(crate) async fn close(self) -> Vec<Entry> {
        let Self { egress, policy, scope, audit, reader, drain, folder: _folder, .. } = self;
        drop((egress, policy, scope, audit));
        drain.finish().await;
        let log = Log::new(reader);
        log.verify().await.unwrap();
        log.tail(1000).await.unwrap()
    }

    /// The records of how requests ended.
    pub(crate) async fn settled(self) -> Vec<Record> {
        settled_requests(&self.close().await)
    }

    /// The one record of how the one request ended.
    pub(crate) async fn outcome(self) -> (Verdict, Option<String>) {
        let settled = self.settled().await;
        let [record] = &settled[..] else { panic!("{settled:?}") };
        (record.verdict, record.field(Field::Rule).map(str::to_owned))
    }
}

/// How the requests among these records ended; the call that they belong to ends by itself.
pub(crate) fn settled_requests(entries: &[Entry]) -> Vec<Record> {
    let of = |kind: Kind| entries.iter().filter(move |entry| entry.record.kind == kind);
    let requests: Vec<String> = of(Kind::Request).map(|entry| entry.seq.to_string()).collect();
    let of_request =
        |record: &&Record| record.field(Field::Of).is_some_and(|seq| requests.iter().any(|own| own == seq));
    of(Kind::Settle).map(|entry| &entry.record).filter(of_request).cloned().collect()
}

/// A name that no other test uses.
pub(crate) fn host() -> HostName {
    HostName::parse(&format!("h{}.example", CallId::new())).unwrap()
}

pub(crate) fn headers(list: &[(&'static str, &str)]) -> Message {
    let mut message = Message::default();
    for (name, value) in list {
        message.headers.append(*name, value.parse().unwrap());
    }
    message
}

async fn install(audit: &Audit, setup: &Setup) -> Digest {
    let manifest = Manifest::pin(&setup.manifest(), &Digest::of(b"component")).unwrap();
    let digest = Digest::of(manifest.as_bytes());
    let name = ToolName::parse("probe").unwrap();
    let state = ToolState::Approved;
    let row =
        ToolRow { tenant: Tenant::local(), name, digest, manifest, compiled: None, state, installed_ms: 0 };
    let mutation = Mutation::InstallTool { row, expected: None };
    audit.change(Record::new(Kind::Tool, Verdict::Done), mutation).await.unwrap();
    digest
}

fn grant(setup: &Setup, digest: Digest, secret: SecretName, inject: &str) -> Grant {
    Grant {
        tool: ToolName::parse("probe").unwrap(),
        digest,
        secret,
        host: setup.host.clone(),
        port: Port::new(setup.port).unwrap(),
        methods: vec![Method::GET, Method::POST, Method::HEAD],
        path: PathPrefix::all(),
        inject: Injection::parse(inject).unwrap(),
        expires_ms: None,
        max_uses: None,
    }
}

pub(crate) async fn scope(policy: &Policy, safety: &Safety, trace: &Trace) -> Scope {
    let arguments = Untrusted::new(Source::Model, serde_json::json!({}));
    let arguments = safety.screen_json(arguments, Channel::Arguments, &Trace::off()).unwrap();
    let turn = Turn::begin(trace.clone());
    match policy.decide_call(&turn, &ToolName::parse("probe").unwrap(), arguments).await.unwrap() {
        Decision::Permit(permit) => permit.scope().clone(),
        Decision::Ask(question) => panic!("asked by {}", question.card().rule.id),
    }
}
