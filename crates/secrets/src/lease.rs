//! Leases: the secrets of one permitted request, opened, recorded, and good for one use within a
//! minute.
//!
//! A lease is the right that a permit's record gives to use one secret. Using it up *is* the record of the
//! use: that record claims the lease, and of all records of a database only one may hold a claim, so of
//! any number of clients one wins (K09). In the same transaction the database looks once more: is the
//! secret's newest head the one that was read, was the grant taken back or has it ended, is the permit's
//! record younger than [`LEASE_LIFETIME`], all by the database's own clock? Only then is the value handed
//! out. One read and one transaction.
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

use std::time::{Duration, Instant};

use ::store::{Lost, Mutation, SecretState};
use ::types::{Field, Kind, Outbound, Record, Refusal, SecretName, SecretUse, Verdict};
use audit::{ChangeError, Seq, now_ms};
use policy::Permit;
use safety::Safety;

use crate::crypto;
use crate::error::VaultError;
use crate::grants::revocation;
use crate::head::{self, Head};
use crate::rules;
use crate::store::Vault;
use crate::types::Plain;

/// How long a lease may wait for its request.
pub const LEASE_LIFETIME: Duration = Duration::from_secs(60);

/// How often a lease is tried again because the secret was changed between reading and using it.
const ATTEMPTS: u32 = 4;

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
    /// What the scanners know the value by, sealed.
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
    pub async fn lease(&self, permit: &Permit<Outbound>, safety: &Safety) -> Result<Leases, Refusal> {
        let effect = permit.effect();
        let deadline = permit.deadline().min(Instant::now() + LEASE_LIFETIME);
        let mut leases = Leases { of: Some(permit.seq()), deadline, leases: Vec::new() };
        for (index, used) in effect.secrets.iter().enumerate() {
            let leased = self.open_one(permit, index, used).await;
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
        &self,
        permit: &Permit<Outbound>,
        index: usize,
        used: &SecretUse,
    ) -> Result<Lease, Refusal> {
        let Outbound { caller, target, .. } = permit.effect();
        let tool = caller.identity().0;
        let (low, high) = head::claims(&self.tenant, &used.secret);
        let mut has_use = false;
        for _ in 0..ATTEMPTS {
            permit.check()?;
            let read = self.reader.lease_view(&self.tenant, &used.secret, &tool, &low, &high).await;
            let view = read.map_err(|_| Refusal::new(&rules::NOT_READ, "grants and secret"))?;
            let grant = self.check_grant(&view.grants, caller, target, used)?;
            let read = Head::read(view.head.as_ref(), &self.grant_key, &self.tenant, &used.secret);
            let head = self.newest(&used.secret, read).map_err(sorted)?;
            let in_use = view.secret.as_ref().map(|row| (row.version, row.state));
            self.agreed(&used.secret, in_use, head).map_err(sorted)?;
            let row = view.secret.filter(|row| row.state == SecretState::Current);
            let row = row.ok_or_else(|| sorted(VaultError::NoSecret(used.secret.clone())))?;
            let value = self.open_row(&row).map_err(sorted)?;
            let ends_ms = crypto::expiry(&row.sealed);
            if ends_ms.is_some_and(|end| now_ms() >= end) {
                return Err(ended(&used.secret));
            }
            if !has_use {
                self.take_use(&grant).await?;
                has_use = true;
            }
            let record = about(permit, used, Verdict::Allow)
                .with(Field::Version, row.version)
                .with(Field::Value, self.digest(&value))
                .with(Field::Claim, claim(permit.seq(), index));
            let change = Mutation::UseLease {
                head: head.claim(&self.tenant, &used.secret),
                history: (low.clone(), high.clone()),
                revoked: revocation(&self.tenant, &grant.id),
                permit: permit.seq().get(),
                lifetime_ms: LEASE_LIFETIME.as_millis() as u64,
                ends_ms: grant.expires_ms.into_iter().chain(ends_ms).min(),
            };
            match self.audit.change(record, change).await {
                Ok(_) => return Ok(Lease::of(used.clone(), value, row.version, row.fingerprints)),
                Err(ChangeError::Lost(Lost::Changed)) => {}
                Err(ChangeError::Lost(Lost::Ended))
                    if ends_ms.is_some_and(|end| grant.expires_ms.is_none_or(|other| end < other)) =>
                {
                    return Err(ended(&used.secret));
                }
                Err(error) => return Err(lost(&error)),
            }
        }
        Err(Refusal::new(&rules::NOT_READ, "the secret was changed again and again"))
    }

    async fn record(&self, record: Record) -> Result<(), Refusal> {
        match self.audit.record(record).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::new(&rules::NOT_RECORDED, "")),
        }
    }
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

fn lost(error: &ChangeError) -> Refusal {
    match error {
        ChangeError::Lost(Lost::Claimed) => Refusal::new(&rules::LEASE_USED, ""),
        ChangeError::Lost(Lost::Missing) => Refusal::new(&rules::GRANT_REVOKED, ""),
        ChangeError::Lost(Lost::Ended) => Refusal::new(&rules::GRANT_EXPIRED, ""),
        ChangeError::Lost(Lost::Expired) => {
            Refusal::new(&rules::LEASE_EXPIRED, format!("after {} s", LEASE_LIFETIME.as_secs()))
        }
        _ => Refusal::new(&rules::NOT_RECORDED, ""),
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
}
