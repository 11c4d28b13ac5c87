//! Reading. Every method is one statement, and so sees one moment of the database.

use types::{Digest, FindingId, RefusalId, SecretName, Tenant, ToolName};

use crate::decode::{FromRow, all, audit_row};
use crate::error::StoreError;
use crate::pool::Pool;
use crate::rows::{
    ApprovalRow, AuditRow, GrantRow, Meter, RotationRow, SecretRow, SlotRow, TenantKeyRow, ToolRow,
};
use crate::scope::Scope;
use crate::statement::{Statement, built, sql};
use crate::tables::TABLES;

/// The right to read one database. It can be copied freely, for it can change nothing:
///
/// ```compile_fail,E0599
/// async fn change(reader: store::Reader, mut writer: store::Writer) -> Result<(), store::StoreError> {
///     reader.begin().await?.commit().await
/// }
/// ```
///
/// What can begin a change is the writer:
///
/// ```
/// async fn change(reader: store::Reader, mut writer: store::Writer) -> Result<(), store::StoreError> {
///     writer.begin().await?.commit().await
/// }
/// ```
///
/// What it returns was stored, not checked: text from here is as untrusted as on the day it came.
/// Every method fails with [`StoreError::Damaged`] on a row that this program does not write.
#[derive(Clone)]
pub struct Reader {
    pool: Pool,
}

/// Keys and what they protect.
impl Reader {
    /// Every key slot, oldest first.
    pub async fn slots(&self) -> Result<Vec<SlotRow>, StoreError> {
        let query = "SELECT id, kind, params, wrapped, generation, created_ms, follows FROM key_slot ORDER BY created_ms, id";
        self.all(Scope::Installation, sql(query)).await
    }

    /// The exchange of the master key that is under way.
    pub async fn rotation(&self) -> Result<Option<RotationRow>, StoreError> {
        let query = "SELECT from_generation, to_generation, transfer, state, switched_ms FROM rotation";
        self.one(Scope::Installation, sql(query)).await
    }

    /// A tenant's key, wrapped: once, or twice while the master key is exchanged.
    pub async fn tenant_wraps(&self, tenant: &Tenant) -> Result<Vec<TenantKeyRow>, StoreError> {
        let query = "SELECT tenant, generation, wrapped FROM tenant_key WHERE tenant = $1
             UNION ALL SELECT tenant, generation, wrapped FROM rotation_wrap WHERE tenant = $1";
        self.all(tenant, sql(query).bind(tenant.as_str())).await
    }

    /// Every tenant's key, under the master key from before an exchange.
    pub async fn tenant_keys(&self) -> Result<Vec<TenantKeyRow>, StoreError> {
        let query = "SELECT tenant, generation, wrapped FROM tenant_key ORDER BY tenant";
        self.all(Scope::Installation, sql(query)).await
    }

    /// Every tenant's key that is wrapped under the new master key so far.
    pub async fn pending_wraps(&self) -> Result<Vec<TenantKeyRow>, StoreError> {
        let query = "SELECT tenant, generation, wrapped FROM rotation_wrap ORDER BY tenant";
        self.all(Scope::Installation, sql(query)).await
    }

    /// The version in use of every secret, `current` or `disabled`, by name.
    pub async fn secrets(&self, tenant: &Tenant) -> Result<Vec<SecretRow>, StoreError> {
        let query = "SELECT tenant, name, version, state, sealed, fingerprints, created_ms FROM secret
             WHERE tenant = $1 AND state IN ('current', 'disabled') ORDER BY name";
        self.all(tenant, sql(query).bind(tenant.as_str())).await
    }

    /// The version in use of one secret, `current` or `disabled`.
    pub async fn secret(&self, tenant: &Tenant, name: &SecretName) -> Result<Option<SecretRow>, StoreError> {
        let query = "SELECT tenant, name, version, state, sealed, fingerprints, created_ms FROM secret
             WHERE tenant = $1 AND name = $2 AND state IN ('current', 'disabled')";
        self.one(tenant, sql(query).bind(tenant.as_str()).bind(name.as_str())).await
    }

    /// Every version of one secret that was ever put, oldest first.
    pub async fn secret_versions(
        &self,
        tenant: &Tenant,
        name: &SecretName,
    ) -> Result<Vec<SecretRow>, StoreError> {
        let query = "SELECT tenant, name, version, state, sealed, fingerprints, created_ms FROM secret
             WHERE tenant = $1 AND name = $2 ORDER BY version";
        self.all(tenant, sql(query).bind(tenant.as_str()).bind(name.as_str())).await
    }

