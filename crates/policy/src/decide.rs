//! The decisions: about a tool call, about a request of one, about a request to the model.
//!
//! Each reads from top to bottom: judge, record, then mint the permit or return the refusal. A
//! decision that cannot be recorded is a refusal.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use audit::{Audit, ChangeError, Seq};
use safety::Screened;
use safety::credential_detect::Carried;
use serde_json::Value;
use store::{Charge, Lost, Meter, Mutation, Reader, Use};
use types::{
    CallId, Command, Field, Kind, Layer, Outbound, Pull, Record, Refusal, Rule, Target, Tenant, ToolCall,
    ToolName, TurnId, Verdict,
};

use crate::catalog::Catalog;
use crate::cedar::{Engine, PolicyError, Runner};
use crate::judge::{Judged, judge_command, judge_tool};
use crate::permit::{Authority, Permit};
use crate::question::{Card, Question};
use crate::remembered::Remembered;
use crate::rules;
use crate::settings::Settings;
use crate::turn::{Scope, Turn};

/// Decides and mints. Cheap to clone.
#[derive(Clone)]
pub struct Policy(pub(crate) Arc<State>);

pub(crate) struct State {
    authority: Authority,
    pub(crate) reader: Reader,
    pub(crate) catalog: Catalog,
    pub(crate) tenant: Tenant,
    pub(crate) remembered: Remembered,
    rules: RwLock<Arc<InForce>>,
}

/// One consistent set of rules and its number.
pub(crate) struct InForce {
    pub(crate) engine: Engine,
    pub(crate) settings: Settings,
    pub(crate) generation: u64,
}

/// What came of a question about a tool call.
pub enum Decision {
    /// It may run.
    Permit(Permit<ToolCall>),
    /// The owner must say.
    Ask(Box<Question>),
}

/// What was taken from the budget before an exchange with the model, until it is known what the exchange used.
#[must_use = "settle it when the answer says what was used"]
pub struct Reserved {
    turn: TurnId,
    of: Seq,
    day: u32,
    charges: Vec<Charge>,
}

impl Policy {
    /// A policy in force. Refuses settings whose Cedar text does not load.
    pub fn new(
        audit: Audit,
        reader: Reader,
        catalog: Catalog,
        settings: Settings,
    ) -> Result<Self, PolicyError> {
        let engine = Engine::load(&settings.policies)?;
        let generation = Arc::new(AtomicU64::new(1));
        let in_force = InForce { engine, settings, generation: 1 };
        Ok(Self(Arc::new(State {
            authority: Authority { audit, generation },
            reader,
            catalog,
            tenant: Tenant::local(),
            remembered: Remembered::default(),
            rules: RwLock::new(Arc::new(in_force)),
        })))
    }

    /// Replaces the rules. Permits minted under the old ones are void from here on. When the new ones
    /// do not load, the old ones stay.
    pub fn reload(&self, settings: Settings) -> Result<(), PolicyError> {
        let engine = Engine::load(&settings.policies)?;
        let mut rules = self.0.rules.write().unwrap_or_else(PoisonError::into_inner);
        let generation = rules.generation + 1;
        *rules = Arc::new(InForce { engine, settings, generation });
        self.0.authority.generation.store(generation, Ordering::Release);
        Ok(())
    }

    /// The number of the rules in force.
    pub fn generation(&self) -> u64 {
        self.0.authority.generation.load(Ordering::Acquire)
    }

    /// The tools.
    pub fn catalog(&self) -> &Catalog {
        &self.0.catalog
    }

    /// Whose data this decides about.
    pub fn tenant(&self) -> &Tenant {
        &self.0.tenant
    }

    pub(crate) fn audit(&self) -> &Audit {
        &self.0.authority.audit
    }

