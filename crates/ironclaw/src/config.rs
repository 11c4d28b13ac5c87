//! The configuration file: what was written, then what it means. Unknown keys are errors.

mod export;
mod shell;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::{AlertCommand, ChatSettings, ModelName};
use container::{Downgrade, Limits};
use egress::Exception;
use policy::manifest::{HostRule, SecretWish};
use policy::{Budget, ModelRule, Permission, Settings};
use safety::Untrusted;
use serde::Deserialize;
use types::limits::Bytes;
use types::{Endpoint, Host, Injection, PathPrefix, Registry, Scheme, SecretName, Source, Target, ToolName};

use crate::exit::{Code, Failure};
use crate::home::Home;
pub use shell::ShellConfig;

/// The whole configuration.
#[derive(Debug, Default)]
pub struct Config {
    /// The language model, where one is configured.
    pub model: Option<ChatSettings>,
    /// Where records are handed to: POST to its endpoint for logs.
    pub collector: Option<Target>,
    /// The database server, where the installation is not in a file.
    pub store: Option<store::Server>,
    /// Screening rules.
    pub safety: safety::rulebook::Config,
    /// The folder of the file tools.
    pub workspace: Option<PathBuf>,
    /// The door to the network.
    pub egress: EgressConfig,
    /// Permissions, budgets, Cedar policies.
    pub policy: Settings,
    /// The command that is told of alerts.
    pub alert: Option<AlertCommand>,
    /// The container sandbox of commands.
    pub sandbox: SandboxConfig,
    /// The agent's shell, where it has one.
    pub shell: Option<ShellConfig>,
}

/// Settings of the container sandbox.
#[derive(Clone, Debug, Default)]
pub struct SandboxConfig {
    /// The engine's socket; its usual one otherwise.
    pub engine: Option<PathBuf>,
    /// The image by its digest; the one that was built otherwise.
    pub image: Option<String>,
    /// The OCI runtime by the engine's name for it.
    pub runtime: Option<String>,
    /// Promises that the owner gives up.
    pub downgrades: BTreeSet<Downgrade>,
    /// What one run may use.
    pub limits: Limits,
}

