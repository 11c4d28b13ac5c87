//! Old records in a file of their own, for as long as they have to be kept.
//!
//! ```text
//! file = "ironclaw audit archive 1 " first " " last " " chain before the first "\n" line*
//! line = number " " base64 of the canonical bytes "\n"
//! ```
//!
//! The log keeps the links of what it gave away, and a record of its own says which file holds it, by digest. So a
//! file proves by itself that its records hang together, and against the log that they are those that stood in
//! it.

use std::io::{BufRead, Read as _, Write};
use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};
use store::{AuditRow, Mutation, StoreError};
use types::{Digest, Field, Kind, Record, Verdict};

use crate::chain;
use crate::log::{Entry, Log};
use crate::verify::{Broken, Fault, STRIDE};

const MAGIC: &str = "ironclaw audit archive 1";

/// So many records lose their bytes in one transaction: others record between two.
pub const STRETCH: u64 = 20_000;

/// The longest line that is read: a record of 64 KiB in base64 and its number.
const LONGEST: u64 = 128 * 1024;

/// Records this young stay: a lease is judged by the record of its permit, within a minute.
pub const YOUNGEST_MS: u64 = 24 * 60 * 60 * 1000;

/// A segment that the log gave away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Archive {
    /// Its first record.
    pub first: u64,
    /// Its last record.
    pub last: u64,
    /// How many of its records stay in the log whole, since something is read from their claims.
    pub kept: u64,
    /// The SHA-256 of the file that holds it.
    pub digest: Digest,
}

