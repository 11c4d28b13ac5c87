//! Builds each part once, in the order of the tiers, from one configuration.

use std::path::Path;
use std::sync::Arc;

use agent::{Agent, Files, Model, Shell};
use audit::{Audit, Drain};
use egress::Egress;
use policy::{Catalog, Policy};
use safety::Safety;
use store::{Reader, StoreError};
use types::Tenant;
use wasm::{Budget, Compiler, Installer, Sandbox};
use workspace::Surroundings;

use crate::collector;
use crate::config::Config;
use crate::exit::Failure;
use crate::home::Home;
use crate::renewal;
use crate::shell;
use crate::terminal::Terminal;

/// The database, its one writer, and the scanners: enough for every command that runs nothing.
pub struct Base {
    /// Where state lives.
    pub home: Home,
    /// What was configured.
    pub config: Config,
    /// The right to read the database.
    pub reader: Reader,
    /// The right to record and to change.
    pub audit: Audit,
    /// The scanners.
    pub safety: Arc<Safety>,
    drain: Drain,
}

impl Base {
    /// Opens an installation, making its folders and database where they are missing.
    pub async fn open(home: Home, config: Config) -> Result<Self, Failure> {
        home.create()?;
        let (reader, writer) = match &config.store {
            Some(server) => store::connect(server).await,
            None => store::open(&home.database()).await,
        }
        .map_err(database)?;
        let (audit, drain) = match crate::signing::in_file(&home, &reader).await? {
            Some(signer) => Audit::start_sealed(writer, signer),
            // Whoever opens the vault seals.
            None => Audit::start(writer),
        };
        let key = secrets::key_file::fingerprint_key(&home.fingerprint_folder());
        let safety = match key.map_err(Failure::environment)? {
            Some(key) => Safety::with_key(config.safety.clone(), &key).map_err(broken_rules)?,
            None => scanners(&config)?,
        };
        let safety = Arc::new(safety);
        Ok(Self { home, config, reader, audit, safety, drain })
    }

    /// Waits until everything is recorded, also by a renewal of a token that nobody waits for. The last step of every
    /// command.
    pub async fn close(self) {
        drop(self.audit);
        self.drain.finish().await;
    }
}

/// The scanners of a configuration without an installation, for `scan`, `eval` and checks of a configuration. Their
/// fingerprints are the same on every machine; an entry of the configuration that names one holds everywhere.
pub fn scanners(config: &Config) -> Result<Safety, Failure> {
    Safety::new(config.safety.clone()).map_err(broken_rules)
}

fn broken_rules(error: safety::rulebook::ConfigError) -> Failure {
    Failure::usage(format!("configuration: safety: {error}"))
}

/// Everything that a turn of the agent needs.
pub struct Parts {
    /// What turns a request into answers.
    pub agent: Agent,
    /// Renews tokens as long as the agent is there.
    _renewals: Option<renewal::Kept>,
    /// Hands records to the owner's collector, also only so long.
    _collector: Option<collector::Kept>,
}

impl Parts {
    /// Builds the parts above the base. `workspace` is the folder of the file tools, if any.
    pub async fn build(base: &Base, terminal: &Terminal, workspace: Option<&Path>) -> Result<Self, Failure> {
        let vault = base.unlock(terminal).await?;
        let folder = workspace.or(base.config.workspace.as_deref());
        let files = folder.map(|folder| open_files(&base.home, folder)).transpose()?;
        let shell = match shell::may(base, folder)? {
            Some(may) => shell::sandbox(base, terminal).await.map(|sandbox| (sandbox, may)),
            None => None,
        };
        // Links resolved, so that one folder has one name.
        let resolved = folder.and_then(|folder| folder.canonicalize().ok());
        let mut built_in = resolved.map_or(Vec::new(), |folder| Files::tools(&folder, &base.safety));
        built_in.extend(shell.as_ref().and_then(|(_, may)| may.tool(&base.safety)));
        let policy = policy(base, catalog(base, built_in))?;
        let egress = Egress::new(egress_config(&base.config), base.safety.clone(), vault.clone())
            .map_err(Failure::usage)?;
        let egress = Arc::new(egress);
        let renewals = match vault {
            Some(vault) => Some(renewal::keep(vault, policy.clone(), egress.clone(), terminal).await?),
            None => None,
        };
        let collector = collector::keep(base, policy.clone(), egress.clone(), terminal);
        let sandbox =
            Sandbox::new(sandbox_config(&base.home), egress.clone(), policy.clone(), base.safety.clone());
        let sandbox = Arc::new(sandbox.map_err(Failure::environment)?);
        let shell = shell.map(|(sandbox, may)| Shell {
            sandbox,
            egress: egress.clone(),
            policy: policy.clone(),
            safety: base.safety.clone(),
            may,
        });
        let model = match &base.config.model {
            Some(settings) => {
                Model::Chat(Box::new(agent::Chat::new(settings.clone(), policy.clone(), egress)))
            }
            None => Model::Offline(agent::Offline),
        };
        let agent = Agent::new(agent::Parts {
            safety: base.safety.clone(),
            audit: base.audit.clone(),
            reader: base.reader.clone(),
            policy,
            model,
            sandbox,
            files,
            shell,
            alert: base.config.alert.clone(),
        });
        Ok(Self { agent, _renewals: renewals, _collector: collector })
    }
}

