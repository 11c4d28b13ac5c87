//! `ironclaw exec`: one command of the owner's in a fresh container.
//!
//! Judge and record, start, carry what is typed and printed, serve what it asks of the network, and end with the
//! command's own exit code.

mod account;
mod moved;
mod output;
mod tty;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use container::{Ended, Finished, Recovered, RunError, Running, Sandbox};
use policy::{Permit, Policy, Refused, Turn};
use safety::{Channel, Untrusted};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use types::{
    CallId, Command, Confinement, Field, Kind, Record, Refusal, Site, Source, ToolName, Trace, Verdict,
};

use super::reaching::{Reaching, alarm};
use super::signals::Signals;
use crate::cli::{self, ExecPolicy};
use crate::exit::{Failure, Outcome};
use crate::parts::{self, Base};
use crate::terminal::Terminal;
use crate::trace_view;

/// Runs the command.
pub async fn run(args: &cli::Exec, base: &Base, terminal: &Terminal) -> Outcome {
    let command = Command {
        id: CallId::new(),
        argv: args.command.clone(),
        confinement: match args.policy {
            ExecPolicy::ReadOnly => Confinement::ReadOnly,
            ExecPolicy::WorkspaceWrite => Confinement::WorkspaceWrite,
            ExecPolicy::FullAccess => Confinement::FullAccess,
        },
        workspace: workspace(args.workspace.as_deref(), base)?,
    };
    let trace = if args.trace { Trace::collecting() } else { Trace::off() };
    let turn = Turn::begin(trace.clone());
    let before = account::last_record(base).await?;
    let mut refused = (Vec::new(), 0);
    let finished = match command.confinement {
        Confinement::FullAccess => unconfined(command, args, &turn, base, terminal).await,
        _ => confined(command, args, &turn, &mut refused, base, terminal).await,
    };
    if args.trace {
        trace_view::draw(&trace.steps(), terminal);
    }
    if terminal.is_json() {
        account::tell((finished.as_ref(), &refused), &turn, before, base, terminal).await?;
    }
    report(&finished?)
}

/// A command in a container, whose network is the proxy.
async fn confined(
    command: Command,
    args: &cli::Exec,
    turn: &Turn,
    refused: &mut (Vec<Refused>, u64),
    base: &Base,
    terminal: &Terminal,
) -> Result<Finished, Failure> {
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if args.terminal && (!is_terminal || terminal.is_json()) {
        return Err(Failure::usage("-t: standard input and output are not a terminal, or --json is set"));
    }
    let reaching = Reaching::read_beside(&args.reaching, &command.workspace, base).await?;
    // The vault's values are looked for in the command line and in everything that is printed.
    let vault = base.unlock(terminal).await?;
    // Until here a signal ends this program as any other: nothing is made yet, and a question for a passphrase waits for
    // it. From here on no step may be the first to listen.
    let mut signals = Signals::listen()?;
    let prepared = async {
        // The policies are read while the engine says what it is.
        let policy = async { parts::policy(base, parts::catalog(base, Vec::new())) };
        let (sandbox, policy) = tokio::join!(sandbox(&command, base, terminal), policy);
        let (sandbox, policy) = (sandbox?, policy?);
        let permit = decide(command, turn, &policy, base).await?;
        let (proxy, beside) =
            reaching.proxy(Site::Container, vault, policy, turn.clone(), base, terminal).await?;
        Ok((sandbox, permit, Arc::new(proxy), beside))
    };
    let (sandbox, permit, proxy, beside) = signals.unless_ended(prepared).await?;
    let finished = if args.terminal {
        let raw = tty::Raw::enter(terminal)?;
        let starting = async { sandbox.start_on_terminal(permit, proxy, tty::size()).await.map_err(failure) };
        let mut running = signals.kept_during(starting).await?;
        let recovered = std::mem::take(&mut running.recovered);
        let ended = tty::attend(running, raw, signals).await;
        tell_of(&recovered, base, terminal);
        end(ended, turn, base, terminal).await
    } else {
        let starting = async { sandbox.start(permit, proxy).await.map_err(failure) };
        let running = signals.kept_during(starting).await?;
        attend(running, signals, turn, base, terminal).await
    };
    *refused = beside.end(&base.safety, terminal).await;
    finished
}

/// A command that has everything that its user has, the network included.
async fn unconfined(
    command: Command,
    args: &cli::Exec,
    turn: &Turn,
    base: &Base,
    terminal: &Terminal,
) -> Result<Finished, Failure> {
    if Reaching::is_asked(&args.reaching) || args.terminal {
        return Err(Failure::usage(
            "with full access nothing stands between a command and the network or the terminal: \
             --allow, --rules, --secret and -t mean something with read-only and workspace-write",
        ));
    }
    base.unlock(terminal).await?;
    let mut signals = Signals::listen()?;
    let policy = parts::policy(base, parts::catalog(base, Vec::new()))?;
    let permit = signals.unless_ended(decide(command, turn, &policy, base)).await?;
    terminal.alert("full access: this command runs outside any container, with everything that you have");
    let limits = &base.config.sandbox.limits;
    let starting =
        async { container::unconfined::start(permit, &base.safety, limits).await.map_err(failure) };
    let running = signals.kept_during(starting).await?;
    attend(running, signals, turn, base, terminal).await
}

/// The folder that the command works in, links resolved.
fn workspace(option: Option<&Path>, base: &Base) -> Result<PathBuf, Failure> {
    let folder = option.or(base.config.workspace.as_deref()).unwrap_or(Path::new("."));
    folder.canonicalize().map_err(|error| {
        Failure::not_found(format!("the workspace {} cannot be found: {}", folder.display(), error.kind()))
    })
}

