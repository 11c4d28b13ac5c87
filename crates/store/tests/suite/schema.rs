//! The schema's history: several processes at once, a newer one, a changed one, a planted one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use store::{Server, StoreError};

use crate::fixture::{Fixture, Place, file_in, open, private_folder, refused, sql};

const PATH: &str = "IRONCLAW_TEST_DATABASE";
const OWNER: &str = "IRONCLAW_TEST_OWNER";

#[tokio::test]
async fn k07_processes_that_start_at_once_find_one_schema() {
    for place in (0..5).flat_map(|_| Place::both()) {
        let mut children: Vec<Child> = (0..4)
            .map(|_| {
                #[allow(clippy::disallowed_methods, reason = "this test binary again, as another process")]
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "schema::child_opens_when_told", "--ignored", "--nocapture"])
                    .env(PATH, place.address())
                    .env(OWNER, place.owner())
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let mut outputs: Vec<_> =
            children.iter_mut().map(|child| BufReader::new(child.stdout.take().unwrap()).lines()).collect();
        for lines in &mut outputs {
            assert!(lines.any(|line| line.unwrap().ends_with("ready")));
        }
        for child in &mut children {
            child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        }
        for (mut child, lines) in children.into_iter().zip(outputs) {
            let rest: Vec<String> = lines.map(Result::unwrap).collect();
            assert!(child.wait().unwrap().success(), "{rest:?}");
        }
        let (reader, _writer) = open(&place.address()).await.unwrap();
        assert_eq!(reader.audit_after(0, 10).await.unwrap().len(), 4);
    }
}

/// Not a test of its own: the other process of the one above.
#[tokio::test]
#[ignore = "started by k07_processes_that_start_at_once_find_one_schema"]
async fn child_opens_when_told() {
    #[allow(clippy::disallowed_methods, reason = "how the parent tells where the database is")]
    let Ok(path) = std::env::var(PATH) else { return };
    writeln!(std::io::stdout(), "ready").unwrap();
    std::io::stdin().read_line(&mut String::new()).unwrap();
    #[allow(clippy::disallowed_methods, reason = "and as whom to make its tables")]
    let owner = std::env::var(OWNER).unwrap();
    if let Ok(owner) = Server::parse(&owner) {
        store::migrate(&owner, "ironclaw_runtime").await.unwrap();
    }
    let (_reader, mut writer) = open(&path).await.unwrap();
    let mut batch = writer.begin().await.unwrap();
    let seq = batch.head().await.unwrap().map_or(0, |head| head.seq) + 1;
    let record =
        store::NewRecord { seq, record: b"x", chain: &[0; 32], refusal: None, claim: None, at_ms: 0 };
    batch.append(record, None).await.unwrap().unwrap();
    batch.commit().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    for fixture in Fixture::both().await {
        fixture.place.sql("INSERT INTO schema_step (version, checksum) SELECT 4, checksum FROM schema_step WHERE version = 1").await;
        assert_eq!(fixture.place.refused().await, StoreError::Newer { found: 4, known: 3 });
    }
}

#[tokio::test]
async fn a_changed_history_is_refused() {
    for change in [
        "UPDATE schema_step SET checksum = (SELECT checksum FROM schema_step WHERE version = 2)",
        "UPDATE schema_step SET version = 7 WHERE version = 1",
    ] {
        for fixture in Fixture::both().await {
            fixture.place.sql(change).await;
            let error = fixture.place.refused().await;
            assert_eq!(error, StoreError::SchemaChanged { version: 1 }, "{change}");
        }
    }
    let fixture = Fixture::new().await;
    sql(&fixture.path(), "UPDATE schema_step SET checksum = 'text'").await;
    assert!(matches!(
        refused(&fixture.path()).await,
        StoreError::Damaged(_) | StoreError::SchemaChanged { .. }
    ));
    // A history that claims nothing was done collides with what is there.
    for fixture in Fixture::both().await {
        fixture.place.sql("DELETE FROM schema_step").await;
        let error = fixture.place.refused().await;
        assert!(matches!(error, StoreError::Failed { .. } | StoreError::Older { found: 0, .. }), "{error}");
    }
}

#[tokio::test]
async fn k04_code_planted_in_the_schema_is_refused() {
    for planted in [
        "CREATE TRIGGER t AFTER INSERT ON audit_record BEGIN UPDATE tool SET state = 'approved'; END",
        "CREATE VIEW v AS SELECT * FROM tool",
    ] {
        let fixture = Fixture::new().await;
        sql(&fixture.path(), planted).await;
        assert_eq!(refused(&fixture.path()).await, StoreError::Foreign);
    }
    for planted in [
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER t BEFORE INSERT ON audit_record FOR EACH ROW EXECUTE FUNCTION f()",
        "CREATE RULE r AS ON INSERT TO tool DO INSTEAD NOTHING",
        "CREATE VIEW v AS SELECT * FROM tool",
        "CREATE TABLE other (id BIGINT)",
    ] {
        let fixture = Fixture::on_server().await;
        fixture.place.sql(planted).await;
        assert_eq!(fixture.place.refused().await, StoreError::Foreign, "{planted}");
    }
}

#[tokio::test]
async fn what_is_not_a_database_is_said_to_be_none() {
    let folder = private_folder();
    let path = file_in(folder.path());
    // Made by the store, for the right permissions, and filled by someone else.
    drop(store::open(&path).await.unwrap());
    let other = folder.path().join("other.db");
    std::fs::copy(&path, &other).unwrap();
    std::fs::write(&other, vec![b'x'; 8192]).unwrap();
    assert!(matches!(refused(&other).await, StoreError::Damaged(_)));
}
