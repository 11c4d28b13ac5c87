//! K16 and K20: what a server and a role must be like, and what row-level security hides.

use store::{Mutation, NewRecord, Power, Server, StoreError, Unfit};
use testkit::{Database, Postgres};
use types::Tenant;

use crate::fixture::{Fixture, migrate, open};
use crate::mutations::{approval, grant, secret, slot, tenant_key, tool};

/// The error of connecting as a role that must not be used.
async fn refused(url: &str) -> StoreError {
    match open(url).await {
        Ok(_) => panic!("the store opened"),
        Err(error) => error,
    }
}

async fn fresh() -> Database {
    let database = Postgres::shared();
    migrate(&database).await;
    database
}

#[tokio::test]
async fn k16_a_role_that_could_look_past_the_tenants_is_refused() {
    let database = fresh().await;
    let rights = "GRANT USAGE ON SCHEMA ironclaw TO x; GRANT ALL ON ALL TABLES IN SCHEMA ironclaw TO x";
    for (make, power) in [
        ("CREATE ROLE x LOGIN SUPERUSER", Power::Superuser),
        ("CREATE ROLE x LOGIN BYPASSRLS", Power::BypassRls),
        ("CREATE ROLE x LOGIN CREATEROLE", Power::CreateRole),
        ("CREATE ROLE x LOGIN REPLICATION", Power::Replication),
        ("CREATE ROLE x LOGIN; GRANT pg_read_server_files TO x", Power::ServerFiles),
        ("CREATE ROLE x LOGIN; GRANT ironclaw_owner TO x", Power::Owner),
        ("CREATE ROLE x LOGIN NOINHERIT; GRANT ironclaw_owner TO x", Power::Owner),
        ("CREATE ROLE x LOGIN", Power::Rewriter),
    ] {
        database.admin(&format!("{make}; {rights}"));
        let error = refused(&database.url("x")).await;
        assert!(
            matches!(&error, StoreError::Unfit(Unfit::Role { power: found, .. }) if *found == power),
            "{make}: {error}"
        );
        database.admin("DROP OWNED BY x; DROP ROLE x");
    }
    let error = refused(&database.owner()).await;
    assert!(matches!(error, StoreError::Unfit(Unfit::Role { power: Power::Owner, .. })), "{error}");
    let error = refused(&database.url("postgres")).await;
    assert!(matches!(error, StoreError::Unfit(Unfit::Role { power: Power::Superuser, .. })), "{error}");
    // What may not use the tables at all is told how to get there.
    database.admin("CREATE ROLE x LOGIN");
    let error = refused(&database.url("x")).await;
    assert_eq!(error, StoreError::Unfit(Unfit::NotGranted));
    assert!(error.to_string().contains("ironclaw db migrate"));
    database.admin("DROP ROLE x");
}

#[tokio::test]
async fn k20_a_setting_that_loses_what_was_acknowledged_is_named() {
    let database = fresh().await;
    database.admin("CREATE ROLE hasty LOGIN; ALTER ROLE hasty SET synchronous_commit = off");
    let off = |name| StoreError::Unfit(Unfit::Setting { name, value: "off".to_owned() });
    let error = refused(&database.url("hasty")).await;
    assert_eq!(error, off("synchronous_commit"));
    assert!(error.to_string().contains("set synchronous_commit = on"), "{error}");
    database.admin("DROP ROLE hasty");

    // Also when it is turned off while the writer is at work: each new connection is asked.
    let (_reader, mut writer) = open(&database.runtime()).await.unwrap();
    writer.begin().await.unwrap().commit().await.unwrap();
    let name = &database.name;
    database.admin(&format!("ALTER DATABASE {name} SET synchronous_commit = off"));
    drop(writer.begin().await.unwrap());
    assert_eq!(writer.begin().await.err(), Some(off("synchronous_commit")));
    database.admin(&format!("ALTER DATABASE {name} RESET synchronous_commit"));
    writer.begin().await.unwrap().commit().await.unwrap();

    for (setting, name) in [("fsync=off", "fsync"), ("full_page_writes=off", "full_page_writes")] {
        let server = Postgres::start(&["-c", setting]);
        let error = refused(&server.database().runtime()).await;
        assert_eq!(error, off(name));
    }
}

