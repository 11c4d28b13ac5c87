//! One permitted call: a fresh instance, a result, and a record of what it used.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use audit::{AuditError, Seq};
use egress::Egress;
use policy::{Permit, Policy, Scope, Settlement};
use safety::{Safety, Untrusted};
use tokio::sync::{Semaphore, mpsc};
use types::{Digest, Field, Layer, Refusal, Source, ToolCall, ToolName, Verdict};
use wasmtime::Engine;
use wasmtime::component::Linker;

use crate::allowlist::check_imports;
use crate::cache::{Cache, LoadError};
use crate::host::{Host, Shared, contract, link};
use crate::http::{Door, Outcome};
use crate::install::link_tool;
use crate::log::{Log, LogLine};
use crate::rules;
use crate::run::{Fault, Used, run};
use crate::runtime::{MAX_CONCURRENT, Slots, Ticker, running_engine};
use workspace::Workspace;

/// How long a call waits for a slot. Shorter than a permit lives.
const SLOT_WAIT: Duration = Duration::from_secs(30);
/// Tools that are kept ready. Beyond, all are loaded again: a bound, not a tuned cache.
const MAX_READY: usize = 256;

/// Where a sandbox keeps things.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of compiled components, this program's own.
    pub cache: PathBuf,
    /// The folder that holds one folder for each tool with a workspace, this program's own.
    pub workspaces: PathBuf,
    /// Who wants the screened log lines of tools. Lines that nobody takes in time are dropped.
    pub log: Option<mpsc::Sender<LogLine>>,
}

/// Runs tools. One is enough for a process; calls run at the same time.
pub struct Sandbox {
    config: Config,
    engine: Engine,
    linker: Linker<Host>,
    cache: Cache,
    ticker: Ticker,
    memory: Slots,
    slots: Semaphore,
    ready: Mutex<HashMap<Digest, Arc<contract::ToolPre<Host>>>>,
    workspaces: Mutex<HashMap<(ToolName, Digest), Shared>>,
    egress: Arc<Egress>,
    policy: Policy,
    safety: Arc<Safety>,
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine does not start on this machine")]
pub struct StartError(#[source] wasmtime::Error);

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A rule stopped it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The tool failed, in its own words or because it crashed.
    #[error("the tool failed")]
    Failed(Untrusted<String>),
}

impl Sandbox {
    /// A sandbox whose requests are decided by `policy` and leave through `egress`.
    pub fn new(
        config: Config,
        egress: Arc<Egress>,
        policy: Policy,
        safety: Arc<Safety>,
    ) -> Result<Self, StartError> {
        let (engine, memory) = running_engine().map_err(StartError)?;
        let mut linker = Linker::new(&engine);
        link(&mut linker).map_err(StartError)?;
        let ticker = Ticker::start(&engine).map_err(|error| StartError(error.into()))?;
        Ok(Self {
            cache: Cache::new(&config.cache, &engine),
            slots: Semaphore::new(MAX_CONCURRENT as usize),
            memory,
            ready: Mutex::default(),
            workspaces: Mutex::default(),
            config,
            engine,
            linker,
            ticker,
            egress,
            policy,
            safety,
        })
    }

    /// Where the memory of instances comes from, for reports.
    pub fn slots(&self) -> Slots {
        self.memory
    }

    /// Carries out one permitted call. What comes back, success or error, is the tool's word: untrusted.
    pub async fn call(&self, permit: Permit<ToolCall>) -> Result<Untrusted<String>, CallError> {
        let scope = permit.scope().clone();
        let slot = tokio::time::timeout(SLOT_WAIT, self.slots.acquire()).await;
        let (call, settlement) = permit.redeem()?;
        let began = Instant::now();
        let done = match slot {
            Ok(Ok(_slot)) => self.carry_out(&scope, &call).await,
            _ => Done::refused(Refusal::new(&rules::BUSY, format!("after {} s", SLOT_WAIT.as_secs()))),
        };
        done.trace(&scope, began);
        match done.settle(settlement, began).await {
            Ok(_) => done.result,
            Err(_) => Err(Refusal::new(&policy::rules::NOT_RECORDED, "the tool's outcome").into()),
        }
    }

    /// Runs the call in a fresh instance and judges how it ended.
    async fn carry_out(&self, scope: &Scope, call: &ToolCall) -> Done {
        let (tool, workspace) =
            match self.ready(scope).await.and_then(|tool| Ok((tool, self.workspace(scope)?))) {
                Ok(found) => found,
                Err(refusal) => return Done::refused(refusal),
            };
        let outcome = Outcome::default();
        let log = Log::new(scope.limits().log);
        let door = Door::new(self.policy.clone(), self.egress.clone(), scope.clone(), outcome.clone());
        let host = Host::new(scope.clone(), workspace, log.clone(), door);
        let ended = {
            let _ticking = self.ticker.during_call();
            run(&self.engine, &tool, host, &call.arguments, scope.limits(), &outcome).await
        };
        let used = ended.used;
        let dropped = self.hand_on(log, scope, &outcome);
        let from_tool = |text| Untrusted::new(Source::Tool(scope.tool().clone()), text);
        let result = match ended.judge(outcome.take(), scope.limits()) {
            Ok(text) => Ok(from_tool(text)),
            Err(Fault::Failed(text)) => Err(CallError::Failed(from_tool(text))),
            Err(Fault::Refused(refusal)) => Err(CallError::Refused(refusal)),
        };
        Done { result, used, dropped }
    }

