//! Decisions about requests that programs send through the proxy.
//!
//! A program has no manifest: where it may go is the [`Reach`] that the owner gave its run, and which secrets it may
//! have put in are grants to `proxy`. The rest is as for a tool: the floor, Cedar, a record, then the permit.

use std::time::{Duration, Instant};

use audit::{ChangeError, Moment, Seq};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};
use safety::credential_detect::{self, Carried};
use safety::validator::json;
use store::SecretState;
use types::limits;
use types::{
    Caller, Endpoint, Field, Grant, Host, Injection, Layer, Outbound, Record, Refusal, Scheme, SecretName,
    SecretUse, Target, Tokens, Verdict,
};

use crate::asker::Asker;
use crate::decide::{InForce, Policy, not_recorded};
use crate::held::Approval;
use crate::judge::{granted, is_bound};
use crate::manifest::SecretWish;
use crate::permit::Permit;
use crate::reach::{self, Demands, Reach};
use crate::remembered::Known;
use crate::run::Run;
use crate::tally::Counted;
use crate::{cedar, overrides, rules, storm};

/// The longest answer. A model's weights are smaller, and so is every image of a disk that a build fetches.
const PROXIED_RESPONSE: limits::Bytes = limits::Bytes::mib(64 * 1024);

/// The time for one exchange: the longest downloads and event streams that honest programs wait for.
const PROXIED_TIME: Duration = Duration::from_secs(60 * 60);

/// The longest answer that is held for its tokens, and the time for such an exchange. Tokens of some providers have some kilobytes.
const CAPTURED_RESPONSE: limits::Bytes = limits::Bytes::kib(64);
const CAPTURED_TIME: Duration = Duration::from_secs(60);

/// How often a request is judged whose grants change while it is. Nobody grants so fast for long.
const ATTEMPTS: u32 = 8;

/// One request, as the proxy read it.
pub struct Asked {
    /// Where it goes.
    pub target: Target,
    /// The secrets whose placeholders stand in it, and where.
    pub claims: Vec<SecretUse>,
    /// The headers that it carries besides those.
    pub headers: HeaderMap,
    /// The credentials of the program's own that it carries, as far as it was read.
    pub brought: Vec<Carried>,
    /// What its body stands for, where it was read whole.
    pub body: Option<Bytes>,
    /// Who asks.
    pub asker: Asker,
}

/// A judgement about a request.
struct Judged {
    /// As of which it knows what is granted.
    moment: Moment,
    outbound: Outbound,
    by: String,
    /// The owner is asked first.
    ask: bool,
}

impl Judged {
    /// The record of the permit.
    fn record(&self, run: &Run) -> Record {
        let Self { outbound, by, .. } = self;
        let named = outbound.secrets.iter().map(|used| used.secret.as_str()).collect::<Vec<_>>().join(",");
        let record = run.record(Verdict::Allow).with(Field::Target, &outbound.target);
        record.with(Field::Rule, by).with(Field::Secret, named)
    }
}

impl Policy {
    /// May a program of this run send this request now?
    pub async fn decide_proxied(&self, run: &Run, asked: Asked) -> Result<Permit<Outbound>, Refusal> {
        let since = Instant::now();
        if let Err(refusal) = self.recordable(&asked.target) {
            return Err(self.refuse_run(run, run.record(Verdict::Block), refusal, "", since).await);
        }
        match self.permit_as_remembered(run, &asked, since).await {
            Some(permit) => Ok(permit),
            // Rare, and large: the state of every decision would have room for it.
            None => Box::pin(self.decide_anew(run, &asked, since)).await,
        }
    }

    /// The permit, where the grants that are remembered permit the request and still are what is granted. Everything else,
    /// a refusal above all, rests on what is read for it.
    async fn permit_as_remembered(
        &self,
        run: &Run,
        asked: &Asked,
        since: Instant,
    ) -> Option<Permit<Outbound>> {
        let (rules, reach, known) = (self.in_force(), run.reach(), self.remembered()?);
        let demands = self.judge_reach(run, &reach, asked).await.ok()?;
        let judged = judge_granted(&rules, run, (&reach, &demands), asked, &known).ok()?;
        if judged.ask {
            return None;
        }
        let seq = self.audit().record_as_of(known.moment, judged.record(run), None).await.ok()?;
        Some(self.mint_proxied(run, judged, seq, &rules, since))
    }

