//! Grants: rows of their own, authenticated under the tenant's key.
//!
//! The code over a row covers the tenant, the id, both lookup columns, the time and the grant's
//! canonical bytes. So a grant that was written or loosened by anything but this vault unseals
//! nothing (K04). What was taken back is claimed by its record: a row that comes back from a copy
//! of the database meets that record and unseals nothing either (K19). Uses are claims too, one record
//! each, so there is no counter that could be set back.

use ::store::{GrantRow, HeldGrant, Lost, Mutation, Reader};
use ::types::{Caller, Field, Grant, Kind, Record, Refusal, SecretUse, Target, Tenant, Verdict};
use audit::{Audit, ChangeError, Seq, now_ms};

use crate::crypto;
use crate::error::VaultError;
use crate::rules;
use crate::store::Vault;

/// A grant as it lies in the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GrantInfo {
    /// By which it is revoked.
    pub id: String,
    /// What it says; `None` when the row does not parse.
    pub grant: Option<Grant>,
    /// Whether this vault wrote exactly this row. Otherwise it is worth nothing.
    pub authentic: bool,
    /// When it was given, in milliseconds since 1970.
    pub created_ms: u64,
}

impl Vault {
    /// Lets code use a secret at a place, and returns the grant's id.
    pub async fn grant(&self, grant: &Grant) -> Result<String, VaultError> {
        if grant.methods.is_empty() {
            return Err(VaultError::EmptyGrant);
        }
        if self.reader.secret(&self.tenant, &grant.secret).await?.is_none() {
            return Err(VaultError::NoSecret(grant.secret.clone()));
        }
        let mut row = GrantRow {
            tenant: self.tenant.clone(),
            id: crypto::random_id()?,
            tool: grant.tool.clone(),
            secret: grant.secret.clone(),
            body: grant.encode(),
            mac: Vec::new(),
            created_ms: now_ms(),
        };
        row.mac = crypto::authenticate(&self.grant_key, &authenticated(&row, &row.created_ms.to_be_bytes()));
        let (id, record) = (row.id.clone(), about(Kind::Grant, grant));
        self.audit.change(record, Mutation::PutGrant(row)).await.map_err(|error| match error {
            ChangeError::Lost(lost) => VaultError::Lost { name: grant.secret.clone(), lost },
            ChangeError::Audit(error) => error.into(),
        })?;
        Ok(id)
    }

    /// Takes a grant back. The next request that needs it is refused.
    pub async fn revoke(&self, id: &str) -> Result<Seq, VaultError> {
        revoke(&self.reader, &self.audit, &self.tenant, id).await
    }

    /// Every grant, oldest first, with the answer to whether it is authentic.
    pub async fn grants(&self) -> Result<Vec<GrantInfo>, VaultError> {
        let info = |row: GrantRow| GrantInfo {
            grant: Grant::decode(&row.body).ok(),
            authentic: self.is_authentic(&row),
            created_ms: row.created_ms,
            id: row.id,
        };
        Ok(self.reader.all_grants(&self.tenant).await?.into_iter().map(info).collect())
    }

    /// Refuses a use that no authentic grant in force covers; otherwise the record that counts it, where the grant
    /// that does has a bound. One without a bound comes first.
    pub(crate) fn check_grant(
        &self,
        held: &[HeldGrant],
        caller: &Caller,
        target: &Target,
        used: &SecretUse,
        now_ms: u64,
    ) -> Result<Option<Record>, Refusal> {
        let (tool, digest) = caller.identity();
        let covers = |grant: &Grant| grant.covers(&tool, &digest, target) && grant.secret_use() == *used;
        let mut left: Vec<(&HeldGrant, Grant)> = held
            .iter()
            .filter_map(|held| Some((held, Grant::decode(&held.row.body).ok()?)))
            .filter(|(_, grant)| covers(grant))
            .collect();
        let mut rule = &rules::NOT_GRANTED;
        let mut keep = |reason, is_good: &dyn Fn(&HeldGrant, &Grant) -> bool| {
            if !left.is_empty() {
                rule = reason;
            }
            left.retain(|(held, grant)| is_good(held, grant));
        };
        keep(&rules::GRANT_ALTERED, &|held, _| self.is_authentic(&held.row));
        keep(&rules::GRANT_EXPIRED, &|_, grant| grant.expires_ms.is_none_or(|end| now_ms < end));
        keep(&rules::GRANT_REVOKED, &|held, _| !held.is_revoked);
        keep(&rules::GRANT_USED_UP, &|held, grant| grant.max_uses.is_none_or(|max| self.uses_of(held) < max));
        if let Some((held, grant)) = left.iter().min_by_key(|(_, grant)| grant.max_uses.is_some()) {
            return Ok(grant.max_uses.map(|_| self.count(held, caller)));
        }
        // Not the path: the sandbox chose it, and a person pastes this into a shell.
        let widen = format!(
            "ironclaw secret grant {} --tool {tool} --host {} --method {} --inject {}",
            used.secret, target.endpoint, target.method, used.inject
        );
        let detail = format!("{} for {caller} to {target}", used.secret);
        Err(Refusal::new(rule, detail).widened_by(widen))
    }

