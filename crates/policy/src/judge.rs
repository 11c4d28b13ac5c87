//! Judgements: what the floor, Cedar and the grants say, before anything is recorded.

use std::sync::Arc;
use std::time::Duration;

use safety::credential_detect::Carried;
use safety::{Channel, Screened};
use serde_json::Value;
use store::{ApprovalState, Mutation};
use types::limits::Bytes;
use types::{
    Caller, Command, Confinement, Digest, Grant, Host, Outbound, Refusal, Rule, SecretUse, Target, Tokens,
    ToolCall, ToolName,
};

use crate::catalog::Tool;
use crate::decide::{InForce, Policy};
use crate::manifest::SecretWish;
use crate::question::call_digest;
use crate::settings::Permission;
use crate::turn::{Scope, Turn};
use crate::{cedar, floor, rules};

/// The time a model may take for one answer, from the first byte sent to the last received.
const MODEL_TIME: Duration = Duration::from_secs(300);

/// The longest answer of a model. The largest context windows hold a few megabytes of text.
const MODEL_RESPONSE: Bytes = Bytes::mib(16);

/// A judgement about a tool call.
pub(crate) enum Judged {
    /// It may run; the policy that says so.
    Permit {
        /// The policy's id.
        by: String,
    },
    /// The owner must be asked.
    Ask {
        /// Why.
        rule: &'static Rule,
        /// The policy that asks, where one does.
        by: String,
    },
}

impl Policy {
    pub(crate) async fn judge_call(
        &self,
        rules: &InForce,
        turn: &Turn,
        name: &ToolName,
        arguments: &Screened<Value>,
    ) -> Result<(Arc<Tool>, Judged), Refusal> {
        let tool = self.0.catalog.find(name).await?;
        safety::validator::arguments(&tool.schema, arguments.get()).map_err(|fault| {
            Refusal::new(&rules::ARGUMENTS, format!("{name}: {fault}"))
                .widened_by(format!("what it takes: ironclaw tool show {name}"))
        })?;
        let judged = judge_tool(rules, turn, &tool)?;
        Ok((tool, judged))
    }

    /// Refuses an address that holds a secret, before host and path of it stand in a record or a trace. The query is in
    /// neither; it is scanned with the rest of the request when it leaves.
    pub(crate) fn recordable(&self, target: &Target) -> Result<(), Refusal> {
        let address = target.to_string();
        let scanned = self.0.catalog.safety().scan_bytes(address.as_bytes(), Channel::Outbound);
        scanned.map_err(|blocked| blocked.refusal)
    }

    pub(crate) async fn judge_request(
        &self,
        rules: &InForce,
        scope: &Scope,
        target: &Target,
        brought: &[Carried],
    ) -> Result<(Outbound, String), Refusal> {
        if !scope.count_request() {
            return Err(Refusal::new(
                &rules::TOO_MANY_REQUESTS,
                format!("{} may send {}", scope.tool(), scope.limits().requests),
            )
            .widened_by(
                "raise `requests` under [limits] in the tool's manifest, then: ironclaw tool install PATH",
            ));
        }
        let rule = floor::host_rule(scope.manifest(), target)?;
        let wishes: Vec<&SecretWish> =
            scope.manifest().secrets.iter().filter(|wish| wish.host == rule.host).collect();
        let grants = self.grants_to(scope.tool()).await?;
        let outbound = Outbound {
            caller: scope.caller(),
            target: target.clone(),
            secrets: granted(&grants, (scope.tool(), scope.digest()), target, &wishes)?,
            bound: is_bound(&grants, target),
            response: scope.limits().response,
            time: scope.limits().time,
            tokens: Tokens::PassOn,
        };
        let by = rules.engine.request(&outbound, scope.turn().label(), brought).permitted()?;
        Ok((outbound, by))
    }

    pub(crate) async fn judge_model(
        &self,
        rules: &InForce,
        turn: &Turn,
        target: &Target,
    ) -> Result<(Outbound, String), Refusal> {
        let Some(model) = rules.settings.model.as_ref().filter(|model| model.rule.covers(target)) else {
            return Err(Refusal::new(
                &rules::HOST_NOT_LISTED,
                format!("the agent asked for {}", target.endpoint),
            )
            .widened_by("set [model] in the configuration: ironclaw config explain model"));
        };
        let caller = Caller::Agent;
        let (name, digest) = caller.identity();
        let wishes: Vec<&SecretWish> = model.secret.iter().collect();
        let grants = self.grants_to(&name).await?;
        let outbound = Outbound {
            secrets: granted(&grants, (&name, &digest), target, &wishes)?,
            bound: is_bound(&grants, target),
            caller,
            target: target.clone(),
            response: MODEL_RESPONSE,
            time: MODEL_TIME,
            tokens: Tokens::PassOn,
        };
        let by = rules.engine.request(&outbound, turn.label(), &[]).permitted()?;
        Ok((outbound, by))
    }

