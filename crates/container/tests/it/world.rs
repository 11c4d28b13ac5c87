//! One sandbox with everything around it, and what a command in it came to.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use audit::{Audit, Drain, Log};
use container::{
    Config, Connection, Dialled, Downgrade, Ended, Engine, Finished, Image, Inside, Limits, RunError,
    Running, Sandbox,
};
use futures_util::StreamExt as _;
use policy::{Catalog, Permit, Policy, Settings, Turn};
use safety::{BodyFault, Channel, Safety, ScreenedBody, Untrusted};
use store::Reader;
use tokio::sync::mpsc;
use types::{CallId, Command, Confinement, Refusal, Source, Tenant, Trace};
use workspace::Surroundings;

/// The user that commands run as when root runs the tests: the owner of the workspace.
const USER: u32 = 4242;

/// A temporary installation, an engine, and a workspace.
pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) image: Image,
    pub(crate) config: Config,
    pub(crate) safety: Arc<Safety>,
    pub(crate) reader: Reader,
    pub(crate) workspace: tempfile::TempDir,
    policy: Policy,
    audit: Audit,
    drain: Drain,
    home: tempfile::TempDir,
}

/// What a command came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) ended: Ended,
    pub(crate) out: String,
    pub(crate) err: String,
    /// What its connections claimed, as far as the host was asked.
    pub(crate) dialled: Vec<Dialled>,
    pub(crate) quarantined: Vec<PathBuf>,
}

