//! A home folder with a database and a vault, and a policy that mints real permits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::{Audit, Drain, Entry, Log};
use policy::{Catalog, Decision, Permit, Policy, Settings, Turn};
use safety::{Channel, Safety, Untrusted};
use secrets::{Plain, Unlock, Vault};
use store::{GrantRow, Mutation, Reader, ToolRow, ToolState};
use types::{
    Digest, Field, Grant, HostName, Injection, Kind, Outbound, PathPrefix, Port, Record, SecretName, Source,
    Target, Tenant, ToolName, Trace, Verdict,
};

/// A temporary folder for a key file and a database, or a server for the database.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    server: Option<testkit::Database>,
}

impl Home {
    /// With the database in a file.
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: None }
    }

    /// One with each database, on which nothing is yet.
    pub(crate) async fn both() -> [Self; 2] {
        [Self::new(), Self::on(testkit::Postgres::shared()).await]
    }

    /// With a database of a server, on which nothing is yet.
    pub(crate) async fn on(database: testkit::Database) -> Self {
        let owner = store::Server::parse(&database.owner()).unwrap();
        store::migrate(&owner, database.runtime_role()).await.unwrap();
        Self { server: Some(database), ..Self::new() }
    }

    /// The database, opened as another process would.
    pub(crate) async fn open(&self) -> (Reader, Audit, Drain) {
        match self.url() {
            Some(url) => connect(&url).await,
            None => open(self.path()).await,
        }
    }

    /// Another machine of the same installation: the same server, and a key file of its own.
    pub(crate) fn another_node(&self) -> Self {
        Self { server: self.server.clone(), ..Self::new() }
    }

    /// The URL of the server, where there is one.
    pub(crate) fn url(&self) -> Option<String> {
        self.server.as_ref().map(testkit::Database::runtime)
    }

    /// The vault, opened as another process would.
    pub(crate) async fn vault(&self) -> Arc<Vault> {
        let (reader, audit, _) = self.open().await;
        Arc::new(Vault::open(reader, audit, &self.unlock()).await.unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn keys(&self) -> PathBuf {
        self.path().join("keys")
    }

    pub(crate) fn unlock(&self) -> Unlock {
        Unlock::File(self.keys())
    }
}

/// The database of a server.
pub(crate) async fn connect(url: &str) -> (Reader, Audit, Drain) {
    let (reader, writer) = store::connect(&store::Server::parse(url).unwrap()).await.unwrap();
    let (audit, drain) = Audit::start(writer);
    (reader, audit, drain)
}

/// The database of a home folder.
pub(crate) async fn open(home: &Path) -> (Reader, Audit, Drain) {
    let (reader, writer) = store::open(&home.join("data/ironclaw.db")).await.unwrap();
    let (audit, drain) = Audit::start(writer);
    (reader, audit, drain)
}

pub(crate) fn name(text: &str) -> SecretName {
    SecretName::parse(text).unwrap()
}

pub(crate) fn plain(text: &str) -> Plain {
    Plain::new(text.into())
}

/// A value that no other test and no run before had.
pub(crate) fn random_value() -> String {
    let bytes = types::CallId::new();
    format!("ic_{}", Digest::of(&[bytes.as_bytes().as_slice(), b"value"].concat()))
}

/// The secret that the tool of a [`World`] wants.
pub(crate) const SECRET: &str = "WEATHER_KEY";

/// An open vault with one granted secret, and a policy with one approved tool that wants it.
pub(crate) struct World {
    pub(crate) reader: Reader,
    pub(crate) audit: Audit,
    pub(crate) vault: Arc<Vault>,
    pub(crate) policy: Policy,
    pub(crate) value: String,
    pub(crate) grant: Grant,
    pub(crate) grant_id: String,
    pub(crate) home: Home,
    pub(crate) safety: Arc<Safety>,
}

impl World {
    /// With a random value, injected at that place.
    pub(crate) async fn new(inject: &str) -> Self {
        Self::with(inject, random_value()).await
    }

    pub(crate) async fn with(inject: &str, value: String) -> Self {
        Self::at(Home::new(), inject, value).await
    }

    /// One with each database.
    pub(crate) async fn both() -> [Self; 2] {
        let [file, server] = Home::both().await;
        [Self::at(file, "bearer", random_value()).await, Self::at(server, "bearer", random_value()).await]
    }

    /// With that home.
    pub(crate) async fn at(home: Home, inject: &str, value: String) -> Self {
        let (reader, audit, _) = home.open().await;
        let vault = Arc::new(Vault::create(reader.clone(), &audit, &home.unlock()).await.unwrap());
        vault.put(&name(SECRET), plain(&value), None).await.unwrap();
        let tool = install(&audit, inject).await;
        let grant = Grant {
            tool: tool.0,
            digest: tool.1,
            secret: name(SECRET),
            host: HostName::parse("api.weather.example").unwrap(),
            port: Port::new(443).unwrap(),
            methods: vec![http::Method::GET],
            path: PathPrefix::parse("/v1").unwrap(),
            inject: Injection::parse(inject).unwrap(),
            expires_ms: None,
            max_uses: None,
        };
        let grant_id = vault.grant(&grant).await.unwrap();
        let safety = Arc::new(Safety::new(Default::default()).unwrap());
        let catalog = Catalog::new(reader.clone(), safety.clone(), Tenant::local(), Vec::new());
        let policy = Policy::new(audit.clone(), reader.clone(), catalog, Settings::default()).unwrap();
        Self { reader, audit, vault, policy, value, grant, grant_id, home, safety }
    }

    /// A permit for one request of the tool, decided and recorded like any other.
    pub(crate) async fn permit(&self, method: &str, url: &str) -> Permit<Outbound> {
        let turn = Turn::begin(Trace::off());
        let arguments = Untrusted::new(Source::Model, serde_json::json!({}));
        let arguments = self.safety.screen_json(arguments, Channel::Arguments, &Trace::off()).unwrap();
        let decision = self.policy.decide_call(&turn, &self.grant.tool, arguments).await.unwrap();
        let Decision::Permit(call) = decision else { panic!("the call was not permitted") };
        let target = Target::parse(method, url).unwrap();
        self.policy.decide_request(call.scope(), target, &[]).await.unwrap()
    }

    /// Exchanges the row of the grant behind the vault's back.
    pub(crate) async fn tamper(&self, change: impl FnOnce(&mut GrantRow)) {
        let mut row = self.reader.all_grants(&Tenant::local()).await.unwrap().pop().unwrap();
        let delete = Mutation::DeleteGrant { tenant: row.tenant.clone(), id: row.id.clone() };
        self.audit.change(Record::new(Kind::Revoke, Verdict::Done), delete).await.unwrap();
        change(&mut row);
        self.audit.change(Record::new(Kind::Grant, Verdict::Done), Mutation::PutGrant(row)).await.unwrap();
    }

    /// The last records, after everything recorded so far is durable.
    pub(crate) async fn records(&self) -> Vec<Entry> {
        self.audit.record(Record::new(Kind::Config, Verdict::Done)).await.unwrap();
        Log::new(self.reader.clone()).tail(20).await.unwrap()
    }

    /// True when a record of that kind and verdict names the rule.
    pub(crate) async fn is_recorded(&self, kind: Kind, verdict: Verdict, rule: &str) -> bool {
        self.records().await.iter().any(|entry| {
            entry.record.kind == kind
                && entry.record.verdict == verdict
                && entry.record.field(Field::Rule) == Some(rule)
        })
    }
}

/// The request of a permit, without its secret.
pub(crate) fn request_of(permit: &Permit<Outbound>) -> http::Request<&'static str> {
    let target = &permit.effect().target;
    let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
    let uri = format!("{}://{}{}{query}", target.scheme.as_str(), target.host_header(), target.path);
    http::Request::builder().method(target.method.clone()).uri(uri).body("body").unwrap()
}

async fn install(audit: &Audit, inject: &str) -> (ToolName, Digest) {
    let manifest = format!(
        "name = \"weather\"\nversion = \"1.0.0\"\ndescription = \"Current weather of a city\"\n\
         parameters.type = \"object\"\n\
         [[hosts]]\nhost = \"api.weather.example\"\nmethods = [\"GET\", \"POST\"]\n\
         [[secrets]]\nname = \"{SECRET}\"\nhost = \"api.weather.example\"\ninject = \"{inject}\"\n"
    );
    let row = ToolRow {
        tenant: Tenant::local(),
        name: ToolName::parse("weather").unwrap(),
        digest: Digest::of(manifest.as_bytes()),
        manifest,
        compiled: None,
        state: ToolState::Approved,
        installed_ms: 0,
    };
    let tool = (row.name.clone(), row.digest);
    let change = Mutation::InstallTool { row, expected: None };
    audit.change(Record::new(Kind::Tool, Verdict::Done), change).await.unwrap();
    tool
}
