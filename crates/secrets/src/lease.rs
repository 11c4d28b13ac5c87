//! Leases: the secrets of one permitted request, opened, recorded, and good for one use within a
//! minute.
//!
//! A lease is the right that a permit's record gives to use one secret. Using it up *is* the record of the
//! use: that record claims the lease, and of all records of a database only one may hold a claim, so of
//! any number of clients one wins (K09). The transaction that holds the record also holds what it is judged by: is the
//! secret's newest head the one that its row agrees with, was the grant taken back, has it ended or been used up, is the
//! permit's record younger than [`LEASE_LIFETIME`]? All of it is read while the log is locked and judged by the clock
//! that stamps its records, the database's own where it has one. Only once the records are durable is the value handed
//! out. A server is asked twice: to lock the log and tell all this, and to write the records and end the transaction.
//!
//! [`Leases`] cannot be copied, so that a lease cannot be used twice:
//!
//! ```compile_fail
//! use secrets::{Leases, inject};
//! fn twice(leases: Leases, one: policy::Permit<types::Outbound>, two: policy::Permit<types::Outbound>) {
//!     let _ = inject(leases, one, http::Request::new(()));
//!     let _ = inject(leases, two, http::Request::new(()));
//! }
//! ```
//!
//! ```
//! use secrets::{Leases, inject};
//! fn twice(leases: Leases, one: policy::Permit<types::Outbound>, two: policy::Permit<types::Outbound>) {
//!     let _ = inject(leases, one, http::Request::new(()));
//!     let _ = inject(Leases::none(), two, http::Request::new(()));
//! }
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::store::{LeaseQuestion, LeaseView, SecretState};
use ::types::{
    Caller, Field, Kind, Outbound, Record, Refusal, SecretName, SecretUse, Target, ToolName, Verdict,
};
use audit::{AuditError, Seq};
use policy::Permit;
use safety::Safety;

use crate::crypto;
use crate::error::VaultError;
use crate::grants;
use crate::head::{self, Head};
use crate::rules;
use crate::store::Vault;
use crate::types::Plain;

/// How long a lease may wait for its request.
pub const LEASE_LIFETIME: Duration = Duration::from_secs(60);

/// The opened secrets of one permit.
#[must_use = "a lease that is not injected opened a secret for nothing"]
pub struct Leases {
    /// The permit's record; `None` when nothing is leased.
    of: Option<Seq>,
    deadline: Instant,
    leases: Vec<Lease>,
}

pub(crate) struct Lease {
    pub(crate) used: SecretUse,
    pub(crate) value: Plain,
    version: i64,
    /// What the scanners know the value by, sealed; empty where they did when it was asked for.
    fingerprints: Vec<u8>,
}

impl Lease {
    pub(crate) fn of(used: SecretUse, value: Plain, version: i64, fingerprints: Vec<u8>) -> Self {
        Self { used, value, version, fingerprints }
    }
}

impl Leases {
    /// For a request that needs no secret.
    pub fn none() -> Self {
        Self { of: None, deadline: Instant::now() + LEASE_LIFETIME, leases: Vec::new() }
    }

    /// How many secrets are leased.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// True when no secret is leased.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Hands the secrets out if they are exactly those of the permit with the record `of`, in time.
    pub(crate) fn take(self, of: Seq, uses: &[SecretUse], now: Instant) -> Result<Vec<Lease>, Refusal> {
        let ours = self.leases.iter().map(|lease| &lease.used).eq(uses);
        if !ours || self.of.is_some_and(|leased| leased != of) {
            return Err(Refusal::new(&rules::LEASE_MISMATCH, ""));
        }
        if now > self.deadline {
            let detail = format!("after {} s", LEASE_LIFETIME.as_secs());
            return Err(Refusal::new(&rules::LEASE_EXPIRED, detail));
        }
        Ok(self.leases)
    }
}

impl Vault {
    /// Opens the secrets of a permitted request. Each must be covered by an authentic grant, and its
    /// use is on record, durably, before this returns; and each is then known to the scanners, also a version that
    /// another process stored since this one began: what they do not know they would let come back.
    pub async fn lease(
        self: &Arc<Self>,
        permit: &Permit<Outbound>,
        safety: &Safety,
    ) -> Result<Leases, Refusal> {
        let effect = permit.effect();
        let deadline = permit.deadline().min(Instant::now() + LEASE_LIFETIME);
        let mut leases = Leases { of: Some(permit.seq()), deadline, leases: Vec::new() };
        for (index, used) in effect.secrets.iter().enumerate() {
            let leased = self.open_one(permit, index, used, safety).await;
            match leased.and_then(|lease| self.teach(&lease, safety).map(|()| lease)) {
                Ok(lease) => leases.leases.push(lease),
                Err(refusal) => {
                    let record = about(permit, used, Verdict::Block)
                        .with(Field::Rule, refusal.rule.id)
                        .with(Field::Refusal, refusal.id)
                        .with(Field::Reason, &refusal.detail)
                        .with(Field::Widen, refusal.widen.as_deref().unwrap_or_default());
                    self.record(record).await?;
                    return Err(refusal);
                }
            }
        }
        Ok(leases)
    }

