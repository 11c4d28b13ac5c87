//! A real installation in a temporary folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent::{
    Agent, AlertCommand, Chat, ChatSettings, Conversation, Files, Input, Model, ModelName, Offline, Outcome,
    Parts,
};
use audit::{Audit, Drain, Entry, Log};
use egress::Egress;
use egress::loopback::Loopback;
use futures_util::FutureExt as _;
use futures_util::future::ready;
use policy::manifest::{HostRule, SecretWish};
use policy::{Answer, Catalog, Manifest, ModelRule, Policy, Settings};
use safety::Safety;
use secrets::{Plain, Unlock, Vault};
use store::{ApprovalRow, Mutation, Reader, ToolRow, ToolState};
use types::{
    CallId, Caller, Digest, Grant, HostName, Injection, Kind, PathPrefix, Port, Record, Scheme, SecretName,
    Target, Tenant, ToolName, Trace, Verdict,
};
use wasm::{Cache, Sandbox};
use workspace::Surroundings;

/// What an installation begins with.
#[derive(Default)]
pub(crate) struct Setup {
    pub(crate) settings: Settings,
    pub(crate) alert: Option<AlertCommand>,
    pub(crate) safety: safety::Config,
}

pub(crate) struct World {
    pub(crate) agent: Agent,
    pub(crate) reader: Reader,
    /// The key of the model, and a value of the vault that nobody was granted.
    pub(crate) key: String,
    pub(crate) secret: String,
    audit: Audit,
    policy: Policy,
    drain: Drain,
    folder: tempfile::TempDir,
}

impl World {
    /// An agent without a model.
    pub(crate) async fn offline() -> Self {
        Self::build(Setup::default(), None).await
    }

    /// An agent whose model is this server.
    pub(crate) async fn with_model(host: &HostName, server: &Loopback) -> Self {
        Self::build(Setup::default(), Some((host, server))).await
    }

    pub(crate) async fn build(setup: Setup, model: Option<(&HostName, &Loopback)>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (reader, writer) = store::open(&folder.path().join("data").join("test.db")).await.unwrap();
        let (audit, drain) = Audit::start(writer);
        let safety = Arc::new(Safety::new(setup.safety).unwrap());
        let vault =
            Vault::create(reader.clone(), &audit, &Unlock::File(folder.path().join("keys"))).await.unwrap();
        let (key, secret) = (random("k"), random("s"));
        for (name, value) in [("MODEL_KEY", &key), ("OTHER", &secret)] {
            vault
                .put(&SecretName::parse(name).unwrap(), Plain::new(value.clone().into_bytes()), None)
                .await
                .unwrap();
        }
        let workspace = folder.path().join("work");
        std::fs::create_dir(&workspace).unwrap();
        let files = Files::open(&workspace, &Surroundings::default()).unwrap();
        let mut settings = setup.settings;
        let mut config = egress::Config::default();
        if let Some((host, server)) = model {
            vault.grant(&model_grant(host)).await.unwrap();
            settings.model = Some(model_rule(host));
            config.exceptions.push(server.exception(host, Port::new(443).unwrap()));
        }
        safety.learn(vault.known_values().await.unwrap());
        let catalog =
            Catalog::new(reader.clone(), safety.clone(), Tenant::local(), Files::tools(&workspace, &safety));
        let policy = Policy::new(audit.clone(), reader.clone(), catalog, settings).unwrap();
        let egress = Arc::new(Egress::new(config, safety.clone(), Some(Arc::new(vault))).unwrap());
        let sandbox = wasm::Config {
            cache: folder.path().join("cache"),
            workspaces: folder.path().join("tools"),
            log: None,
        };
        let sandbox = Sandbox::new(sandbox, egress.clone(), policy.clone(), safety.clone()).unwrap();
        let model = match model {
            None => Model::Offline(Offline),
            Some((host, _)) => Model::Chat(Box::new(Chat::new(chat_settings(host), policy.clone(), egress))),
        };
        let agent = Agent::new(Parts {
            safety,
            audit: audit.clone(),
            reader: reader.clone(),
            policy: policy.clone(),
            model,
            sandbox: Arc::new(sandbox),
            files: Some(files),
            shell: None,
            alert: setup.alert,
        });
        Self { agent, reader, key, secret, audit, policy, drain, folder }
    }

