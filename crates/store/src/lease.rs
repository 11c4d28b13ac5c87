//! What a lease of a secret is judged by: read under the lock of the log, so that it is still true when the
//! record of the use is written.

use types::{SecretName, Tenant, ToolName};

use crate::decode::Columns;
use crate::error::StoreError;
use crate::mutation::Lost;
use crate::rows::{AuditRow, GrantRow, SecretRow, SecretState};
use crate::session::Row;
use crate::statement::{Statement, built};

/// Which secret for whom, and what the log could say about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaseQuestion {
    /// Whose.
    pub tenant: Tenant,
    /// Which.
    pub secret: SecretName,
    /// For which tool's grants.
    pub tool: ToolName,
    /// From where to before where the claims of the secret's history go.
    pub history: (String, String),
    /// What the claim begins with that takes a grant back; the grant's id follows.
    pub revoked: String,
    /// What the claims begin with that count the uses of a grant; its id, a slash and the count follow.
    pub uses: String,
    /// The claim of the record that uses the lease up.
    pub claim: String,
    /// The number of the permit's record.
    pub permit: i64,
    /// The version whose fingerprints need not be told, for they are many bytes and known; 0 for none.
    pub known: i64,
}

/// Everything that a lease of one secret is judged by, of one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaseView {
    /// The version in use, `current` or `disabled`; where it is the known one, without its fingerprints.
    pub secret: Option<SecretRow>,
    /// The grants of this secret to the tool, oldest first.
    pub grants: Vec<HeldGrant>,
    /// The newest record of the secret's history.
    pub head: Option<AuditRow>,
    /// The permit's record.
    pub permit: Option<AuditRow>,
    /// Whether a record has used the lease up.
    pub is_used: bool,
}

/// A grant, and what the log says about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldGrant {
    /// Its row.
    pub row: GrantRow,
    /// Whether a record takes it back.
    pub is_revoked: bool,
    /// The claim of its last counted use.
    pub last_use: Option<Vec<u8>>,
}

impl LeaseQuestion {
    /// The statement for a file.
    pub(crate) fn of_file(&self) -> Statement {
        self.bound(text(|text| format!("CAST({text} AS BLOB)")))
    }

    /// The statement for a connection to a server on which [`LeaseQuestion::prepared`] was run.
    pub(crate) fn of_server(&self) -> Statement {
        self.bound("EXECUTE lease_view ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)".to_owned())
    }

    /// Has a server plan the statement once for a connection: planning it takes longer than running it.
    pub(crate) fn prepared() -> String {
        let select = text(|text| format!("convert_to({text}, 'UTF8')"));
        format!(
            "PREPARE lease_view (text, text, text, bytea, bytea, text, text, bigint, bytea, bigint, bytea) AS {select}"
        )
    }

    fn bound(&self, text: String) -> Statement {
        built(text, Vec::new())
            .bind(self.tenant.as_str())
            .bind(self.secret.as_str())
            .bind(self.tool.as_str())
            .bind(self.history.0.as_bytes())
            .bind(self.history.1.as_bytes())
            .bind(self.revoked.as_str())
            .bind(self.uses.as_str())
            .bind(self.permit)
            .bind(self.claim.as_bytes())
            .bind(self.known)
            .bind(b"".as_slice())
    }

    /// Reads what the statement found.
    pub(crate) fn view(&self, rows: &[Row]) -> Result<LeaseView, Lost> {
        self.read(rows).map_err(|_| Lost::Unjudged)
    }

    fn read(&self, rows: &[Row]) -> Result<LeaseView, StoreError> {
        let mut view = LeaseView::default();
        for row in rows {
            let columns = Columns::of(row, "secret");
            let (tenant, secret) = (self.tenant.clone(), self.secret.clone());
            match columns.integer("part")? {
                1 => {
                    view.secret = Some(SecretRow {
                        tenant,
                        name: secret,
                        version: columns.get("number")?,
                        state: columns.word("word", SecretState::parse)?,
                        sealed: columns.get("one")?,
                        fingerprints: columns.get("two")?,
                        created_ms: columns.unsigned("at")?,
                    });
                }
                2 => view.grants.push(HeldGrant {
                    row: GrantRow {
                        tenant,
                        id: columns.get("id")?,
                        tool: columns.parsed("word", ToolName::parse)?,
                        secret,
                        body: columns.get("one")?,
                        mac: columns.get("two")?,
                        created_ms: columns.unsigned("at")?,
                    },
                    is_revoked: columns.get::<i64>("number")? != 0,
                    last_use: columns.get("three")?,
                }),
                3 => view.head = Some(record(&columns)?),
                4 => view.permit = Some(record(&columns)?),
                _ => view.is_used = true,
            }
        }
        Ok(view)
    }
}

/// Everything in one statement. Text becomes bytes in each database by a word of its own, which cannot fail.
fn text(bytes: fn(&str) -> String) -> String {
    let (revoked, first, end) = (bytes("$6 || id"), bytes("$7 || id || '/'"), bytes("$7 || id || '0'"));
    format!(
        "SELECT 1 AS part, name AS id, version AS number, state AS word, sealed AS one,
             CASE WHEN version = $10 THEN $11 ELSE fingerprints END AS two, NULL AS three, created_ms AS at FROM secret
             WHERE tenant = $1 AND name = $2 AND state IN ('current', 'disabled')
         UNION ALL SELECT 2, id, (SELECT count(*) FROM audit_record WHERE claim = {revoked}), tool, body, mac,
             (SELECT claim FROM audit_record WHERE claim >= {first} AND claim < {end}
              ORDER BY claim DESC LIMIT 1), created_ms FROM tool_grant
             WHERE tenant = $1 AND secret = $2 AND tool = $3
         UNION ALL SELECT 3, '', seq, '', record, claim, NULL, 0 FROM
             (SELECT seq, record, claim FROM audit_record
              WHERE claim >= $4 AND claim < $5 ORDER BY claim DESC LIMIT 1) AS head
         UNION ALL SELECT 4, '', seq, '', record, claim, NULL, 0 FROM audit_record WHERE seq = $8
         UNION ALL SELECT 5, '', seq, '', NULL, NULL, NULL, 0 FROM audit_record WHERE claim = $9
         ORDER BY part, at, id"
    )
}

fn record(columns: &Columns<'_>) -> Result<AuditRow, StoreError> {
    Ok(AuditRow {
        seq: columns.get("number")?,
        record: columns.get("one")?,
        chain: Vec::new(),
        refusal: None,
        claim: columns.get("two")?,
    })
}
