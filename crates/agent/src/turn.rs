//! One turn of the agent. Read [`Agent::run`] from top to bottom; it is the story of this program.

use std::sync::Arc;

use audit::Audit;
use futures_util::future::BoxFuture;
use policy::{Answer, Card, Decision, Policy, Turn};
use safety::{Fence, Safety, Screened, StaticFault, Untrusted};
use serde_json::Value;
use store::Reader;
use types::limits::MAX_STEPS;
use types::{Field, Kind, Lane, Layer, Record, Refusal, Source, ToolName, Trace, Verdict};
use wasm::{CallError, Sandbox};

use crate::alert::{Alarm, AlertCommand, Place, not_recorded};
use crate::files::Files;
use crate::gate::{Call, Gate};
use crate::model::{Model, NoAnswer};
use crate::outcome::{Failure, Outcome};
use crate::rules;
use crate::shell::Shell;
use crate::transcript::{Message, Transcript};

/// How the owner is asked about a call; `None` when there is nobody to ask. Other work of the program goes on
/// meanwhile, and whoever drops the turn drops the question.
pub type Ask<'a> = &'a (dyn Fn(&Card) -> BoxFuture<'a, Option<Answer>> + Sync);

/// Everything an agent is made of.
pub struct Parts {
    /// The scanners.
    pub safety: Arc<Safety>,
    /// The log.
    pub audit: Audit,
    /// The database, for findings that wait.
    pub reader: Reader,
    /// Who decides.
    pub policy: Policy,
    /// Who proposes.
    pub model: Model,
    /// Where installed tools run.
    pub sandbox: Arc<Sandbox>,
    /// The file tools, where a workspace is set.
    pub files: Option<Files>,
    /// The shell, where one is configured and can run.
    pub shell: Option<Shell>,
    /// The owner's command for alerts.
    pub alert: Option<AlertCommand>,
}

/// An agent. It keeps nothing from turn to turn; that is the [`Conversation`]'s.
pub struct Agent {
    gate: Gate,
    policy: Policy,
    model: Model,
    sandbox: Arc<Sandbox>,
    files: Option<Files>,
    shell: Option<Shell>,
}

/// A conversation: what the model reads, and what the turns so far have read. A turn that was stopped or
/// abandoned leaves nothing for the model to read, but what it has read stays counted against the next.
#[derive(Debug, Default)]
pub struct Conversation {
    transcript: Transcript,
    /// Messages of turns that came to their end.
    whole: usize,
    last: Option<Turn>,
}

/// What a person gives to one turn.
#[derive(Debug)]
pub struct Input {
    /// What the owner typed: the owner's word.
    pub typed: Untrusted<String>,
    /// What was piped, pasted or read from files: never the owner's word.
    pub attached: Vec<Untrusted<String>>,
}

/// Why a turn ended before its answer.
enum Stop {
    Refused(Refusal),
    Failed(Failure),
}

impl Agent {
    /// Builds an agent.
    pub fn new(parts: Parts) -> Self {
        let tenant = parts.policy.tenant().clone();
        let alarm = Alarm { audit: parts.audit, reader: parts.reader, tenant, command: parts.alert };
        let gate = Gate { safety: parts.safety, alarm };
        let Parts { policy, model, sandbox, files, shell, .. } = parts;
        Self { gate, policy, model, sandbox, files, shell }
    }

    /// One turn: from a person's text to the reply, or to what stopped it.
    pub async fn turn(
        &self,
        conversation: &mut Conversation,
        input: Input,
        trace: Trace,
        ask: Ask<'_>,
    ) -> Outcome {
        let turn = conversation.next(trace);
        let mut outcome = Outcome::of(turn.clone());
        match self.run(&turn, &mut conversation.transcript, input, ask, &mut outcome).await {
            Ok(()) => conversation.whole = conversation.transcript.messages().len(),
            Err(stop) => {
                outcome.reply = None;
                match stop {
                    Stop::Refused(refusal) => outcome.refusals.push(refusal),
                    Stop::Failed(failure) => outcome.failure = Some(failure),
                }
            }
        }
        outcome
    }

    /// One call that the owner asks for by name: decided, run and released like any other, without a model.
    pub async fn call(
        &self,
        tool: &ToolName,
        arguments: Untrusted<Value>,
        trace: Trace,
        ask: Ask<'_>,
    ) -> Outcome {
        let turn = Turn::begin(trace);
        let mut outcome = Outcome::of(turn.clone());
        let returned = match self.gate.arguments(&turn, arguments, &mut outcome.alerts).await {
            Ok(arguments) => self.attempt(&turn, tool, arguments, ask, &mut outcome).await,
            Err(refusal) => Err(refusal),
        };
        match returned {
            Ok((text, failed)) => {
                outcome.reply = Some(text);
                outcome.failure = failed.then_some(Failure::Tool);
            }
            Err(refusal) => outcome.refusals.push(refusal),
        }
        outcome
    }

    /// Admit the text, ask the model, and while it proposes calls: decide, run, release.
    async fn run(
        &self,
        turn: &Turn,
        transcript: &mut Transcript,
        input: Input,
        ask: Ask<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), Stop> {
        for piece in input.attached.into_iter().chain([input.typed]) {
            let text = self.gate.admit(turn, piece, &mut outcome.alerts).await?;
            turn.absorb(text.label());
            transcript.push(Message::admitted(text));
        }
        for _ in 0..MAX_STEPS {
            self.check(turn, transcript, outcome).await?;
            let tools = self.policy.catalog().approved().await?;
            let said = match self.model.answer(turn, transcript, &tools).await {
                Ok(said) => said,
                Err(none) => return Err(self.unanswered(turn, none, outcome).await),
            };
            outcome.reply = None;
            if let Some(text) = said.text {
                let text = self.gate.reply(turn, text, &mut outcome.alerts).await?;
                transcript.push(Message::Assistant(text.clone()));
                outcome.reply = Some(text);
            }
            if said.calls.is_empty() {
                return Ok(());
            }
            for proposal in said.calls {
                let Call { tool, arguments } =
                    match self.gate.read(turn, proposal, &mut outcome.alerts).await? {
                        Ok(call) => call,
                        Err(StaticFault(reason)) => {
                            transcript.push(Message::Unreadable(reason));
                            continue;
                        }
                    };
                let number = transcript.call(tool.clone(), arguments.clone());
                match self.attempt(turn, &tool, arguments, ask, outcome).await {
                    Ok((text, failed)) => {
                        outcome.failure = outcome.failure.or(self.model.cannot_mend(failed));
                        transcript.push(Message::Result { number, tool, text, fence: Fence::new(), failed });
                    }
                    Err(refusal) => {
                        transcript.push(Message::Refused { number, rule: refusal.rule });
                        go_on(refusal, &mut outcome.refusals)?;
                    }
                }
            }
        }
        Err(Stop::Refused(self.too_many_steps(turn).await))
    }

    /// One proposed call: decided and recorded, run by its lane, and what comes back released. True with the
    /// text of an error.
    async fn attempt(
        &self,
        turn: &Turn,
        tool: &ToolName,
        arguments: Screened<Value>,
        ask: Ask<'_>,
        outcome: &mut Outcome,
    ) -> Result<(Screened<String>, bool), Refusal> {
        let permit = match self.policy.decide_call(turn, tool, arguments).await? {
            Decision::Permit(permit) => permit,
            Decision::Ask(question) => match ask(question.card()).await {
                Some(answer) => question.answer(answer).await?,
                None => return Err(question.hold().await),
            },
        };
        let scope = permit.scope().clone();
        let returned = match permit.effect().lane {
            Lane::Wasm => self.sandbox.call(permit).await,
            Lane::Files => self.files.as_ref().ok_or_else(no_workspace)?.call(permit).await,
            Lane::Shell => self.shell.as_ref().ok_or_else(no_shell)?.call(permit, &mut outcome.moved).await,
        };
        turn.absorb_result(&scope);
        let (text, failed) = match returned {
            Ok(text) => (text, false),
            Err(CallError::Failed(text)) => (text, true),
            Err(CallError::Refused(refusal)) => {
                let source = Source::Tool(tool.clone());
                let place = Place { turn, source: &source, scope: Some(&scope) };
                return Err(self.gate.refused(refusal, place, &mut outcome.alerts).await);
            }
        };
        Ok((self.gate.release(&scope, text, &mut outcome.alerts).await?, failed))
    }

    /// The prompt as one stream, before it goes anywhere.
    async fn check(&self, turn: &Turn, transcript: &Transcript, outcome: &mut Outcome) -> Result<(), Stop> {
        match transcript.check(&self.gate.safety) {
            Ok(()) => Ok(()),
            Err(blocked) => Err(Stop::Refused(
                self.gate.stopped(turn, None, &Source::Model, blocked, &mut outcome.alerts).await,
            )),
        }
    }

    async fn unanswered(&self, turn: &Turn, none: NoAnswer, outcome: &mut Outcome) -> Stop {
        match none {
            NoAnswer::Refused(refusal) => {
                let place = Place { turn, source: &Source::Model, scope: None };
                Stop::Refused(self.gate.refused(refusal, place, &mut outcome.alerts).await)
            }
            NoAnswer::Failed(failure) => Stop::Failed(failure),
            NoAnswer::Blocked(blocked) => Stop::Refused(
                self.gate.stopped(turn, None, &Source::Model, blocked, &mut outcome.alerts).await,
            ),
        }
    }

    async fn too_many_steps(&self, turn: &Turn) -> Refusal {
        let refusal = Refusal::new(&rules::STEPS, format!("{MAX_STEPS} steps"));
        let record = Record::new(Kind::Call, Verdict::Block)
            .of_turn(turn.id())
            .with(Field::Rule, refusal.rule.id)
            .with(Field::Refusal, refusal.id)
            .with(Field::Reason, &refusal.detail);
        match self.gate.alarm.audit.record(record).await {
            Ok(_) => refusal,
            Err(error) => not_recorded(error),
        }
    }
}

/// The model is told of a refused call and may answer. What screening stopped, or what could not be
/// recorded, ends the turn.
fn go_on(refusal: Refusal, refusals: &mut Vec<Refusal>) -> Result<(), Stop> {
    let halts = matches!(refusal.rule.layer, Layer::Safety | Layer::Leaks | Layer::Output | Layer::Audit)
        || *refusal.rule == policy::rules::NOT_RECORDED;
    if halts {
        return Err(Stop::Refused(refusal));
    }
    refusals.push(refusal);
    Ok(())
}

fn no_workspace() -> Refusal {
    Refusal::new(&rules::NO_WORKSPACE, "").widened_by("ironclaw config explain workspace.dir")
}

fn no_shell() -> Refusal {
    Refusal::new(&rules::NO_SHELL, "").widened_by("ironclaw config explain shell")
}

impl Conversation {
    /// The transcript so far.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// The next turn, which has read what the turns before it read.
    fn next(&mut self, trace: Trace) -> Turn {
        self.transcript.truncate(self.whole);
        let turn = match &self.last {
            Some(last) => Turn::after(last, trace),
            None => Turn::begin(trace),
        };
        self.last = Some(turn.clone());
        turn
    }
}

impl Input {
    /// What the owner typed, and nothing else.
    pub fn typed(text: impl Into<String>) -> Self {
        Self { typed: Untrusted::new(Source::Owner, text.into()), attached: Vec::new() }
    }

    /// Adds a paste, a pipe or a file.
    #[must_use]
    pub fn with(mut self, text: Untrusted<String>) -> Self {
        self.attached.push(text);
        self
    }
}

impl Message {
    /// What was admitted: the owner's word, or something inside a fence.
    fn admitted(text: Screened<String>) -> Self {
        match text.source() {
            Source::Owner => Self::Owner(text),
            _ => Self::Attached { text, fence: Fence::new() },
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
