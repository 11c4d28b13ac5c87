//! How a server is connected to, and what it and the role must be like before a row is trusted to them.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, PgConnection, PgPool};

use crate::error::{Power, StoreError, Unfit};
use crate::server::{Address, Server};
use crate::session::{STATEMENT_TIMEOUT, Session};
use crate::sqlite::BUSY_TIMEOUT;
use crate::statement::{built, sql};
use crate::tables::{Isolation, TABLES};

/// The schema that holds the tables. Temporary tables are looked for last, so that none can stand
/// before ours.
const SEARCH_PATH: &str = "ironclaw, pg_temp";

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The oldest major version that the tests run on.
const OLDEST: u32 = 15;

/// Readers at once, for each process.
const READERS: u32 = 8;

/// The writing connection, to a server and as a role that keep what the store promises.
pub(crate) async fn write(server: &Server) -> Result<PgConnection, StoreError> {
    let mut connection = connect(server).await?;
    let mut session = Session::Postgres(&mut connection);
    durable(&mut session).await?;
    powerless(&mut session).await?;
    Ok(connection)
}

/// A connection, whatever the role may do.
pub(crate) async fn connect(server: &Server) -> Result<PgConnection, StoreError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, options(server).connect()).await {
        Ok(connection) => connection.map_err(StoreError::at("connect to the database server")),
        Err(_) => Err(StoreError::Away),
    }
}

/// The reading connections, each made when it is first needed.
pub(crate) fn read(server: &Server) -> PgPool {
    PgPoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(CONNECT_TIMEOUT)
        // A dead one is found by using it, which costs no answer more.
        .test_before_acquire(false)
        .connect_lazy_with(options(server))
}

/// Everything is said here, so that nothing is taken from the environment's `PG...`.
fn options(server: &Server) -> PgConnectOptions {
    let ms = |time: Duration| time.as_millis().to_string();
    let options = PgConnectOptions::new_without_pgpass()
        .username(&server.user)
        .database(&server.database)
        .password(server.password.as_ref().map_or("", |password| &password.0))
        .application_name("ironclaw")
        .options([
            ("search_path", SEARCH_PATH),
            ("lock_timeout", &ms(BUSY_TIMEOUT)),
            ("statement_timeout", &ms(STATEMENT_TIMEOUT)),
            // A process that stopped in the middle of a transaction holds up all others only so long.
            ("idle_in_transaction_session_timeout", &ms(STATEMENT_TIMEOUT)),
            // A plan is made once for each connection, for the log perhaps while it is empty, when reading all of it
            // looks cheap; and then it is read whole for every group. Everything that is asked often has an index.
            ("enable_seqscan", "off"),
            // Nor is a small log, as the server takes a young one for, read through a bitmap and sorted for every page.
            ("enable_bitmapscan", "off"),
            // Whatever still reads a whole table now looks dear enough to be compiled first, which takes longer.
            ("jit", "off"),
            // A policy that cannot be applied is an error, never a query without it.
            ("row_security", "on"),
        ])
        .disable_statement_logging();
    match &server.address {
        Address::Socket { folder, port } => options.socket(folder).port(*port).ssl_mode(PgSslMode::Disable),
        Address::Loopback { host, port } => options.host(host).port(*port).ssl_mode(PgSslMode::Prefer),
        Address::Network { host, port, root } => {
            let options = options.host(host).port(*port).ssl_mode(PgSslMode::VerifyFull);
            match root {
                Some(root) => options.ssl_root_cert(root),
                None => options,
            }
        }
    }
}

/// Asks the connection what is on the disk when it says that it is.
async fn durable(session: &mut Session<'_>) -> Result<(), StoreError> {
    const WHAT: &str = "read the server's settings";
    let query = "SELECT current_setting('server_version_num'), current_setting('fsync'),
         current_setting('full_page_writes'), current_setting('synchronous_commit')";
    let rows = session.rows(sql(query), WHAT).await?;
    let row = rows.first().ok_or_else(|| StoreError::failed(WHAT))?;
    let read = |place| row.get::<String>(place).map_err(StoreError::at(WHAT));
    let found = read(0)?.parse::<u32>().unwrap_or(0) / 10_000;
    if found < OLDEST {
        return Err(StoreError::Unfit(Unfit::Version { found, needed: OLDEST }));
    }
    // `local`, `remote_write`, `on` and `remote_apply` all wait for this server's own disk.
    for (place, name) in [(1, "fsync"), (2, "full_page_writes"), (3, "synchronous_commit")] {
        let value = read(place)?;
        if value == "off" {
            return Err(StoreError::Unfit(Unfit::Setting { name, value }));
        }
    }
    Ok(())
}

