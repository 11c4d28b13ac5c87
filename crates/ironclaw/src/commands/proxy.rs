//! `ironclaw proxy`: the egress proxy by itself, for any client.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use egress::proxy::Proxy;
use policy::Turn;
use serde_json::json;
use tokio::net::TcpListener;
use types::{Digest, Site, Trace};

use super::reaching::Reaching;
use super::signals::Signals;
use crate::cli;
use crate::exit::{Failure, Outcome};
use crate::parts::{Base, catalog, policy};
use crate::terminal::Terminal;

/// Runs the command until Ctrl-C.
pub async fn run(args: &cli::Proxy, base: &Base, terminal: &Terminal) -> Outcome {
    let reaching = Reaching::read(&args.reaching, base).await?;
    let vault = base.unlock(terminal).await?;
    let policy = policy(base, catalog(base, Vec::new()))?;
    let turn = Turn::begin(Trace::off());
    let (proxy, beside) = reaching.proxy(Site::Machine, vault, policy, turn, base, terminal).await?;
    let proxy = Arc::new(proxy);
    // From here on files are made, and a signal ends this program by way of their removal.
    let mut signals = Signals::listen()?;
    let listener = Listener::open(&args.listen).await?;
    let written = Certificate::write(&args.ca, proxy.ca_pem());
    let _certificate = written.inspect_err(|_| listener.remove())?;
    let token = egress::proxy::token().map_err(Failure::environment)?;
    tell(&proxy, &listener, &token, &args.ca, terminal);
    let serving = async {
        tokio::select! {
            error = listener.serve(proxy.clone(), Digest::of(token.as_bytes())) => {
                Err(Failure::failed(format!("the proxy cannot listen any more: {}", error.kind())))
            }
            never = reaching.watch(&proxy, &base.safety, terminal) => match never {},
        }
    };
    let served = tokio::select! {
        _ = signals.ended() => Ok(()),
        failed = serving => failed,
    };
    listener.remove();
    proxy.end().await;
    beside.end(&base.safety, terminal).await;
    served
}

/// The files by which clients trust the proxy: the certificate, and the same as Java reads it. Removed with the proxy.
struct Certificate {
    files: [PathBuf; 2],
}

impl Certificate {
    /// Writes both. What stands there already is replaced where it is the certificate of an earlier proxy, which was
    /// killed, and of nothing else.
    fn write(file: &Path, pem: &str) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::failed(format!("{} cannot be written: {}", file.display(), error.kind()))
        };
        let store = egress::java::trust_store(pem).map_err(Failure::environment)?;
        let files = [file.to_owned(), egress::java::beside(&file.display().to_string()).into()];
        let is_earlier =
            is_plain(file) && std::fs::read(file).is_ok_and(|bytes| egress::ca::is_authority(&bytes));
        for file in &files {
            if std::fs::symlink_metadata(file).is_err() {
                continue;
            }
            if !is_earlier || !is_plain(file) {
                return Err(Failure::failed(format!(
                    "--ca: {} exists and is not the certificate of an earlier proxy\n  \
                     name a file that does not exist, or remove it",
                    file.display()
                )));
            }
            std::fs::remove_file(file).map_err(failed)?;
        }
        for (file, bytes) in files.iter().zip([pem.as_bytes(), &store]) {
            let mut file = std::fs::File::create_new(file).map_err(failed)?;
            file.write_all(bytes).map_err(failed)?;
        }
        Ok(Self { files })
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        self.files.iter().for_each(|file| drop(std::fs::remove_file(file)));
    }
}

/// True for a file that is neither a link nor anything else.
fn is_plain(file: &Path) -> bool {
    std::fs::symlink_metadata(file).is_ok_and(|file| file.is_file())
}

/// Says what clients need.
fn tell(proxy: &Proxy, listener: &Listener, token: &str, ca: &Path, terminal: &Terminal) {
    let ca = std::path::absolute(ca).unwrap_or_else(|_| ca.to_owned()).display().to_string();
    let url = match listener {
        Listener::Tcp(_, addr) => Some(format!("http://ironclaw:{token}@{addr}")),
        #[cfg(unix)]
        Listener::Unix(..) => None,
    };
    let mut variables = egress::proxy::environment(url.as_deref(), Some(&ca));
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
                "--listen: only a loopback address, as 127.0.0.1: the token travels to the proxy in clear text",
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
        let listener = match tokio::net::UnixListener::bind(path) {
            // A proxy that was killed removes nothing.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                if !egress::proxy::is_abandoned(Path::new(path), rustix::process::geteuid().as_raw()) {
                    return Err(Failure::failed(format!(
                        "the socket {path} cannot be made: something listens there, or it is no socket of yours\n  \
                         name another, or end what listens there"
                    )));
                }
                std::fs::remove_file(path).map_err(failed)?;
                tokio::net::UnixListener::bind(path).map_err(failed)?
            }
            bound => bound.map_err(failed)?,
        };
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
