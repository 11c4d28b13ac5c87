//! L10: old segments leave the database, and every proof still holds.

use std::path::Path;

use audit::archive::{Archive, ArchiveError};
use audit::checkpoint::Signer;
use audit::{Against, Audit, Broken, Fault, Log, merkle};
use store::{Mutation, Server};
use testkit::{Database, Postgres};
use types::{Digest, Field, RefusalId};

use crate::fixture::{file_in, number_of, numbered, on, open};

const RECORDS: u64 = 400;

/// A sealed log on either database.
struct Place {
    folder: tempfile::TempDir,
    path: std::path::PathBuf,
    server: Option<Database>,
}

impl Place {
    async fn both() -> [Self; 2] {
        let (folder, database) = (tempfile::tempdir().unwrap(), Postgres::shared());
        let file = Self { path: file_in(folder.path()), folder, server: None };
        let path = on(&database).await;
        [file, Self { folder: tempfile::tempdir().unwrap(), path, server: Some(database) }]
    }

    async fn log(&self) -> Log {
        Log::new(open(&self.path).await.unwrap().0)
    }

    /// Records numbers, leases, a claim that stays and a refusal, and seals the end.
    async fn record(&self, first: u64) {
        let (audit, drain) = self.start().await;
        for number in first..first + RECORDS {
            let record = match number % 100 {
                7 => numbered(number).with(Field::Claim, format!("lease/{number:020}/0")),
                8 => numbered(number).with(Field::Claim, format!("revoked/local/{number}")),
                9 => numbered(number).with(Field::Refusal, RefusalId::new()),
                _ => numbered(number),
            };
            match record.field(Field::Claim) {
                Some(_) => drop(audit.change(record, Mutation::Claim).await.unwrap()),
                None => drop(audit.record(record).await.unwrap()),
            }
        }
        drop(audit);
        drain.finish().await;
    }

