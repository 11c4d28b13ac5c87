//! Old records without their bytes: what the log keeps of a segment that was written to a file.
//!
//! Each row keeps its number and its link of the chain, which is all that proofs and later records need. A
//! record that claims something for good (the head of a secret, a grant that was taken back, a use of one)
//! stays whole, since what is allowed today is read from it. Only the claims of leases and of exports are all that is
//! read of their records: they stay in their column, and none can be made twice.

use crate::connection::Connection;
use crate::error::StoreError;
use crate::postgres;
use crate::scope::Scope;
use crate::server::Server;
use crate::statement::{Statement, sql};

/// Records in one transaction on a server: others append between two.
const TOGETHER: u64 = 20_000;

/// Takes the bytes out of a range of records; idempotent.
pub(crate) fn strip(first: u64, last: u64) -> Statement {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    sql("UPDATE audit_record SET record = $1, refusal = NULL
         WHERE seq >= $2 AND seq <= $3 AND length(record) > 0
             AND (claim IS NULL OR (claim >= $4 AND claim < $5) OR (claim >= $6 AND claim < $7))")
    .bind(b"".as_slice())
    .bind(number(first))
    .bind(number(last))
    .bind(b"lease/".as_slice())
    .bind(b"lease0".as_slice())
    .bind(b"export/".as_slice())
    .bind(b"export0".as_slice())
}

/// Takes the bytes of the records from `first` to `last` out of a server's log, connected as the owner of the
/// tables. Safe to run again. `progress` is told how many more numbers are done.
///
/// The log's row-level security lets nobody change a row, its owner included; so the owner takes the force of it
/// off for the length of each transaction, which locks the table.
pub async fn detach(
    owner: &Server,
    first: u64,
    last: u64,
    mut progress: impl FnMut(u64),
) -> Result<(), StoreError> {
    const WHAT: &str = "detach old records";
    let mut connection = Connection::Postgres(postgres::connect(owner).await?);
    let mut from = first;
    while from <= last {
        let to = last.min(from.saturating_add(TOGETHER - 1));
        let mut session = connection.session();
        let scope = Scope::Installation.declaration();
        let begin = format!("BEGIN; {scope}; ALTER TABLE audit_record NO FORCE ROW LEVEL SECURITY");
        session.script(begin, WHAT).await?;
        session.run(strip(from, to), WHAT).await?;
        session.script("ALTER TABLE audit_record FORCE ROW LEVEL SECURITY; COMMIT".to_owned(), WHAT).await?;
        progress(to - from + 1);
        from = to + 1;
    }
    connection.close().await;
    Ok(())
}