    /// Lets the scanners know what is leased.
    fn teach(&self, lease: &Lease, safety: &Safety) -> Result<(), Refusal> {
        let (secret, version) = (&lease.used.secret, lease.version);
        let read = || Ok((self.open_fingerprints(secret, version, &lease.fingerprints)?, self.no_values()));
        let known = safety.know(secret, version, read);
        known.map_err(|error| sorted(VaultError::Row { name: secret.clone(), version, error }))
    }

    /// Opens one secret and uses its lease up.
    async fn open_one(
        self: &Arc<Self>,
        permit: &Permit<Outbound>,
        index: usize,
        used: &SecretUse,
        safety: &Safety,
    ) -> Result<Lease, Refusal> {
        permit.check()?;
        let effect = permit.effect();
        let known = safety.newest_known(&used.secret).unwrap_or(0);
        let question = self.question(&used.secret, effect.caller.identity().0, (permit.seq(), index), known);
        let wanted = Wanted {
            caller: effect.caller.clone(),
            target: effect.target.clone(),
            used: used.clone(),
            record: about(permit, used, Verdict::Allow).with(Field::Claim, &question.claim),
        };
        let vault = self.clone();
        let judged = self.audit.lease(question, move |view, now_ms| vault.judge(&wanted, view, now_ms)).await;
        judged.unwrap_or_else(|error| {
            Err(match error {
                AuditError::Unavailable(_) | AuditError::Head => {
                    Refusal::new(&rules::NOT_READ, "grants and secret")
                }
                AuditError::Uncertain(_) | AuditError::Closed => Refusal::new(&rules::NOT_RECORDED, ""),
            })
        })
    }

    /// What the log is asked about one lease of a permit, of which `known` is the version that the scanners know.
    fn question(
        &self,
        secret: &SecretName,
        tool: ToolName,
        (of, index): (Seq, usize),
        known: i64,
    ) -> LeaseQuestion {
        LeaseQuestion {
            tenant: self.tenant.clone(),
            secret: secret.clone(),
            tool,
            history: head::claims(&self.tenant, secret),
            revoked: grants::revocation(&self.tenant, ""),
            uses: grants::counted(&self.tenant, ""),
            claim: claim(of, index),
            permit: i64::try_from(of.get()).unwrap_or(i64::MAX),
            known,
        }
    }

    /// Whether the lease may be used, by what is there while the log is locked: the lease is free and its permit
    /// young, an authentic grant in force covers it that nobody took back, and the secret is the one that the log tells of.
    /// With the records that say so. `now_ms` and the permit's time are of one clock: a server's own, for
    /// every process that uses it.
    fn judge(&self, wanted: &Wanted, view: &LeaseView, now_ms: u64) -> Result<(Vec<Record>, Lease), Refusal> {
        let Wanted { caller, target, used, record } = wanted;
        if view.is_used {
            return Err(Refusal::new(&rules::LEASE_USED, ""));
        }
        let decided = view.permit.as_ref().and_then(|row| Record::decode(&row.record).ok());
        if !decided.is_some_and(|(at_ms, _)| is_young(at_ms, now_ms)) {
            return Err(Refusal::new(&rules::LEASE_EXPIRED, format!("after {} s", LEASE_LIFETIME.as_secs())));
        }
        let counted = self.check_grant(&view.grants, caller, target, used, now_ms)?;
        let read = Head::read(view.head.as_ref(), &self.grant_key, &self.tenant, &used.secret);
        let head = self.newest(&used.secret, read).map_err(sorted)?;
        let in_use = view.secret.as_ref().map(|row| (row.version, row.state));
        self.agreed(&used.secret, in_use, head).map_err(sorted)?;
        let row = view.secret.as_ref().filter(|row| row.state == SecretState::Current);
        let row = row.ok_or_else(|| sorted(VaultError::NoSecret(used.secret.clone())))?;
        let value = self.open_row(row).map_err(sorted)?;
        if crypto::expiry(&row.sealed).is_some_and(|end| now_ms >= end) {
            return Err(ended(&used.secret));
        }
        let use_of_it =
            record.clone().with(Field::Version, row.version).with(Field::Value, self.digest(&value));
        let lease = Lease::of(used.clone(), value, row.version, row.fingerprints.clone());
        Ok((counted.into_iter().chain([use_of_it]).collect(), lease))
    }

