//! From a permit to a command that runs, and to its end.
//!
//! [`Sandbox::start`] makes everything that the command needs and starts it; from then on one task answers for the
//! run. It waits for the first of: the command's own end, the time limit, the output limit, a broken door, a word from
//! whoever reads the output. Then nothing in the container lives on, the workspace is compared with what it was, and
//! the permit is settled.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, RemoveContainerOptions, StartContainerOptions,
    WaitContainerOptions,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use policy::{Permit, Settlement};
use safety::{Safety, ScreenedBody};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use types::Refusal;
use types::{Command, Rule, Source, ToolName, Trace, Verdict};
use workspace::Surroundings;

use crate::authority::Authority;
use crate::config::{Config, Downgrade};
use crate::console::Console;
use crate::control::{Control, Target};
use crate::door::{Connection, Door, Lifeline};
use crate::engine::Engine;
use crate::ground::{Ground, waiting};
use crate::image::Image;
use crate::mounts::Bind;
use crate::owner::user_for;
use crate::proof::{Expected, Numbers};
use crate::settle::{fields_of, record};
use crate::spec::Plan;
use crate::sweep::sweep;
use crate::unfit::Unfit;
use crate::{program, rules};

/// Pieces of output that wait for whoever reads them; beyond it the command waits.
const PIECES: usize = 16;

/// What the engine's exit code is when a signal ended the command: 128 and the signal's number.
const KILLED: i64 = 128 + 9;

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
}

/// A command that was started, before anything of it was read.
pub(crate) struct Started {
    pub(crate) stdout: mpsc::Receiver<Bytes>,
    pub(crate) stderr: mpsc::Receiver<Bytes>,
    pub(crate) stdin: Pin<Box<dyn AsyncWrite + Send>>,
    pub(crate) control: Control,
    pub(crate) outcome: Outcome,
}