/// Refuses a role that could look past row-level security, or become one that can.
async fn powerless(session: &mut Session<'_>) -> Result<(), StoreError> {
    const WHAT: &str = "read the role's powers";
    // Everyone that this session could turn into, itself included.
    let query = "SELECT rolname::text, rolsuper, rolbypassrls, rolcreaterole, rolreplication,
             rolname IN ('pg_execute_server_program', 'pg_write_server_files', 'pg_read_server_files')
         FROM pg_roles WHERE pg_has_role(session_user, oid, 'MEMBER') ORDER BY rolsuper DESC, rolname";
    for row in session.rows(sql(query), WHAT).await? {
        let role: String = row.get(0).map_err(StoreError::at(WHAT))?;
        let powers =
            [Power::Superuser, Power::BypassRls, Power::CreateRole, Power::Replication, Power::ServerFiles];
        for (place, power) in powers.into_iter().enumerate() {
            if row.get::<bool>(place + 1).map_err(StoreError::at(WHAT))? {
                return Err(StoreError::Unfit(Unfit::Role { role, power }));
            }
        }
    }
    Ok(())
}

/// Compares what stands between tenants with what this program's migrations put there.
pub(crate) async fn isolated(session: &mut Session<'_>, role: &str) -> Result<(), StoreError> {
    const WHAT: &str = "read the tables' owners and policies";
    let query = "SELECT c.relname::text,
             c.relkind IN ('r', 'p'),
             pg_has_role(session_user, c.relowner, 'MEMBER') OR pg_has_role(session_user, n.nspowner, 'MEMBER'),
             c.relrowsecurity AND c.relforcerowsecurity,
             has_table_privilege(c.oid, 'UPDATE') OR has_any_column_privilege(c.oid, 'UPDATE')
                 OR has_table_privilege(c.oid, 'DELETE') OR has_table_privilege(c.oid, 'TRUNCATE'),
             EXISTS (SELECT 1 FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
                 OR EXISTS (SELECT 1 FROM pg_rewrite r WHERE r.ev_class = c.oid),
             (SELECT count(*) FROM pg_policy p WHERE p.polrelid = c.oid)
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'ironclaw' AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY c.relname";
    for row in session.rows(sql(query), WHAT).await? {
        let table: String = row.get(0).map_err(StoreError::at(WHAT))?;
        let is = |place| row.get::<bool>(place).map_err(StoreError::at(WHAT));
        let policies: i64 = row.get(6).map_err(StoreError::at(WHAT))?;
        let (plain, owner, forced, rewriter, code) = (is(1)?, is(2)?, is(3)?, is(4)?, is(5)?);
        let known = TABLES.iter().find(|(name, _)| *name == table);
        let refused = |power| Err(StoreError::Unfit(Unfit::Role { role: role.to_owned(), power }));
        let lacks = |fault| Err(StoreError::Unfit(Unfit::Table { table: table.clone(), fault }));
        match known {
            _ if owner => return refused(Power::Owner),
            _ if !plain || code => return Err(StoreError::Foreign),
            None => return Err(StoreError::Foreign),
            Some((_, Isolation::History)) if rewriter => return refused(Power::Rewriter),
            Some((_, Isolation::History)) => {}
            Some(_) if !forced => return lacks("it is not forced"),
            Some((_, isolation)) if policies != isolation.policies() => {
                return lacks("it has other policies");
            }
            Some((_, Isolation::Log)) if rewriter => return refused(Power::Rewriter),
            Some(_) => {}
        }
    }
    blind(session).await
}

/// Whatever the policies say: a connection that names no tenant sees nothing.
async fn blind(session: &mut Session<'_>) -> Result<(), StoreError> {
    for (table, _) in TABLES.iter().filter(|(_, isolation)| *isolation != Isolation::History) {
        let probe = built(format!("SELECT 1 FROM {table} LIMIT 1"), Vec::new());
        if !session.rows(probe, "look without a tenant").await?.is_empty() {
            let fault = "it shows rows to a connection without a tenant";
            return Err(StoreError::Unfit(Unfit::Table { table: (*table).to_owned(), fault }));
        }
    }
    Ok(())
}
