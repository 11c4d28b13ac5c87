//! Decisions about requests that programs send through the proxy.
//!
//! A program has no manifest: where it may go is the [`Reach`] that the owner gave its run, and which secrets it may
//! have put in are grants to `proxy`. The rest is as for a tool: the floor, Cedar, a record, then the permit.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};
use safety::credential_detect::{self, Carried};
use safety::validator::json;
use tokio::sync::mpsc::UnboundedSender;
use types::limits;
use types::{
    CallId, Caller, Endpoint, Field, Grant, Host, Injection, Kind, Layer, Outbound, Record, Refusal, Scheme,
    SecretName, SecretUse, Site, Target, Tokens, Verdict,
};

use crate::decide::{InForce, Policy, not_recorded};
use crate::held::{self, Held, Waiting};
use crate::judge::{granted, is_bound};
use crate::manifest::SecretWish;
use crate::permit::Permit;
use crate::reach::{self, Reach, ReachRule};
use crate::storm::{self, Storm};
use crate::tally::{Counted, Leak, Refused, Tally};
use crate::turn::Turn;
use crate::{cedar, overrides, rules};

/// The longest answer. A model's weights are smaller, and so is every image of a disk that a build fetches.
const PROXIED_RESPONSE: limits::Bytes = limits::Bytes::mib(64 * 1024);

/// The time for one exchange: the longest downloads and event streams that honest programs wait for.
const PROXIED_TIME: Duration = Duration::from_secs(60 * 60);

/// The longest answer that is held for its tokens, and the time for such an exchange. Tokens of some providers have some kilobytes.
const CAPTURED_RESPONSE: limits::Bytes = limits::Bytes::kib(64);
const CAPTURED_TIME: Duration = Duration::from_secs(60);

/// Names under wildcards that one run may use. A name that is looked up is read by the zone's name server, so each is room
/// to write into (attack X02); a run that needs more has its hosts named.
const MOST_NAMES: usize = 64;

/// Characters of all these names before the zone, together: of machines' names of the usual length there are 64, of labels
/// that hold as much as a label can, 16.
const MOST_LETTERS: usize = 1024;

/// How many quarters of either are used when the log says so, once a run.
const NEAR: usize = 3;

/// What the clients of one proxy, or one program in a container, may do: the authority for their permits.
pub struct Run {
    id: CallId,
    site: Site,
    turn: Turn,
    reach: RwLock<Arc<Reach>>,
    secrets: Vec<SecretName>,
    names: Mutex<WildcardNames>,
    storm: Storm,
    tally: Arc<Tally>,
    /// How long a request waits for the owner, what waits, and who tells the owner.
    pub(crate) wait: Duration,
    pub(crate) waiting: Waiting,
    teller: Option<Teller>,
}

/// Names under wildcards that were used.
#[derive(Default)]
struct WildcardNames {
    used: BTreeSet<Host>,
    /// Whether the owner was told that there are many.
    told: bool,
}

/// Tells the owner of a request that waits.
pub type Teller = Box<dyn Fn(&Held) + Send + Sync>;

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
}

/// A judgement about a request.
struct Judged {
    outbound: Outbound,
    by: String,
    /// The owner is asked first.
    ask: bool,
}

impl Run {
    /// A run whose program runs at `site`, may go where `reach` says and may stand placeholders of `secrets` in its
    /// requests.
    pub fn open(turn: Turn, site: Site, reach: Reach, secrets: Vec<SecretName>) -> Self {
        let reach = RwLock::new(Arc::new(reach));
        Self {
            id: CallId::new(),
            site,
            turn,
            reach,
            secrets,
            names: Mutex::default(),
            storm: Storm::default(),
            tally: Arc::default(),
            wait: held::WAIT,
            waiting: Waiting::default(),
            teller: None,
        }
    }

    /// Tells the owner of requests that wait, each of which waits so long.
    #[must_use]
    pub fn asking(mut self, wait: Option<Duration>, teller: Teller) -> Self {
        self.wait = wait.unwrap_or(self.wait);
        self.teller = Some(teller);
        self
    }

    /// Tells of every leak that is stopped in the run.
    #[must_use]
    pub fn alarmed(self, alarm: UnboundedSender<Leak>) -> Self {
        self.tally.alarm(alarm);
        self
    }

    /// What was refused, by kinds, the most frequent first; and how many refusals there were of kinds beyond those.
    pub fn refused(&self) -> (Vec<Refused>, u64) {
        self.tally.kinds()
    }

