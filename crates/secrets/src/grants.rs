//! Grants: rows of their own, authenticated under the tenant's key.
//!
//! The code over a row covers the tenant, the id, both lookup columns, the time and the grant's
//! canonical bytes. So a grant that was written or loosened by anything but this vault unseals
//! nothing (K04). What was taken back is claimed by its record: a row that comes back from a copy
//! of the database meets that record and unseals nothing either (K19). Uses are claims too, one record
//! each, so there is no counter that could be set back.

use ::store::{GrantRow, Lost, Mutation, Reader};
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

    /// Refuses a use that no authentic grant in force covers; otherwise the grant that does, one without a
    /// bound on its uses where there is one.
    pub(crate) fn check_grant(
        &self,
        rows: &[GrantRow],
        caller: &Caller,
        target: &Target,
        used: &SecretUse,
    ) -> Result<Covering, Refusal> {
        let (tool, digest) = caller.identity();
        let covers = |grant: &Grant| grant.covers(&tool, &digest, target) && grant.secret_use() == *used;
        let covering: Vec<(&GrantRow, Grant)> = rows
            .iter()
            .filter_map(|row| Some((row, Grant::decode(&row.body).ok()?)))
            .filter(|(_, grant)| covers(grant))
            .collect();
        let detail = format!("{} for {caller} to {target}", used.secret);
        let authentic: Vec<_> = covering.iter().filter(|(row, _)| self.is_authentic(row)).collect();
        let now = now_ms();
        let in_force = authentic.iter().filter(|(_, grant)| grant.expires_ms.is_none_or(|end| now < end));
        if let Some((row, grant)) = in_force.min_by_key(|(_, grant)| grant.max_uses.is_some()) {
            return Ok(Covering {
                id: row.id.clone(),
                max_uses: grant.max_uses,
                expires_ms: grant.expires_ms,
            });
        }
        let rule = if !authentic.is_empty() {
            &rules::GRANT_EXPIRED
        } else if !covering.is_empty() {
            &rules::GRANT_ALTERED
        } else {
            &rules::NOT_GRANTED
        };
        // Not the path: the sandbox chose it, and a person pastes this into a shell.
        let widen = format!(
            "ironclaw secret grant {} --tool {tool} --host {} --method {} --inject {}",
            used.secret, target.endpoint, target.method, used.inject
        );
        Err(Refusal::new(rule, detail).widened_by(widen))
    }

    /// Takes one of the uses that a bounded grant has left.
    pub(crate) async fn take_use(&self, grant: &Covering) -> Result<(), Refusal> {
        let Some(max) = grant.max_uses else { return Ok(()) };
        let used_up = || Refusal::new(&rules::GRANT_USED_UP, format!("after {max} uses"));
        let (low, high) =
            (format!("use/{}/{}/", self.tenant, grant.id), format!("use/{}/{}0", self.tenant, grant.id));
        loop {
            let last = self.reader.last_claim(&low, &high).await;
            let last = last.map_err(|_| Refusal::new(&rules::NOT_READ, "uses of the grant"))?;
            let claim = last.and_then(|row| String::from_utf8(row.claim?).ok());
            let taken = match claim.as_deref() {
                None => 0,
                Some(claim) => {
                    claim.strip_prefix(&low).and_then(|count| count.parse().ok()).unwrap_or(u32::MAX)
                }
            };
            // Ends: each lost round means that somebody else took a use, and there are `max`.
            if taken >= max {
                return Err(used_up());
            }
            let record = Record::new(Kind::Grant, Verdict::Done)
                .with(Field::State, "used")
                .with(Field::Count, taken + 1)
                .with(Field::Claim, format!("{low}{:010}", taken + 1));
            match self.audit.change(record, Mutation::Claim).await {
                Ok(_) => return Ok(()),
                Err(ChangeError::Lost(_)) => {}
                Err(ChangeError::Audit(_)) => return Err(Refusal::new(&rules::NOT_RECORDED, "")),
            }
        }
    }

    fn is_authentic(&self, row: &GrantRow) -> bool {
        crypto::is_authentic(&self.grant_key, &authenticated(row, &row.created_ms.to_be_bytes()), &row.mac)
    }
}

/// The grant that covers a use.
pub(crate) struct Covering {
    pub(crate) id: String,
    pub(crate) max_uses: Option<u32>,
    pub(crate) expires_ms: Option<u64>,
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