    /// Judges by what is granted now. The record of a permit stands in the log before every change of grants that it does not
    /// know of: where one came first, the request is judged once more.
    async fn decide_anew(
        &self,
        run: &Run,
        asked: &Asked,
        since: Instant,
    ) -> Result<Permit<Outbound>, Refusal> {
        let record = |verdict| run.record(verdict).with(Field::Target, &asked.target);
        let of = || format!("{} {}", asked.target.method, asked.target.endpoint);
        let mut approval = None;
        for _ in 0..ATTEMPTS {
            let rules = self.in_force();
            let mut judged = self.judge_proxied(&rules, run, asked).await;
            if judged.as_ref().is_ok_and(|judged| judged.ask) && approval.is_none() {
                match asked.asker.unless_gone(self.hold_request(run, asked, record)).await {
                    // Rules and grants may have changed while it waited.
                    Ok(used) => {
                        approval = Some(used);
                        continue;
                    }
                    Err(refusal) => judged = Err(refusal),
                }
            }
            let judged = match judged {
                Ok(judged) => judged,
                Err(refusal) => {
                    return Err(self.refuse_run(run, record(Verdict::Block), refusal, &of(), since).await);
                }
            };
            let use_up = approval.as_ref().map(Approval::use_up);
            match self.audit().record_as_of(judged.moment, judged.record(run), use_up).await {
                Ok(seq) => {
                    approval.into_iter().for_each(Approval::used);
                    return Ok(self.mint_proxied(run, judged, seq, &rules, since));
                }
                Err(ChangeError::Lost(_)) => {}
                Err(error) => return Err(not_recorded(error)),
            }
        }
        if approval.is_none() {
            return Err(not_recorded(()));
        }
        // Grants do not change so often: it is the approval that is another's by now.
        let refusal = Refusal::new(&rules::APPROVAL_USED, asked.target.endpoint.to_string());
        Err(self.refuse_run(run, record(Verdict::Block), refusal, &of(), since).await)
    }

    fn mint_proxied(
        &self,
        run: &Run,
        Judged { outbound, by, .. }: Judged,
        seq: Seq,
        rules: &InForce,
        since: Instant,
    ) -> Permit<Outbound> {
        let target = &outbound.target;
        run.turn()
            .trace()
            .step(Layer::Egress, "reach", Verdict::Allow, since, || format!("{target} by {by}"));
        let counted =
            Counted { tally: run.tally.clone(), asked: format!("{} {}", target.method, target.endpoint) };
        self.mint_request(outbound, seq, run.turn(), rules).counted(counted)
    }

    /// May a tunnel to this place be opened? It permits nothing: each request in it is decided.
    pub async fn admit_tunnel(&self, run: &Run, scheme: Scheme, endpoint: &Endpoint) -> Result<(), Refusal> {
        let reach = run.reach();
        let admitted = match reach.names(scheme, endpoint) {
            true => self.use_name(run, &reach, scheme, endpoint).await,
            false => Err(reach::not_allowed(&rules::NOT_ALLOWED, scheme, endpoint, "")),
        };
        let Err(refusal) = admitted else { return Ok(()) };
        let (record, of) = (run.record(Verdict::Block), format!("CONNECT {endpoint}"));
        Err(self.refuse_run(run, record, refusal, &of, Instant::now()).await)
    }

    /// Uses a name that only a wildcard rule names, of which a run has a bounded number (attack X02).
    async fn use_name(
        &self,
        run: &Run,
        reach: &Reach,
        scheme: Scheme,
        endpoint: &Endpoint,
    ) -> Result<(), Refusal> {
        let Some(near) = run.count_name(reach, scheme, endpoint)? else { return Ok(()) };
        let record = run.record(Verdict::Flag).with(Field::Rule, rules::WILDCARD_NAMES.id);
        self.audit().record(record.with(Field::Reason, near)).await.map(drop).map_err(not_recorded)
    }

