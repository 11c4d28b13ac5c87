//! Decisions about requests of the vault itself: a new token for one that ends.
//!
//! The owner's grant to `vault` says where the refresh token may go and what the answer becomes; nothing else
//! allows it. The record claims the attempt, so that of several processes one asks: many places take a refresh
//! token that is used twice for a stolen one (RFC 9700, section 4.14.2).

use std::time::{Duration, Instant};

use http::Method;
use store::Mutation;
use types::limits::Bytes;
use types::{
    Caller, Endpoint, Field, Grant, Host, Injection, Kind, Layer, Outbound, Record, Refusal, Target, Tokens,
    Verdict,
};

use crate::decide::{InForce, Policy, not_recorded};
use crate::judge::granted;
use crate::manifest::SecretWish;
use crate::permit::Permit;
use crate::rules;
use crate::turn::Turn;

/// The longest answer: two tokens and a few words.
const ANSWER: Bytes = Bytes::kib(64);

/// The time for the exchange.
const TIME: Duration = Duration::from_secs(30);

impl Policy {
    /// May the vault ask for a new token, as this grant says? `claim` names the attempt; whoever else makes it
    /// is refused.
    pub async fn decide_renewal(
        &self,
        turn: &Turn,
        grant: &Grant,
        claim: &str,
    ) -> Result<Permit<Outbound>, Refusal> {
        let since = Instant::now();
        let rules = self.in_force();
        let record = |verdict| {
            Record::new(Kind::Request, verdict)
                .of_turn(turn.id())
                .with(Field::Actor, Caller::Vault)
                .with(Field::Secret, &grant.secret)
        };
        let judged = match target(grant) {
            Ok(target) => self.judge_renewal(&rules, turn, grant, target).await,
            Err(refusal) => Err(refusal),
        };
        let (outbound, by) = match judged {
            Ok(judged) => judged,
            Err(refusal) => {
                return Err(self.refuse(record(Verdict::Block), refusal, turn, "renewal", since).await);
            }
        };
        let allowed = record(Verdict::Allow)
            .with(Field::Target, &outbound.target)
            .with(Field::Rule, &by)
            .with(Field::Claim, claim);
        let seq = match self.audit().change(allowed, Mutation::Claim).await {
            Ok(seq) => seq,
            Err(audit::ChangeError::Lost(_)) => {
                let refusal = Refusal::new(&rules::RENEWAL_TAKEN, grant.inject.to_string());
                return Err(self.refuse(record(Verdict::Block), refusal, turn, "renewal", since).await);
            }
            Err(audit::ChangeError::Audit(error)) => return Err(not_recorded(error)),
        };
        turn.trace().step(Layer::Vault, "renewal", Verdict::Allow, since, || outbound.target.to_string());
        Ok(self.mint_request(outbound, seq, turn, &rules))
    }

    async fn judge_renewal(
        &self,
        rules: &InForce,
        turn: &Turn,
        grant: &Grant,
        target: Target,
    ) -> Result<(Outbound, String), Refusal> {
        let Injection::Refresh { client, .. } = &grant.inject else {
            return Err(Refusal::new(&rules::SECRET_NOT_GRANTED, grant.inject.to_string()));
        };
        let (name, digest) = Caller::Vault.identity();
        let grants = self.grants_to(&name).await?;
        // The client's own secret, where the owner granted one for this client at this place.
        let proves = |other: &Grant| {
            matches!(&other.inject, Injection::Basic { user } if user == client || client.is_empty())
                && other.covers(&name, &digest, &target)
        };
        let wish = |grant: &Grant| SecretWish {
            secret: grant.secret.clone(),
            host: grant.host.clone(),
            inject: grant.inject.clone(),
        };
        let proof = grants.iter().find(|other| proves(other));
        let wishes: Vec<SecretWish> = std::iter::once(wish(grant)).chain(proof.map(wish)).collect();
        let outbound = Outbound {
            secrets: granted(&grants, (&name, &digest), &target, &wishes.iter().collect::<Vec<_>>())?,
            bound: true,
            caller: Caller::Vault,
            target,
            response: ANSWER,
            time: TIME,
            tokens: Tokens::PassOn,
        };
        let by = rules.engine.request(&outbound, turn.label(), &[]).permitted()?;
        Ok((outbound, by))
    }
}

/// The one place of a grant to the vault: its path is exact, and is asked with POST.
fn target(grant: &Grant) -> Result<Target, Refusal> {
    let endpoint = Endpoint { host: Host::Name(grant.host.clone()), port: grant.port };
    let url = format!("https://{endpoint}{}", grant.path);
    Target::parse(Method::POST.as_str(), &url)
        .map_err(|_| Refusal::new(&rules::SECRET_NOT_GRANTED, format!("POST to {endpoint}")))
}
