//! A real installation in a temporary folder: database, audit log, vault, policy, door and sandbox.

use std::path::Path;
use std::sync::Arc;

use audit::{Audit, Drain, Entry, Log};
use egress::loopback::Loopback;
use egress::{Config as Door, Egress};
use policy::{Catalog, Decision, Manifest, Permit, Policy, Settings, Turn};
use safety::{Channel, Safety, Untrusted};
use secrets::{Plain, Unlock, Vault};
use store::{Mutation, Reader, ToolRow, ToolState};
use tokio::sync::mpsc;
use types::{
    CallId, Digest, Field, Grant, HostName, Injection, Kind, PathPrefix, Port, Record, Refusal, SecretName,
    Source, Tenant, ToolCall, ToolName, Trace, Verdict,
};
use wasm::{Budget, CallError, Compiler, Config, InstallError, Installer, LogLine, Sandbox};

pub(crate) struct World {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) policy: Policy,
    pub(crate) trace: Trace,
    pub(crate) logged: mpsc::Receiver<LogLine>,
    pub(crate) vault: Arc<Vault>,
    safety: Arc<Safety>,
    installer: Installer,
    audit: Audit,
    reader: Reader,
    drain: Drain,
    pub(crate) folder: tempfile::TempDir,
}

/// The binary that compiles components for the tests of this crate.
pub(crate) fn compiler(budget: Budget) -> Compiler {
    Compiler::new(Path::new(env!("CARGO_BIN_EXE_compile-component")), budget)
}

impl World {
    /// An installation that reaches no network.
    pub(crate) async fn new() -> Self {
        Self::with(Door::default()).await
    }

    /// An installation in which `host` leads to that server.
    pub(crate) async fn around(upstream: &Loopback, host: &HostName) -> Self {
        Self::around_all(&[(upstream, host)]).await
    }

    /// An installation in which each host leads to its server.
    pub(crate) async fn around_all(upstreams: &[(&Loopback, &HostName)]) -> Self {
        let port = Port::new(443).unwrap();
        let exceptions = upstreams.iter().map(|(upstream, host)| upstream.exception(host, port)).collect();
        Self::with(Door { exceptions, ..Door::default() }).await
    }