    /// Would an exchange that is still going on be permitted now? Asked is what can be taken away while it does: the rule that
    /// let it through, the policy in force, the run's right to send anything, the grants and the secrets themselves
    /// (attack C19).
    pub async fn still_permitted(
        &self,
        run: &Run,
        outbound: &Outbound,
        generation: u64,
    ) -> Result<(), Refusal> {
        let target = &outbound.target;
        run.reach().demands(target).map_err(|rule| refuse_target(rule, target))?;
        if self.in_force().generation != generation {
            return Err(
                Refusal::new(&rules::PERMIT_STALE, target.endpoint.to_string()).widened_by("ask again")
            );
        }
        run.refuse_spent(target)?;
        let Host::Name(host) = target.host() else { return Ok(()) };
        if outbound.secrets.is_empty() {
            return Ok(());
        }
        let wish = |used: &SecretUse| SecretWish {
            secret: used.secret.clone(),
            host: host.clone(),
            inject: used.inject.clone(),
        };
        let wishes: Vec<SecretWish> = outbound.secrets.iter().map(wish).collect();
        let (name, digest) = Caller::proxy_identity();
        let grants = self.grants_to(&name).await?;
        granted(&grants, (&name, &digest), target, &wishes.iter().collect::<Vec<_>>())?;
        for SecretUse { secret, .. } in &outbound.secrets {
            let row = self.0.reader.secret(self.tenant(), secret).await;
            let row = row.map_err(|_| rules::not_read("secrets"))?;
            if row.is_none_or(|row| row.state != SecretState::Current) {
                return Err(Refusal::new(&rules::SECRET_NOT_GRANTED, format!("{secret} is disabled"))
                    .widened_by(format!("ironclaw secret enable {secret}")));
            }
        }
        Ok(())
    }

    /// Records what the proxy itself refused before there was anything to decide.
    pub async fn note_refused(&self, run: &Run, refusal: Refusal, of: &str) -> Refusal {
        self.refuse_run(run, run.record(Verdict::Block), refusal, of, Instant::now()).await
    }

    /// Records a refusal of a run, or of a storm of the same how many there were. `of` is what was asked, `METHOD HOST:PORT`.
    async fn refuse_run(
        &self,
        run: &Run,
        record: Record,
        refusal: Refusal,
        of: &str,
        since: Instant,
    ) -> Refusal {
        match run.storm.count(&refusal, of) {
            storm::Counted::Record(count) => {
                let record = record.with(Field::Count, count);
                let refusal = self.refuse(record, refusal, run.turn(), "proxy", since).await;
                run.tally.note(refusal.rule.id, of, &refusal.id.to_string(), &refusal.detail);
                refusal
            }
            storm::Counted::Like(id) => {
                run.tally.note(refusal.rule.id, of, &id.to_string(), &refusal.detail);
                Refusal { id, ..refusal }
            }
        }
    }

    async fn judge_proxied(&self, rules: &InForce, run: &Run, asked: &Asked) -> Result<Judged, Refusal> {
        let reach = run.reach();
        let demands = self.judge_reach(run, &reach, asked).await?;
        let known = self.remember().await?;
        judge_granted(rules, run, (&reach, &demands), asked, &known)
    }

    /// What can be said without the grants; what the rules demand that let the request through.
    async fn judge_reach<'r>(
        &self,
        run: &Run,
        reach: &'r Reach,
        asked: &Asked,
    ) -> Result<Demands<'r>, Refusal> {
        let target = &asked.target;
        let demands = reach.demands(target).map_err(|rule| refuse_target(rule, target))?;
        run.refuse_spent(target)?;
        self.use_name(run, reach, target.scheme, &target.endpoint).await?;
        if let Some(stray) = asked.claims.iter().find(|claim| !run.secrets().contains(&claim.secret)) {
            return Err(Refusal::new(&rules::SECRET_NOT_GRANTED, format!("{} in this run", stray.secret)));
        }
        let is_narrow = demands.is_narrow() || !asked.claims.is_empty();
        if is_narrow && overrides::asks_for_another(target.query(), asked.body.as_deref()) {
            return Err(Refusal::new(&rules::METHOD_OVERRIDE, target.endpoint.to_string()));
        }
        Ok(demands)
    }
}

