//! Decisions about images: may the engine fetch one from its registry?
//!
//! The engine fetches by itself, through no door of this program. So the owner says in the configuration which registries it
//! may be sent to, and the permit is for one name in its canonical form.

use std::time::Instant;

use types::{Field, Kind, Layer, Pull, Record, Refusal, Verdict};

use crate::decide::{InForce, Policy, not_recorded};
use crate::permit::Permit;
use crate::rules;
use crate::turn::Turn;

impl Policy {
    /// May the engine pull this image for the owner now?
    pub async fn decide_pull(&self, turn: &Turn, pull: Pull) -> Result<Permit<Pull>, Refusal> {
        let since = Instant::now();
        let rules = self.in_force();
        let record = |verdict| {
            Record::new(Kind::Image, verdict)
                .of_turn(turn.id())
                .with(Field::Actor, "owner")
                .with(Field::Call, pull.id)
                .with(Field::Image, &pull.image)
        };
        let by = match judge(&rules, &pull) {
            Ok(by) => by,
            Err(refusal) => {
                return Err(self.refuse(record(Verdict::Block), refusal, turn, "pull", since).await);
            }
        };
        let allowed = record(Verdict::Allow).with(Field::Rule, &by);
        let seq = self.audit().record(allowed).await.map_err(not_recorded)?;
        turn.trace().step(Layer::Policy, "pull", Verdict::Allow, since, || format!("{} by {by}", pull.image));
        Ok(self.mint_pull(pull, seq, turn, &rules))
    }
}

fn judge(rules: &InForce, pull: &Pull) -> Result<String, Refusal> {
    let registry = pull.image.registry();
    if !rules.settings.registries.contains(registry) {
        let widen =
            format!("add \"{registry}\" to [sandbox] registries: ironclaw config explain sandbox.registries");
        return Err(Refusal::new(&rules::REGISTRY, registry.to_string()).widened_by(widen));
    }
    rules.engine.pull(pull).permitted()
}