/// The installed tools, and those of this program.
pub fn catalog(base: &Base, built_in: Vec<policy::Tool>) -> Catalog {
    Catalog::new(base.reader.clone(), base.safety.clone(), Tenant::local(), built_in)
}

/// What compiles and checks components: this program, started again as a child.
pub fn installer(home: &Home) -> Result<Installer, Failure> {
    let program =
        std::env::current_exe().map_err(|_| Failure::environment("this program does not find itself"))?;
    Installer::new(&home.components(), Compiler::new(&program, Budget::default()))
        .map_err(Failure::environment)
}

/// The policy of a base over a catalog.
pub fn policy(base: &Base, catalog: Catalog) -> Result<Policy, Failure> {
    let made = Policy::new(base.audit.clone(), base.reader.clone(), catalog, base.config.policy.clone());
    made.map_err(|error| broken_policy(error, &base.home))
}

/// Why the owner's Cedar policies do not load. The engine quotes them, so its words are screened.
pub fn broken_policy(error: policy::cedar::PolicyError, home: &Home) -> Failure {
    match error {
        policy::cedar::PolicyError::Syntax(quoted) | policy::cedar::PolicyError::Invalid(quoted) => {
            Failure::Quoting(
                crate::exit::Code::Usage,
                format!("a policy in {} does not load", home.policies().display()),
                quoted,
            )
        }
        other => Failure::usage(other),
    }
}

/// The folders that no tool and no command may be lent.
pub fn surroundings(home: &Home) -> Surroundings {
    Surroundings { home: home.person.clone(), own: vec![home.data.clone(), home.config.clone()] }
}

fn open_files(home: &Home, folder: &Path) -> Result<Files, Failure> {
    Files::open(folder, &surroundings(home)).map_err(|unsafe_folder| Failure::from(unsafe_folder.refusal()))
}

/// The settings of the door to the network.
pub fn egress_config(config: &Config) -> egress::Config {
    egress::Config {
        exceptions: config.egress.exceptions.clone(),
        name_servers: config.egress.nameservers.clone(),
        ..egress::Config::default()
    }
}

/// The settings of the container sandbox.
pub fn container_config(home: &Home, config: &Config) -> container::Config {
    let written = &config.sandbox;
    container::Config {
        engine: written.engine.clone().unwrap_or_else(|| container::config::DEFAULT_SOCKET.into()),
        runtime: written.runtime.clone(),
        downgrades: written.downgrades.clone(),
        limits: written.limits,
        folder: home.sandbox(),
    }
}

/// The settings of the sandbox.
pub fn sandbox_config(home: &Home) -> wasm::Config {
    wasm::Config { cache: home.components(), workspaces: home.tool_files(), log: None }
}

/// A database that cannot be used is a fault of the machine, not of the request.
pub fn database(error: StoreError) -> Failure {
    Failure::environment(error)
}

/// A vault that does not open.
pub fn locked(error: impl std::fmt::Display) -> Failure {
    Failure::environment(format!("the vault does not open: {error}\n  more: ironclaw doctor"))
}
