//! A baseline: what a person has seen and accepted, so that a scan speaks only of what is new.
//!
//! The file holds no secret and no plain digest of one. Each entry is a digest of rule and matched text under a
//! random key of that file, so that it cannot be looked up in a table or compared between repositories. Who has
//! the file can still try guesses, so a weak password should be changed rather than accepted.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use safety::Finding;
use serde::{Deserialize, Serialize};
use types::limits::Bytes;
use types::{CallId, Digest};

use crate::exit::Failure;

/// Of this form; another number is refused.
const VERSION: u32 = 1;

/// The most bytes of a file: about a hundred thousand entries.
const MAX_BYTES: u64 = 16 << 20;

/// What the file holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Contents {
    version: u32,
    /// 64 hexadecimal digits.
    key: String,
    findings: BTreeSet<Entry>,
}

/// One accepted finding, wherever it stands.
#[derive(Serialize, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Where it was seen first, for people.
    input: String,
    rule: String,
    /// 16 hexadecimal digits.
    digest: String,
}

/// A baseline that is read, or one that is being written.
pub(super) struct Baseline {
    key: String,
    known: BTreeSet<String>,
    /// Set for a baseline that is to be written.
    writes: Option<(PathBuf, BTreeSet<Entry>)>,
}

impl Baseline {
    /// A baseline whose findings are left out.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let contents = contents(path)?;
        let known = contents.findings.into_iter().map(|entry| entry.digest).collect();
        Ok(Self { key: contents.key, known, writes: None })
    }

    /// A baseline that will hold what is found. The key of a file that is there stays, so that an entry that stays is
    /// written as it was.
    pub(super) fn write(path: &Path) -> Result<Self, Failure> {
        let key = if path.exists() { contents(path)?.key } else { random_key() };
        Ok(Self { key, known: BTreeSet::new(), writes: Some((path.to_owned(), BTreeSet::new())) })
    }

    /// True for a finding that is not to be spoken of: it is accepted, or is now.
    pub(super) fn takes(&mut self, input: &str, finding: &Finding) -> bool {
        let parts = [self.key.as_bytes(), finding.rule.as_bytes(), finding.fingerprint.as_bytes()];
        let digest = Digest::of_parts(parts).to_string()[..16].to_owned();
        match &mut self.writes {
            Some((_, entries)) => {
                if self.known.insert(digest.clone()) {
                    entries.insert(Entry { input: input.to_owned(), rule: finding.rule.to_string(), digest });
                }
                true
            }
            None => self.known.contains(&digest),
        }
    }

    /// Writes the file, where this is one to be written, and says how many entries it has.
    pub(super) fn finish(self) -> Result<Option<usize>, Failure> {
        let Some((path, findings)) = self.writes else { return Ok(None) };
        let count = findings.len();
        let contents = Contents { version: VERSION, key: self.key, findings };
        let mut text = serde_json::to_string_pretty(&contents).map_err(Failure::failed)?;
        text.push('\n');
        if text.len() as u64 > MAX_BYTES {
            return Err(Failure::failed(format!(
                "{}: a baseline of these {count} findings would be longer than the {} that are read; it was not written\n  \
                 narrow the scan, or write a baseline for each part",
                path.display(),
                Bytes(MAX_BYTES)
            )));
        }
        fs::write(&path, text).map_err(|error| unusable(&path, error.kind()))?;
        Ok(Some(count))
    }
}

fn contents(path: &Path) -> Result<Contents, Failure> {
    let length = fs::metadata(path).map_err(|error| unusable(path, error.kind()))?.len();
    if length > MAX_BYTES {
        return Err(Failure::usage(format!(
            "{}: a baseline has at most {}",
            path.display(),
            Bytes(MAX_BYTES)
        )));
    }
    let text = fs::read_to_string(path).map_err(|error| unusable(path, error.kind()))?;
    let contents: Contents = serde_json::from_str(&text)
        .map_err(|error| Failure::usage(format!("{}: no baseline: line {}", path.display(), error.line())))?;
    let is_key = contents.key.len() == 64 && contents.key.bytes().all(|byte| byte.is_ascii_hexdigit());
    if contents.version != VERSION || !is_key {
        return Err(Failure::usage(format!("{}: no baseline of version {VERSION}", path.display())));
    }
    Ok(contents)
}

fn unusable(path: &Path, kind: std::io::ErrorKind) -> Failure {
    let words = format!("{}: {kind}", path.display());
    match kind {
        std::io::ErrorKind::NotFound => {
            Failure::not_found(format!("{words}; --write-baseline makes a baseline"))
        }
        _ => Failure::failed(words),
    }
}

/// 148 random bits, hashed.
fn random_key() -> String {
    let ids = [CallId::new(), CallId::new()];
    Digest::of_parts(ids.iter().map(|id| id.as_bytes().as_slice())).to_string()
}