    /// What the owner granted to this caller, in whatever version and whether or not it has ended.
    pub(crate) async fn grants_to(&self, name: &ToolName) -> Result<Vec<Grant>, Refusal> {
        let rows = self.0.reader.grants(&self.0.tenant, name).await.map_err(|_| rules::not_read("grants"))?;
        Ok(rows.iter().filter_map(|row| Grant::decode(&row.body).ok()).collect())
    }

    /// An approval that the owner gave with `ironclaw approvals approve` for exactly this call, as the
    /// change that uses it up.
    pub(crate) async fn standing_approval(&self, call: &ToolCall) -> Result<Option<Mutation>, Refusal> {
        let digest = call_digest(call);
        let now = audit::now_ms();
        let rows = self.0.reader.approvals_of(&self.0.tenant, digest).await;
        let rows = rows.map_err(|_| rules::not_read("approvals"))?;
        let found = rows.iter().find(|row| row.state == ApprovalState::Approved && now < row.expires_ms);
        Ok(found.map(|row| Mutation::Answer {
            tenant: row.tenant.clone(),
            id: row.id,
            from: ApprovalState::Approved,
            to: ApprovalState::Used,
        }))
    }
}

/// The uses that the owner granted for what is wished: the caller's grants, and its name and digest. Of several grants
/// the one with the longest path decides. The vault checks each grant's authenticity when it is used.
pub(crate) fn granted(
    grants: &[Grant],
    (name, digest): (&ToolName, &Digest),
    target: &Target,
    wishes: &[&SecretWish],
) -> Result<Vec<SecretUse>, Refusal> {
    let now = audit::now_ms();
    let mut uses: Vec<SecretUse> = Vec::new();
    for wish in wishes {
        let fits = |grant: &&Grant| {
            grant.secret == wish.secret
                && grant.inject == wish.inject
                && grant.covers(name, digest, target)
                && grant.expires_ms.is_none_or(|end| now < end)
        };
        let Some(grant) = grants.iter().filter(fits).max_by_key(|grant| grant.path.as_str().len()) else {
            let detail = format!("{name} needs {} for {}", wish.secret, target.endpoint);
            return Err(Refusal::new(&rules::SECRET_NOT_GRANTED, detail).widened_by(format!(
                "ironclaw secret grant {} --tool {name} --host {} --method {} --inject {}",
                wish.secret, target.endpoint, target.method, wish.inject
            )));
        };
        if uses.iter().any(|used| used.inject == grant.inject) {
            return Err(Refusal::new(
                &rules::GRANTS_TIE,
                format!("{} for {}", grant.inject, target.endpoint),
            ));
        }
        uses.push(grant.secret_use());
    }
    Ok(uses)
}

/// True when one of these grants is for the target's host: whatever the port, method and path, since what a server was
/// told at one of them it can say at another, and whatever became of the grant since.
pub(crate) fn is_bound(grants: &[Grant], target: &Target) -> bool {
    matches!(target.host(), Host::Name(host) if grants.iter().any(|grant| grant.host == *host))
}

/// Permission, policies and labels; everything about a call but its arguments.
pub(crate) fn judge_tool(rules: &InForce, turn: &Turn, tool: &Tool) -> Result<Judged, Refusal> {
    let name = &tool.manifest.name;
    let permission = rules.settings.permissions.get(name).copied().unwrap_or_default();
    if permission == Permission::Never {
        return Err(Refusal::new(&rules::TOOL_NEVER, name.to_string())
            .widened_by(format!("set [tools.{name}] permission = \"ask\" in the configuration")));
    }
    let flow = turn.flow();
    let by = match rules.engine.call(&tool.manifest, flow.label()) {
        cedar::Answer::Permit(by) => by,
        cedar::Answer::Ask(by) => return Ok(Judged::Ask { rule: &rules::CEDAR_ASKS, by }),
        cedar::Answer::Refuse(rule, by) => return Err(rules::by_policy(rule, by)),
    };
    Ok(match floor::must_ask(&flow, &tool.manifest) {
        Some(rule) => Judged::Ask { rule, by: String::new() },
        None if permission == Permission::Ask => Judged::Ask { rule: &rules::TOOL_ASKS, by: String::new() },
        None => Judged::Permit { by },
    })
}

/// A command: the one thing the floor asks of the owner's own is that running it outside a sandbox was allowed in the
/// configuration as well. The agent's never runs outside one.
pub(crate) fn judge_command(
    rules: &InForce,
    turn: &Turn,
    runner: cedar::Runner,
    command: &Command,
) -> Result<String, Refusal> {
    let may_be_free = rules.settings.full_access && runner == cedar::Runner::Owner;
    if command.confinement == Confinement::FullAccess && !may_be_free {
        return Err(Refusal::new(&rules::FULL_ACCESS, command.program())
            .widened_by("set [sandbox] full_access = true: ironclaw config explain sandbox.full_access"));
    }
    rules.engine.run(runner, command, turn.label()).permitted()
}
