//! L06 and K15: no room on the disk, or no database. Records are refused, reading goes on, nothing is
//! half written, and everything works again by itself.

use audit::{Audit, AuditError, ChangeError, Log};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use store::{Mutation, StoreError};
use testkit::Postgres;
use types::{Field, Kind, Record, Tenant, Verdict};

use crate::fixture::{Fixture, Other, number_of, numbered, on, open, pair, say, told_path, whole};

#[tokio::test]
async fn l06_records_are_refused_while_the_database_is_gone_and_taken_when_it_returns() {
    let fixture = Fixture::new().await;
    fixture.audit.record(numbered(1)).await.unwrap();
    let path = fixture.path();
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();

    let gone = StoreError::Gone { path: path.clone() };
    let refused = fixture.audit.record(numbered(2)).await;
    assert_eq!(refused, Err(AuditError::Unavailable(gone.clone())));
    let (record, mutation) = pair(3);
    let refused = fixture.audit.change(record, mutation).await;
    assert_eq!(refused, Err(ChangeError::Audit(AuditError::Unavailable(gone))));
    fixture.audit.record_detached(numbered(4));
    assert_eq!(fixture.log().tail(10).await.unwrap().len(), 1, "reading goes on");

    std::fs::rename(&aside, &path).unwrap();
    // The detached record may still be in the queue and be written now, or be told of as lost.
    fixture.audit.record(numbered(5)).await.unwrap();
    let entries = whole(&fixture.reader).await;
    assert_eq!(number_of(&entries[0]), 1);
    assert!(matches!(entries[1].record.kind, Kind::Loss | Kind::Call));
    assert_eq!(number_of(entries.last().unwrap()), 5);
    assert_eq!(entries.len(), 3);
}

/// A group whose transaction the server ended in favour of another is written whole at the next try.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k15_a_group_that_gave_way_to_another_transaction_is_written_whole() {
    let database = Postgres::shared();
    let path = on(&database).await;
    let (reader, writer) = open(&path).await.unwrap();
    let (audit, _drain) = Audit::start(writer);
    let (record, mutation) = pair(1);
    audit.change(record, mutation).await.unwrap();
    // Holds the grant, waits until somebody waits for it, and then wants the head of the chain, which
    // that somebody holds. Who began to wait first finds the knot and is ended for it.
    let knot = "BEGIN; SET LOCAL deadlock_timeout = '60s'; SET LOCAL search_path = ironclaw;
         SELECT 1 FROM tool_grant WHERE id = '1' FOR UPDATE;
         DO $$ BEGIN
           WHILE NOT EXISTS (SELECT 1 FROM pg_stat_activity
                             WHERE datname = current_database() AND wait_event_type = 'Lock') LOOP
             PERFORM pg_sleep(0.01); PERFORM pg_stat_clear_snapshot();
           END LOOP;
         END $$;
         SELECT 1 FROM chain_head FOR UPDATE; COMMIT";
    let held = "SELECT count(*) FROM pg_locks WHERE granted AND mode = 'RowShareLock'
         AND relation = 'ironclaw.tool_grant'::regclass";
    let other = {
        let database = database.clone();
        std::thread::spawn(move || database.admin(knot))
    };
    while database.admin(held) == "0" {
        assert!(!other.is_finished());
    }
    let delete = Mutation::DeleteGrant { tenant: Tenant::local(), id: "1".to_owned() };
    let record = Record::new(Kind::Revoke, Verdict::Done).with(Field::Count, 2);
    let (revoked, recorded) = tokio::join!(audit.change(record, delete), audit.record(numbered(3)));
    revoked.unwrap();
    recorded.unwrap();
    other.join().unwrap();
    assert_eq!(
        database.admin("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"),
        "1"
    );
    assert_eq!(audit::Log::new(reader.clone()).verify().await.unwrap().records, 3);
    assert!(reader.all_grants(&Tenant::local()).await.unwrap().is_empty());
}