    async fn with(door: Door) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer) = store::open(&folder.path().join("data").join("test.db")).await.unwrap();
        let (audit, drain) = Audit::start(writer);
        let safety = Arc::new(Safety::new(Default::default()).unwrap());
        let unlock = Unlock::File(folder.path().join("keys"));
        let vault = Arc::new(Vault::create(reader.clone(), &audit, &unlock).await.unwrap());
        let catalog = Catalog::new(reader.clone(), safety.clone(), Tenant::local(), Vec::new());
        let policy = Policy::new(audit.clone(), reader.clone(), catalog, Settings::default()).unwrap();
        let egress = Arc::new(Egress::new(door, safety.clone(), Some(vault.clone())).unwrap());
        let (log, logged) = mpsc::channel(10_000);
        let cache = folder.path().join("cache");
        let workspaces = folder.path().join("workspaces");
        let installer = Installer::new(&cache, compiler(Budget::default())).unwrap();
        let config = Config { cache, workspaces, log: Some(log) };
        let sandbox = Sandbox::new(config, egress, policy.clone(), safety.clone()).unwrap();
        Self {
            sandbox: Arc::new(sandbox),
            policy,
            trace: Trace::collecting(),
            logged,
            vault,
            safety,
            installer,
            audit,
            reader,
            drain,
            folder,
        }
    }

    /// Compiles, admits and approves a tool, as `ironclaw tool install` does.
    pub(crate) async fn install(&self, manifest: &str, component: &[u8]) -> Digest {
        let manifest = Manifest::pin(manifest, &Digest::of(component)).unwrap();
        let digest = Digest::of(manifest.as_bytes());
        let name = Manifest::parse(manifest.as_bytes()).unwrap().name;
        let compiled = self.installer.admit(component).await.unwrap().keep(&digest).unwrap();
        let (tenant, state, compiled) = (Tenant::local(), ToolState::Approved, Some(compiled));
        let row = ToolRow { tenant, name, digest, manifest, compiled, state, installed_ms: 0 };
        let expected = self.reader.tool(&row.tenant, &row.name).await.unwrap().map(|row| row.digest);
        let record = Record::new(Kind::Tool, Verdict::Done);
        self.audit.change(record, Mutation::InstallTool { row, expected }).await.unwrap();
        digest
    }

    /// The rule by which a component is not installed, and what was said about it.
    pub(crate) async fn not_admitted(&self, component: &[u8]) -> (&'static str, String) {
        match self.installer.admit(component).await {
            Err(InstallError::Refused { refusal, .. }) => (refusal.rule.id, refusal.detail),
            Err(error) => panic!("broken: {error}"),
            Ok(_) => panic!("admitted"),
        }
    }

    /// A tool `probe` with these limits that may do nothing but compute.
    pub(crate) async fn install_probe(&self, limits: &str, component: &[u8]) {
        self.install(&probe(limits), component).await;
    }

    /// Puts a fresh value in the vault and grants it to a tool at a host. Gives the value.
    pub(crate) async fn grant(&self, tool: &str, digest: Digest, host: &HostName) -> String {
        let value = format!("k-{}", CallId::new());
        let secret = SecretName::parse("KEY").unwrap();
        self.vault.put(&secret, Plain::new(value.clone().into_bytes()), None).await.unwrap();
        let grant = Grant {
            tool: ToolName::parse(tool).unwrap(),
            digest,
            secret,
            host: host.clone(),
            port: Port::new(443).unwrap(),
            methods: vec![http::Method::GET],
            path: PathPrefix::all(),
            inject: Injection::Bearer,
            expires_ms: None,
            max_uses: None,
        };
        self.vault.grant(&grant).await.unwrap();
        self.safety.learn(self.vault.known_values().await.unwrap());
        value
    }

    pub(crate) async fn permit(&self, tool: &str, arguments: &str) -> Permit<ToolCall> {
        let value = Untrusted::new(Source::Owner, serde_json::from_str(arguments).unwrap());
        let arguments = self.safety.screen_json(value, Channel::Arguments, &Trace::off()).unwrap();
        let turn = Turn::begin(self.trace.clone());
        match self.policy.decide_call(&turn, &ToolName::parse(tool).unwrap(), arguments).await.unwrap() {
            Decision::Permit(permit) => permit,
            Decision::Ask(question) => panic!("asked by {}", question.card().rule.id),
        }
    }

    pub(crate) async fn call(&self, tool: &str, arguments: &str) -> Result<String, CallError> {
        let text = self.sandbox.call(self.permit(tool, arguments).await).await?;
        Ok(self.read(text))
    }

    /// What a tool said, as a person would see it.
    pub(crate) fn read(&self, text: Untrusted<String>) -> String {
        self.safety.screen(text, Channel::Log, &Trace::off()).unwrap().into_inner()
    }

    /// The refusal that a call ends as.
    pub(crate) async fn refusal(&self, tool: &str, arguments: &str) -> Refusal {
        match self.call(tool, arguments).await {
            Err(CallError::Refused(refusal)) => refusal,
            Err(CallError::Failed(text)) => panic!("failed: {}", self.read(text)),
            Ok(text) => panic!("not refused: {text}"),
        }
    }

    /// The rule that stops `probe`.
    pub(crate) async fn stopped(&self) -> &'static str {
        self.refusal("probe", "{}").await.rule.id
    }

    /// What a failing call says.
    pub(crate) async fn failure(&self, tool: &str, arguments: &str) -> String {
        match self.call(tool, arguments).await {
            Err(CallError::Failed(text)) => self.read(text),
            Err(CallError::Refused(refusal)) => panic!("{refusal}"),
            Ok(text) => panic!("not failed: {text}"),
        }
    }

    /// Every record, after the writer has drained and the chain was verified.
    pub(crate) async fn close(self) -> Vec<Entry> {
        let Self { sandbox, policy, vault, audit, reader, drain, folder: _folder, .. } = self;
        drop((sandbox, policy, vault, audit));
        drain.finish().await;
        let log = Log::new(reader);
        log.verify().await.unwrap();
        log.tail(10_000).await.unwrap()
    }

    /// How each call ended, oldest first: its verdict and the rule that stopped it.
    pub(crate) async fn settled(self) -> Vec<(Verdict, Option<String>)> {
        let entries = self.close().await;
        entries
            .into_iter()
            .map(|entry| entry.record)
            .filter(|record| record.kind == Kind::Settle && record.field(Field::Fuel).is_some())
            .map(|record| (record.verdict, record.field(Field::Rule).map(str::to_owned)))
            .collect()
    }
}

/// The manifest of a tool that may do nothing but compute.
pub(crate) fn probe(limits: &str) -> String {
    format!(
        "name = \"probe\"\nversion = \"1.0.0\"\ndescription = \"Computes\"\nparameters.type = \"object\"\n[limits]\n{limits}\n"
    )
}

/// A name that no other test uses.
pub(crate) fn host() -> HostName {
    HostName::parse(&format!("h{}.example", CallId::new())).unwrap()
}

/// Resident memory of this process in bytes.
pub(crate) fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