/// Why a file was not written, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// Not an archive, or of a later version.
    #[error("this is no archive of an audit log, or one that a newer version wrote")]
    Format,
    /// A record in it is not the one that was written there.
    #[error("record {0} in the archive is not the one that was written there")]
    Record(u64),
    /// The log tells of no such file.
    #[error("the log tells of no archive with these records and this digest")]
    Unknown,
    /// It could not be read or written.
    #[error("the archive cannot be read or written: {}", .0.kind())]
    File(#[from] std::io::Error),
    /// The log itself.
    #[error(transparent)]
    Log(#[from] Broken),
}

impl Archive {
    /// What archives claim: everything from the first text up to, not including, the second.
    const CLAIMS: (&'static str, &'static str) = ("archive/", "archive0");

    /// The record that tells of it. What it claims, no second archive can.
    pub fn record(&self) -> Record {
        Record::new(Kind::Archive, Verdict::Done)
            .with(Field::Actor, "owner")
            .with(Field::Of, self.first)
            .with(Field::Count, self.last)
            .with(Field::Kept, self.kept)
            .with(Field::Digest, self.digest)
            .with(Field::Claim, format!("{}{:020}", Self::CLAIMS.0, self.last))
    }

    /// What takes the bytes out of the log of a file, once the record of the archive is there. Safe to do again.
    pub fn stretches(&self) -> impl Iterator<Item = (Record, Mutation)> + use<> {
        let end = self.last;
        (self.first..=end).step_by(STRETCH as usize).map(move |first| {
            let last = end.min(first + STRETCH - 1);
            let record = Record::new(Kind::Archive, Verdict::Done)
                .with(Field::Actor, "owner")
                .with(Field::State, "bytes let go")
                .with(Field::Of, first)
                .with(Field::Count, last);
            (record, Mutation::Detach { first, last })
        })
    }

    fn read(row: &AuditRow) -> Option<Self> {
        let (_, record) =
            Record::decode(&row.record).ok().filter(|(_, record)| record.kind == Kind::Archive)?;
        let number = |field| record.field(field)?.parse().ok();
        let digest = Digest::parse(record.field(Field::Digest)?)?;
        let (first, last, kept) = (number(Field::Of)?, number(Field::Count)?, number(Field::Kept)?);
        Some(Self { first, last, kept, digest })
    }
}

impl Log {
    /// Every segment that was given away, oldest first.
    pub async fn archives(&self) -> Result<Vec<Archive>, Broken> {
        let mut archives: Vec<Archive> = Vec::new();
        for row in self.reader.claims(Archive::CLAIMS.0, Archive::CLAIMS.1).await? {
            let seq = u64::try_from(row.seq).unwrap_or(0);
            let next = archives.last().map_or(1, |last| last.last + 1);
            // One begins where the one before ended, and ends before the record that tells of it.
            let fits =
                |archive: &Archive| archive.first == next && (archive.first..seq).contains(&archive.last);
            let archive = Archive::read(&row).filter(fits);
            archives.push(archive.ok_or(Broken::Record { seq, fault: Fault::Unreadable })?);
        }
        Ok(archives)
    }

    /// Up to which record bytes may be missing; 0 where nothing was given away.
    pub async fn detached(&self) -> Result<u64, Broken> {
        Ok(self.archives().await?.last().map_or(0, |archive| archive.last))
    }

    /// Writes a segment out, each record checked against its link on the way.
    pub async fn write_archive(
        &self,
        first: u64,
        last: u64,
        out: impl Write,
    ) -> Result<Archive, ArchiveError> {
        let mut out = Hashing { out, hasher: Sha256::new() };
        let mut chain = self.chain(first - 1).await?;
        writeln!(out, "{MAGIC} {first} {last} {chain}")?;
        let (mut seq, mut kept) = (first, 0);
        while seq <= last {
            let after = i64::try_from(seq - 1).unwrap_or(i64::MAX);
            let rows = self.reader.audit_after(after, STRIDE).await.map_err(Broken::from)?;
            if rows.is_empty() {
                return Err(Broken::Record { seq, fault: Fault::Missing }.into());
            }
            for row in rows.iter().take_while(|row| u64::try_from(row.seq).is_ok_and(|seq| seq <= last)) {
                chain = chain::link(&chain, seq, &row.record);
                if row.seq != seq as i64 || row.chain != chain.as_bytes() {
                    return Err(Broken::Record { seq, fault: Fault::Chain }.into());
                }
                writeln!(out, "{seq} {}", BASE64.encode(&row.record))?;
                (seq, kept) = (seq + 1, kept + u64::from(stays(row)));
            }
        }
        out.out.flush()?;
        Ok(Archive { first, last, kept, digest: Digest::from_bytes(out.hasher.finalize().into()) })
    }

    /// Reads a file whose records the log gave away, and hands each out once it is known to be the one that was
    /// written. Returns which segment it was.
    pub async fn read_archive(
        &self,
        input: impl BufRead,
        mut each: impl FnMut(Entry),
    ) -> Result<Archive, ArchiveError> {
        let mut lines = Lines { input, hasher: Sha256::new() };
        let head = lines.next()?.ok_or(ArchiveError::Format)?;
        let mut words = head.strip_prefix(MAGIC).ok_or(ArchiveError::Format)?.split(' ').skip(1);
        let mut number =
            || words.next().and_then(|digits| u64::from_str(digits).ok()).ok_or(ArchiveError::Format);
        let (first, last) = (number()?, number()?);
        let mut chain = words.next().and_then(Digest::parse).ok_or(ArchiveError::Format)?;
        if first == 0 || last < first || self.chain(first - 1).await? != chain {
            return Err(ArchiveError::Unknown);
        }
        for seq in first..=last {
            let bad = || ArchiveError::Record(seq);
            let line = lines.next()?.ok_or_else(bad)?;
            let bytes = line.strip_prefix(&format!("{seq} ")).and_then(|text| BASE64.decode(text).ok());
            let bytes = bytes.ok_or_else(bad)?;
            chain = chain::link(&chain, seq, &bytes);
            let (at_ms, record) = Record::decode(&bytes).map_err(|_| bad())?;
            each(Entry { seq, at_ms, record, chain });
        }
        if lines.next()?.is_some() {
            return Err(ArchiveError::Format);
        }
        if self.chain(last).await? != chain {
            return Err(ArchiveError::Record(last));
        }
        let digest = Digest::from_bytes(lines.hasher.finalize().into());
        let is_it =
            |archive: &Archive| (archive.first, archive.last, archive.digest) == (first, last, digest);
        self.archives().await?.into_iter().find(is_it).ok_or(ArchiveError::Unknown)
    }

    /// The link of one record; that of number 0 is where the chain begins.
    async fn chain(&self, seq: u64) -> Result<Digest, Broken> {
        let Some(before) = seq.checked_sub(1) else { return Ok(chain::genesis()) };
        let missing = Broken::Record { seq, fault: Fault::Missing };
        let rows = self.reader.audit_after(i64::try_from(before).unwrap_or(i64::MAX), 1).await?;
        let row = rows.first().filter(|row| u64::try_from(row.seq) == Ok(seq)).ok_or(missing)?;
        let chain = row.chain.as_slice().try_into().map(Digest::from_bytes);
        chain.map_err(|_| Broken::Store(StoreError::Damaged("audit_record")))
    }
}

/// Whether a record stays whole when its segment goes: all that claim something but a lease, whose time is over, and an
/// export, of which the claim says everything.
pub(crate) fn stays(row: &AuditRow) -> bool {
    let whole = |claim: &Vec<u8>| !claim.starts_with(b"lease/") && !claim.starts_with(b"export/");
    row.claim.as_ref().is_some_and(whole)
}

/// Passes bytes on and hashes them.
struct Hashing<W> {
    out: W,
    hasher: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// Lines of bounded length, hashed as they are read.
struct Lines<R> {
    input: R,
    hasher: Sha256,
}

impl<R: BufRead> Lines<R> {
    fn next(&mut self) -> Result<Option<String>, ArchiveError> {
        let mut line = Vec::new();
        (&mut self.input).take(LONGEST).read_until(b'\n', &mut line)?;
        self.hasher.update(&line);
        match line.pop() {
            None => Ok(None),
            Some(b'\n') => String::from_utf8(line).map(Some).map_err(|_| ArchiveError::Format),
            Some(_) => Err(ArchiveError::Format),
        }
    }
}
