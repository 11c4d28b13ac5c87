//! `ironclaw proxy`: the egress proxy by itself, for any client.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use egress::Egress;
use egress::proxy::{Bounds, Parts, Proxy};
use policy::reach::{MAX_RULES_FILE, ReachError};
use policy::{Reach, Run, Turn};
use safety::{Channel, Safety};
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use types::{Digest, SecretName, Tenant, ToolName, Trace};

use crate::cli;
use crate::exit::{Code, Failure, Outcome};
use crate::parts::{Base, catalog, database, egress_config, policy};
use crate::renewal;
use crate::terminal::Terminal;

/// How often the rules file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The variables by which clients find a proxy.
const PROXY: [&str; 4] = ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"];

/// The variables by which clients find the certificates that they trust: OpenSSL and Go, Node, Python, curl, git, pip,
/// cargo and Deno.
const TRUST: [&str; 8] = [
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "PIP_CERT",
    "CARGO_HTTP_CAINFO",
    "DENO_CERT",
];

/// Runs the command until Ctrl-C.
pub async fn run(args: &cli::Proxy, base: &Base, terminal: &Terminal) -> Outcome {
    let words = Reach::of_words(args.allow.iter().map(String::as_str)).map_err(broken)?;
    let mut file = args.rules.as_deref().map(RulesFile::at);
    let reach = match &mut file {
        Some(file) => words.clone().and(file.read().await?).map_err(broken)?,
        None => words.clone(),
    };
    let secrets = secrets(&args.secrets, base).await?;
    let (proxy, _renewals) = proxy(reach, &secrets, base, terminal).await?;
    let proxy = Arc::new(proxy);
    let listener = Listener::open(&args.listen).await?;
    write_certificate(&args.ca, proxy.ca_pem()).await?;
    let token = egress::proxy::token().map_err(Failure::environment)?;
    tell(&proxy, &listener, &token, &args.ca, terminal);
    let serving = async {
        tokio::select! {
            error = listener.serve(proxy.clone(), Digest::of(token.as_bytes())) => {
                Err(Failure::failed(format!("the proxy cannot listen any more: {}", error.kind())))
            }
            never = watch(file, &words, &proxy, &base.safety, terminal) => never,
        }
    };
    let served = terminal.unless_interrupted(serving).await;
    listener.remove();
    served.unwrap_or(Ok(()))
}

async fn proxy(
    reach: Reach,
    secrets: &BTreeMap<SecretName, String>,
    base: &Base,
    terminal: &Terminal,
) -> Result<(Proxy, Option<renewal::Kept>), Failure> {
    let vault = base.unlock(terminal).await?;
    let egress = Egress::new(egress_config(&base.config), base.safety.clone(), vault.clone());
    let egress = Arc::new(egress.map_err(Failure::usage)?);
    let policy = policy(base, catalog(base, Vec::new()))?;
    let renewals = match vault {
        Some(vault) => Some(renewal::keep(vault, policy.clone(), egress.clone(), terminal).await),
        None => None,
    };
    let run = Run::open(Turn::begin(Trace::off()), reach, secrets.keys().cloned().collect());
    let parts = Parts { egress, policy, run: Arc::new(run), bounds: Bounds::default() };
    let proxy = Proxy::new(parts, |name| secrets.get(name).cloned().unwrap_or_default());
    Ok((proxy.map_err(Failure::usage)?, renewals))
}

/// The names and prefixes of `--secret`, each granted to the proxy for some place.
async fn secrets(written: &[String], base: &Base) -> Result<BTreeMap<SecretName, String>, Failure> {
    let grants = base.reader.grants(&Tenant::local(), &ToolName::proxy()).await.map_err(database)?;
    let mut secrets = BTreeMap::new();
    for text in written {
        let (name, prefix) = text.split_once('=').unwrap_or((text, ""));
        let name = SecretName::parse(name).map_err(|error| Failure::usage(format!("--secret: {error}")))?;
        if !grants.iter().any(|grant| grant.secret == name) {
            return Err(Failure::usage(format!(
                "--secret: {name} is not granted to the proxy for any place\n  \
                 to grant it: ironclaw secret grant {name} --tool proxy --host HOST --inject bearer"
            )));
        }
        secrets.insert(name, prefix.to_owned());
    }
    Ok(secrets)
}

async fn write_certificate(file: &Path, pem: &str) -> Outcome {
    let failed = |error: std::io::Error| {
        Failure::failed(format!("{} cannot be written: {}", file.display(), error.kind()))
    };
    tokio::fs::write(file, pem).await.map_err(failed)
}

/// Says what clients need.
fn tell(proxy: &Proxy, listener: &Listener, token: &str, ca: &Path, terminal: &Terminal) {
    let ca = std::path::absolute(ca).unwrap_or_else(|_| ca.to_owned()).display().to_string();
    let mut variables: Vec<(&str, String)> = Vec::new();
    if let Listener::Tcp(_, addr) = listener {
        variables.extend(PROXY.map(|name| (name, format!("http://ironclaw:{token}@{addr}"))));
        variables.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
    }
    variables.extend(TRUST.map(|name| (name, ca.clone())));
    variables.extend(proxy.placeholders().map(|(name, text)| (name.as_str(), text.to_owned())));
    if terminal.is_json() {
        let environment: BTreeMap<_, _> = variables.into_iter().collect();
        terminal.json(&json!({ "listening": listener.place(), "ca": ca, "environment": environment }));
        return;
    }
    terminal.say(format!("Listening on {}. Ctrl-C ends it.", listener.place()));
    terminal.say("What clients need in their environment:");
    for (name, value) in variables {
        terminal.say(format!("export {name}={value}"));
    }
    terminal.say("Java has a store of its own: keytool -importcert -file CA -keystore FILE -alias ironclaw");
}