    async fn record(&self, record: Record) -> Result<(), Refusal> {
        match self.audit.record(record).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::new(&rules::NOT_RECORDED, "")),
        }
    }
}

/// What is asked for.
struct Wanted {
    caller: Caller,
    target: Target,
    used: SecretUse,
    /// What is recorded of its use, but for what is known only then.
    record: Record,
}

/// Whether a lease whose permit was recorded then may still be used.
fn is_young(permitted_ms: u64, now_ms: u64) -> bool {
    now_ms <= permitted_ms.saturating_add(LEASE_LIFETIME.as_millis() as u64)
}

/// What the record of a use claims: one secret of one permit.
fn claim(of: Seq, index: usize) -> String {
    format!("lease/{:020}/{index}", of.get())
}

/// The value has ended, as whoever gave it said it would.
fn ended(name: &SecretName) -> Refusal {
    Refusal::new(&rules::SECRET_EXPIRED, name.to_string())
        .widened_by(format!("ironclaw secret refresh {name}, or: ironclaw secret set {name}"))
}

/// Why a lease was not given, as the rule that says so.
fn sorted(error: VaultError) -> Refusal {
    match error {
        VaultError::NoSecret(name) => Refusal::new(&rules::SECRET_MISSING, name.to_string())
            .widened_by(format!("ironclaw secret set {name}")),
        VaultError::RolledBack { .. } => Refusal::new(&rules::ROLLED_BACK, error.to_string()),
        VaultError::Row { .. } => Refusal::new(&rules::SEAL_BROKEN, error.to_string()),
        _ => Refusal::new(&rules::NOT_READ, "secret"),
    }
}

fn about(permit: &Permit<Outbound>, used: &SecretUse, verdict: Verdict) -> Record {
    let effect = permit.effect();
    let (tool, digest) = effect.caller.identity();
    Record::new(Kind::Unseal, verdict)
        .of_turn(permit.turn())
        .with(Field::Of, permit.seq().get())
        .with(Field::Actor, &effect.caller)
        .with(Field::Tool, tool)
        .with(Field::Digest, digest)
        .with(Field::Secret, &used.secret)
        .with(Field::Inject, &used.inject)
        .with(Field::Target, &effect.target)
}

#[cfg(test)]
mod tests {
    use ::audit::Audit;
    use ::types::Injection;

    use super::*;

    fn leases(of: Option<Seq>, now: Instant) -> Leases {
        let used = SecretUse { secret: SecretName::parse("A_KEY").unwrap(), inject: Injection::Bearer };
        let lease = Lease::of(used, Plain::new(b"some value".to_vec()), 1, Vec::new());
        Leases { of, deadline: now + LEASE_LIFETIME, leases: vec![lease] }
    }

    #[tokio::test]
    async fn k10_a_lease_is_refused_late_for_another_permit_and_for_other_uses() {
        let home = tempfile::tempdir().unwrap();
        let (_, writer) = ::store::open(&home.path().join("data/ironclaw.db")).await.unwrap();
        let (audit, _drain) = Audit::start(writer);
        let seq = async || audit.record(Record::new(Kind::Request, Verdict::Allow)).await.unwrap();
        let (one, two, now) = (seq().await, seq().await, Instant::now());
        let uses = vec![leases(None, now).leases.remove(0).used];
        let rule = |of, uses: &[SecretUse], after| {
            let taken = leases(Some(one), now).take(of, uses, now + after);
            taken.err().map(|refusal| refusal.rule.id)
        };
        assert_eq!(rule(one, &uses, LEASE_LIFETIME), None);
        let late = LEASE_LIFETIME + Duration::from_millis(1);
        assert_eq!(rule(one, &uses, late), Some("vault.lease-expired"));
        assert_eq!(rule(two, &uses, Duration::ZERO), Some("vault.lease-mismatch"));
        assert_eq!(rule(one, &[], Duration::ZERO), Some("vault.lease-mismatch"));
        let twice = [uses[0].clone(), uses[0].clone()];
        assert_eq!(rule(one, &twice, Duration::ZERO), Some("vault.lease-mismatch"));
        let elsewhere = [SecretUse { inject: Injection::Path, ..uses[0].clone() }];
        assert_eq!(rule(one, &elsewhere, Duration::ZERO), Some("vault.lease-mismatch"));
        assert!(Leases::none().take(one, &[], now).is_ok());
    }
    /// A grant to the agent for two uses.
    fn bounded(secret: &SecretName, ends_ms: u64) -> ::types::Grant {
        ::types::Grant {
            tool: ToolName::agent(),
            digest: Caller::Agent.identity().1,
            secret: secret.clone(),
            host: ::types::HostName::parse("a.example").unwrap(),
            port: ::types::Port::new(443).unwrap(),
            methods: vec![http::Method::GET],
            path: ::types::PathPrefix::parse("/").unwrap(),
            inject: Injection::Bearer,
            expires_ms: Some(ends_ms),
            max_uses: Some(2),
        }
    }

