//! `ironclaw audit archive`: old records out of the database and into a file, and back before a reader's eyes.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use audit::archive::{Archive, ArchiveError};
use audit::{Against, ChangeError, Entry, Log};
use serde_json::json;
use store::{Mutation, Server};

use super::{broken, export};
use crate::cli::ExportFormat;
use crate::commands::backup::create;
use crate::commands::progress::Progress;
use crate::commands::signals::Signals;
use crate::exit::{Failure, Outcome};
use crate::files;
use crate::parts::{Base, database};
use crate::signing;
use crate::terminal::Terminal;

/// Records read at a time while the youngest one that is old enough is looked for.
const PAGE: u32 = 512;

/// Which records go, and who may take them.
pub(super) struct What<'a> {
    /// Only those that are older than so many days.
    pub(super) days: u32,
    /// Only those up to this number.
    pub(super) through: Option<u64>,
    /// The owner of the tables on a server, and the file of the owner's password.
    pub(super) owner: Option<(&'a str, Option<&'a Path>)>,
}

/// Verifies the log, writes the file, records what it holds, and only then lets the bytes go.
pub(super) async fn run(log: &Log, file: &Path, what: What<'_>, base: &Base, terminal: &Terminal) -> Outcome {
    let owner = owner(what.owner, base)?;
    let against = Against { key: signing::verifier(&base.home)?, checkpoint: None };
    let verified = log.verify_against(&against).await.map_err(broken)?;
    let archives = log.archives().await.map_err(broken)?;
    // One that was interrupted between its record and its end.
    let kept: u64 = archives.iter().map(|archive| archive.kept).sum();
    if let Some(last) = archives.last().filter(|last| verified.detached + kept < last.last) {
        let_go(last, owner.as_ref(), base).await?;
    }
    let first = archives.last().map_or(1, |archive| archive.last + 1);
    // What no seal stands for stays: nothing would hold its links.
    let most = verified.sealed.map_or(0, |seal| seal.size).min(what.through.unwrap_or(u64::MAX));
    let last = old(log, first, what.days, most).await?;
    if last < first {
        terminal.done(
            json!({ "archived": 0 }),
            format!(
                "No record after {} is sealed and older than {} days; nothing was done.",
                first - 1,
                what.days
            ),
        );
        return Ok(());
    }
    let mut signals = Signals::listen()?;
    let archive = write(log, first, last, file, &mut signals).await?;
    let kept = archive.kept;
    if let Err(error) = base.audit.change(archive.record(), Mutation::Claim).await {
        if let ChangeError::Lost(_) = error {
            let _ = std::fs::remove_file(file);
            return Err(Failure::failed("somebody else archived these records in this very moment"));
        }
        return Err(Failure::failed(error));
    }
    // What is cut off here goes on with the next archive.
    signals.unless_ended(let_go(&archive, owner.as_ref(), base)).await?;
    terminal.done(
        json!({
            "archived": last + 1 - first, "first": first, "last": last, "kept": kept,
            "file": file.display().to_string(), "digest": archive.digest.to_string(),
        }),
        format!(
            "Records {first} to {last} are in {}; {kept} of them stay here whole, of the others their links.\nKeep the file: nothing else holds them. To prove it: ironclaw audit verify --archive {}",
            file.display(),
            file.display()
        ),
    );
    Ok(())
}

/// Takes the bytes out of the log that are in the file and on record there.
async fn let_go(archive: &Archive, owner: Option<&Server>, base: &Base) -> Outcome {
    let mut progress = Progress::of_rows(archive.last + 1 - archive.first);
    if let Some(owner) = owner {
        let rows = |rows| progress.add(rows);
        return store::detach(owner, archive.first, archive.last, rows).await.map_err(database);
    }
    for (record, mutation) in archive.stretches() {
        base.audit.change(record, mutation).await.map_err(Failure::failed)?;
        progress.add(audit::archive::STRETCH);
    }
    Ok(())
}

/// Who takes records out of the log of a server, which its own role cannot.
fn owner(named: Option<(&str, Option<&Path>)>, base: &Base) -> Result<Option<Server>, Failure> {
    match (&base.config.store, named) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(Failure::usage("--as is for a server, and the configuration names none")),
        (Some(_), Some((url, password))) => {
            crate::config::server(url, password).map(Some).map_err(Failure::usage)
        }
        (Some(server), None) => Err(Failure::usage(format!(
            "on a server the owner of the tables takes records out of the log; {} only adds to it\n  ironclaw audit archive FILE --as 'postgres://OWNER@HOST/DATABASE'",
            server.user()
        ))),
    }
}

/// The last record from `first` on, up to `most`, that is older than so many days, and all before it.
async fn old(log: &Log, first: u64, days: u32, most: u64) -> Result<u64, Failure> {
    let age = (u64::from(days) * 24 * 60 * 60 * 1000).max(audit::archive::YOUNGEST_MS);
    let before = audit::now_ms().saturating_sub(age);
    let mut last = first - 1;
    loop {
        let entries = log.after(last, PAGE).await.map_err(broken)?;
        for entry in &entries {
            if entry.seq > most || entry.at_ms >= before {
                return Ok(last);
            }
            last = entry.seq;
        }
        if entries.is_empty() {
            return Ok(last);
        }
    }
}

/// The file is on the disk, and its name in its folder, before the log lets anything go.
async fn write(
    log: &Log,
    first: u64,
    last: u64,
    file: &Path,
    signals: &mut Signals,
) -> Result<Archive, Failure> {
    let mut out = BufWriter::new(create(file)?);
    let work = async { log.write_archive(first, last, &mut out).await.map_err(|error| failed(file, error)) };
    let written = signals.unless_ended(work).await;
    let synced = |archive: Archive| {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        out.get_ref().sync_all()?;
        File::open(folder)?.sync_all()?;
        Ok(archive)
    };
    let synced = |archive| synced(archive).map_err(|error| failed(file, error));
    written.and_then(synced).inspect_err(|_| {
        // A file that holds not all of it would be taken for an archive.
        let _ = std::fs::remove_file(file);
    })
}

/// Reads an archive, each record proved against the log before it is handed out.
pub(super) async fn read(log: &Log, file: &Path, each: impl FnMut(Entry)) -> Result<Archive, Failure> {
    let opened = File::open(file).map_err(|error| files::unreadable(file, error.kind()))?;
    log.read_archive(BufReader::new(opened), each).await.map_err(|error| failed(file, error))
}

/// Prints the records of an archive as an export prints those of the log.
pub(super) async fn export(
    log: &Log,
    file: &Path,
    format: ExportFormat,
    after: u64,
    base: &Base,
    terminal: &Terminal,
) -> Outcome {
    // Nothing of a file is shown before all of it is known to be right.
    read(log, file, |_| {}).await?;
    let print = |entry: Entry| {
        if entry.seq > after {
            export::print(&[entry], format, base, terminal);
        }
    };
    read(log, file, print).await.map(drop)
}

fn failed(file: &Path, error: ArchiveError) -> Failure {
    match error {
        ArchiveError::Log(error) => broken(error),
        error => Failure::failed(format!("{}: {error}", file.display())),
    }
}
