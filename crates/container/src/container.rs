//! From a permit to a command that runs, and to its end.
//!
//! [`Sandbox::start`] makes everything that the command needs and starts it; from then on one task answers for the
//! run (`run`). It waits for the first of: the command's own end, the time limit, the output limit, a broken door, a word
//! from whoever reads the output. Then nothing in the container lives on, the workspace is compared with what it was, and
//! the permit is settled.

use std::pin::Pin;
use std::sync::Arc;

use bollard::container::AttachContainerResults;
use bollard::query_parameters::{AttachContainerOptions, CreateContainerOptions};
use bytes::Bytes;
use policy::{Permit, Settlement};
use safety::{Safety, ScreenedBody};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use types::{Command, Refusal, Rule, Source, ToolName, Trace, Verdict};
use workspace::{Surroundings, UnsafeFolder};

use crate::authority::Authority;
use crate::config::Config;
use crate::console::Console;
use crate::control::{Control, Target};
use crate::door::{Connection, Door, Lifeline};
use crate::engine::Engine;
use crate::ground::{Ground, refusal, waiting};
use crate::image::Image;
use crate::mounts::Bind;
use crate::note::{Busy, Content, Found, Note, Notes};
use crate::owner::user_for;
use crate::prepared::{Parts, Prepared};
use crate::program;
use crate::proof::{Expected, Numbers};
use crate::quarantine::Quarantine;
use crate::run::{Run, pump};
use crate::settle::fields_of;
use crate::spec::Plan;
use crate::sweep::{Recovered, recover, remove};

/// Pieces of output that wait for whoever reads them; beyond it the command waits.
const PIECES: usize = 16;

/// Runs commands. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    engine: Engine,
    image: Image,
    config: Config,
    around: Surroundings,
    safety: Arc<Safety>,
}

/// What a run brings into its container besides the workspace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inside {
    /// Variables of the command's environment. Those that every run has go before one of the same name.
    pub variables: Vec<(String, String)>,
    /// The certificate of the one authority that programs inside trust, as PEM text.
    pub authority: Option<String>,
    /// A terminal of this size for the command, where it has one.
    pub terminal: Option<Size>,
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// How wide.
    pub columns: u16,
    /// How high.
    pub rows: u16,
}

/// A command that runs.
pub struct Running {
    /// What it prints, screened while it streams.
    pub stdout: ScreenedBody,
    /// What it prints as errors.
    pub stderr: ScreenedBody,
    /// What it reads; shutting it down is the end of its input.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// The right to signal and to stop it.
    pub control: Control,
    /// The end of the run.
    pub outcome: Outcome,
    /// What earlier commands left whose end nobody saw; it was put away before this one was started.
    pub recovered: Vec<Recovered>,
}

/// A command that runs on a terminal of its own.
pub struct OnTerminal {
    /// What it prints, for a person who watches.
    pub console: Console,
    /// What is typed.
    pub stdin: Pin<Box<dyn AsyncWrite + Send>>,
    /// The right to signal it, to stop it and to resize its terminal.
    pub control: Control,
    /// The end of the run.
    pub outcome: Outcome,
    /// What earlier commands left whose end nobody saw; it was put away before this one was started.
    pub recovered: Vec<Recovered>,
}

/// A command that was started, before anything of it was read.
pub(crate) struct Started {
    pub(crate) stdout: mpsc::Receiver<Bytes>,
    pub(crate) stderr: mpsc::Receiver<Bytes>,
    pub(crate) stdin: Pin<Box<dyn AsyncWrite + Send>>,
    pub(crate) control: Control,
    pub(crate) outcome: Outcome,
    pub(crate) recovered: Vec<Recovered>,
}

/// What a run comes to, once it has. Dropping it leaves the run to its end.
#[derive(Debug)]
pub struct Outcome(JoinHandle<Result<Finished, RunError>>);

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Why.
    pub ended: Ended,
    /// What was moved out of the way afterwards.
    pub quarantine: Quarantine,
}

/// Why a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The command ended by itself, or by a signal: then 128 and its number.
    Exited(u8),
    /// A rule ended it.
    Stopped(&'static Rule),
}

/// Why a command did not run to an end that can be told.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A rule refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The engine or the file system did not do something.
    #[error("{0}")]
    Failed(String),
    /// The outcome could not be recorded.
    #[error(transparent)]
    Unrecorded(#[from] audit::AuditError),
}

impl Sandbox {
    /// A sandbox on a fit engine. `around` are the folders that no command may be lent.
    pub fn new(
        engine: Engine,
        image: Image,
        config: Config,
        around: Surroundings,
        safety: Arc<Safety>,
    ) -> Self {
        Self { engine, image, config, around, safety }
    }

