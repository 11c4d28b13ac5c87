//! A real installation in a temporary folder.

use std::sync::Arc;

use audit::{Audit, Drain, Entry, Log};
use policy::{Catalog, Decision, Manifest, Permit, Policy, Question, Settings, Turn};
use safety::{Channel, Safety, Screened, Untrusted};
use serde_json::Value;
use store::{GrantRow, Mutation, Reader, ToolRow, ToolState};
use types::{
    Digest, Grant, HostName, Injection, Kind, PathPrefix, Port, Record, Refusal, SecretName, Source, Tenant,
    ToolCall, ToolName, Trace, Verdict,
};

pub(crate) const READER: &str = r#"
name = "reader"
version = "1.0.0"
description = "Reads a page"
[parameters]
type = "object"
required = ["q"]
additionalProperties = false
properties.q.type = "string"
[[hosts]]
host = "api.example"
methods = ["GET"]
path = "/v1"
[[secrets]]
name = "KEY"
host = "api.example"
inject = "bearer"
[limits]
requests = 2
"#;

pub(crate) const WRITER: &str = r#"
name = "writer"
version = "1.0.0"
description = "Posts a message"
parameters.type = "object"
[[hosts]]
host = "post.example"
methods = ["POST"]
"#;

pub(crate) struct World {
    pub(crate) audit: Audit,
    pub(crate) reader: Reader,
    pub(crate) safety: Arc<Safety>,
    pub(crate) policy: Policy,
    drain: Drain,
    _folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new(settings: Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer) = store::open(&folder.path().join("data").join("test.db")).await.unwrap();
        let (audit, drain) = Audit::start(writer);
        let safety = Arc::new(Safety::new(Default::default()).unwrap());
        let catalog = Catalog::new(reader.clone(), safety.clone(), Tenant::local(), Vec::new());
        let policy = Policy::new(audit.clone(), reader.clone(), catalog, settings).unwrap();
        let world = Self { audit, reader, safety, policy, drain, _folder: folder };
        world.install(READER, ToolState::Approved).await;
        world.install(WRITER, ToolState::Approved).await;
        world
    }

    pub(crate) async fn install(&self, text: &str, state: ToolState) -> Digest {
        let manifest = Manifest::pin(text, &Digest::of(b"component")).unwrap();
        let digest = Digest::of(manifest.as_bytes());
        self.install_row(manifest, digest, state).await;
        digest
    }

    pub(crate) async fn install_row(&self, manifest: String, digest: Digest, state: ToolState) {
        let name = Manifest::parse(manifest.as_bytes()).unwrap().name;
        let expected = self.reader.tool(&Tenant::local(), &name).await.unwrap().map(|row| row.digest);
        let row = ToolRow {
            tenant: Tenant::local(),
            name,
            digest,
            manifest,
            compiled: None,
            state,
            installed_ms: 0,
        };
        self.change(Kind::Tool, Mutation::InstallTool { row, expected }).await;
    }

    pub(crate) async fn grant(&self, grant: Grant) {
        let row = GrantRow {
            tenant: Tenant::local(),
            id: types::CallId::new().to_string(),
            tool: grant.tool.clone(),
            secret: grant.secret.clone(),
            body: grant.encode(),
            mac: vec![],
            created_ms: 0,
        };
        self.change(Kind::Grant, Mutation::PutGrant(row)).await;
    }

    pub(crate) async fn change(&self, kind: Kind, mutation: Mutation) {
        self.audit.change(Record::new(kind, Verdict::Done), mutation).await.unwrap();
    }

    pub(crate) async fn call(&self, turn: &Turn, tool: &str, arguments: &str) -> Result<Decision, Refusal> {
        self.policy.decide_call(turn, &ToolName::parse(tool).unwrap(), self.screened(arguments)).await
    }

    pub(crate) async fn permitted(&self, turn: &Turn, tool: &str, arguments: &str) -> Permit<ToolCall> {
        match self.call(turn, tool, arguments).await.unwrap() {
            Decision::Permit(permit) => permit,
            Decision::Ask(question) => panic!("asked by {}", question.card().rule.id),
        }
    }

    pub(crate) async fn asked(&self, turn: &Turn, tool: &str, arguments: &str) -> Box<Question> {
        match self.call(turn, tool, arguments).await.unwrap() {
            Decision::Ask(question) => question,
            Decision::Permit(_) => panic!("permitted"),
        }
    }

    pub(crate) async fn refused(&self, turn: &Turn, tool: &str, arguments: &str) -> Refusal {
        match self.call(turn, tool, arguments).await {
            Err(refusal) => refusal,
            Ok(_) => panic!("not refused"),
        }
    }

    /// The same tools under a policy whose database has disappeared.
    pub(crate) async fn policy_whose_log_is_gone(&self) -> Policy {
        let folder = tempfile::tempdir().unwrap();
        let (_, writer) = store::open(&folder.path().join("data").join("gone.db")).await.unwrap();
        let (audit, _) = Audit::start(writer);
        folder.close().unwrap();
        let catalog = Catalog::new(self.reader.clone(), self.safety.clone(), Tenant::local(), Vec::new());
        Policy::new(audit, self.reader.clone(), catalog, Settings::default()).unwrap()
    }

    pub(crate) fn screened(&self, json: &str) -> Screened<Value> {
        let value = Untrusted::new(Source::Model, serde_json::from_str(json).unwrap());
        self.safety.screen_json(value, Channel::Arguments, &Trace::off()).unwrap()
    }

    /// Everything that was recorded, after the writer has drained.
    pub(crate) async fn close(self) -> Vec<Entry> {
        let Self { audit, reader, policy, drain, _folder, .. } = self;
        drop((audit, policy));
        drain.finish().await;
        let log = Log::new(reader);
        log.verify().await.unwrap();
        log.tail(1000).await.unwrap()
    }
}

pub(crate) fn turn() -> Turn {
    Turn::begin(Trace::off())
}

pub(crate) fn grant(digest: Digest, path: &str) -> Grant {
    Grant {
        tool: ToolName::parse("reader").unwrap(),
        digest,
        secret: SecretName::parse("KEY").unwrap(),
        host: HostName::parse("api.example").unwrap(),
        port: Port::new(443).unwrap(),
        methods: vec![http::Method::GET],
        path: PathPrefix::parse(path).unwrap(),
        inject: Injection::Bearer,
        expires_ms: None,
        max_uses: None,
    }
}
