//! From columns to rows. Everything is parsed again on the way out: what is in the file need not be
//! what this program put there.

use types::{Digest, FindingId, SecretName, Tenant, ToolName};

use crate::error::StoreError;
use crate::rows::{
    ApprovalRow, ApprovalState, AuditRow, GrantRow, Meter, RotationRow, RotationState, SecretRow,
    SecretState, SlotRow, TenantKeyRow, ToolRow, ToolState,
};
use crate::session::{Column, Row};

/// A row of one table; columns are named as in the migrations.
pub(crate) trait FromRow: Sized {
    /// The table, which is all that an error says.
    const TABLE: &'static str;

    fn from_columns(columns: &Columns<'_>) -> Result<Self, StoreError>;
}

/// Reads any number of rows.
pub(crate) fn all<T: FromRow>(rows: &[Row]) -> Result<Vec<T>, StoreError> {
    rows.iter().map(|row| T::from_columns(&Columns { row, table: T::TABLE })).collect()
}

/// The columns of one row.
pub(crate) struct Columns<'r> {
    row: &'r Row,
    table: &'static str,
}

impl<'r> Columns<'r> {
    /// Those of a row, which is named in errors as one of that table.
    pub(crate) fn of(row: &'r Row, table: &'static str) -> Self {
        Self { row, table }
    }
    fn damaged(&self) -> StoreError {
        StoreError::Damaged(self.table)
    }

    pub(crate) fn get<T: Column>(&self, name: &str) -> Result<T, StoreError> {
        self.row.named(name).map_err(|_| self.damaged())
    }

    /// A literal of ours, which a server sends in four bytes and a file in eight.
    pub(crate) fn integer(&self, name: &str) -> Result<i64, StoreError> {
        self.get::<i64>(name).or_else(|_| self.get::<i32>(name).map(i64::from))
    }

    pub(crate) fn unsigned(&self, name: &str) -> Result<u64, StoreError> {
        u64::try_from(self.get::<i64>(name)?).map_err(|_| self.damaged())
    }

    fn digest(&self, name: &str) -> Result<Digest, StoreError> {
        self.get::<Vec<u8>>(name)?.try_into().map(Digest::from_bytes).map_err(|_| self.damaged())
    }

    /// A column that holds text of a stricter type.
    pub(crate) fn parsed<T, E>(&self, name: &str, parse: fn(&str) -> Result<T, E>) -> Result<T, StoreError> {
        parse(&self.get::<String>(name)?).map_err(|_| self.damaged())
    }

    /// A column that holds one of a closed set of words.
    pub(crate) fn word<T>(&self, name: &str, parse: fn(&str) -> Option<T>) -> Result<T, StoreError> {
        parse(&self.get::<String>(name)?).ok_or_else(|| self.damaged())
    }
}

/// The exception: a record is handed on whatever it holds, for verification to name.
pub(crate) fn audit_row(row: &Row) -> AuditRow {
    let refusal: Result<Option<Vec<u8>>, _> = row.named("refusal");
    let claim: Result<Option<Vec<u8>>, _> = row.named("claim");
    AuditRow {
        seq: row.named("seq").unwrap_or(-1),
        record: row.named("record").unwrap_or_default(),
        chain: row.named("chain").unwrap_or_default(),
        refusal: refusal.unwrap_or_else(|_| Some(Vec::new())),
        claim: claim.unwrap_or_else(|_| Some(Vec::new())),
    }
}

impl FromRow for SlotRow {
    const TABLE: &'static str = "key_slot";

    fn from_columns(columns: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: columns.get("id")?,
            kind: columns.get("kind")?,
            params: columns.get("params")?,
            wrapped: columns.get("wrapped")?,
            generation: columns.get("generation")?,
            created_ms: columns.unsigned("created_ms")?,
            follows: columns.get("follows")?,
        })
    }
}

impl FromRow for RotationRow {
    const TABLE: &'static str = "rotation";

    fn from_columns(columns: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            from: columns.get("from_generation")?,
            to: columns.get("to_generation")?,
            transfer: columns.get("transfer")?,
            state: columns.word("state", RotationState::parse)?,
            switched_ms: columns.unsigned("switched_ms")?,
        })
    }
}

impl FromRow for TenantKeyRow {
    const TABLE: &'static str = "tenant_key";

    fn from_columns(columns: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: columns.parsed("tenant", Tenant::parse)?,
            generation: columns.get("generation")?,
            wrapped: columns.get("wrapped")?,
        })
    }
}

impl FromRow for SecretRow {
    const TABLE: &'static str = "secret";

    fn from_columns(columns: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: columns.parsed("tenant", Tenant::parse)?,
            name: columns.parsed("name", SecretName::parse)?,
            version: columns.get("version")?,
            state: columns.word("state", SecretState::parse)?,
            sealed: columns.get("sealed")?,
            fingerprints: columns.get("fingerprints")?,
            created_ms: columns.unsigned("created_ms")?,
        })
    }
}

impl FromRow for ToolRow {
    const TABLE: &'static str = "tool";

    fn from_columns(columns: &Columns<'_>) -> Result<Self, StoreError> {
        let compiled = match columns.get::<Option<Vec<u8>>>("compiled")? {
            Some(_) => Some(columns.digest("compiled")?),
            None => None,
        };
        Ok(Self {
            tenant: columns.parsed("tenant", Tenant::parse)?,
            name: columns.parsed("name", ToolName::parse)?,
            digest: columns.digest("digest")?,
            manifest: columns.get("manifest")?,
            compiled,
            state: columns.word("state", ToolState::parse)?,
            installed_ms: columns.unsigned("installed_ms")?,
        })
    }
}

impl FromRow for GrantRow {
    const TABLE: &'static str = "tool_grant";

    fn from_columns(columns: &Columns<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            tenant: columns.parsed("tenant", Tenant::parse)?,
            id: columns.get("id")?,
            tool: columns.parsed("tool", ToolName::parse)?,
            secret: columns.parsed("secret", SecretName::parse)?,
            body: columns.get("body")?,
            mac: columns.get("mac")?,
            created_ms: columns.unsigned("created_ms")?,
        })
    }
}

impl FromRow for ApprovalRow {
    const TABLE: &'static str = "approval";

    fn from_columns(columns: &Columns<'_>) -> Result<Self, StoreError> {
        let id: Vec<u8> = columns.get("id")?;
        Ok(Self {
            id: FindingId::from_bytes(id.try_into().map_err(|_| columns.damaged())?),
            tenant: columns.parsed("tenant", Tenant::parse)?,
            kind: columns.get("kind")?,
            digest: columns.digest("digest")?,
            card: columns.get("card")?,
            state: columns.word("state", ApprovalState::parse)?,
            created_ms: columns.unsigned("created_ms")?,
            expires_ms: columns.unsigned("expires_ms")?,
        })
    }
}

/// What was spent of one budget on one day.
impl FromRow for (Meter, u64) {
    const TABLE: &'static str = "spending";

    fn from_columns(columns: &Columns<'_>) -> Result<Self, StoreError> {
        Ok((columns.word("meter", Meter::parse)?, columns.unsigned("spent")?))
    }
}

/// The fingerprints of one version of a secret.
impl FromRow for (SecretName, Vec<u8>) {
    const TABLE: &'static str = "secret";

    fn from_columns(columns: &Columns<'_>) -> Result<Self, StoreError> {
        Ok((columns.parsed("name", SecretName::parse)?, columns.get("fingerprints")?))
    }
}