    /// Starts a permitted command. Connections from inside go to `outlet`; when nobody takes them any more, the run
    /// is ended. A command with full access is refused: it is none of a container's. Dropped before it is started, the
    /// command never starts, and what was made for it is put away.
    pub async fn start_toward(
        &self,
        permit: Permit<Command>,
        inside: Inside,
        outlet: mpsc::Sender<Connection>,
    ) -> Result<Running, RunError> {
        Ok(self.running(self.begin(permit, inside, outlet).await?))
    }

    /// Its output as a stream of lines, screened.
    pub(crate) fn running(&self, started: Started) -> Running {
        let Started { stdout, stderr, stdin, control, outcome, recovered } = started;
        let limit = self.config.limits.output;
        let (stdout, stderr) = (screened(&self.safety, stdout, limit), screened(&self.safety, stderr, limit));
        Running { stdout, stderr, stdin, control, outcome, recovered }
    }

    /// Its output as a terminal has it.
    pub(crate) fn on_terminal(&self, started: Started) -> OnTerminal {
        let Started { stdout, stdin, control, outcome, recovered, .. } = started;
        OnTerminal { console: Console::of(stdout, self.safety.clone()), stdin, control, outcome, recovered }
    }

    pub(crate) async fn begin(
        &self,
        permit: Permit<Command>,
        inside: Inside,
        outlet: mpsc::Sender<Connection>,
    ) -> Result<Started, RunError> {
        let (command, settlement) = permit.redeem()?;
        let sandbox = self.clone();
        // In a task of its own: what is half made when nobody waits for it any more is made to the end, and put away then.
        let preparing = tokio::spawn(async move { sandbox.prepared(command, settlement, inside).await });
        let lost = || RunError::Failed("preparing the command failed".to_owned());
        let prepared = preparing.await.unwrap_or_else(|_| Err(lost()))?;
        Ok(self.supervise(prepared.take().ok_or_else(lost)?, outlet))
    }

    async fn prepared(
        &self,
        command: Command,
        settlement: Settlement,
        inside: Inside,
    ) -> Result<Prepared, RunError> {
        let made = async {
            let (run, expected, recovered) = self.prepare(&command, &settlement, inside).await?;
            Ok((self.attach(run).await?, expected, recovered))
        };
        match made.await {
            Ok(((run, attached), expected, recovered)) => {
                Ok(Prepared::new(Parts { run, attached, expected, recovered, settlement }))
            }
            Err(error) => {
                settlement.settle(Verdict::Failed, fields_of(&error)).await?;
                Err(error)
            }
        }
    }

    /// Everything up to a container that is created and not started, what must stand in it once it is, and what was put
    /// away before.
    async fn prepare(
        &self,
        command: &Command,
        settlement: &Settlement,
        inside: Inside,
    ) -> Result<(Run, Expected, Vec<Recovered>), RunError> {
        let docker = self.engine.docker.clone();
        let run = command.id.to_string();
        let (short, name) = (&run[run.len() - 12..], format!("ironclaw-{run}"));
        let claim = Ground::claim(command, &name, settlement)?;
        let (notes, installation, note, found) = self.claim(claim.clone()).await?;
        let recovered = recover(&docker, found, &claim, &self.around, settlement).await?;
        let (lent, around) = (command.clone(), self.around.clone());
        let (ground, held) = waiting(move || Ground::lend(&lent, &around, note, claim)).await?;
        let user = user_for(ground.folder(), ground.is_written())?;
        let (door, authority, binds) = self.own_files(short, user, &inside)?;
        let standing = self.engine.standing();
        let plan = Plan {
            installation: &installation,
            image: &self.image.id,
            volumes: &self.image.volumes,
            inside: &inside,
            user,
            binds: &binds,
            folder: ground.path(),
            held: &held,
            argv: &command.argv,
            writes: ground.is_written(),
            limits: &self.config.limits,
            runtime: &standing.runtime,
        };
        let body = plan.to_body();
        let ground = ground.noted(notes.clone()).await?;
        let options = CreateContainerOptions { name: Some(name), ..CreateContainerOptions::default() };
        let id = match docker.create_container(Some(options), body).await {
            Ok(created) => created.id,
            Err(error) => {
                // Nothing of it ever ran.
                ground.forget()?;
                return Err(undone("Docker Engine does not create the container")(error));
            }
        };
        let numbers = Numbers::under(&standing.runtime);
        let run = Run {
            docker,
            id,
            door,
            lifeline: Lifeline::default(),
            _authority: authority,
            ground,
            notes,
            installation,
            config: self.config.clone(),
            accepted: standing.accepted.clone(),
            terminal: inside.terminal,
        };
        Ok((run, Expected::new(held, numbers), recovered))
    }