/// A sandbox that is fit for the command. What is not is refused on the record; what the owner accepts is recorded
/// with each run.
async fn sandbox(command: &Command, base: &Base, terminal: &Terminal) -> Result<Sandbox, Failure> {
    let config = parts::container_config(&base.home, &base.config);
    let around = parts::surroundings(&base.home);
    let (engine, image) = match super::sandbox::ready(&base.home, &base.config).await {
        Ok(ready) => ready,
        Err(unfit) => {
            let rule = &container::rules::UNFIT;
            let record = Record::new(Kind::Command, Verdict::Block)
                .with(Field::Actor, "owner")
                .with(Field::Call, command.id)
                .with(Field::Rule, rule.id)
                .with(Field::Reason, &unfit)
                .with(Field::Widen, unfit.mend(&base.home.config_file()));
            base.audit.record(record).await.map_err(Failure::environment)?;
            return Err(super::sandbox::unfit(&unfit, &base.home));
        }
    };
    for (_, fault) in &engine.standing().accepted {
        terminal.warn(format!("ironclaw: accepted by your configuration: {fault}"));
    }
    Ok(Sandbox::new(engine, image, config, around, base.safety.clone()))
}

/// The decision. A value of the vault in a command line would be in every process list, so it is refused.
async fn decide(
    command: Command,
    turn: &Turn,
    policy: &Policy,
    base: &Base,
) -> Result<Permit<Command>, Failure> {
    let line = Untrusted::new(Source::Owner, command.argv.join(" "));
    let shown = base.safety.screen(line, Channel::Log, turn.trace());
    let shown = shown.map_err(|blocked| Failure::from(blocked.refusal))?;
    Ok(policy.decide_command(turn, command, &shown).await?)
}

/// Carries input, output and signals until the run is over.
async fn attend(
    running: Running,
    signals: Signals,
    turn: &Turn,
    base: &Base,
    terminal: &Terminal,
) -> Result<Finished, Failure> {
    let Running { stdout, stderr, stdin, control, outcome, recovered } = running;
    tell_of(&recovered, base, terminal);
    let input = tokio::spawn(feed(stdin));
    let signals = tokio::spawn(signals.forward(control.clone()));
    let out = output::carry(stdout, output::To::Out, &control, terminal);
    let err = output::carry(stderr, output::To::Err, &control, terminal);
    let (out, err) = tokio::join!(out, err);
    let finished = outcome.wait().await;
    input.abort();
    signals.abort();
    end((finished, out.or(err)), turn, base, terminal).await
}

/// What a run came to, and the leak that it was stopped for if there was one: then that is why it ended. What was moved is
/// told in any case.
async fn end(
    (finished, leak): (Result<Finished, RunError>, Option<Refusal>),
    turn: &Turn,
    base: &Base,
    terminal: &Terminal,
) -> Result<Finished, Failure> {
    if let Ok(finished) = &finished
        && let Some(told) = moved::told(&finished.quarantine, base)
    {
        terminal.warn(format!("ironclaw: {told}"));
    }
    match leak {
        Some(refusal) => Err(leaked(refusal, turn, base, terminal).await),
        None => finished.map_err(failure),
    }
}

/// Records what the output was stopped for, and tells of it as of every leak.
async fn leaked(refusal: Refusal, turn: &Turn, base: &Base, terminal: &Terminal) -> Failure {
    let record = Record::new(Kind::Release, Verdict::Block)
        .of_turn(turn.id())
        .with(Field::Actor, "owner")
        .with(Field::Rule, refusal.rule.id)
        .with(Field::Refusal, refusal.id)
        .with(Field::Reason, if refusal.detail.is_empty() { refusal.rule.says } else { &refusal.detail })
        .with(Field::Widen, refusal.widen.as_deref().unwrap_or_default());
    if base.audit.record(record).await.is_err() {
        return Failure::Unrecorded(refusal);
    }
    let found = (refusal.rule.id, refusal.detail.as_str());
    match alarm(base).tell_leak(found, turn, &Source::Tool(ToolName::exec())).await {
        Ok(alert) => terminal.alert(alert),
        Err(unrecorded) => terminal.warn(unrecorded),
    }
    Failure::Refused(vec![refusal])
}

/// Tells what earlier commands left whose end nobody saw.
pub fn tell_of(recovered: &[Recovered], base: &Base, terminal: &Terminal) {
    for Recovered { workspace, quarantine } in recovered {
        if let Some(told) = moved::told(quarantine, base) {
            let folder = workspace.display();
            terminal.warn(format!("ironclaw: an earlier command in {folder} was cut off; {told}"));
        }
    }
}

/// What is piped in becomes the command's input. A terminal is not: without one of its own the command has none.
async fn feed(mut stdin: impl AsyncWrite + Unpin) {
    if !std::io::stdin().is_terminal() {
        // The command may end before its input does.
        let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut stdin).await;
    }
    let _ = stdin.shutdown().await;
}

/// How the run ended, for the exit code.
fn report(finished: &Finished) -> Outcome {
    match finished.ended {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(code) => Err(Failure::Passed(code)),
        Ended::Stopped(rule) => {
            Err(Refusal::new(rule, "").widened_by("ironclaw config explain sandbox").into())
        }
    }
}

fn failure(error: RunError) -> Failure {
    match error {
        RunError::Refused(refusal) => refusal.into(),
        other => Failure::environment(other),
    }
}