/// What a run comes to, once it has. Dropping it leaves the run to its end.
#[derive(Debug)]
pub struct Outcome(JoinHandle<Result<Finished, RunError>>);

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finished {
    /// Why.
    pub ended: Ended,
    /// Names in the workspace that appeared during the run and that some program would obey. They were moved to
    /// the folder of the second field.
    pub quarantined: Vec<PathBuf>,
    /// Where, inside the workspace.
    pub quarantine: String,
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

/// What was made for one run and goes with it.
struct Run {
    docker: Docker,
    id: String,
    door: Door,
    /// What was made for this run alone; held until its end.
    _authority: Option<Authority>,
    ground: Ground,
    quarantine: String,
    config: Config,
    accepted: Vec<(Downgrade, Unfit)>,
    terminal: Option<Size>,
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
    /// is ended. A command with full access is refused: it is none of a container's.
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
        let Started { stdout, stderr, stdin, control, outcome } = started;
        let limit = self.config.limits.output;
        let (stdout, stderr) = (screened(&self.safety, stdout, limit), screened(&self.safety, stderr, limit));
        Running { stdout, stderr, stdin, control, outcome }
    }

    /// Its output as a terminal has it.
    pub(crate) fn on_terminal(&self, started: Started) -> OnTerminal {
        let Started { stdout, stdin, control, outcome, .. } = started;
        OnTerminal { console: Console::of(stdout, self.safety.clone()), stdin, control, outcome }
    }

    pub(crate) async fn begin(
        &self,
        permit: Permit<Command>,
        inside: Inside,
        outlet: mpsc::Sender<Connection>,
    ) -> Result<Started, RunError> {
        let (command, settlement) = permit.redeem()?;
        match self.prepare(&command, inside).await {
            Ok((run, expected)) => self.supervise(run, expected, settlement, outlet).await,
            Err(error) => {
                settlement.settle(Verdict::Failed, fields_of(&error)).await?;
                Err(error)
            }
        }
    }

    /// Everything up to a container that is created and not started, and what must stand in it once it is.
    async fn prepare(&self, command: &Command, inside: Inside) -> Result<(Run, Expected), RunError> {
        let (lent, around) = (command.clone(), self.around.clone());
        let (ground, held) = waiting(move || Ground::lend(&lent, &around)).await?;
        let user = user_for(ground.folder(), ground.is_written())?;
        let run = command.id.to_string();
        let short = &run[run.len() - 12..];
        let (door, authority, binds) = self.own_files(short, user, &inside)?;
        let standing = self.engine.standing();
        let plan = Plan {
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
        let docker = self.engine.docker.clone();
        tokio::spawn(sweep(docker.clone()));
        let created = docker.create_container(None::<CreateContainerOptions>, plan.to_body()).await;
        let id = created.map_err(undone("Docker Engine does not create the container"))?.id;
        let numbers = if standing.runtime_version.is_some() { Numbers::Host } else { Numbers::Runtime };
        let quarantine = format!("ironclaw-quarantine-{short}");
        let run = Run {
            docker,
            id,
            door,
            _authority: authority,
            ground,
            quarantine,
            config: self.config.clone(),
            accepted: standing.accepted.clone(),
            terminal: inside.terminal,
        };
        Ok((run, Expected::new(held, numbers)))
    }

    /// What of this program's own stands in the container: its first process, the run's socket and certificate.
    fn own_files(
        &self,
        run: &str,
        user: (u32, u32),
        inside: &Inside,
    ) -> Result<(Door, Option<Authority>, Vec<Bind>), RunError> {
        let folder = &self.config.folder;
        std::fs::create_dir_all(folder).map_err(failed("the folder for runs cannot be made"))?;
        let program = program::place(folder).map_err(failed("the first process cannot be placed"))?;
        let by_root = self.engine.standing().runtime_version.is_none();
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

    /// Starts the container and the task that answers for it.
    async fn supervise(
        &self,
        run: Run,
        expected: Expected,
        settlement: Settlement,
        outlet: mpsc::Sender<Connection>,
    ) -> Result<Started, RunError> {
        let attach = AttachContainerOptions {
            stream: true,
            stdin: true,
            stdout: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let attached = run.docker.attach_container(&run.id, Some(attach)).await;
        let attached = match attached {
            Ok(attached) => attached,
            Err(error) => {
                let error = undone("Docker Engine does not attach to the container")(error);
                run.remove().await;
                settlement.settle(Verdict::Failed, fields_of(&error)).await?;
                return Err(error);
            }
        };
        let (stop, stops) = mpsc::channel(1);
        let control = Control::new(Target::Container(run.docker.clone(), run.id.clone()), stop);
        let (out, stdout) = mpsc::channel(PIECES);
        let (err, stderr) = mpsc::channel(PIECES);
        let pump = pump(attached.output, out, err, run.config.limits.output.0, control.clone());
        let resize = run.terminal.map(|size| (control.clone(), size));
        let outcome = Outcome::of(tokio::spawn(async move {
            run.live(expected, settlement, pump, stops, outlet, resize).await
        }));
        Ok(Started { stdout, stderr, stdin: attached.input, control, outcome })
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

impl Run {
    /// Answers for the run until everything about it is done.
    async fn live(
        self,
        expected: Expected,
        settlement: Settlement,
        pump: impl Future<Output = ()> + Send + 'static,
        mut stops: mpsc::Receiver<&'static Rule>,
        outlet: mpsc::Sender<Connection>,
        resize: Option<(Control, Size)>,
    ) -> Result<Finished, RunError> {
        let started = std::time::Instant::now();
        let lifeline = Lifeline::default();
        let mut pump = tokio::spawn(pump);
        let ended = match self.docker.start_container(&self.id, None::<StartContainerOptions>).await {
            Err(error) => Err(undone("Docker Engine does not start the container")(error)),
            Ok(()) => {
                // Before the door lets the command start.
                if let Some((control, size)) = resize {
                    control.resize(size).await;
                }
                tokio::select! {
                code = self.exit_code() => code,
                rule = self.door.serve(expected, &outlet, lifeline.clone()) => Ok(Ended::Stopped(rule)),
                Some(rule) = stops.recv() => Ok(Ended::Stopped(rule)),
                () = tokio::time::sleep(self.config.limits.time) => Ok(Ended::Stopped(&rules::TIME)),
                }
            }
        };
        let ended = match ended {
            Ok(Ended::Exited(code)) if i64::from(code) == KILLED && lifeline.out_of_memory() => {
                Ok(Ended::Stopped(&rules::MEMORY))
            }
            ended => ended,
        };
        if matches!(ended, Ok(Ended::Exited(_))) {
            // What was printed is carried to the last byte, however slowly it is read.
            let _ = (&mut pump).await;
        }
        // Removing by force ends whatever still runs; only then is the workspace at rest.
        self.remove().await;
        pump.abort();
        let quarantined = self.ground.settle(&self.quarantine);
        let finished = ended.and_then(|ended| {
            quarantined.map(|quarantined| Finished {
                ended,
                quarantined,
                quarantine: self.quarantine.clone(),
            })
        });
        record(settlement, &finished, &self.accepted, started.elapsed()).await?;
        finished
    }

    /// The command's own end.
    async fn exit_code(&self) -> Result<Ended, RunError> {
        let options = WaitContainerOptions { condition: "not-running".to_owned() };
        let code = match self.docker.wait_container(&self.id, Some(options)).next().await {
            Some(Ok(answer)) => answer.status_code,
            Some(Err(bollard::errors::Error::DockerContainerWaitError { code, .. })) => code,
            _ => return Err(RunError::Failed("Docker Engine lost the container".to_owned())),
        };
        Ok(Ended::Exited(u8::try_from(code).unwrap_or(u8::MAX)))
    }

    async fn remove(&self) {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        // What cannot be removed is already gone, or the engine is; PID 1 ends with the lifeline in any case.
        let _ = self.docker.remove_container(&self.id, Some(options)).await;
    }
}

/// Carries the output on, and stops the run when there is more than there may be.
async fn pump(
    mut output: Pin<Box<dyn Stream<Item = Result<LogOutput, bollard::errors::Error>> + Send>>,
    out: mpsc::Sender<Bytes>,
    err: mpsc::Sender<Bytes>,
    limit: u64,
    control: Control,
) {
    let mut printed = 0;
    while let Some(Ok(piece)) = output.next().await {
        let (to, bytes) = match piece {
            LogOutput::StdErr { message } => (&err, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => (&out, message),
            LogOutput::StdIn { .. } => continue,
        };
        printed += bytes.len() as u64;
        if printed > limit {
            return control.stop(&rules::OUTPUT);
        }
        // Whoever stopped reading is not waited for.
        let _ = to.send(bytes).await;
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
fn undone(what: &'static str) -> impl Fn(bollard::errors::Error) -> RunError {
    move |error| match error {
        bollard::errors::Error::DockerResponseServerError { status_code, message } => {
            RunError::Failed(format!("{what} ({status_code}: {})", crate::unfit::sentence(&message)))
        }
        _ => RunError::Failed(what.to_owned()),
    }
}