    /// Screens what was logged and gives it to whoever wants it. A leak in a log is a leak. Gives the number of lines
    /// that were dropped.
    fn hand_on(&self, log: Log, scope: &Scope, outcome: &Outcome) -> u64 {
        let said = log.screen(scope.tool(), &self.safety);
        if let Some(refusal) = said.blocked.filter(|refusal| refusal.rule.layer == Layer::Leaks) {
            outcome.refuse(&refusal);
        }
        if let Some(sink) = &self.config.log {
            // A reader that does not keep up loses lines, not the call.
            said.lines.into_iter().take_while(|line| sink.try_send(line.clone()).is_ok()).for_each(drop);
        }
        said.dropped
    }

    /// The tool, compiled and linked; from disk on its first call only.
    async fn ready(&self, scope: &Scope) -> Result<Arc<contract::ToolPre<Host>>, Refusal> {
        let refused = |detail: String| {
            Refusal::new(&rules::COMPILED, format!("{}: {detail}", scope.tool()))
                .widened_by("ironclaw tool install PATH")
        };
        let approved = *scope.compiled().ok_or_else(|| refused("the tool is no component".into()))?;
        if let Some(tool) = self.ready.lock().unwrap_or_else(PoisonError::into_inner).get(&approved) {
            return Ok(tool.clone());
        }
        let (cache, engine, digest) = (self.cache.clone(), self.engine.clone(), *scope.digest());
        let loaded = tokio::task::spawn_blocking(move || cache.load(&engine, &digest, &approved)).await;
        let component =
            loaded.unwrap_or(Err(LoadError::Missing)).map_err(|error| refused(error.to_string()))?;
        // Checked at installation; checked again, because the list may have become shorter since.
        check_imports(&component.component_type(), &self.engine)
            .map_err(|unlisted| Refusal::new(&rules::IMPORT, unlisted.to_string()))?;
        let tool = link_tool(&self.linker, &component).map_err(|rule| Refusal::new(rule, ""))?;
        let tool = Arc::new(tool);
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        if ready.len() >= MAX_READY {
            ready.clear();
        }
        ready.insert(approved, tool.clone());
        Ok(tool)
    }

    /// The tool's own folder, if its manifest asks for one.
    fn workspace(&self, scope: &Scope) -> Result<Option<Shared>, Refusal> {
        if !scope.manifest().workspace {
            return Ok(None);
        }
        let mut open = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (scope.tool().clone(), *scope.digest());
        if let Some(folder) = open.get(&key) {
            return Ok(Some(folder.clone()));
        }
        let folder = Workspace::of_tool(&self.config.workspaces.join(scope.tool().as_str()), scope.limits())
            .map_err(|error| Refusal::new(&rules::WORKSPACE, error.to_string()))?;
        let folder = Arc::new(Mutex::new(folder));
        open.insert(key, folder.clone());
        Ok(Some(folder))
    }
}

/// A call that is over.
struct Done {
    result: Result<Untrusted<String>, CallError>,
    used: Used,
    dropped: u64,
}

impl Done {
    /// A call that never began.
    fn refused(refusal: Refusal) -> Self {
        Self { result: Err(CallError::Refused(refusal)), used: Used::default(), dropped: 0 }
    }

    fn verdict(&self) -> Verdict {
        match &self.result {
            Ok(_) => Verdict::Done,
            Err(CallError::Failed(_)) => Verdict::Failed,
            Err(CallError::Refused(_)) => Verdict::Block,
        }
    }

    /// Records what the call used and, when it was stopped, by which rule.
    async fn settle(&self, settlement: Settlement, began: Instant) -> Result<Seq, AuditError> {
        let mut fields = vec![
            (Field::Fuel, self.used.fuel.to_string()),
            (Field::Memory, self.used.memory.0.to_string()),
            (Field::Micros, began.elapsed().as_micros().to_string()),
        ];
        if let Err(CallError::Refused(refusal)) = &self.result {
            fields.push((Field::Rule, refusal.rule.id.to_owned()));
            fields.push((Field::Reason, refusal.detail.clone()));
            fields.push((Field::Refusal, refusal.id.to_string()));
            fields.extend(refusal.widen.clone().map(|command| (Field::Widen, command)));
        }
        if self.dropped > 0 {
            fields.push((Field::Reason, format!("{}: {} lines dropped or cut", rules::LOG.id, self.dropped)));
        }
        settlement.settle(self.verdict(), fields).await
    }

    /// Adds the sandbox's steps to the trace of the turn. They tell of the whole call, which holds its requests
    /// inside it.
    fn trace(&self, scope: &Scope, began: Instant) {
        let (trace, limits, used) = (scope.trace(), scope.limits(), &self.used);
        let step = |stage, verdict, took, reason: String| {
            trace.at(Layer::Wasm, stage, verdict, began, took, || reason);
        };
        if used.instance > Duration::ZERO {
            step("instance", Verdict::Done, used.instance, "fresh, nothing of an earlier call in it".into());
        }
        let fuel = format!("{} of {} units", used.fuel, limits.fuel);
        step("fuel", Verdict::Done, began.elapsed(), fuel);
        let memory = format!("{} of {}, {} host calls", used.memory, limits.memory, used.host_calls);
        step("memory", Verdict::Done, Duration::ZERO, memory);
        if self.dropped > 0 {
            let lines = format!("{}: {} lines dropped or cut", rules::LOG.id, self.dropped);
            step("log", Verdict::Warn, Duration::ZERO, lines);
        }
        let reason = match &self.result {
            Ok(text) => format!("{} bytes of {}", text.len(), limits.output),
            Err(CallError::Failed(_)) => "the tool failed".into(),
            Err(CallError::Refused(refusal)) => format!("{}: {}", refusal.rule.id, refusal.rule.says),
        };
        step("output", self.verdict(), Duration::ZERO, reason);
    }
}