/// What is left to say with the grants.
fn judge_granted(
    rules: &InForce,
    run: &Run,
    (reach, demands): (&Reach, &Demands<'_>),
    asked: &Asked,
    Known { grants, moment }: &Known,
) -> Result<Judged, Refusal> {
    let (target, moment, (name, digest)) = (&asked.target, *moment, run.caller().identity());
    judge_credentials(&bound(grants, run, target), demands, asked)?;
    if demands.single() && !is_single(asked.body.as_deref()) {
        return Err(Refusal::new(&rules::NOT_SINGLE, target.endpoint.to_string()));
    }
    let wishes = wishes(asked)?;
    // What stands for it in the answer is made when the run begins.
    let capture = demands.capture();
    let captured = capture.into_iter().flat_map(types::TokensInto::names);
    if let Some(stray) = captured.into_iter().find(|name| !run.secrets().contains(name)) {
        let detail = format!("{stray} in this run, which the rule captures a token into");
        return Err(Refusal::new(&rules::SECRET_NOT_GRANTED, detail).widened_by(format!("--secret {stray}")));
    }
    let outbound = Outbound {
        secrets: granted(grants, (&name, &digest), target, &wishes.iter().collect::<Vec<_>>())?,
        bound: is_bound(grants, target),
        caller: run.caller(),
        target: target.clone(),
        response: if capture.is_some() { CAPTURED_RESPONSE } else { PROXIED_RESPONSE },
        time: if capture.is_some() { CAPTURED_TIME } else { PROXIED_TIME },
        tokens: match capture {
            Some(into) => Tokens::Capture(into.clone()),
            None if reach.captures_at(target.host()) => Tokens::Refuse,
            None => Tokens::PassOn,
        },
    };
    match rules.engine.request(&outbound, run.turn().label(), &asked.brought) {
        cedar::Answer::Permit(by) => {
            Ok(Judged { moment, outbound, by: format!("{demands}, {by}"), ask: demands.ask() })
        }
        cedar::Answer::Ask(by) => Ok(Judged { moment, outbound, by: format!("{demands}, {by}"), ask: true }),
        cedar::Answer::Refuse(rule, by) => Err(rules::by_policy(rule, by)),
    }
}

/// The secrets that the request stands for, toward a host that has a name.
fn wishes(asked: &Asked) -> Result<Vec<SecretWish>, Refusal> {
    let Host::Name(host) = asked.target.host() else {
        if asked.claims.is_empty() {
            return Ok(Vec::new());
        }
        let detail = format!("{} has no name", asked.target.endpoint);
        return Err(Refusal::new(&rules::SECRET_NOT_GRANTED, detail));
    };
    let wish = |claim: &SecretUse| SecretWish {
        secret: claim.secret.clone(),
        host: host.clone(),
        inject: claim.inject.clone(),
    };
    Ok(asked.claims.iter().map(wish).collect())
}

/// A place that a secret is bound to takes no other credential, and where the rule says so none but it.
fn judge_credentials(bound: &[Injection], demands: &Demands<'_>, asked: &Asked) -> Result<(), Refusal> {
    let claimed = |name: &SecretName| asked.claims.iter().any(|claim| claim.secret == *name);
    if let Some(required) = demands.required().find(|required| !claimed(required)) {
        return Err(Refusal::new(
            &rules::SECRET_REQUIRED,
            format!("{required} for {}", asked.target.endpoint),
        ));
    }
    match bound.iter().find(|place| brings(asked, place)) {
        Some(place) => {
            Err(Refusal::new(&rules::OTHER_CREDENTIAL, format!("{place} at {}", asked.target.endpoint)))
        }
        None => Ok(()),
    }
}

/// The places of this target's requests that belong to secrets of the run.
fn bound(grants: &[Grant], run: &Run, target: &Target) -> Vec<Injection> {
    let (name, digest) = run.caller().identity();
    let bound = |grant: &&Grant| run.secrets().contains(&grant.secret) && grant.meets(&name, &digest, target);
    grants.iter().filter(bound).map(|grant| grant.inject.clone()).collect()
}

/// True when something of the program's own stands in the place.
fn brings(asked: &Asked, place: &Injection) -> bool {
    match place {
        Injection::Bearer | Injection::Basic { .. } => asked.headers.contains_key(AUTHORIZATION),
        Injection::Header { name } => {
            asked.headers.keys().any(|own| credential_detect::same_header(own, name))
        }
        Injection::Query { name } => {
            let query = asked.target.query();
            query.is_some_and(|query| credential_detect::has_parameter(query.as_bytes(), name))
        }
        // A path has no place of its own: the rule's prefix says what it may be.
        Injection::Path | Injection::Refresh { .. } => false,
    }
}

/// True for no body, and for one that is a JSON object. Several calls in one request are an array (JSON-RPC 2.0, 6, and what
/// servers of GraphQL make of it); of what is no JSON, or was not read whole, nothing is known.
fn is_single(body: Option<&[u8]>) -> bool {
    body.is_some_and(|body| body.is_empty() || json::is_object(body))
}

fn refuse_target(rule: &'static types::Rule, target: &Target) -> Refusal {
    let path = if *rule == rules::PATH_NOT_ALLOWED { target.path.as_str() } else { "" };
    reach::not_allowed(rule, target.scheme, &target.endpoint, path)
}