    #[tokio::test]
    async fn k10_a_use_is_judged_by_the_clock_and_the_records_of_the_log() {
        let home = tempfile::tempdir().unwrap();
        let (reader, writer) = ::store::open(&home.path().join("data/ironclaw.db")).await.unwrap();
        let (audit, _drain) = Audit::start(writer);
        let unlock = crate::Unlock::File(home.path().join("keys"));
        let vault = Vault::create(reader, &audit, &unlock).await.unwrap();
        let key = SecretName::parse("A_KEY").unwrap();
        const SECOND: u64 = 1000;
        let end = audit::now_ms() + 3600 * SECOND;
        vault.put_until(&key, Plain::new(b"a value of the vault".to_vec()), None, Some(end)).await.unwrap();
        let grant = bounded(&key, end - 1800 * SECOND);
        let id = vault.grant(&grant).await.unwrap();
        let permit = audit.record(Record::new(Kind::Request, Verdict::Allow)).await.unwrap();
        let question = vault.question(&key, grant.tool.clone(), (permit, 0), 0);
        let look = |view: &LeaseView, now_ms| Ok::<_, ()>((Vec::new(), (view.clone(), now_ms)));
        let (view, now) = audit.lease(question, look).await.unwrap().unwrap();
        let wanted = |url: &str| Wanted {
            caller: Caller::Agent,
            target: Target::parse("GET", url).unwrap(),
            used: grant.secret_use(),
            record: Record::new(Kind::Unseal, Verdict::Allow)
                .with(Field::Actor, Caller::Agent)
                .with(Field::Claim, claim(permit, 0)),
        };
        let judged = |now, change: &dyn Fn(&mut LeaseView)| {
            let mut view = view.clone();
            change(&mut view);
            let outcome = vault.judge(&wanted("https://a.example/x"), &view, now);
            outcome.map(|(records, _)| records.len()).map_err(|refusal| refusal.rule.id)
        };
        let minute = LEASE_LIFETIME.as_millis() as u64;
        let (permitted, _) = Record::decode(&view.permit.as_ref().unwrap().record).unwrap();
        let (records, _) = vault.judge(&wanted("https://a.example/x"), &view, now).unwrap();
        assert!(records.iter().all(|record| record.field(Field::Actor) == Some("agent")), "{records:?}");
        // The use of the grant and the use of the lease.
        assert_eq!(judged(now, &|_| {}), Ok(2));
        assert_eq!(judged(permitted + minute, &|_| {}), Ok(2));
        assert_eq!(judged(permitted + minute + 1, &|_| {}), Err("vault.lease-expired"));
        assert_eq!(judged(now, &|view| view.permit = None), Err("vault.lease-expired"));
        assert_eq!(judged(now, &|view| view.is_used = true), Err("vault.lease-used"));
        assert_eq!(judged(now, &|view| view.grants[0].is_revoked = true), Err("vault.grant-revoked"));
        let used =
            |claim: String| move |view: &mut LeaseView| view.grants[0].last_use = Some(claim.clone().into());
        assert_eq!(judged(now, &used(format!("use/local/{id}/{:010}", 1))), Ok(2));
        assert_eq!(judged(now, &used(format!("use/local/{id}/{:010}", 2))), Err("vault.grant-used-up"));
        assert_eq!(judged(now, &used(format!("use/local/{id}/x"))), Err("vault.grant-used-up"));
        assert_eq!(judged(now, &|view| view.head = None), Err("vault.rolled-back"));
        assert_eq!(judged(now, &|view| view.secret = None), Err("vault.rolled-back"));
        assert_eq!(judged(now, &|view| view.grants.clear()), Err("vault.not-granted"));
        let later = |at_ms: u64| {
            let record = Record::new(Kind::Request, Verdict::Allow).encode(at_ms);
            move |view: &mut LeaseView| view.permit.as_mut().unwrap().record = record.clone()
        };
        let ends = end - 1800 * SECOND;
        assert_eq!(judged(ends - 1, &later(ends - 1)), Ok(2));
        assert_eq!(judged(ends, &later(ends)), Err("vault.grant-expired"));
        let elsewhere = vault.judge(&wanted("https://b.example/x"), &view, now);
        assert_eq!(elsewhere.err().map(|refusal| refusal.rule.id), Some("vault.not-granted"));
    }
}