    async fn start(&self) -> (Audit, audit::Drain) {
        let signer = Signer::from_seed(&[1; 32]).unwrap();
        Audit::start_sealed(open(&self.path).await.unwrap().1, signer)
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a segment into a file, puts it on record and lets its bytes go.
    async fn archive(&self, first: u64, last: u64, file: &Path) -> Archive {
        let out = std::fs::File::create(file).unwrap();
        let archive = self.log().await.write_archive(first, last, out).await.unwrap();
        let (audit, drain) = self.start().await;
        audit.change(archive.record(), Mutation::Claim).await.unwrap();
        // Interrupted and done again, it comes to the same.
        for _ in 0..2 {
            if let Some(database) = &self.server {
                let owner = Server::parse(&database.owner()).unwrap();
                store::detach(&owner, first, last, |_| {}).await.unwrap();
                continue;
            }
            for (record, mutation) in archive.stretches() {
                audit.change(record, mutation).await.unwrap();
            }
        }
        drop(audit);
        drain.finish().await;
        archive
    }

    async fn read(&self, file: &Path) -> Result<(Archive, Vec<audit::Entry>), ArchiveError> {
        let (mut entries, bytes) = (Vec::new(), std::fs::read(file).unwrap());
        let archive = self.log().await.read_archive(&bytes[..], |entry| entries.push(entry)).await?;
        Ok((archive, entries))
    }
}

/// Against the key that every seal must be of.
fn kept() -> Against {
    Against { key: Some(Signer::from_seed(&[1; 32]).unwrap().verifier().clone()), checkpoint: None }
}

#[tokio::test]
async fn l10_a_detached_segment_keeps_every_proof_and_its_file_proves_itself() {
    for place in Place::both().await {
        place.record(0).await;
        let log = place.log().await;
        let before = log.verify_against(&kept()).await.unwrap();
        let checkpoint = Signer::from_seed(&[1; 32]).unwrap().sign(before.records, before.root);
        let proof = log.roots(&merkle::inclusion(41, before.records).unwrap()).await.unwrap();
        let whole = log.after(0, 300).await.unwrap();

        let file = place.file("one");
        let one = place.archive(1, 250, &file).await;
        assert_eq!(one.kept, 3, "a claim in each hundred");
        let after = log.verify_against(&Against { checkpoint: Some(checkpoint), ..kept() }).await.unwrap();
        assert_eq!(after.detached, 247);
        assert!(after.records > before.records);
        assert_eq!(log.roots(&merkle::inclusion(41, before.records).unwrap()).await.unwrap(), proof);

        // The log passes over them, and says of one where it is; the file holds them as they were.
        assert_eq!(log.show(5).await, Err(Broken::Record { seq: 5, fault: Fault::Detached }));
        let first = log.after(0, 300).await.unwrap();
        assert_eq!(
            first.iter().map(number_of).take(3).collect::<Vec<_>>(),
            [8, 108, 208],
            "what stays whole"
        );
        let (archive, entries) = place.read(&file).await.unwrap();
        assert_eq!((archive, &entries[..]), (one, &whole[..250]));

        // A lease of old is not given twice, and the next segment begins where this one ends.
        let (audit, drain) = place.start().await;
        let again = numbered(7).with(Field::Claim, format!("lease/{:020}/0", 7));
        assert!(audit.change(again, Mutation::Claim).await.is_err());
        drop(audit);
        drain.finish().await;
        place.record(10_000).await;
        let second = place.file("two");
        place.archive(251, 500, &second).await;
        assert_eq!(log.archives().await.unwrap().len(), 2);
        assert!(log.verify_against(&kept()).await.unwrap().detached > 490);
        place.read(&second).await.unwrap();
    }
}

#[tokio::test]
async fn l10_a_changed_archive_and_one_of_another_log_are_refused() {
    let [place, other] = Place::both().await;
    place.record(0).await;
    other.record(0).await;
    let file = place.file("one");
    place.archive(1, 250, &file).await;
    other.archive(1, 250, &other.file("one")).await;
    let good = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    let swapped = good.replacen(lines[41], lines[42], 1);
    let shorter = lines[..200].join("\n") + "\n";
    for (text, record) in [
        (swapped, Some(41)),
        (shorter, Some(200)),
        (good.clone() + "251 AA==\n", None),
        (String::new(), None),
    ] {
        write(&text);
        match place.read(&file).await {
            Err(ArchiveError::Record(seq)) => assert_eq!(Some(seq), record),
            Err(ArchiveError::Format) => assert_eq!(record, None),
            other => panic!("{other:?}"),
        }
    }
    // One bit of one record: its link says so at the end, or its bytes are none of a record.
    write(&good.replacen(&lines[5][10..20], &lines[7][10..20], 1));
    assert!(place.read(&file).await.is_err());
    write(&good);
    place.read(&file).await.unwrap();
    let theirs = std::fs::read(other.file("one")).unwrap();
    std::fs::write(&file, theirs).unwrap();
    assert!(place.read(&file).await.is_err());
}

#[tokio::test]
async fn l10_what_an_archive_does_not_take_cannot_be_taken_in_its_name() {
    let [_, place] = Place::both().await;
    let database = place.server.clone().unwrap();
    place.record(0).await;
    place.archive(1, 250, &place.file("one")).await;
    let log = place.log().await;
    let found = async || log.verify_against(&kept()).await.map(|verified| verified.detached);
    assert_eq!(found().await, Ok(247));
    let bytes =
        |seq: u64| format!("(SELECT encode(record, 'hex') FROM ironclaw.audit_record WHERE seq = {seq})");
    // Seals stand among the records, as time goes by.
    let stayed = "SELECT seq FROM ironclaw.audit_record WHERE claim = 'revoked/local/108'";
    let stayed: u64 = database.admin(stayed).trim().parse().unwrap();
    let changed = |what: &str, seq: u64| format!("UPDATE ironclaw.audit_record SET {what} WHERE seq = {seq}");
    let cases = [
        // A record that is not in any archive.
        (changed("record = ''", 300), 300, Fault::Chain),
        // One that stayed, with its claim and without it: a grant that was taken back would be good again.
        (changed("record = ''", stayed), stayed, Fault::Index),
        (changed("record = '', claim = NULL", stayed), 1, Fault::Stripped),
        // A link of one that is gone.
        (changed("chain = sha256(chain)", 42), 0, Fault::Seal),
        (changed("claim = 'revoked/local/x'", 42), 42, Fault::Index),
        ("DELETE FROM ironclaw.audit_record WHERE seq = 42".to_owned(), 42, Fault::Missing),
    ];
    for (sql, seq, fault) in cases {
        let copy = "DROP TABLE IF EXISTS public.kept; CREATE TABLE public.kept AS SELECT * FROM ironclaw.audit_record";
        database.admin(copy);
        database.admin(&sql);
        match found().await {
            Err(Broken::Record { seq: named, fault: found }) => {
                assert_eq!(found, fault, "{sql}: {}", database.admin(&format!("SELECT {}", bytes(named))));
                assert!(seq == 0 || named == seq, "{sql}: {named}");
            }
            other => panic!("{sql}: {other:?}"),
        }
        database.admin(
            "TRUNCATE ironclaw.audit_record; INSERT INTO ironclaw.audit_record SELECT * FROM public.kept",
        );
        assert_eq!(found().await, Ok(247), "{sql}");
    }
    // Nobody but the owner of the tables can take bytes out.
    let (audit, drain) = place.start().await;
    let refused = audit.change(numbered(1), Mutation::Detach { first: 251, last: 260 }).await;
    assert!(refused.is_err());
    drop(audit);
    drain.finish().await;
    // A record that tells of an archive out of turn makes the log unreadable, not shorter.
    let (audit, drain) = place.start().await;
    let forged = Archive { first: 1, last: 300, kept: 0, digest: Digest::of(b"nothing") };
    audit.change(forged.record(), Mutation::Claim).await.unwrap();
    drop(audit);
    drain.finish().await;
    assert!(matches!(found().await, Err(Broken::Record { fault: Fault::Unreadable, .. })));
}
