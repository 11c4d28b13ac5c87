//! Grants: rows of their own, authenticated under the tenant's key.
//!
//! The code over a row covers the tenant, the id, both lookup columns, the time and the grant's
//! canonical bytes. So a grant that was written or loosened by anything but this vault unseals
//! nothing (K04).

use ::store::{GrantRow, Lost, Mutation};
use ::types::{Caller, Field, Grant, Kind, Record, Refusal, SecretUse, Target, Verdict};
use audit::{ChangeError, Seq, now_ms};

use crate::crypto;
use crate::rules;
use crate::store::{Vault, VaultError};

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
        let rows = self.reader.all_grants(&self.tenant).await?;
        let row = rows.into_iter().find(|row| row.id == id).ok_or(VaultError::NoGrant)?;
        let record = match Grant::decode(&row.body) {
            Ok(grant) => about(Kind::Revoke, &grant),
            Err(_) => about_row(Kind::Revoke, &row),
        };
        let change = Mutation::DeleteGrant { tenant: self.tenant.clone(), id: row.id };
        self.audit.change(record, change).await.map_err(|error| match error {
            ChangeError::Lost(Lost::Missing) => VaultError::NoGrant,
            ChangeError::Lost(lost) => VaultError::Lost { name: row.secret.clone(), lost },
            ChangeError::Audit(error) => error.into(),
        })
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

    /// Refuses a use that no authentic grant in force covers.
    pub(crate) fn check_grant(
        &self,
        rows: &[GrantRow],
        caller: &Caller,
        target: &Target,
        used: &SecretUse,
    ) -> Result<(), Refusal> {
        let (tool, digest) = caller.identity();
        let covers = |grant: &Grant| grant.covers(&tool, &digest, target) && grant.secret_use() == *used;
        let covering: Vec<(&GrantRow, Grant)> = rows
            .iter()
            .filter_map(|row| Some((row, Grant::decode(&row.body).ok()?)))
            .filter(|(_, grant)| covers(grant))
            .collect();
        let detail = format!("{} for {caller} to {target}", used.secret);
        let authentic: Vec<&Grant> =
            covering.iter().filter(|(row, _)| self.is_authentic(row)).map(|(_, grant)| grant).collect();
        let now = now_ms();
        if authentic.iter().any(|grant| grant.expires_ms.is_none_or(|end| now < end)) {
            return Ok(());
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

    fn is_authentic(&self, row: &GrantRow) -> bool {
        crypto::is_authentic(&self.grant_key, &authenticated(row, &row.created_ms.to_be_bytes()), &row.mac)
    }
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