    /// How often a grant was used, by its last record; what is no such record counts as all of them.
    fn uses_of(&self, held: &HeldGrant) -> u32 {
        let Some(claim) = &held.last_use else { return 0 };
        let count = std::str::from_utf8(claim).ok().and_then(|claim| {
            claim.strip_prefix(&counted(&self.tenant, &held.row.id))?.strip_prefix('/')?.parse().ok()
        });
        count.unwrap_or(u32::MAX)
    }

    /// The record that takes the next use.
    fn count(&self, held: &HeldGrant, caller: &Caller) -> Record {
        let next = self.uses_of(held).saturating_add(1);
        Record::new(Kind::Grant, Verdict::Done)
            .with(Field::Actor, caller)
            .with(Field::State, "used")
            .with(Field::Count, next)
            .with(Field::Claim, format!("{}/{next:010}", counted(&self.tenant, &held.row.id)))
    }

    fn is_authentic(&self, row: &GrantRow) -> bool {
        crypto::is_authentic(&self.grant_key, &authenticated(row, &row.created_ms.to_be_bytes()), &row.mac)
    }
}

/// What the records claim that count the uses of a grant, but for the slash and the count.
pub(crate) fn counted(tenant: &Tenant, id: &str) -> String {
    format!("use/{tenant}/{id}")
}

/// What the record of a revocation claims.
pub(crate) fn revocation(tenant: &Tenant, id: &str) -> String {
    format!("revoked/{tenant}/{id}")
}

/// Takes a grant back. Needs no key.
pub async fn revoke(reader: &Reader, audit: &Audit, tenant: &Tenant, id: &str) -> Result<Seq, VaultError> {
    let rows = reader.all_grants(tenant).await?;
    let row = rows.into_iter().find(|row| row.id == id).ok_or(VaultError::NoGrant)?;
    let record = match Grant::decode(&row.body) {
        Ok(grant) => about(Kind::Revoke, &grant),
        Err(_) => about_row(Kind::Revoke, &row),
    };
    let delete = || Mutation::DeleteGrant { tenant: tenant.clone(), id: row.id.clone() };
    let claimed = record.clone().with(Field::Claim, revocation(tenant, &row.id));
    let outcome = match audit.change(claimed, delete()).await {
        // It was taken back before, and its row put back since.
        Err(ChangeError::Lost(Lost::Claimed)) => audit.change(record, delete()).await,
        outcome => outcome,
    };
    outcome.map_err(|error| match error {
        ChangeError::Lost(Lost::Missing) => VaultError::NoGrant,
        ChangeError::Lost(lost) => VaultError::Lost { name: row.secret.clone(), lost },
        ChangeError::Audit(error) => error.into(),
    })
}

/// Everything in a row but the code itself.
fn authenticated<'a>(row: &'a GrantRow, created_ms: &'a [u8]) -> [&'a [u8]; 6] {
    [
        row.tenant.as_str().as_bytes(),
        row.id.as_bytes(),
        row.tool.as_str().as_bytes(),
        row.secret.as_str().as_bytes(),
        created_ms,
        &row.body,
    ]
}

fn about(kind: Kind, grant: &Grant) -> Record {
    let methods = grant.methods.iter().map(http::Method::as_str).collect::<Vec<_>>().join(",");
    Record::new(kind, Verdict::Done)
        .with(Field::Actor, "owner")
        .with(Field::Tool, &grant.tool)
        .with(Field::Digest, grant.digest)
        .with(Field::Secret, &grant.secret)
        .with(Field::Target, format_args!("{methods} https://{}:{}{}", grant.host, grant.port, grant.path))
        .with(Field::Inject, &grant.inject)
}

/// For a row whose grant does not parse.
fn about_row(kind: Kind, row: &GrantRow) -> Record {
    Record::new(kind, Verdict::Done)
        .with(Field::Actor, "owner")
        .with(Field::Tool, &row.tool)
        .with(Field::Secret, &row.secret)
}