    /// May the agent call this tool with these arguments now?
    pub async fn decide_call(
        &self,
        turn: &Turn,
        name: &ToolName,
        arguments: Screened<Value>,
    ) -> Result<Decision, Refusal> {
        let since = Instant::now();
        let rules = self.in_force();
        let (tool, judged) = match self.judge_call(&rules, turn, name, &arguments).await {
            Ok(judged) => judged,
            Err(refusal) => {
                let record =
                    Record::new(Kind::Call, Verdict::Block).of_turn(turn.id()).with(Field::Tool, name);
                return Err(self.refuse(record, refusal, turn, "decision", since).await);
            }
        };
        let call = ToolCall {
            id: CallId::new(),
            tool: name.clone(),
            digest: tool.digest,
            lane: tool.manifest.lane,
            arguments: arguments.get().to_string(),
        };
        let scope = Scope::open(call.id, tool, turn.clone());
        match judged {
            Judged::Permit { by } => {
                self.permit_call(&rules, call, scope, &by, since).await.map(Decision::Permit)
            }
            Judged::Ask { rule, by } => self.ask(&rules, call, scope, arguments, (rule, by), since).await,
        }
    }

    async fn permit_call(
        &self,
        rules: &InForce,
        call: ToolCall,
        scope: Scope,
        by: &str,
        since: Instant,
    ) -> Result<Permit<ToolCall>, Refusal> {
        let turn = scope.turn();
        let record = call_record(&call, turn, Verdict::Allow).with(Field::Rule, by);
        let seq = self.charge_call(rules, &call, turn, record, since).await?;
        turn.trace()
            .step(Layer::Policy, "decision", Verdict::Allow, since, || format!("{} by {by}", call.tool));
        Ok(self.mint_call(call, scope, seq, rules.generation))
    }

    /// Records a call that may run or be asked about, and takes it from the budget of the day.
    async fn charge_call(
        &self,
        rules: &InForce,
        call: &ToolCall,
        turn: &Turn,
        record: Record,
        since: Instant,
    ) -> Result<Seq, Refusal> {
        let charges = bounded((Meter::Calls, 1, rules.settings.budget.calls)).into_iter().collect();
        match self.charge(record, today(), charges).await {
            Ok(seq) => Ok(seq),
            Err(refusal) => {
                let record = call_record(call, turn, Verdict::Block);
                Err(self.refuse(record, refusal, turn, "budget", since).await)
            }
        }
    }

