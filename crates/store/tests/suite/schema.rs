//! The schema's history: several processes at once, a newer one, a changed one, a planted one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use store::StoreError;

use crate::fixture::{Fixture, file_in, private_folder, refused, sql};

const PATH: &str = "IRONCLAW_TEST_DATABASE";

#[tokio::test]
async fn k07_processes_that_start_at_once_find_one_schema() {
    for _ in 0..5 {
        let folder = private_folder();
        let path = file_in(folder.path());
        let mut children: Vec<Child> = (0..4)
            .map(|_| {
                #[allow(clippy::disallowed_methods, reason = "this test binary again, as another process")]
                Command::new(std::env::current_exe().unwrap())
                    .args(["--exact", "schema::child_opens_when_told", "--ignored", "--nocapture"])
                    .env(PATH, &path)
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
        let (reader, _writer) = store::open(&path).await.unwrap();
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
    let (_reader, mut writer) = store::open(path.as_ref()).await.unwrap();
    let mut batch = writer.begin().await.unwrap();
    let seq = batch.head().await.unwrap().map_or(0, |head| head.seq) + 1;
    let record = store::NewRecord { seq, record: b"x", chain: &[0; 32], refusal: None, at_ms: 0 };
    batch.append(record, None).await.unwrap().unwrap();
    batch.commit().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let fixture = Fixture::new().await;
    let path = fixture.path();
    sql(&path, "INSERT INTO schema_step (version, checksum) VALUES (2, x'00')").await;
    assert_eq!(refused(&path).await, StoreError::Newer { found: 2, known: 1 });
}

#[tokio::test]
async fn a_changed_history_is_refused() {
    for change in [
        "UPDATE schema_step SET checksum = x'00'",
        "UPDATE schema_step SET checksum = 'text'",
        "UPDATE schema_step SET version = 7",
    ] {
        let fixture = Fixture::new().await;
        sql(&fixture.path(), change).await;
        let error = refused(&fixture.path()).await;
        assert!(
            matches!(error, StoreError::SchemaChanged { version: 1 } | StoreError::Damaged("schema_step")),
            "{change}: {error}"
        );
    }
    // A history that claims nothing was done collides with what is there.
    let fixture = Fixture::new().await;
    sql(&fixture.path(), "DELETE FROM schema_step").await;
    assert!(matches!(refused(&fixture.path()).await, StoreError::Failed { .. }));
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