    pub(crate) fn tell(&self, held: &Held) {
        if let Some(teller) = &self.teller {
            teller(held);
        }
    }

    /// Puts other rules in force, for every request from here on.
    pub fn replace(&self, reach: Reach) {
        *self.reach.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(reach);
    }

    /// The rules in force.
    pub fn reach(&self) -> Arc<Reach> {
        self.reach.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of the secrets that placeholders stand for.
    pub fn secrets(&self) -> &[SecretName] {
        &self.secrets
    }

    /// The turn that its records belong to.
    pub fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Counts a name that only a wildcard rule names. Where many are used by now, it says so once.
    fn count_name(
        &self,
        reach: &Reach,
        scheme: Scheme,
        endpoint: &Endpoint,
    ) -> Result<Option<String>, Refusal> {
        if reach.names_alone(scheme, endpoint) {
            return Ok(None);
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let letters = |host: &Host| match host {
            Host::Name(name) => name.as_str().split('.').next().map_or(0, str::len),
            Host::Addr(_) => 0,
        };
        if names.used.contains(&endpoint.host) {
            return Ok(None);
        }
        let before: usize = names.used.iter().map(letters).sum();
        let (number, length) = (names.used.len() + 1, before + letters(&endpoint.host));
        if number > MOST_NAMES || length > MOST_LETTERS {
            let detail = format!("{} names with {before} letters before {endpoint}", number - 1);
            let refusal = Refusal::new(&rules::WILDCARD_NAMES, detail);
            return Err(refusal.widened_by(format!("name the host by itself: --allow {endpoint}")));
        }
        names.used.insert(endpoint.host.clone());
        let is_near = 4 * number >= NEAR * MOST_NAMES || 4 * length >= NEAR * MOST_LETTERS;
        let is_new = is_near && !std::mem::replace(&mut names.told, true);
        Ok(is_new.then(|| {
            format!("{number} of {MOST_NAMES} names, {length} of {MOST_LETTERS} letters with {endpoint}")
        }))
    }

    fn caller(&self) -> Caller {
        Caller::Client { run: self.id, site: self.site }
    }

    fn record(&self, verdict: Verdict) -> Record {
        Record::new(Kind::Request, verdict)
            .of_turn(self.turn.id())
            .with(Field::Actor, self.caller())
            .with(Field::Call, self.id)
    }
}

impl Policy {
    /// May a program of this run send this request now?
    pub async fn decide_proxied(&self, run: &Run, asked: Asked) -> Result<Permit<Outbound>, Refusal> {
        let since = Instant::now();
        let mut rules = self.in_force();
        if let Err(refusal) = self.recordable(&asked.target) {
            return Err(self.refuse_run(run, run.record(Verdict::Block), refusal, "", since).await);
        }
        let record = |verdict| run.record(verdict).with(Field::Target, &asked.target);
        let judged = match self.judge_proxied(&rules, run, &asked).await {
            Ok(judged) if judged.ask => match self.hold_request(run, &asked, record).await {
                // Rules and grants may have changed while it waited.
                Ok(approval) => {
                    rules = self.in_force();
                    let again = self.judge_proxied(&rules, run, &asked).await;
                    again.map(|judged| (judged, Some(approval)))
                }
                Err(refusal) => Err(refusal),
            },
            judged => judged.map(|judged| (judged, None)),
        };
        let (Judged { outbound, by, .. }, approval) = match judged {
            Ok(judged) => judged,
            Err(refusal) => {
                let of = format!("{} {}", asked.target.method, asked.target.endpoint);
                return Err(self.refuse_run(run, record(Verdict::Block), refusal, &of, since).await);
            }
        };
        let named = outbound.secrets.iter().map(|used| used.secret.to_string()).collect::<Vec<_>>().join(",");
        let record = record(Verdict::Allow).with(Field::Rule, &by).with(Field::Secret, &named);
        let seq = match approval {
            Some(used) => self.audit().change(record, used).await.map_err(not_recorded)?,
            None => self.audit().record(record).await.map_err(not_recorded)?,
        };
        run.turn
            .trace()
            .step(Layer::Egress, "reach", Verdict::Allow, since, || format!("{} by {by}", asked.target));
        let of = format!("{} {}", asked.target.method, asked.target.endpoint);
        let counted = Counted { tally: run.tally.clone(), asked: of };
        Ok(self.mint_request(outbound, seq, &run.turn, &rules).counted(counted))
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

    /// Are the secrets of an exchange that is still going on still granted for it?
    pub async fn still_granted(&self, target: &Target, secrets: &[SecretUse]) -> Result<(), Refusal> {
        let Host::Name(host) = target.host() else { return Ok(()) };
        let wish = |used: &SecretUse| SecretWish {
            secret: used.secret.clone(),
            host: host.clone(),
            inject: used.inject.clone(),
        };
        let wishes: Vec<SecretWish> = secrets.iter().map(wish).collect();
        let (name, digest) = Caller::proxy_identity();
        let grants = self.grants_to(&name).await?;
        granted(&grants, (&name, &digest), target, &wishes.iter().collect::<Vec<_>>()).map(drop)
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
                let refusal = self.refuse(record, refusal, &run.turn, "proxy", since).await;
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
        let target = &asked.target;
        let reach = run.reach();
        let rule = reach.rule(target).map_err(|rule| refuse_target(rule, target))?;
        self.use_name(run, &reach, target.scheme, &target.endpoint).await?;
        let (name, digest) = run.caller().identity();
        if let Some(stray) = asked.claims.iter().find(|claim| !run.secrets.contains(&claim.secret)) {
            return Err(Refusal::new(&rules::SECRET_NOT_GRANTED, format!("{} in this run", stray.secret)));
        }
        let is_narrow = !rule.takes_every_method() || !asked.claims.is_empty();
        if is_narrow && overrides::asks_for_another(target.query(), &asked.headers, asked.body.as_ref()) {
            return Err(Refusal::new(&rules::METHOD_OVERRIDE, target.endpoint.to_string()));
        }
        let grants = self.grants_to(&name).await?;
        judge_credentials(&bound(&grants, run, target), rule, asked)?;
        if rule.single && !is_single(asked.body.as_deref()) {
            return Err(Refusal::new(&rules::NOT_SINGLE, target.endpoint.to_string()));
        }
        let wishes = wishes(asked)?;
        // What stands for it in the answer is made when the run begins.
        let captured = rule.capture.iter().flat_map(types::TokensInto::names);
        if let Some(stray) = captured.into_iter().find(|name| !run.secrets.contains(name)) {
            let detail = format!("{stray} in this run, which the rule captures a token into");
            return Err(
                Refusal::new(&rules::SECRET_NOT_GRANTED, detail).widened_by(format!("--secret {stray}"))
            );
        }
        let outbound = Outbound {
            secrets: granted(&grants, (&name, &digest), target, &wishes.iter().collect::<Vec<_>>())?,
            bound: is_bound(&grants, target),
            caller: run.caller(),
            target: target.clone(),
            response: if rule.capture.is_some() { CAPTURED_RESPONSE } else { PROXIED_RESPONSE },
            time: if rule.capture.is_some() { CAPTURED_TIME } else { PROXIED_TIME },
            tokens: match &rule.capture {
                Some(into) => Tokens::Capture(into.clone()),
                None if reach.captures_at(target.host()) => Tokens::Refuse,
                None => Tokens::PassOn,
            },
        };
        if (outbound.bound || !outbound.secrets.is_empty()) && run.tally.is_spent() {
            return Err(Refusal::new(&rules::SECRETS_SUSPENDED, target.endpoint.to_string())
                .widened_by("look at what came back: ironclaw approvals list; a new run starts afresh"));
        }
        match rules.engine.request(&outbound, run.turn.label(), &asked.brought) {
            cedar::Answer::Permit(by) => Ok(Judged { outbound, by: format!("{rule}, {by}"), ask: rule.ask }),
            cedar::Answer::Ask(by) => Ok(Judged { outbound, by: format!("{rule}, {by}"), ask: true }),
            cedar::Answer::Refuse(rule, by) => Err(rules::by_policy(rule, by)),
        }
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
fn judge_credentials(bound: &[Injection], rule: &ReachRule, asked: &Asked) -> Result<(), Refusal> {
    let claimed = |name: &SecretName| asked.claims.iter().any(|claim| claim.secret == *name);
    if let Some(required) = rule.require.as_ref().filter(|required| !claimed(required)) {
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
    let bound = |grant: &&Grant| run.secrets.contains(&grant.secret) && grant.covers(&name, &digest, target);
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
            asked.target.query().is_some_and(|query| credential_detect::has_parameter(query, name))
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

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run").field("id", &self.id).field("secrets", &self.secrets).finish_non_exhaustive()
    }
}