/// A real disk without room, of its own file system: what is refused is not there, what was acknowledged is, and with the
/// first room everything works again.
#[tokio::test]
async fn l06_k15_a_file_system_without_room_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().to_str().unwrap();
    let mount = "mount -t tmpfs -o size=2m,mode=0700 tmpfs \"$0\" && exec \"$@\"";
    let become_root: &[&str] = if rustix::process::geteuid().is_root() { &["env"] } else { &["sudo", "-E"] };
    let under = [become_root, &["unshare", "--mount", "sh", "-c", mount, disk]].concat();
    let path = crate::fixture::file_in(folder.path());
    let mut other = Other::start_under(&under, "outage::child_runs_out_of_room", &path);
    let refused: u32 = other.next("refused").unwrap().parse().unwrap();
    let said = other.next("because").unwrap();
    assert!(said.contains("the disk is full"), "{said}");
    assert!(refused >= 15, "{refused}");
    other.finish();
}

/// Not a test of its own: the other process of the one above.
#[tokio::test]
#[ignore = "started by l06_k15_a_file_system_without_room_refuses_and_recovers"]
async fn child_runs_out_of_room() {
    let Some(path) = told_path() else { return };
    let (reader, writer) = store::open(&path).await.unwrap();
    let (audit, drain) = Audit::start(writer);
    let ballast = path.parent().unwrap().with_file_name("ballast");
    let (mut durable, mut refused, mut because) = (Vec::new(), 0, String::new());
    for round in 0..3 {
        // All of the disk but a few pages, so that a write ends in its middle.
        let filled = std::fs::write(&ballast, vec![0; 4 << 20]).unwrap_err();
        assert_eq!(filled.kind(), std::io::ErrorKind::StorageFull);
        let length = std::fs::metadata(&ballast).unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(&ballast).unwrap();
        file.set_len(length - 40_960 - round * 8_192).unwrap();
        drop(file);
        refused += fill(&audit, round * 1_000, &mut durable).await;
        if let Err(error) = audit.record(numbered(round * 1_000 + 998)).await {
            because = error.to_string();
        }
        assert_eq!(Log::new(reader.clone()).verify().await.unwrap().records, durable.len() as u64);
        std::fs::remove_file(&ballast).unwrap();
        audit.record(numbered(round * 1_000 + 999)).await.unwrap();
        durable.push(round * 1_000 + 999);
    }
    let entries = whole(&reader).await;
    let mut found: Vec<u64> = entries.iter().map(number_of).collect();
    durable.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, durable, "what was refused is not there, and nothing else is missing");
    say("refused", refused);
    say("because", because);
    drop(audit);
    drain.finish().await;
}

/// The same on a server whose disk is full. It may end itself for want of room for its write-ahead log; what it
/// acknowledged is there when it comes back, and nothing of what it refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l06_k15_a_server_without_room_refuses_and_recovers() {
    let mut server = Postgres::start_on_disk("112m", &["-c", "min_wal_size=32MB", "-c", "max_wal_size=32MB"]);
    let path = on(&server.database()).await;
    let (reader, writer) = open(&path).await.unwrap();
    let (audit, _drain) = Audit::start(writer);
    let mut durable = Vec::new();
    for number in 0..20 {
        audit.record(numbered(number)).await.unwrap();
        durable.push(number);
    }
    server.fill_disk();
    let (mut refused, mut because) = (0, String::new());
    // Records are long, so that the room that is left in the files at hand is soon used up.
    let long = "x".repeat(3_000);
    for number in 1_000..9_000 {
        match audit.record(numbered(number).with(Field::Reason, &long)).await {
            Ok(_) => durable.push(number),
            Err(error) => {
                refused += 1;
                because = format!("{error:?}");
                if refused == 5 {
                    break;
                }
            }
        }
    }
    assert_eq!(refused, 5, "the disk never filled");
    // Full, or away where it ended itself for want of room.
    assert!(["Full", "Away"].iter().any(|word| because.contains(word)), "{because}");
    server.free_disk();
    // Where it ended itself, an operator starts it again.
    server.kill();
    server.start_again();
    audit.record(numbered(9_999)).await.unwrap();
    durable.push(9_999);
    let found: Vec<u64> = whole(&reader).await.iter().map(number_of).collect();
    let lost: Vec<&u64> = durable.iter().filter(|number| !found.contains(number)).collect();
    assert!(lost.is_empty(), "acknowledged and missing: {lost:?}");
    // A commit whose answer was lost may stand; nothing that was refused before it does.
    let more: Vec<&u64> = found.iter().filter(|number| !durable.contains(number)).collect();
    assert!(more.len() <= 5, "{more:?}");
}