#[tokio::test]
async fn k16_security_that_was_taken_off_a_table_is_noticed() {
    for (change, fault) in [
        ("ALTER TABLE secret NO FORCE ROW LEVEL SECURITY", "it is not forced"),
        ("ALTER TABLE audit_record DISABLE ROW LEVEL SECURITY", "it is not forced"),
        ("CREATE POLICY wide ON secret USING (true)", "it has other policies"),
        ("DROP POLICY scope ON tool", "it has other policies"),
        ("ALTER POLICY scope ON key_slot USING (true)", "it shows rows to a connection without a tenant"),
    ] {
        let mut fixture = Fixture::on_server().await;
        fixture.change(Mutation::AddSlot(slot("a"))).await.unwrap();
        fixture.place.sql(change).await;
        let error = fixture.place.refused().await;
        assert!(
            matches!(&error, StoreError::Unfit(Unfit::Table { fault: found, .. }) if *found == fault),
            "{change}: {error}"
        );
        // Migrating again puts back what was there before; a foreign policy is not its to remove.
        if !change.contains("wide") {
            migrate(fixture.database()).await;
            open(&fixture.place.address()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn k16_without_a_tenant_no_row_is_seen_and_with_one_only_its_own() {
    let mut fixture = Fixture::on_server().await;
    for mutation in [
        Mutation::InitVault { slot: slot("a"), tenant_key: tenant_key(1) },
        Mutation::PutSecret { row: secret("API_KEY", 1), expected: None },
        Mutation::InstallTool { row: tool(b"code"), expected: None },
        Mutation::PutGrant(grant("g1")),
        Mutation::Hold(approval()),
    ] {
        fixture.change(mutation).await.unwrap();
    }
    let database = fixture.database();
    // As the role of the runtime, but with SQL of one's own: what a hole in this program would allow.
    let count = |setup: &str, table: &str| {
        let sql = format!("BEGIN; {setup} SELECT count(*) FROM ironclaw.{table}");
        database.psql("ironclaw_runtime", &sql).unwrap().parse::<u32>().unwrap()
    };
    let tenants = ["tenant_key", "secret", "tool", "tool_grant", "approval"];
    for table in ["audit_record", "key_slot", "chain_head"].iter().chain(&tenants) {
        assert_eq!(count("", table), 0, "{table}");
        assert_eq!(count("SET LOCAL ironclaw.tenant TO '';", table), 0, "{table}");
        assert_eq!(count("SET LOCAL ironclaw.tenant TO 'other';", table), 0, "{table}");
        assert!(count("SET LOCAL ironclaw.tenant TO '*';", table) > 0, "{table}");
        let own = count("SET LOCAL ironclaw.tenant TO 'local';", table);
        assert_eq!(own > 0, tenants.contains(table), "{table}");
    }
    let other = "BEGIN; SET LOCAL ironclaw.tenant TO 'other';";
    for forbidden in [
        "INSERT INTO ironclaw.tool_grant SELECT 'local', 'g2', 't', 's', 'x', 'x', 1",
        "INSERT INTO ironclaw.key_slot VALUES ('b', 'file', 'x', 'x', 1, 1)",
        "UPDATE ironclaw.audit_record SET record = 'x'",
        "DELETE FROM ironclaw.audit_record",
        "TRUNCATE ironclaw.audit_record",
        "DROP TABLE ironclaw.tool",
        "ALTER TABLE ironclaw.tool DISABLE ROW LEVEL SECURITY",
        "CREATE TABLE ironclaw.mine (id BIGINT)",
    ] {
        assert!(database.psql("ironclaw_runtime", &format!("{other} {forbidden}")).is_err(), "{forbidden}");
    }
    // What it may say, it says to nobody's rows.
    database.psql("ironclaw_runtime", &format!("{other} DELETE FROM ironclaw.secret; COMMIT")).unwrap();
    assert_eq!(fixture.reader.secrets(&Tenant::local()).await.unwrap().len(), 1);
}

#[tokio::test]
async fn l11_a_second_writer_waits_for_the_first_and_sees_what_it_wrote() {
    let mut fixture = Fixture::on_server().await;
    let (_, mut second) = open(&fixture.place.address()).await.unwrap();
    let record = |seq| NewRecord { seq, record: b"r", chain: &[0; 32], refusal: None, claim: None, at_ms: 0 };
    let mut first = fixture.writer.begin().await.unwrap();
    let waiting = tokio::spawn(async move {
        let mut batch = second.begin().await.unwrap();
        let head = batch.head().await.unwrap().unwrap();
        batch.append(record(head.seq + 1), None).await.unwrap().unwrap();
        batch.commit().await.unwrap();
        head.seq
    });
    for seq in 1..=100 {
        first.append(record(seq), None).await.unwrap().unwrap();
    }
    assert!(!waiting.is_finished());
    first.commit().await.unwrap();
    assert_eq!(waiting.await.unwrap(), 100);
    assert_eq!(fixture.records().await, 101);
}

#[tokio::test]
async fn a_schema_that_nobody_made_or_that_is_older_is_the_owners_business() {
    let database = Postgres::shared();
    let error = refused(&database.runtime()).await;
    assert!(matches!(error, StoreError::Older { found: 0, .. }), "{error}");
    assert!(error.to_string().contains("ironclaw db migrate"));
    assert!(migrate(&database).await > 1);
    assert_eq!(migrate(&database).await, 0);
    open(&database.runtime()).await.unwrap();

    database.admin("DELETE FROM ironclaw.schema_step WHERE version > 1");
    assert!(matches!(refused(&database.runtime()).await, StoreError::Older { found: 1, .. }));
    let owner = Server::parse(&database.owner()).unwrap();
    assert_eq!(store::migrate(&owner, "nobody").await, Err(StoreError::Unfit(Unfit::NoRole)));
    let runtime = Server::parse(&database.runtime()).unwrap();
    assert!(store::migrate(&runtime, "ironclaw_runtime").await.is_err());
}

/// A password that no other test has.
fn password() -> String {
    types::Digest::of(types::CallId::new().as_bytes()).to_string()
}

#[tokio::test]
async fn a_server_over_a_network_proves_who_it_is_and_takes_no_password_in_clear() {
    let (server, [address, unnamed]) = Postgres::start_over_tls(&["-c", "password_encryption=scram-sha-256"]);
    let database = server.database();
    let (owner, runtime) = (password(), password());
    for (role, word) in [("ironclaw_owner", &owner), ("ironclaw_runtime", &runtime)] {
        database.admin(&format!("ALTER ROLE {role} PASSWORD '{word}'"));
    }
    let kept =
        database.admin("SELECT DISTINCT left(rolpassword, 14) FROM pg_authid WHERE rolpassword IS NOT NULL");
    assert_eq!(kept, "SCRAM-SHA-256$");
    let at = |role: &str, address: &str, root: &std::path::Path, word: &str| {
        let url = format!("postgres://{role}@{address}/{}?sslrootcert={}", database.name, root.display());
        Server::parse(&url).unwrap().with_password(word.to_owned())
    };
    let root = database.authority();
    store::migrate(&at("ironclaw_owner", &address, &root, &owner), "ironclaw_runtime").await.unwrap();
    let (reader, mut writer) =
        store::connect(&at("ironclaw_runtime", &address, &root, &runtime)).await.unwrap();
    let batch = writer.begin().await.unwrap();
    let seen = database.admin(
        "SELECT DISTINCT ssl, version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'ironclaw_runtime'",
    );
    assert_eq!(seen, "t|TLSv1.3");
    batch.commit().await.unwrap();
    assert!(reader.slots().await.unwrap().is_empty());

    // Another authority, another name, another password, none; and no word of it is said again.
    let (other, _) = Postgres::start_over_tls(&[]);
    let elsewhere = other.database().authority();
    for (address, root, word) in [
        (&address, &elsewhere, &runtime),
        (&unnamed, &root, &runtime),
        (&address, &root, &owner),
        (&address, &root, &String::new()),
    ] {
        let error = match store::connect(&at("ironclaw_runtime", address, root, word)).await {
            Ok(_) => panic!("{address} with {}", root.display()),
            Err(error) => error,
        };
        assert!(
            !format!("{error:?} {error}").contains(runtime.as_str())
                && !error.to_string().contains(owner.as_str())
        );
    }
    // The authorities of the public Internet vouch for no such server either.
    let public = format!("postgres://ironclaw_runtime@{address}/{}", database.name);
    assert!(store::connect(&Server::parse(&public).unwrap().with_password(runtime.clone())).await.is_err());
    // The server refuses whoever comes without TLS, so that this is not what kept the password safe.
    assert!(!database.log().contains(&runtime));
    reader.close().await;
    drop(other);
    drop(server);
}

/// A server plans a statement once for a connection. One that was planned while the log was empty must not read all of
/// the log for every group ever after.
#[tokio::test]
async fn what_was_planned_while_the_log_was_empty_does_not_read_all_of_it_later() {
    const GROUPS: i64 = 60;
    const EACH: i64 = 50;
    let database = fresh().await;
    let (reader, mut writer) = open(&database.runtime()).await.unwrap();
    for _ in 0..GROUPS {
        let mut batch = writer.begin().await.unwrap();
        let head = batch.head().await.unwrap().map_or(0, |head| head.seq);
        for seq in head + 1..=head + EACH {
            let record =
                NewRecord { seq, record: &[7; 300], chain: &[8; 32], refusal: None, claim: None, at_ms: 0 };
            batch.append(record, None).await.unwrap().unwrap();
        }
        batch.last_claim("a", "b").await.unwrap();
        batch.chains_after(head, 10).await.unwrap();
        batch.commit().await.unwrap();
    }
    // A connection tells what it did when it ends.
    writer.close().await;
    reader.close().await;
    let told =
        "SELECT n_tup_ins >= 3000, seq_tup_read FROM pg_stat_user_tables WHERE relname = 'audit_record'";
    let mut looked = 0;
    let read = loop {
        let (done, read) =
            database.admin(told).split_once('|').map(|(a, b)| (a == "t", b.to_owned())).unwrap();
        if done {
            break read;
        }
        looked += 1;
        assert!(looked < 500, "the server never told what was done");
    };
    assert!(read.parse::<i64>().unwrap() < GROUPS * EACH, "{read} rows were read, most of them for nothing");
}
