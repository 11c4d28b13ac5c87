//! Decisions about requests of the audit log: records on their way to the owner's collector.

use std::time::{Duration, Instant};

use types::limits::Bytes;
use types::{Caller, Field, Kind, Layer, Outbound, Record, Refusal, Target, Tokens, Verdict};

use crate::decide::{InForce, Policy, not_recorded};
use crate::judge::{granted, is_bound};
use crate::manifest::SecretWish;
use crate::permit::Permit;
use crate::rules;
use crate::turn::Turn;

/// The longest answer: how many records were not taken, and why.
const ANSWER: Bytes = Bytes::kib(64);

/// The time for the exchange. A collector that is slower is asked again later.
const TIME: Duration = Duration::from_secs(10);

impl Policy {
    /// May the log send records there now?
    pub async fn decide_export(&self, turn: &Turn, target: Target) -> Result<Permit<Outbound>, Refusal> {
        let since = Instant::now();
        let rules = self.in_force();
        let record = |verdict| {
            Record::new(Kind::Request, verdict)
                .of_turn(turn.id())
                .with(Field::Actor, Caller::Log)
                .with(Field::Target, &target)
        };
        let (outbound, by) = match self.judge_export(&rules, turn, &target).await {
            Ok(judged) => judged,
            Err(refusal) => {
                return Err(self.refuse(record(Verdict::Block), refusal, turn, "export", since).await);
            }
        };
        let seq = self.audit().record(record(Verdict::Allow).with(Field::Rule, &by)).await;
        let seq = seq.map_err(not_recorded)?;
        turn.trace().step(Layer::Audit, "export", Verdict::Allow, since, || outbound.target.to_string());
        Ok(self.mint_request(outbound, seq, turn, &rules))
    }

    async fn judge_export(
        &self,
        rules: &InForce,
        turn: &Turn,
        target: &Target,
    ) -> Result<(Outbound, String), Refusal> {
        let covers = |collector: &&crate::CollectorRule| collector.rule.covers(target);
        let Some(collector) = rules.settings.collector.as_ref().filter(covers) else {
            let detail = format!("the log asked for {}", target.endpoint);
            return Err(Refusal::new(&rules::HOST_NOT_LISTED, detail)
                .widened_by("set [export] in the configuration: ironclaw config explain export"));
        };
        let (name, digest) = Caller::Log.identity();
        let wishes: Vec<&SecretWish> = collector.secret.iter().collect();
        let grants = self.grants_to(&name).await?;
        let outbound = Outbound {
            secrets: granted(&grants, (&name, &digest), target, &wishes)?,
            bound: is_bound(&grants, target),
            caller: Caller::Log,
            target: target.clone(),
            response: ANSWER,
            time: TIME,
            tokens: Tokens::PassOn,
        };
        let by = rules.engine.request(&outbound, turn.label(), &[]).permitted()?;
        Ok((outbound, by))
    }
}