    /// Installs and approves a tool.
    pub(crate) async fn install(&self, manifest: &str, component: &[u8]) {
        let manifest = Manifest::pin(manifest, &Digest::of(component)).unwrap();
        let digest = Digest::of(manifest.as_bytes());
        let compiled = wasm::compile_in_this_process(component).unwrap();
        let cache = Cache::open(&self.folder.path().join("cache")).unwrap();
        let row = ToolRow {
            tenant: Tenant::local(),
            name: Manifest::parse(manifest.as_bytes()).unwrap().name,
            digest,
            manifest,
            compiled: Some(cache.put(&digest, &compiled).unwrap()),
            state: ToolState::Approved,
            installed_ms: 0,
        };
        let change = Mutation::InstallTool { row, expected: None };
        self.audit.change(Record::new(Kind::Tool, Verdict::Done), change).await.unwrap();
    }

    /// Puts a file into the workspace.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.workspace().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.folder.path().join("work")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// One turn of a new conversation with nobody to ask.
    pub(crate) async fn ask(&self, text: &str) -> Outcome {
        self.turn(&mut Conversation::default(), Input::typed(text), None).await
    }

    pub(crate) async fn turn(
        &self,
        conversation: &mut Conversation,
        input: Input,
        answer: Option<Answer>,
    ) -> Outcome {
        self.agent.turn(conversation, input, Trace::collecting(), &|_| ready(answer).boxed()).await
    }

    pub(crate) async fn approvals(&self) -> Vec<ApprovalRow> {
        self.reader.approvals(&Tenant::local()).await.unwrap()
    }

    /// Everything that was recorded, oldest first, after the writer has drained and the chain was verified.
    pub(crate) async fn close(self) -> Vec<Entry> {
        let Self { agent, reader, audit, policy, drain, folder: _folder, .. } = self;
        drop((agent, policy, audit));
        drain.finish().await;
        let log = Log::new(reader);
        log.verify().await.unwrap();
        let mut entries = log.tail(1000).await.unwrap();
        entries.sort_by_key(|entry| entry.seq);
        entries
    }
}

/// The reply as text.
pub(crate) fn reply(outcome: &Outcome) -> &str {
    outcome.reply.as_ref().map_or("", |reply| reply.as_str())
}

/// The rules that refused, in order.
pub(crate) fn rules(outcome: &Outcome) -> Vec<&'static str> {
    outcome.refusals.iter().map(|refusal| refusal.rule.id).collect()
}

/// A name that no other test uses.
pub(crate) fn host() -> HostName {
    HostName::parse(&format!("h{}.example", CallId::new())).unwrap()
}

/// A value that no other test uses and no rule but that of known values finds.
pub(crate) fn random(prefix: &str) -> String {
    format!("{prefix}-{}", CallId::new())
}

fn model_grant(host: &HostName) -> Grant {
    let (tool, digest) = Caller::Agent.identity();
    Grant {
        tool,
        digest,
        secret: SecretName::parse("MODEL_KEY").unwrap(),
        host: host.clone(),
        port: Port::new(443).unwrap(),
        methods: vec![http::Method::POST],
        path: PathPrefix::parse("/v1/chat/completions").unwrap(),
        inject: Injection::Bearer,
        expires_ms: None,
        max_uses: None,
    }
}

fn model_rule(host: &HostName) -> ModelRule {
    ModelRule {
        rule: HostRule {
            host: host.clone(),
            port: Port::new(443).unwrap(),
            scheme: Scheme::Https,
            methods: vec![http::Method::POST],
            path: PathPrefix::parse("/v1/chat/completions").unwrap(),
        },
        secret: Some(SecretWish {
            secret: SecretName::parse("MODEL_KEY").unwrap(),
            host: host.clone(),
            inject: Injection::Bearer,
        }),
    }
}

fn chat_settings(host: &HostName) -> ChatSettings {
    ChatSettings {
        target: Target::parse("POST", &format!("https://{host}/v1/chat/completions")).unwrap(),
        model: ModelName::parse("test/model-1").unwrap(),
        max_tokens: 100,
        price: 1_000_000,
    }
}

/// The manifest of a tool with one text parameter and no network.
pub(crate) fn manifest(name: &str, description: &str, parameter: &str) -> String {
    let name = ToolName::parse(name).unwrap();
    format!(
        "name = \"{name}\"\nversion = \"1.0.0\"\ndescription = \"{description}\"\n[parameters]\ntype = \"object\"\n\
         required = [\"{parameter}\"]\nproperties.{parameter} = {{ type = \"string\" }}\n"
    )
}