    /// A call that the owner must approve: runs on an approval that was given earlier for exactly this
    /// call, or becomes a question.
    async fn ask(
        &self,
        rules: &InForce,
        call: ToolCall,
        scope: Scope,
        arguments: Screened<Value>,
        (rule, by): (&'static Rule, String),
        since: Instant,
    ) -> Result<Decision, Refusal> {
        let turn = scope.turn().clone();
        let standing = match self.standing_approval(&call).await {
            Ok(standing) => standing,
            Err(refusal) => {
                let record = call_record(&call, &turn, Verdict::Block);
                return Err(self.refuse(record, refusal, &turn, "decision", since).await);
            }
        };
        let record =
            call_record(&call, &turn, Verdict::Ask).with(Field::Rule, rule.id).with(Field::Reason, &by);
        let asked = self.charge_call(rules, &call, &turn, record, since).await?;
        if let Some(used) = standing {
            let record = call_record(&call, &turn, Verdict::Allow).with(Field::Rule, rule.id);
            let record = record.with(Field::Of, asked.get()).with(Field::Reason, "approved earlier");
            let seq = self.audit().change(record, used).await.map_err(not_recorded)?;
            turn.trace()
                .step(Layer::Policy, "decision", Verdict::Allow, since, || "approved earlier".to_owned());
            return Ok(Decision::Permit(self.mint_call(call, scope, seq, rules.generation)));
        }
        turn.trace().step(Layer::Policy, "decision", Verdict::Ask, since, || rule.says.to_owned());
        let hosts =
            scope.manifest().hosts.iter().map(|rule| format!("{}:{}", rule.host, rule.port)).collect();
        // Quoted, so that no name of a folder looks like something else on a card.
        let folder = scope.manifest().folder.as_ref().map(|folder| format!("{folder:?}"));
        let (tool, digest) = (call.tool.clone(), call.digest);
        let card = Card { tool, digest, rule, policy: by, arguments, hosts, folder };
        let (policy, generation) = (self.clone(), rules.generation);
        Ok(Decision::Ask(Box::new(Question {
            card,
            call,
            scope,
            policy,
            generation,
            asked,
            since: Instant::now(),
        })))
    }

    /// May this call of a tool send this request now? `brought` is what its head brings of credentials of
    /// the tool's own.
    pub async fn decide_request(
        &self,
        scope: &Scope,
        target: Target,
        brought: &[Carried],
    ) -> Result<Permit<Outbound>, Refusal> {
        let since = Instant::now();
        let rules = self.in_force();
        let turn = scope.turn();
        let record = |verdict| {
            Record::new(Kind::Request, verdict)
                .of_turn(turn.id())
                .with(Field::Actor, scope.caller())
                .with(Field::Call, scope.call())
        };
        if let Err(refusal) = self.recordable(&target) {
            return Err(self.refuse(record(Verdict::Block), refusal, turn, "address", since).await);
        }
        let record = |verdict, target: &Target| record(verdict).with(Field::Target, target);
        let judged = self.judge_request(&rules, scope, &target, brought).await;
        let (outbound, by) = match judged {
            Ok(judged) => judged,
            Err(refusal) => {
                return Err(self
                    .refuse(record(Verdict::Block, &target), refusal, turn, "allowlist", since)
                    .await);
            }
        };
        let granted =
            outbound.secrets.iter().map(|used| used.secret.to_string()).collect::<Vec<_>>().join(",");
        let record = record(Verdict::Allow, &target).with(Field::Rule, by).with(Field::Secret, &granted);
        let seq = self.audit().record(record).await.map_err(not_recorded)?;
        turn.trace().step(Layer::Egress, "allowlist", Verdict::Allow, since, || match granted.as_str() {
            "" => format!("{} lists {}", scope.tool(), target.endpoint),
            names => format!("{} lists {}, granted {names}", scope.tool(), target.endpoint),
        });
        Ok(self.mint_request(outbound, seq, turn, &rules))
    }

    /// The permit again, unless the body brings a credential of the tool's own that policy does not permit.
    pub async fn admit_body(
        &self,
        scope: &Scope,
        permit: Permit<Outbound>,
        brought: &[Carried],
    ) -> Result<Permit<Outbound>, Refusal> {
        if brought.is_empty() {
            return Ok(permit);
        }
        let (since, turn) = (Instant::now(), scope.turn());
        let answer = self.in_force().engine.request(permit.effect(), turn.label(), brought);
        let Err(refusal) = answer.permitted() else { return Ok(permit) };
        let record = Record::new(Kind::Request, Verdict::Block)
            .of_turn(turn.id())
            .with(Field::Of, permit.seq().get())
            .with(Field::Actor, scope.caller())
            .with(Field::Call, scope.call())
            .with(Field::Target, &permit.effect().target);
        Err(self.refuse(record, refusal, turn, "body", since).await)
    }

    /// May the owner's command run now? `shown` is the command line as the record keeps it.
    pub async fn decide_command(
        &self,
        turn: &Turn,
        command: Command,
        shown: &Screened<String>,
    ) -> Result<Permit<Command>, Refusal> {
        self.decide_run(turn, Runner::Owner, command, shown).await
    }

    /// May this permitted call of the agent's shell run this command now?
    pub async fn decide_shell(
        &self,
        scope: &Scope,
        command: Command,
        shown: &Screened<String>,
    ) -> Result<Permit<Command>, Refusal> {
        self.decide_run(scope.turn(), Runner::Agent, command, shown).await
    }

    async fn decide_run(
        &self,
        turn: &Turn,
        runner: Runner,
        command: Command,
        shown: &Screened<String>,
    ) -> Result<Permit<Command>, Refusal> {
        let since = Instant::now();
        let rules = self.in_force();
        let record = |verdict| {
            Record::new(Kind::Command, verdict)
                .of_turn(turn.id())
                .with(Field::Actor, runner.as_str())
                .with(Field::Call, command.id)
                .with(Field::Command, shown.as_str())
                .with(Field::Digest, command.digest())
                .with(Field::Confinement, command.confinement)
                .with(Field::Workspace, command.workspace.display())
        };
        let by = match judge_command(&rules, turn, runner, &command) {
            Ok(by) => by,
            Err(refusal) => {
                return Err(self.refuse(record(Verdict::Block), refusal, turn, "command", since).await);
            }
        };
        let seq =
            self.audit().record(record(Verdict::Allow).with(Field::Rule, &by)).await.map_err(not_recorded)?;
        turn.trace().step(Layer::Policy, "command", Verdict::Allow, since, || {
            format!("{} {} by {by}", command.program(), command.confinement)
        });
        Ok(Permit::mint(command, (), &self.0.authority, seq, turn.id(), rules.generation))
    }

    /// May the agent send this to its language model now? `tokens` is the most the exchange can use; it is taken
    /// from the budget before, and [`Policy::settle_model`] corrects it when the answer says what was used.
    pub async fn decide_model(
        &self,
        turn: &Turn,
        target: Target,
        tokens: u64,
        money: u64,
    ) -> Result<(Permit<Outbound>, Reserved), Refusal> {
        let since = Instant::now();
        let rules = self.in_force();
        let record = |verdict, target: &Target| {
            Record::new(Kind::Model, verdict).of_turn(turn.id()).with(Field::Target, target)
        };
        let judged = self.judge_model(&rules, turn, &target).await;
        let (outbound, by) = match judged {
            Ok(judged) => judged,
            Err(refusal) => {
                return Err(self
                    .refuse(record(Verdict::Block, &target), refusal, turn, "model", since)
                    .await);
            }
        };
        let budget = &rules.settings.budget;
        let charges = [(Meter::Tokens, tokens, budget.tokens), (Meter::Cost, money, budget.money)];
        let charges: Vec<Charge> = charges.into_iter().filter_map(bounded).collect();
        let day = today();
        let allowed = record(Verdict::Allow, &target).with(Field::Rule, &by).with(Field::Tokens, tokens);
        match self.charge(allowed, day, charges.clone()).await {
            Ok(seq) => {
                turn.trace().step(Layer::Policy, "model", Verdict::Allow, since, || {
                    format!("{} by {by}", target.endpoint)
                });
                let permit = Permit::mint(outbound, (), &self.0.authority, seq, turn.id(), rules.generation);
                Ok((permit, Reserved { turn: turn.id(), of: seq, day, charges }))
            }
            Err(refusal) => {
                Err(self.refuse(record(Verdict::Block, &target), refusal, turn, "budget", since).await)
            }
        }
    }

    /// Puts what an exchange with the model used, as its answer says, in the place of what was reserved for it. Without
    /// a word of the answer the reservation stands.
    pub async fn settle_model(&self, reserved: Reserved, tokens: u64, money: u64) -> Result<(), Refusal> {
        let Reserved { turn, of, day, charges } = reserved;
        let used = |charge: &Charge| match charge.meter {
            Meter::Tokens => tokens,
            Meter::Cost => money,
            Meter::Calls => charge.amount,
        };
        let uses: Vec<Use> = charges
            .iter()
            .map(|charge| Use { meter: charge.meter, charged: charge.amount, used: used(charge) })
            .collect();
        let record = Record::new(Kind::Model, Verdict::Done)
            .of_turn(turn)
            .with(Field::Of, of.get())
            .with(Field::Tokens, tokens);
        let settle = Mutation::Settle { tenant: self.0.tenant.clone(), day, uses };
        self.audit().change(record, settle).await.map(drop).map_err(not_recorded)
    }

    /// What would be decided for a tool, and for a request of it, at the start of a turn. Nothing is
    /// recorded and nothing permitted.
    pub async fn check(&self, name: &ToolName, target: Option<&Target>) -> Result<String, Refusal> {
        let rules = self.in_force();
        let tool = self.0.catalog.find(name).await?;
        let turn = Turn::begin(types::Trace::off());
        let called = match judge_tool(&rules, &turn, &tool)? {
            Judged::Permit { by } => format!("{name}: permitted by {by}"),
            Judged::Ask { rule, .. } => format!("{name}: the owner is asked ({})", rule.id),
        };
        let Some(target) = target else {
            return Ok(called);
        };
        let scope = Scope::open(CallId::new(), tool, turn);
        let (_, by) = self.judge_request(&rules, &scope, target, &[]).await?;
        Ok(format!("{called}\n{target}: permitted by {by}"))
    }

    pub(crate) fn mint_call(
        &self,
        call: ToolCall,
        scope: Scope,
        seq: Seq,
        generation: u64,
    ) -> Permit<ToolCall> {
        let turn = scope.turn().id();
        Permit::mint(call, scope, &self.0.authority, seq, turn, generation)
    }

    pub(crate) fn mint_request(
        &self,
        request: Outbound,
        seq: Seq,
        turn: &Turn,
        rules: &InForce,
    ) -> Permit<Outbound> {
        Permit::mint(request, (), &self.0.authority, seq, turn.id(), rules.generation)
    }

    pub(crate) fn mint_pull(&self, pull: Pull, seq: Seq, turn: &Turn, rules: &InForce) -> Permit<Pull> {
        Permit::mint(pull, (), &self.0.authority, seq, turn.id(), rules.generation)
    }

    /// Records a decision and charges the budget in one transaction.
    async fn charge(&self, record: Record, day: u32, charges: Vec<Charge>) -> Result<Seq, Refusal> {
        if charges.is_empty() {
            return self.audit().record(record).await.map_err(not_recorded);
        }
        let spend = Mutation::Spend { tenant: self.0.tenant.clone(), day, charges };
        self.audit().change(record, spend).await.map_err(|error| match error {
            ChangeError::Lost(Lost::Budget { meter, spent, limit }) => {
                Refusal::new(&rules::BUDGET, format!("{meter}: {spent} of {limit} used"))
                    .widened_by("raise [budget] in the configuration: ironclaw config explain budget")
            }
            other => not_recorded(other),
        })
    }

    /// Records a refusal and gives it back; where even that fails, the refusal says so.
    pub(crate) async fn refuse(
        &self,
        record: Record,
        refusal: Refusal,
        turn: &Turn,
        stage: &'static str,
        since: Instant,
    ) -> Refusal {
        let mut record = record
            .with(Field::Rule, refusal.rule.id)
            .with(Field::Refusal, refusal.id)
            .with(Field::Reason, if refusal.detail.is_empty() { refusal.rule.says } else { &refusal.detail });
        if let Some(widen) = &refusal.widen {
            record = record.with(Field::Widen, widen);
        }
        let layer = if record.kind == Kind::Request { Layer::Egress } else { Layer::Policy };
        turn.trace()
            .step(layer, stage, Verdict::Block, since, || format!("{}: {}", refusal.rule.id, refusal.detail));
        match self.audit().record(record).await {
            Ok(_) => refusal,
            Err(error) => not_recorded(error),
        }
    }

    pub(crate) fn in_force(&self) -> Arc<InForce> {
        self.0.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The refusal for a decision that could not be recorded.
pub(crate) fn not_recorded<E>(_: E) -> Refusal {
    Refusal::new(&rules::NOT_RECORDED, "").widened_by("ironclaw doctor")
}

/// What every record about a call says.
fn call_record(call: &ToolCall, turn: &Turn, verdict: Verdict) -> Record {
    Record::new(Kind::Call, verdict)
        .of_turn(turn.id())
        .with(Field::Tool, &call.tool)
        .with(Field::Call, call.id)
        .with(Field::Digest, call.digest)
}

/// Days since 1970-01-01, in UTC.
fn today() -> u32 {
    (audit::now_ms() / 86_400_000) as u32
}

fn bounded((meter, amount, limit): (Meter, u64, Option<u64>)) -> Option<Charge> {
    Some(Charge { meter, amount, limit: limit? })
}