/// Settings of the door to the network.
#[derive(Clone, Debug, Default)]
pub struct EgressConfig {
    /// Name servers; empty means the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Names that lead to an address which is otherwise refused.
    pub exceptions: Vec<Exception>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Written {
    model: Option<WrittenModel>,
    export: Option<export::WrittenExport>,
    store: Option<WrittenStore>,
    safety: safety::rulebook::Config,
    workspace: Option<WrittenWorkspace>,
    egress: WrittenEgress,
    tools: BTreeMap<String, WrittenTool>,
    budget: Budget,
    alert: WrittenAlert,
    sandbox: WrittenSandbox,
    shell: Option<shell::WrittenShell>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct WrittenSandbox {
    engine: Option<PathBuf>,
    image: Option<String>,
    runtime: Option<String>,
    downgrades: BTreeSet<Downgrade>,
    full_access: bool,
    registries: Vec<String>,
    memory_mib: Option<u64>,
    cpus: Option<u32>,
    pids: Option<u32>,
    seconds: Option<u64>,
    output_mib: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenModel {
    url: String,
    name: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default = "default_max_tokens")]
    max_tokens: u32,
    #[serde(default)]
    price: u64,
}

fn default_max_tokens() -> u32 {
    2048
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenStore {
    url: String,
    #[serde(default)]
    password_file: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWorkspace {
    dir: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct WrittenEgress {
    nameservers: Vec<SocketAddr>,
    exception: Vec<WrittenException>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenException {
    host: String,
    port: u16,
    address: SocketAddr,
    #[serde(default)]
    ca: Option<PathBuf>,
    #[serde(default)]
    containers: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenTool {
    permission: Permission,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct WrittenAlert {
    command: Vec<String>,
}

impl Config {
    /// Reads the file of an installation; an absent one means the defaults.
    pub fn load(home: &Home) -> Result<Self, Failure> {
        let mut config = match std::fs::read_to_string(home.config_file()) {
            Ok(text) => Self::parse(&text, &home.config)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::default(),
            Err(error) => {
                return Err(Failure::usage(format!(
                    "{} cannot be read: {}",
                    home.config_file().display(),
                    error.kind()
                )));
            }
        };
        config.policy.policies = own_policies(&home.policies())?;
        Ok(config)
    }

    /// Reads the text of a configuration; relative paths in it start at `base`.
    pub fn parse(text: &str, base: &Path) -> Result<Self, Failure> {
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        crate::config_keys::check(&table)?;
        let written: Written = toml::from_str(text).map_err(syntax)?;
        written.mean(base)
    }
}

/// The parser's message quotes the file, so it is shown only after screening.
fn syntax(error: toml::de::Error) -> Failure {
    let quoted = Untrusted::new(Source::File, error.to_string());
    Failure::Quoting(Code::Usage, "the configuration does not parse".to_owned(), quoted)
}

fn wrong(key: &str, why: impl std::fmt::Display) -> Failure {
    Failure::usage(format!("configuration: {key}: {why}\n  more: ironclaw config explain {key}"))
}

impl Written {
    fn mean(self, base: &Path) -> Result<Config, Failure> {
        let mut permissions = BTreeMap::new();
        for (name, tool) in self.tools {
            let name = ToolName::parse(&name).map_err(|error| wrong("tools", error))?;
            permissions.insert(name, tool.permission);
        }
        let (model, rule) = self.model.map(WrittenModel::mean).transpose()?.unzip();
        let (collector, handing) = self.export.map(export::WrittenExport::mean).transpose()?.unzip();
        let exceptions = self
            .egress
            .exception
            .into_iter()
            .map(|exception| exception.mean(base))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Config {
            model,
            collector,
            store: self.store.map(|store| store.mean(base)).transpose()?,
            safety: self.safety,
            workspace: self.workspace.map(|workspace| base.join(workspace.dir)),
            egress: EgressConfig { nameservers: self.egress.nameservers, exceptions },
            policy: Settings {
                permissions,
                budget: self.budget,
                model: rule,
                collector: handing,
                policies: Vec::new(),
                full_access: self.sandbox.full_access,
                registries: self.sandbox.registries()?,
            },
            sandbox: self.sandbox.mean()?,
            shell: self.shell.map(shell::WrittenShell::mean).transpose()?,
            alert: AlertCommand::parse(&self.alert.command).map_err(|error| wrong("alert.command", error))?,
        })
    }
}

impl WrittenModel {
    fn mean(self) -> Result<(ChatSettings, ModelRule), Failure> {
        let url = format!("{}/chat/completions", self.url.trim_end_matches('/'));
        let target = Target::parse("POST", &url).map_err(|error| wrong("model.url", error))?;
        let Host::Name(host) = target.host().clone() else {
            return Err(wrong("model.url", "a host name is expected, not an address"));
        };
        let secret = match &self.key {
            Some(name) if target.scheme == Scheme::Https => Some(SecretWish {
                secret: SecretName::parse(name).map_err(|error| wrong("model.key", error))?,
                host: host.clone(),
                inject: Injection::Bearer,
            }),
            Some(_) => return Err(wrong("model.url", "a key never travels in clear text; use https")),
            None => None,
        };
        let path = PathPrefix::parse(target.path.as_str()).map_err(|error| wrong("model.url", error))?;
        let methods = vec![target.method.clone()];
        let rule = HostRule { host, port: target.endpoint.port, scheme: target.scheme, methods, path };
        let model = ModelName::parse(&self.name).map_err(|error| wrong("model.name", error))?;
        let settings = ChatSettings { target, model, max_tokens: self.max_tokens, price: self.price };
        Ok((settings, ModelRule { rule, secret }))
    }
}

impl WrittenStore {
    fn mean(self, base: &Path) -> Result<store::Server, Failure> {
        let file = self.password_file.map(|file| base.join(file));
        server(&self.url, file.as_deref()).map_err(|why| wrong("store", why))
    }
}

/// A database server by its URL, with the password that a file holds: one line, readable by its owner
/// alone.
pub fn server(url: &str, password_file: Option<&Path>) -> Result<store::Server, String> {
    let server = store::Server::parse(url).map_err(|error| error.to_string())?;
    let Some(file) = password_file else { return Ok(server) };
    let unreadable = |error: std::io::Error| format!("{} cannot be read: {}", file.display(), error.kind());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        if std::fs::metadata(file).map_err(unreadable)?.mode() & 0o077 != 0 {
            let name = file.display();
            return Err(format!("{name} may be read by others; close it with: chmod 600 '{name}'"));
        }
    }
    let text = std::fs::read_to_string(file).map_err(unreadable)?;
    Ok(server.with_password(text.lines().next().unwrap_or_default().to_owned()))
}

impl WrittenSandbox {
    /// Where images may be pulled from.
    fn registries(&self) -> Result<BTreeSet<Registry>, Failure> {
        let parsed = self.registries.iter().map(|name| Registry::parse(name));
        parsed.collect::<Result<_, _>>().map_err(|error| wrong("sandbox.registries", error))
    }

    /// Limits of zero would be no limits to the engine, so they are refused.
    fn mean(self) -> Result<SandboxConfig, Failure> {
        let usual = Limits::default();
        let positive = |key: &str, value: u64| match value {
            0 => Err(wrong(key, "must be more than 0")),
            value => Ok(value),
        };
        let mebibytes = |key: &str, value: Option<u64>, usual: Bytes| match value {
            None => Ok(usual),
            Some(value) => positive(key, value).map(|value| Bytes(value.saturating_mul(1 << 20))),
        };
        let count = |key: &str, value: Option<u32>, usual: u32| {
            positive(key, value.unwrap_or(usual).into()).map(|_| value.unwrap_or(usual))
        };
        let limits = Limits {
            memory: mebibytes("sandbox.memory_mib", self.memory_mib, usual.memory)?,
            cpus: count("sandbox.cpus", self.cpus, usual.cpus)?,
            pids: count("sandbox.pids", self.pids, usual.pids)?,
            time: Duration::from_secs(positive(
                "sandbox.seconds",
                self.seconds.unwrap_or(usual.time.as_secs()),
            )?),
            output: mebibytes("sandbox.output_mib", self.output_mib, usual.output)?,
            ..usual
        };
        Ok(SandboxConfig {
            engine: self.engine,
            image: self.image,
            runtime: self.runtime,
            downgrades: self.downgrades,
            limits,
        })
    }
}

impl WrittenException {
    fn mean(self, base: &Path) -> Result<Exception, Failure> {
        let key = "egress.exception";
        let endpoint = Endpoint::parse(&self.host, Some(self.port)).map_err(|error| wrong(key, error))?;
        let Host::Name(host) = endpoint.host else {
            return Err(wrong(key, "a host name is expected, not an address"));
        };
        let ca = match self.ca {
            Some(file) => {
                let file = base.join(file);
                let read = std::fs::read(&file);
                Some(read.map_err(|error| {
                    wrong(key, format!("{} cannot be read: {}", file.display(), error.kind()))
                })?)
            }
            None => None,
        };
        Ok(Exception { host, port: endpoint.port, address: self.address, ca, containers: self.containers })
    }
}

/// The owner's Cedar files, in the order of their names.
fn own_policies(folder: &Path) -> Result<Vec<(String, String)>, Failure> {
    let unreadable = |error: std::io::Error| {
        Failure::usage(format!("the policies in {} cannot be read: {}", folder.display(), error.kind()))
    };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "cedar") {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, std::fs::read_to_string(&path).map_err(unreadable)?));
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Failure> {
        Config::parse(text, Path::new("/"))
    }

    #[test]
    fn an_unknown_key_is_an_error_with_a_suggestion() {
        for (text, hint) in [
            ("[budgte]\ncalls = 1", "budget"),
            ("[budget]\ncals = 1", "budget.calls"),
            ("[model]\nurl = \"https://a.example/v1\"\nname = \"m\"\nkeey = \"K\"", "model.key"),
        ] {
            let Err(Failure::Plain(Code::Usage, words)) = parse(text) else {
                panic!("{text} was accepted");
            };
            assert!(words.contains(&format!("did you mean {hint}?")), "{words}");
        }
    }

    #[test]
    fn a_model_key_is_never_sent_in_clear_text() {
        assert!(parse("[model]\nurl = \"http://a.example/v1\"\nname = \"m\"\nkey = \"K\"").is_err());
        let config = parse("[model]\nurl = \"https://a.example/v1/\"\nname = \"m\"\nkey = \"K\"").unwrap();
        assert_eq!(config.model.unwrap().target.to_string(), "POST https://a.example/v1/chat/completions");
        assert_eq!(config.policy.model.unwrap().secret.unwrap().secret.as_str(), "K");
    }

    #[test]
    fn values_are_parsed_to_what_they_mean() {
        let config = parse(
            "[tools.weather]\npermission = \"ask\"\n[[egress.exception]]\nhost = \"API.weather.com\"\nport = 443\naddress = \"127.0.0.1:8443\"",
        )
        .unwrap();
        assert_eq!(config.policy.permissions.len(), 1);
        assert_eq!(config.egress.exceptions[0].host.as_str(), "api.weather.com");
        assert!(!config.egress.exceptions[0].containers);
        for bad in [
            "[tools.weather]\npermission = \"yes\"",
            "[tools.\"We ather\"]\npermission = \"ask\"",
            "[[egress.exception]]\nhost = \"10.0.0.1\"\nport = 443\naddress = \"127.0.0.1:1\"",
            "[[egress.exception]]\nhost = \"a.example\"\nport = 0\naddress = \"127.0.0.1:1\"",
            "not toml",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