    /// The highest version number that a name ever had; 0 for a name that never was. The next
    /// version is one more.
    pub async fn last_secret_version(&self, tenant: &Tenant, name: &SecretName) -> Result<i64, StoreError> {
        Ok(self.secret_versions(tenant, name).await?.last().map_or(0, |row| row.version))
    }

    /// The fingerprints of every version of every secret, destroyed ones included: an old key in a
    /// reply is still a leak.
    pub async fn fingerprints(&self, tenant: &Tenant) -> Result<Vec<(SecretName, Vec<u8>)>, StoreError> {
        let query = "SELECT name, fingerprints FROM secret WHERE tenant = $1 ORDER BY name, version";
        self.all(tenant, sql(query).bind(tenant.as_str())).await
    }
}

/// Tools, what they may do and what they have done.
impl Reader {
    /// Every installed tool, by name.
    pub async fn tools(&self, tenant: &Tenant) -> Result<Vec<ToolRow>, StoreError> {
        let query = "SELECT tenant, name, digest, manifest, compiled, state, installed_ms FROM tool
             WHERE tenant = $1 ORDER BY name";
        self.all(tenant, sql(query).bind(tenant.as_str())).await
    }

    /// One tool.
    pub async fn tool(&self, tenant: &Tenant, name: &ToolName) -> Result<Option<ToolRow>, StoreError> {
        let query = "SELECT tenant, name, digest, manifest, compiled, state, installed_ms FROM tool
             WHERE tenant = $1 AND name = $2";
        self.one(tenant, sql(query).bind(tenant.as_str()).bind(name.as_str())).await
    }

    /// The grants to one tool, oldest first.
    pub async fn grants(&self, tenant: &Tenant, tool: &ToolName) -> Result<Vec<GrantRow>, StoreError> {
        let query = "SELECT tenant, id, tool, secret, body, mac, created_ms FROM tool_grant
             WHERE tenant = $1 AND tool = $2 ORDER BY created_ms, id";
        self.all(tenant, sql(query).bind(tenant.as_str()).bind(tool.as_str())).await
    }

    /// Every grant, oldest first.
    pub async fn all_grants(&self, tenant: &Tenant) -> Result<Vec<GrantRow>, StoreError> {
        let query = "SELECT tenant, id, tool, secret, body, mac, created_ms FROM tool_grant
             WHERE tenant = $1 ORDER BY created_ms, id";
        self.all(tenant, sql(query).bind(tenant.as_str())).await
    }

    /// What waits for a person and can still be answered, oldest first, at most `limit` of it.
    pub async fn approvals_waiting(
        &self,
        tenant: &Tenant,
        now_ms: u64,
        limit: u32,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let query = "SELECT id, tenant, kind, digest, card, state, created_ms, expires_ms FROM approval
             WHERE tenant = $1 AND state = 'waiting' AND expires_ms > $2 ORDER BY created_ms, id LIMIT $3";
        let now = i64::try_from(now_ms).unwrap_or(i64::MAX);
        self.all(tenant, sql(query).bind(tenant.as_str()).bind(now).bind(i64::from(limit))).await
    }

    /// What waits or waited for a person about one digest, oldest first.
    pub async fn approvals_of(
        &self,
        tenant: &Tenant,
        digest: Digest,
    ) -> Result<Vec<ApprovalRow>, StoreError> {
        let query = "SELECT id, tenant, kind, digest, card, state, created_ms, expires_ms FROM approval
             WHERE tenant = $1 AND digest = $2 ORDER BY created_ms, id";
        self.all(tenant, sql(query).bind(tenant.as_str()).bind(digest.as_bytes().as_slice())).await
    }

    /// Everything that waits or waited for a person, as far as it is kept, oldest first.
    pub async fn approvals(&self, tenant: &Tenant) -> Result<Vec<ApprovalRow>, StoreError> {
        let query = "SELECT id, tenant, kind, digest, card, state, created_ms, expires_ms FROM approval
             WHERE tenant = $1 ORDER BY created_ms, id";
        self.all(tenant, sql(query).bind(tenant.as_str())).await
    }