/// A limit on the size of files stands for a full disk: the write fails in the middle just the same.
#[tokio::test]
async fn l06_k15_a_full_disk_refuses_whole_groups_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let path = crate::fixture::file_in(folder.path());
    // Beyond the limit a process is sent SIGXFSZ and dies, unless it was started to ignore it.
    let ignore = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    let mut other = Other::start_under(&ignore, "outage::child_fills_the_disk", &path);
    let refused: u32 = other.next("refused").unwrap().parse().unwrap();
    let recovered: u64 = other.next("recovered").unwrap().parse().unwrap();
    other.finish();
    assert!(refused > 0);

    let (reader, _writer) = store::open(&path).await.unwrap();
    assert_eq!(whole(&reader).await.len() as u64, recovered);
}

/// Not a test of its own: the other process of the one above.
#[tokio::test]
#[ignore = "started by l06_k15_a_full_disk_refuses_whole_groups_and_recovers"]
async fn child_fills_the_disk() {
    let Some(path) = told_path() else { return };
    let (reader, writer) = store::open(&path).await.unwrap();
    let (audit, drain) = Audit::start(writer);
    let mut durable = Vec::new();
    let mut refused = 0;
    // Room for some frames of the write-ahead log, and a different remainder in each round.
    for round in 0..8 {
        let used = std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
        limit(Some(used + 10_000 + round * 1_500));
        refused += fill(&audit, round * 1_000, &mut durable).await;
        let log = Log::new(reader.clone());
        assert_eq!(log.verify().await.unwrap().records, durable.len() as u64, "reading goes on");
        limit(None);
        audit.record(numbered(round * 1_000 + 999)).await.unwrap();
        durable.push(round * 1_000 + 999);
    }
    say("refused", refused);

    let entries = whole(&reader).await;
    let mut found: Vec<u64> = entries.iter().map(number_of).collect();
    durable.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, durable, "what was refused is not there, and nothing else is missing");
    assert!(reader.all_grants(&Tenant::local()).await.unwrap().len() < durable.len());
    say("recovered", durable.len());
    drop(audit);
    drain.finish().await;
}

/// Records and changes until the disk has refused some; how many it refused.
async fn fill(audit: &Audit, first: u64, durable: &mut Vec<u64>) -> u32 {
    let mut refused = 0;
    for number in first..first + 400 {
        let outcome = if number.is_multiple_of(2) {
            audit.record(numbered(number)).await
        } else {
            let (record, mutation) = pair(number);
            audit.change(record, mutation).await.map_err(|error| match error {
                ChangeError::Audit(error) => error,
                ChangeError::Lost(lost) => panic!("{lost}"),
            })
        };
        match outcome {
            Ok(_) => durable.push(number),
            Err(AuditError::Unavailable(_) | AuditError::Uncertain(_)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
        if refused == 5 {
            return refused;
        }
    }
    panic!("the disk never filled");
}

fn limit(bytes: Option<u64>) {
    let hard = getrlimit(Resource::Fsize).maximum;
    setrlimit(Resource::Fsize, Rlimit { current: bytes.or(hard), maximum: hard }).unwrap();
}