/// Where clients come in.
enum Listener {
    /// A port of this machine; clients show a token.
    Tcp(TcpListener, SocketAddr),
    /// A socket file; clients run as the user of this program.
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, PathBuf),
}

impl Listener {
    async fn open(written: &str) -> Result<Self, Failure> {
        if let Some(path) = written.strip_prefix("unix:") {
            return Self::open_file(path);
        }
        let addr: SocketAddr = written.parse().map_err(|_| {
            Failure::usage("--listen: an address with a port is expected, as in 127.0.0.1:3128, or unix:PATH")
        })?;
        if !addr.ip().is_loopback() {
            return Err(Failure::usage(
                "--listen: only an address of this machine: the token travels to the proxy in clear text",
            ));
        }
        let failed = |error: std::io::Error| {
            Failure::failed(format!("{addr} cannot be listened on: {}", error.kind()))
        };
        let listener = TcpListener::bind(addr).await.map_err(failed)?;
        let addr = listener.local_addr().map_err(failed)?;
        Ok(Self::Tcp(listener, addr))
    }

    #[cfg(unix)]
    fn open_file(path: &str) -> Result<Self, Failure> {
        use std::os::unix::fs::PermissionsExt as _;
        let failed = |error: std::io::Error| {
            Failure::failed(format!("the socket {path} cannot be made: {}", error.kind()))
        };
        let listener = tokio::net::UnixListener::bind(path).map_err(failed)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        Ok(Self::Unix(listener, path.into()))
    }

    #[cfg(not(unix))]
    fn open_file(_: &str) -> Result<Self, Failure> {
        Err(Failure::usage("--listen: this system has no socket files"))
    }

    async fn serve(&self, proxy: Arc<Proxy>, token: Digest) -> std::io::Error {
        match self {
            Self::Tcp(listener, _) => egress::proxy::serve_tcp(proxy, listener, token).await,
            #[cfg(unix)]
            Self::Unix(listener, path) => {
                use std::os::unix::fs::MetadataExt as _;
                // The file was made by this process and belongs to its user.
                match std::fs::symlink_metadata(path) {
                    Ok(file) => egress::proxy::serve_unix(proxy, listener, file.uid()).await,
                    Err(error) => error,
                }
            }
        }
    }

    fn place(&self) -> String {
        match self {
            Self::Tcp(_, addr) => addr.to_string(),
            #[cfg(unix)]
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    fn remove(&self) {
        #[cfg(unix)]
        if let Self::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A file of rules and what was read of it last.
struct RulesFile {
    path: PathBuf,
    read: Vec<u8>,
}

impl RulesFile {
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), read: Vec::new() }
    }

    async fn read(&mut self) -> Result<Reach, Failure> {
        self.read = self.bytes().await.map_err(|error| {
            Failure::failed(format!("--rules: {} cannot be read: {}", self.path.display(), error.kind()))
        })?;
        Reach::parse(&self.read).map_err(broken)
    }

    async fn bytes(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(&self.path).await?;
        file.take(MAX_RULES_FILE.0 + 1).read_to_end(&mut bytes).await?;
        Ok(bytes)
    }
}

/// Puts the rules of a changed file in force. A file that does not load changes nothing: the last good rules stay.
async fn watch(
    file: Option<RulesFile>,
    words: &Reach,
    proxy: &Proxy,
    safety: &Safety,
    terminal: &Terminal,
) -> Outcome {
    let Some(mut file) = file else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        // A file that is being written may be missing for a moment.
        let Ok(bytes) = file.bytes().await else { continue };
        if bytes == file.read {
            continue;
        }
        file.read = bytes;
        match Reach::parse(&file.read).and_then(|reach| words.clone().and(reach)) {
            Ok(reach) => {
                terminal.warn(format!(
                    "{} was read again: {} rules",
                    file.path.display(),
                    reach.rules().len()
                ));
                proxy.run().replace(reach);
            }
            Err(error) => {
                terminal.warn(format!(
                    "{} does not load; the last good rules stay: {error}",
                    file.path.display()
                ));
                if !terminal.is_json()
                    && let ReachError::Toml(quoted) = error
                    && let Ok(quoted) = safety.screen(quoted, Channel::Log, &Trace::off())
                {
                    terminal.show(&quoted);
                }
            }
        }
    }
}

/// Why rules do not load. The parser quotes the file, so its words are screened.
fn broken(error: ReachError) -> Failure {
    match error {
        ReachError::Toml(quoted) => Failure::Quoting(Code::Usage, "the rules do not load".to_owned(), quoted),
        other => Failure::usage(other),
    }
}