    /// One approval.
    pub async fn approval(&self, tenant: &Tenant, id: FindingId) -> Result<Option<ApprovalRow>, StoreError> {
        let query = "SELECT id, tenant, kind, digest, card, state, created_ms, expires_ms FROM approval
             WHERE tenant = $1 AND id = $2";
        self.one(tenant, sql(query).bind(tenant.as_str()).bind(id.as_bytes())).await
    }

    /// What was spent on one day (counted since 1970-01-01); a meter without a row has spent nothing.
    pub async fn spending(&self, tenant: &Tenant, day: u32) -> Result<Vec<(Meter, u64)>, StoreError> {
        let query = "SELECT meter, spent FROM spending WHERE tenant = $1 AND day = $2 ORDER BY meter";
        self.all(tenant, sql(query).bind(tenant.as_str()).bind(i64::from(day))).await
    }
}

/// The audit chain. A record is cut after 64 KiB, far above the longest that can be written, so that
/// a planted one cannot fill memory; it then fails verification.
impl Reader {
    /// Up to `limit` records after number `seq`, in order.
    pub async fn audit_after(&self, seq: i64, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let query = "SELECT seq, substr(record, 1, 65536) AS record, chain, refusal, claim FROM audit_record
             WHERE seq > $1 ORDER BY seq LIMIT $2";
        self.records(sql(query).bind(seq).bind(i64::from(limit))).await
    }

    /// Up to `limit` records from the end, the last one first.
    pub async fn audit_last(&self, limit: u32) -> Result<Vec<AuditRow>, StoreError> {
        let query = "SELECT seq, substr(record, 1, 65536) AS record, chain, refusal, claim FROM audit_record
             ORDER BY seq DESC LIMIT $1";
        self.records(sql(query).bind(i64::from(limit))).await
    }

    /// The newest record whose claim lies from `low` to before `high`.
    pub async fn last_claim(&self, low: &str, high: &str) -> Result<Option<AuditRow>, StoreError> {
        let query = "SELECT seq, substr(record, 1, 65536) AS record, chain, refusal, claim FROM audit_record
             WHERE claim >= $1 AND claim < $2 ORDER BY claim DESC LIMIT 1";
        Ok(self.records(sql(query).bind(low.as_bytes()).bind(high.as_bytes())).await?.pop())
    }

    /// Every record whose claim lies from `low` to before `high`, by claim.
    pub async fn claims(&self, low: &str, high: &str) -> Result<Vec<AuditRow>, StoreError> {
        let query = "SELECT seq, substr(record, 1, 65536) AS record, chain, refusal, claim FROM audit_record
             WHERE claim >= $1 AND claim < $2 ORDER BY claim";
        self.records(sql(query).bind(low.as_bytes()).bind(high.as_bytes())).await
    }

    /// The records that hold one refusal, in order.
    pub async fn audit_by_refusal(&self, id: RefusalId) -> Result<Vec<AuditRow>, StoreError> {
        let query = "SELECT seq, substr(record, 1, 65536) AS record, chain, refusal, claim FROM audit_record
             WHERE refusal = $1 ORDER BY seq LIMIT 100";
        self.records(sql(query).bind(id.as_bytes())).await
    }
}

/// The database itself.
impl Reader {
    /// Every table with the number of its rows, whoever's they are.
    pub async fn tables(&self) -> Result<Vec<(&'static str, u64)>, StoreError> {
        let mut counts = Vec::with_capacity(TABLES.len());
        for (table, _) in TABLES {
            let count = built(format!("SELECT count(*) FROM {table}"), Vec::new());
            let rows = self.pool.rows(&Scope::Installation, count, table).await?;
            let count: i64 = rows.first().map_or(Ok(0), |row| row.get(0)).map_err(StoreError::at(table))?;
            counts.push((*table, u64::try_from(count).unwrap_or(0)));
        }
        Ok(counts)
    }
}

impl Reader {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Closes the connections of this reader and of all its copies, which then only fail.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    async fn all<T: FromRow>(
        &self,
        scope: impl Into<Scope>,
        statement: Statement,
    ) -> Result<Vec<T>, StoreError> {
        all(&self.pool.rows(&scope.into(), statement, T::TABLE).await?)
    }

    async fn one<T: FromRow>(
        &self,
        scope: impl Into<Scope>,
        statement: Statement,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.all(scope, statement).await?.pop())
    }

    async fn records(&self, statement: Statement) -> Result<Vec<AuditRow>, StoreError> {
        let rows = self.pool.rows(&Scope::Installation, statement, "audit_record").await?;
        Ok(rows.iter().map(audit_row).collect())
    }
}