impl Ran {
    /// The output of a command that ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.ended, Ended::Exited(0), "{self:#?}");
        self.out
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let config = Config {
            engine: container::config::DEFAULT_SOCKET.into(),
            runtime: None,
            // What Debian ships; that it is refused without is a test of its own.
            downgrades: [Downgrade::UnverifiableRuntime].into(),
            limits: Limits::default(),
            folder: home.path().join("sandbox"),
        };
        let engine =
            Engine::connect(&config).await.unwrap_or_else(|unfit| panic!("{unfit}: {}", unfit.remedy()));
        let image = base_image(&engine, &config.folder).await;
        let (reader, writer) = store::open(&home.path().join("data").join("test.db")).await.unwrap();
        let (audit, drain) = Audit::start(writer);
        let safety = Arc::new(Safety::new(Default::default()).unwrap());
        let catalog = Catalog::new(reader.clone(), safety.clone(), Tenant::local(), Vec::new());
        let policy = Policy::new(audit.clone(), reader.clone(), catalog, Settings::default()).unwrap();
        let workspace = tempfile::tempdir().unwrap();
        let world = Self { engine, image, config, safety, reader, workspace, policy, audit, drain, home };
        world.own();
        world
    }

    /// Gives the workspace and all in it to the user that commands run as.
    pub(crate) fn own(&self) {
        if rustix::process::geteuid().is_root() {
            give(self.workspace.path());
        }
    }

    /// A file of the workspace.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.workspace.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self.own();
    }

    pub(crate) fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.workspace.path().join(path)).ok()
    }

    pub(crate) fn sandbox(&self) -> Sandbox {
        self.sandbox_on(self.image.clone())
    }

    pub(crate) fn sandbox_on(&self, image: Image) -> Sandbox {
        let around = Surroundings { home: None, own: vec![self.home.path().to_owned()] };
        Sandbox::new(self.engine.clone(), image, self.config.clone(), around, self.safety.clone())
    }

    pub(crate) async fn permit(
        &self,
        argv: &[&str],
        confinement: Confinement,
    ) -> Result<Permit<Command>, Refusal> {
        self.permit_at(self.workspace.path(), argv, confinement).await
    }

    async fn permit_at(
        &self,
        workspace: &Path,
        argv: &[&str],
        confinement: Confinement,
    ) -> Result<Permit<Command>, Refusal> {
        let command = Command {
            id: CallId::new(),
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            confinement,
            workspace: workspace.canonicalize().unwrap(),
        };
        let line = Untrusted::new(Source::Owner, argv.join(" "));
        let shown = self.safety.screen(line, Channel::Log, &Trace::off()).unwrap();
        self.policy.decide_command(&Turn::begin(Trace::off()), command, &shown).await
    }

    /// Starts a command whose connections go to the given end.
    pub(crate) async fn start(
        &self,
        argv: &[&str],
        confinement: Confinement,
        outlet: mpsc::Sender<Connection>,
    ) -> Result<Running, RunError> {
        self.start_at(self.workspace.path(), argv, confinement, outlet).await
    }

    /// The same in another folder than the workspace.
    pub(crate) async fn start_at(
        &self,
        workspace: &Path,
        argv: &[&str],
        confinement: Confinement,
        outlet: mpsc::Sender<Connection>,
    ) -> Result<Running, RunError> {
        let permit = self.permit_at(workspace, argv, confinement).await?;
        self.sandbox().start_toward(permit, Inside::default(), outlet).await
    }

    /// Runs a command that does nothing in a folder.
    pub(crate) async fn run_at(&self, folder: &Path, confinement: Confinement) -> Result<Finished, RunError> {
        let (outlet, _connections) = mpsc::channel(1);
        self.start_at(folder, &["true"], confinement, outlet).await?.finished().await
    }

    pub(crate) async fn read_only(&self, script: &str) -> Ran {
        self.run(&["sh", "-c", script], Confinement::ReadOnly).await.unwrap()
    }

    pub(crate) async fn writing(&self, script: &str) -> Ran {
        self.run(&["sh", "-c", script], Confinement::WorkspaceWrite).await.unwrap()
    }

    pub(crate) async fn python(&self, script: &str) -> Ran {
        self.run(&["python3", "-c", script], Confinement::ReadOnly).await.unwrap()
    }

    /// Runs a command to its end; each of its connections is noted and closed.
    pub(crate) async fn run(&self, argv: &[&str], confinement: Confinement) -> Result<Ran, RunError> {
        self.run_in(&self.sandbox(), argv, confinement).await
    }

    pub(crate) async fn run_in(
        &self,
        sandbox: &Sandbox,
        argv: &[&str],
        confinement: Confinement,
    ) -> Result<Ran, RunError> {
        let (outlet, mut connections) = mpsc::channel(16);
        let permit = self.permit(argv, confinement).await?;
        let running = sandbox.start_toward(permit, Inside::default(), outlet).await?;
        let noted = tokio::spawn(async move {
            let mut dialled = Vec::new();
            while let Some(connection) = connections.recv().await {
                dialled.push(connection.dialled);
            }
            dialled
        });
        let Running { stdout, stderr, stdin, control: _control, outcome, .. } = running;
        drop(stdin);
        let (out, err) = tokio::join!(collect(stdout), collect(stderr));
        let finished = outcome.wait().await?;
        let dialled = noted.await.unwrap();
        Ok(Ran { ended: finished.ended, out, err, dialled, quarantined: finished.quarantine.moved })
    }

    /// The audit log, once everything is in it; the chain is verified.
    pub(crate) async fn records(self) -> Vec<audit::Entry> {
        self.ended().await.0
    }

    /// The same with the workspace and the folder of the installation. Nothing is at work any more that would have something
    /// to record.
    pub(crate) async fn ended(self) -> (Vec<audit::Entry>, tempfile::TempDir, tempfile::TempDir) {
        let Self { policy, audit, drain, reader, workspace, home, .. } = self;
        drop((policy, audit));
        drain.finish().await;
        let log = Log::new(reader);
        log.verify().await.unwrap();
        (log.tail(1000).await.unwrap(), workspace, home)
    }
}

/// All that a command prints on one stream.
pub(crate) async fn collect(mut body: ScreenedBody) -> String {
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(bytes) => all.extend_from_slice(&bytes),
            Err(BodyFault::Blocked(_)) => break,
            Err(fault) => panic!("{fault}"),
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

fn give(path: &Path) {
    std::os::unix::fs::lchown(path, Some(USER), Some(USER)).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path());
        }
    }
}

/// The base image, made once on this machine whatever number of test processes wants it at the same time.
async fn base_image(engine: &Engine, folder: &Path) -> Image {
    let lock = std::fs::File::create(std::env::temp_dir().join("ironclaw-test-image.lock")).unwrap();
    lock.lock().unwrap();
    Image::build(engine, folder, &[], false, std::future::pending()).await.unwrap()
}

/// A word that no other test prints.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    format!("{prefix}{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