    /// Writes the note of a run, unless another run is in its way; gives the notes of others, and the installation's name.
    async fn claim(&self, claim: Content) -> Result<(Notes, String, Note, Vec<Found>), RunError> {
        let folder = self.config.folder.clone();
        waiting(move || {
            let claimed = || {
                let notes = Notes::open(&folder)?;
                let installation = notes.installation()?;
                let claimed = notes.claim(&claim)?;
                Ok((notes, installation, claimed))
            };
            let claimed = claimed().map_err(failed("the notes of commands cannot be kept"));
            let (notes, installation, claimed) = claimed?;
            let (note, found) = claimed.map_err(|Busy| refusal(UnsafeFolder::Busy))?;
            Ok((notes, installation, note, found))
        })
        .await
    }

    /// What of this program's own stands in the container: its first process, the run's socket and certificate.
    fn own_files(
        &self,
        run: &str,
        user: (u32, u32),
        inside: &Inside,
    ) -> Result<(Door, Option<Authority>, Vec<Bind>), RunError> {
        let folder = &self.config.folder;
        let program = program::place(folder).map_err(failed("the first process cannot be placed"))?;
        let by_root = Numbers::under(&self.engine.standing().runtime) == Numbers::Runtime;
        let door = Door::open(folder.join(run), user, by_root);
        let door = door.map_err(failed("the run's socket cannot be opened"))?;
        let authority = inside.authority.as_ref().map(|pem| Authority::write(folder, run, pem)).transpose();
        let authority = authority.map_err(failed("the run's certificate cannot be written"))?;
        let mut binds = vec![
            Bind::new(program, init::PROGRAM, true),
            Bind::new(door.path().to_owned(), init::SOCKET, false),
        ];
        binds.extend(authority.iter().flat_map(Authority::binds));
        Ok((door, authority, binds))
    }

    /// Attaches to a container that is not started yet, so that nothing of what is printed is lost.
    async fn attach(&self, run: Run) -> Result<(Run, AttachContainerResults), RunError> {
        let attach = AttachContainerOptions {
            stream: true,
            stdin: true,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        match run.docker.attach_container(&run.id, Some(attach)).await {
            Ok(attached) => Ok((run, attached)),
            Err(error) => {
                // Nothing of it ever ran. If it cannot be removed either, the next run sweeps it away.
                let _ = remove(&run.docker, &run.id).await;
                run.ground.forget()?;
                Err(undone("Docker Engine does not attach to the container")(error))
            }
        }
    }

    /// Starts the task that starts the container and answers for it.
    fn supervise(&self, parts: Parts, outlet: mpsc::Sender<Connection>) -> Started {
        let Parts { run, attached, expected, recovered, settlement } = parts;
        let (stop, stops) = mpsc::channel(1);
        let target = Target::Container(run.docker.clone(), run.id.clone(), run.lifeline.clone());
        let control = Control::new(target, stop);
        let (out, stdout) = mpsc::channel(PIECES);
        let (err, stderr) = mpsc::channel(PIECES);
        let pump = pump(attached.output, out, err, run.config.limits.output.0, control.clone());
        let live = run.live(expected, settlement, pump, stops, outlet, control.clone());
        let outcome = Outcome::of(tokio::spawn(live));
        Started { stdout, stderr, stdin: attached.input, control, outcome, recovered }
    }
}

impl Running {
    /// Waits for the end of the run, without reading what it prints.
    pub async fn finished(self) -> Result<Finished, RunError> {
        // Unread output must not hold the run up.
        drop((self.stdout, self.stderr, self.stdin));
        self.outcome.wait().await
    }
}

impl Outcome {
    /// The outcome of what a task finds out.
    pub(crate) fn of(task: JoinHandle<Result<Finished, RunError>>) -> Self {
        Self(task)
    }

    /// Waits for the end of the run.
    pub async fn wait(self) -> Result<Finished, RunError> {
        self.0.await.unwrap_or_else(|_| Err(RunError::Failed("the run's supervisor failed".to_owned())))
    }
}

/// Output on its way to a person, a file or a model.
pub(crate) fn screened(
    safety: &Arc<Safety>,
    pieces: mpsc::Receiver<Bytes>,
    limit: types::limits::Bytes,
) -> ScreenedBody {
    let stream = futures_util::stream::unfold(pieces, |mut pieces| async {
        pieces.recv().await.map(|piece| (Ok(piece), pieces))
    });
    safety.body(stream, source(), None, limit, Trace::off())
}

fn source() -> Source {
    ToolName::parse("exec").map_or(Source::Pipe, Source::Tool)
}

pub(crate) fn failed(what: &'static str) -> impl Fn(std::io::Error) -> RunError {
    move |error| RunError::Failed(format!("{what}: {}", error.kind()))
}

/// The engine's own words are foreign; only what it was asked and the kind of its answer are told.
pub(crate) fn undone(what: &'static str) -> impl Fn(bollard::errors::Error) -> RunError {
    move |error| match error {
        bollard::errors::Error::DockerResponseServerError { status_code, message } => {
            RunError::Failed(format!("{what} ({status_code}: {})", crate::unfit::sentence(&message)))
        }
        _ => RunError::Failed(what.to_owned()),
    }
}
