//! What a guest finds when it calls the host: its workspace, its log, its settings.

use std::sync::{Arc, Mutex, PoisonError};

use policy::Scope;
use types::limits::Bytes;
use wasmtime::component::{HasSelf, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings as wasi;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::clock::{CoarseMonotonic, CoarseWall};
use crate::http::Door;
use crate::limits::{MAX_FIELDS, MAX_HANDLES, MAX_RANDOM, Meter};
use crate::log::{Level, Log};
use ::workspace::{Workspace, WorkspaceError, WorkspacePath};

/// The largest file that moves between a guest and its workspace at once.
const MAX_FILE: Bytes = Bytes::mib(1);

/// The contract in `wit/`, as Rust.
#[allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    reason = "generated from wit/tool.wit, which documents it"
)]
pub(crate) mod contract {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "tool",
        imports: { "ironclaw:tool/workspace": async },
        exports: { default: async },
        with: {
            "wasi:http": wasmtime_wasi_http::p2::bindings::http,
            "wasi": wasmtime_wasi::p2::bindings,
        },
        require_store_data_send: true,
    });
}

use contract::ironclaw::tool::{config, log, workspace};

/// A tool's folder, shared by all of its calls so that its quota is counted once.
pub(crate) type Shared = Arc<Mutex<Workspace>>;

/// Everything one call can reach. It lives exactly as long as the call.
pub(crate) struct Host {
    pub(crate) meter: Meter,
    scope: Scope,
    workspace: Option<Shared>,
    log: Log,
    door: Door,
    handles: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
}

impl Host {
    pub(crate) fn new(scope: Scope, workspace: Option<Shared>, log: Log, door: Door) -> Self {
        let mut handles = ResourceTable::new();
        handles.set_max_capacity(MAX_HANDLES);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(MAX_FIELDS);
        // No variables, no arguments, no folders, no network, standard input at its end.
        let wasi = WasiCtxBuilder::new()
            .stdout(log.clone())
            .stderr(log.clone())
            .wall_clock(CoarseWall)
            .monotonic_clock(CoarseMonotonic::new())
            .max_random_size(MAX_RANDOM)
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        Self { meter: Meter::new(*scope.limits()), scope, workspace, log, door, handles, wasi, http }
    }
}

/// Runs one file operation where blocking is allowed, with the folder to itself.
async fn in_workspace<T: Send + 'static>(
    folder: Option<Shared>,
    operation: impl FnOnce(&Workspace) -> Result<T, WorkspaceError> + Send + 'static,
) -> Result<T, workspace::Error> {
    let Some(folder) = folder else {
        return Err(workspace::Error::None);
    };
    let locked = move || operation(&folder.lock().unwrap_or_else(PoisonError::into_inner));
    match tokio::task::spawn_blocking(locked).await {
        Ok(result) => result.map_err(workspace::Error::from),
        Err(_) => Err(workspace::Error::Io),
    }
}

/// Gives a linker everything on the list of [`crate::allowlist`], and nothing else.
pub(crate) fn link(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    // What toolchains import out of habit: empty, and without a folder to start from.
    {
        use wasmtime_wasi::cli::{WasiCli, WasiCliView as _};
        use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView as _};
        use wasmtime_wasi::random::WasiRandom;
        wasi::random::insecure::add_to_linker::<Host, WasiRandom>(linker, |host| host.wasi.random())?;
        wasi::random::insecure_seed::add_to_linker::<Host, WasiRandom>(linker, |host| host.wasi.random())?;
        wasi::cli::environment::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
        wasi::cli::exit::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
        wasi::cli::terminal_input::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
        wasi::cli::terminal_output::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
        wasi::cli::terminal_stdin::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
        wasi::cli::terminal_stdout::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
        wasi::cli::terminal_stderr::add_to_linker::<Host, WasiCli>(linker, Host::cli)?;
        wasi::filesystem::types::add_to_linker::<Host, WasiFilesystem>(linker, Host::filesystem)?;
        wasi::filesystem::preopens::add_to_linker::<Host, WasiFilesystem>(linker, Host::filesystem)?;
    }
    workspace::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    log::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)?;
    config::add_to_linker::<Host, HasSelf<Host>>(linker, |host| host)
}

impl workspace::Host for Host {
    async fn read(&mut self, path: String) -> Result<Vec<u8>, workspace::Error> {
        let path = parse(&path)?;
        in_workspace(self.workspace.clone(), move |folder| folder.read(&path, MAX_FILE)).await
    }

    async fn write(&mut self, path: String, content: Vec<u8>) -> Result<(), workspace::Error> {
        let path = parse(&path)?;
        if content.len() as u64 > MAX_FILE.0 {
            return Err(workspace::Error::TooLarge);
        }
        in_workspace(self.workspace.clone(), move |folder| folder.write(&path, &content)).await
    }

    async fn list(&mut self, path: String) -> Result<Vec<workspace::Entry>, workspace::Error> {
        let path = if path.is_empty() { None } else { Some(parse(&path)?) };
        let entries = in_workspace(self.workspace.clone(), move |folder| folder.list(path.as_ref())).await?;
        let entry = |entry: ::workspace::Entry| workspace::Entry {
            name: entry.name,
            size: entry.size,
            folder: entry.folder,
        };
        Ok(entries.into_iter().map(entry).collect())
    }

    async fn remove(&mut self, path: String) -> Result<(), workspace::Error> {
        let path = parse(&path)?;
        in_workspace(self.workspace.clone(), move |folder| folder.remove(&path)).await
    }
}

fn parse(path: &str) -> Result<WorkspacePath, workspace::Error> {
    WorkspacePath::parse(path).map_err(|_| workspace::Error::Path)
}

impl From<WorkspaceError> for workspace::Error {
    fn from(error: WorkspaceError) -> Self {
        match error {
            WorkspaceError::Path(_) => Self::Path,
            WorkspaceError::NotFound | WorkspaceError::Guarded(_) | WorkspaceError::Credential(_) => {
                Self::NotFound
            }
            WorkspaceError::TooLarge(_) | WorkspaceError::TooMany => Self::TooLarge,
            WorkspaceError::Quota { .. } => Self::Quota,
            WorkspaceError::Io => Self::Io,
        }
    }
}

impl log::Host for Host {
    fn write(&mut self, level: log::Level, message: String) {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.log.add(level, &message);
    }
}

impl config::Host for Host {
    fn get(&mut self, key: String) -> Option<String> {
        self.scope.manifest().config.get(&key).cloned()
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.handles }
    }
}

impl WasiHttpView for Host {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.handles, hooks: &mut self.door }
    }
}
