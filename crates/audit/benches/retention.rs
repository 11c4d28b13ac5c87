//! What many records cost: how large they are, how long it takes to verify them, to give the older half away to an
//! archive, and to verify and prove what is left (L10); on SQLite and on PostgreSQL in one run.
//!
//! `cargo bench -p audit --bench retention -- 10000000`; a tenth of a million where no number is given. Needs about 400
//! bytes of disk a record, and as much again for the server's log.
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on says so by panicking")]

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use audit::archive::Archive;
use audit::checkpoint::Signer;
use audit::{Against, Audit, Drain, Log, merkle};
use store::{Mutation, Reader, Server, Writer};
use testkit::{Database, Postgres};

mod records;

use records::fill;

fn say(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout();
    writeln!(out, "{line}").unwrap();
}

enum Place {
    File(PathBuf),
    Server(Database),
}

#[tokio::main]
async fn main() {
    let total = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(100_000);
    let folder = tempfile::tempdir().unwrap();
    say(format_args!("SQLite, WAL, synchronous=FULL"));
    let file = folder.path().join("data/ironclaw.db");
    measure(&Place::File(file.clone()), folder.path(), total).await;
    std::fs::remove_file(file).unwrap();

    let server = Postgres::start(&[]);
    let database = server.database();
    let owner = Server::parse(&database.owner()).unwrap();
    store::migrate(&owner, database.runtime_role()).await.unwrap();
    say(format_args!("\nPostgreSQL {}, Unix socket", database.admin("SHOW server_version")));
    measure(&Place::Server(database), folder.path(), total).await;
}

async fn measure(place: &Place, folder: &Path, total: usize) {
    let signer = || Signer::from_seed(&[7; 32]).unwrap();
    let (log, audit, drain) = place.open(signer()).await;
    let start = Instant::now();
    fill(&audit, total).await;
    drop(audit);
    drain.finish().await;
    let rate = total as f64 / start.elapsed().as_secs_f64();
    let per = place.size() as f64 / total as f64;
    say(format_args!("recorded          {total} at {rate:.0}/s, {per:.0} bytes each in the database"));

    let start = Instant::now();
    let whole = log.verify().await.unwrap();
    say(format_args!("verified          {} in {:.2?}", whole.records, start.elapsed()));
    let checkpoint = signer().sign(whole.records, whole.root);
    let ranges = merkle::inclusion(41, whole.records).unwrap();
    let proof = log.roots(&ranges).await.unwrap();

    let (start, half) = (Instant::now(), whole.records / 2);
    let path = folder.join("archive");
    let archive = log.write_archive(1, half, BufWriter::new(File::create(&path).unwrap())).await.unwrap();
    let size = path.metadata().unwrap().len() as f64 / half as f64;
    say(format_args!(
        "archived          {half} in {:.2?}, {size:.0} bytes each in the file",
        start.elapsed()
    ));
    std::fs::remove_file(path).unwrap();
    let start = Instant::now();
    let (_, audit, drain) = place.open(signer()).await;
    place.detach(&audit, &archive).await;
    drop(audit);
    drain.finish().await;
    say(format_args!("detached          {half} in {:.2?}", start.elapsed()));

    let start = Instant::now();
    let against = Against { key: Some(signer().verifier().clone()), checkpoint: Some(checkpoint) };
    let rest = log.verify_against(&against).await.unwrap();
    assert!(rest.detached == half && rest.records > whole.records);
    say(format_args!(
        "verified the rest {} in {:.2?}, against the checkpoint of before",
        rest.records,
        start.elapsed()
    ));
    let start = Instant::now();
    assert_eq!(log.roots(&ranges).await.unwrap(), proof);
    say(format_args!("proved one record in {:.2?}, with the proof of before", start.elapsed()));
}

impl Place {
    async fn open(&self, signer: Signer) -> (Log, Audit, Drain) {
        let (reader, writer): (Reader, Writer) = match self {
            Self::File(path) => store::open(path).await.unwrap(),
            Self::Server(database) => {
                store::connect(&Server::parse(&database.runtime()).unwrap()).await.unwrap()
            }
        };
        let (audit, drain) = Audit::start_sealed(writer, signer);
        (Log::new(reader), audit, drain)
    }

    /// In bytes.
    fn size(&self) -> u64 {
        match self {
            Self::File(path) => path.metadata().unwrap().len(),
            Self::Server(database) => {
                database.admin("SELECT pg_database_size(current_database())").trim().parse().unwrap()
            }
        }
    }

    async fn detach(&self, audit: &Audit, archive: &Archive) {
        audit.change(archive.record(), Mutation::Claim).await.unwrap();
        match self {
            Self::File(_) => {
                for (record, mutation) in archive.stretches() {
                    audit.change(record, mutation).await.unwrap();
                }
            }
            Self::Server(database) => {
                let owner = Server::parse(&database.owner()).unwrap();
                store::detach(&owner, archive.first, archive.last, |_| {}).await.unwrap();
            }
        }
    }
}
