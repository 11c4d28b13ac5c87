//! `ironclaw audit`: the last records, one record, whether the log is whole, and checkpoints of it.

use std::path::{Path, PathBuf};

use audit::checkpoint::{Signed, Verifier};
use audit::{Against, Broken, Entry, Log};
use safety::{Channel, Safety, Untrusted};
use serde_json::{Map, Value, json};
use types::{Field, Source, Trace, Verdict};

use crate::cli;
use crate::collector;
use crate::exit::{Code, Failure, Outcome};
use crate::files;
use crate::parts::{Base, locked};
use crate::signing;
use crate::terminal::{Terminal, Tone};

mod archive;
pub(crate) mod export;

/// Fields that a list leaves out: numbers and digests that `audit show` prints.
const DETAIL: &[Field] = &[
    Field::Call,
    Field::Digest,
    Field::Of,
    Field::Refusal,
    Field::Widen,
    Field::Generation,
    Field::Signature,
    Field::Peaks,
    Field::Key,
    Field::Successor,
    Field::Proof,
    Field::Claim,
    Field::Value,
    Field::Sealed,
];

/// Runs the command.
pub async fn run(args: &cli::Audit, base: &Base, terminal: &Terminal) -> Outcome {
    let log = Log::new(base.reader.clone());
    match args {
        cli::Audit::Tail { lines } => tail(&log, *lines, base, terminal).await,
        cli::Audit::Show { seq } => show(&log, *seq, base, terminal).await,
        cli::Audit::Verify { against, key, archives } => {
            let against = compared(against.as_deref(), key.as_deref(), base)?;
            verify(&log, &against, archives, terminal).await
        }
        cli::Audit::Checkpoint => checkpoint(&log, base, terminal).await,
        cli::Audit::Find { from_file } => find(from_file.as_deref(), base, terminal).await,
        cli::Audit::RotateKey => rotate_key(base, terminal).await,
        cli::Audit::Archive { file, days, through, owner, password_file } => {
            let owner = owner.as_deref().map(|url| (url, password_file.as_deref()));
            let what = archive::What { days: *days, through: *through, owner };
            archive::run(&log, file, what, base, terminal).await
        }
        cli::Audit::Export { push: true, follow, .. } => collector::run(*follow, base, terminal).await,
        cli::Audit::Export { format, archive: Some(file), after, .. } => {
            archive::export(&log, file, *format, *after, base, terminal).await
        }
        cli::Audit::Export { format, after, follow, archive: None, .. } => {
            export::run(&log, *format, *after, *follow, base, terminal).await
        }
    }
}

async fn tail(log: &Log, lines: u32, base: &Base, terminal: &Terminal) -> Outcome {
    for entry in log.tail(lines).await.map_err(broken)? {
        line(&entry, base, terminal);
    }
    Ok(())
}

/// One record as one line.
fn line(entry: &Entry, base: &Base, terminal: &Terminal) {
    if terminal.is_json() {
        terminal.json(&object(entry, &base.safety));
        return;
    }
    let summary: Vec<String> = entry
        .record
        .fields()
        .iter()
        .filter(|(field, value)| !DETAIL.contains(field) && !value.is_empty())
        .map(|(field, value)| format!("{field}={}", quoted(value)))
        .collect();
    terminal.painted(&format!(
        "{:>6}  {}  {:<9} {}  {}",
        entry.seq,
        terminal.paint(Tone::Dim, utc(entry.at_ms)),
        entry.record.kind.as_str(),
        terminal.paint(tone(entry.record.verdict), format!("{:<9}", entry.record.verdict.as_str())),
        stored(summary.join(" "), &base.safety),
    ));
}

async fn show(log: &Log, seq: u64, base: &Base, terminal: &Terminal) -> Outcome {
    let Some(entry) = log.show(seq).await.map_err(broken)? else {
        return Err(Failure::not_found(format!(
            "there is no record {seq}\n  the last ones: ironclaw audit tail"
        )));
    };
    if terminal.is_json() {
        terminal.json(&object(&entry, &base.safety));
        return Ok(());
    }
    let line = |name: &str, value: &str| terminal.say(format!("{name:<12} {value}"));
    line("record", &entry.seq.to_string());
    line("time", &utc(entry.at_ms));
    line("kind", entry.record.kind.as_str());
    line("verdict", entry.record.verdict.as_str());
    if let Some(turn) = &entry.record.turn {
        line("turn", &turn.to_string());
    }
    for (field, value) in entry.record.fields() {
        line(field.as_str(), &stored(value.clone(), &base.safety));
    }
    line("chain", &entry.chain.to_string());
    Ok(())
}

/// What the log is compared with: the key that was given or is this installation's, and the checkpoint.
fn compared(file: Option<&Path>, key: Option<&str>, base: &Base) -> Result<Against, Failure> {
    let key = match key {
        Some(key) => Some(Verifier::parse(key).map_err(Failure::usage)?),
        None => signing::verifier(&base.home)?,
    };
    let read = |file: &Path| {
        let text = std::fs::read_to_string(file).map_err(|error| files::unreadable(file, error.kind()))?;
        Signed::parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
    };
    Ok(Against { key, checkpoint: file.map(read).transpose()? })
}

async fn verify(log: &Log, against: &Against, archives: &[PathBuf], terminal: &Terminal) -> Outcome {
    match log.verify_against(against).await {
        Ok(verified) => {
            let mut read = 0;
            for file in archives {
                let archive = archive::read(log, file, |_| {}).await?;
                read += archive.last + 1 - archive.first;
            }
            let (records, head, root) =
                (verified.records, verified.head.to_string(), verified.root.to_string());
            let sealed = verified.sealed.map_or(0, |seal| seal.size);
            let compared = match &against.checkpoint {
                Some(signed) => {
                    format!("the log of the checkpoint over {} records, continued", signed.checkpoint.size)
                }
                None => "Keep a checkpoint elsewhere, for what this cannot see: ironclaw audit checkpoint"
                    .to_owned(),
            };
            let detached = match (verified.detached, read) {
                (0, 0) => String::new(),
                (detached, 0) => format!(
                    "\n{detached} of them have only their links here; the rest is in archives: --archive FILE"
                ),
                (detached, read) => format!(
                    "\n{detached} of them have only their links here; the archives hold {read} records, each as it was written"
                ),
            };
            terminal.done(
                json!({
                    "ok": true, "records": records, "head": head, "root": root, "sealed": sealed,
                    "detached": verified.detached, "archived": read,
                }),
                format!("{records} records, each as it was written, {sealed} of them sealed{detached}\nhead {head}\n{compared}"),
            );
            Ok(())
        }
        Err(error) if terminal.is_json() && !matches!(error, Broken::Store(_)) => {
            let (seq, fault) = match &error {
                Broken::Record { seq, fault } => (Some(*seq), fault.to_string()),
                Broken::Forked { first, .. } | Broken::Truncated { first, .. } => {
                    (Some(*first), error.to_string())
                }
                _ => (None, error.to_string()),
            };
            terminal.json(&json!({ "ok": false, "record": seq, "fault": fault }));
            Err(Failure::Said(Code::Failed))
        }
        Err(error) => Err(broken(error)),
    }
}

/// Signs only what verifies: a checkpoint over a log that is bad already would hide that.
async fn checkpoint(log: &Log, base: &Base, terminal: &Terminal) -> Outcome {
    let vault = base.vault(terminal).await?;
    let signer = vault.log_signer().await.map_err(locked)?;
    let signer = signer.ok_or_else(|| Failure::not_found("the audit log has no key yet"))?;
    let against = Against { key: Some(signer.verifier().clone()), checkpoint: None };
    let verified = log.verify_against(&against).await.map_err(broken)?;
    let signed = signer.sign(verified.records, verified.root);
    let (note, key) = (signed.to_string(), signer.verifier().to_string());
    if terminal.is_json() {
        terminal.json(&json!({ "checkpoint": note, "key": key, "records": verified.records }));
        return Ok(());
    }
    terminal.say(note.trim_end());
    terminal.warn(format!("the key that it is checked with, to keep beside it: {key}"));
    Ok(())
}

async fn find(from_file: Option<&Path>, base: &Base, terminal: &Terminal) -> Outcome {
    let vault = base.vault(terminal).await?;
    let value = super::secret::read_value("The value to look for: ", from_file, terminal)?;
    let mut found = 0;
    let show = |entry| {
        found += 1;
        line(&entry, base, terminal);
    };
    vault.told_of(&value, show).await.map_err(Failure::failed)?;
    if found == 0 {
        return Err(Failure::not_found(
            "no record tells of this value: it was never a secret of this vault, or its records are in an archive",
        ));
    }
    Ok(())
}

async fn rotate_key(base: &Base, terminal: &Terminal) -> Outcome {
    let [before, key] = signing::exchange(base, terminal).await?.map(|key| key.to_string());
    terminal.done(
        json!({ "key": key, "before": before }),
        format!("The log is sealed by another key now: {key}\nKeep a checkpoint of today elsewhere: ironclaw audit checkpoint"),
    );
    Ok(())
}

/// Why the log could not be read to its end.
pub(crate) fn broken(error: Broken) -> Failure {
    match error {
        Broken::Record { seq, fault } => Failure::failed(format!(
            "record {seq} {fault}; the records before it are whole\n  more: ironclaw audit verify"
        )),
        Broken::Store(error) => crate::parts::database(error),
        other => Failure::failed(other),
    }
}

/// A record as an object with stable keys.
pub(super) fn object(entry: &Entry, safety: &Safety) -> Value {
    let mut fields = Map::new();
    for (field, value) in entry.record.fields() {
        let value = Value::from(stored(value.clone(), safety));
        match fields.get_mut(field.as_str()) {
            None => _ = fields.insert(field.as_str().to_owned(), value),
            // A field that a record has more than once is a list.
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    json!({
        "seq": entry.seq,
        "time": utc(entry.at_ms),
        "at_ms": entry.at_ms,
        "kind": entry.record.kind.as_str(),
        "verdict": entry.record.verdict.as_str(),
        "turn": entry.record.turn.as_ref().map(ToString::to_string),
        "fields": fields,
        "chain": entry.chain.to_string(),
    })
}

/// Text that was read back from the database, as it may be shown: on one line, so that it cannot look like another.
pub(super) fn stored(text: String, safety: &Safety) -> String {
    match safety.screen(Untrusted::new(Source::Store, text), Channel::Log, &Trace::off()) {
        Ok(text) => text.into_inner().replace('\n', "\\n"),
        Err(blocked) => format!("(not shown: {})", blocked.refusal.rule.id),
    }
}

/// In quotation marks where it holds a space.
fn quoted(value: &str) -> String {
    if value.contains(' ') { format!("\"{}\"", value.replace('"', "'")) } else { value.to_owned() }
}

/// The colour of a verdict.
pub(super) fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Allow | Verdict::Done => Tone::Good,
        Verdict::Warn | Verdict::Flag | Verdict::Redact | Verdict::Ask => Tone::Warn,
        Verdict::Block | Verdict::Failed => Tone::Bad,
        Verdict::Abandoned => Tone::Dim,
    }
}

/// A moment in the form of RFC 3339, in UTC, to the second.
pub(crate) fn utc(at_ms: u64) -> String {
    let seconds = at_ms / 1000;
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day counted from 1970-01-01. Counts eras of 400 years from 0000-03-01, in
/// which the leap day is the last of its year.
fn date(day: u64) -> (u64, u64, u64) {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_text_cannot_look_like_another_record() {
        let safety = Safety::new(Default::default()).unwrap();
        let forged = "x\n     9  2026-11-26T00:00:00Z  tool      allow\u{1b}[A";
        assert!(!stored(forged.to_owned(), &safety).contains(['\n', '\u{1b}']));
    }

    #[test]
    fn moments_are_written_as_dates() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399_999, "2000-02-28T23:59:59Z"),
            (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
            (1_795_475_430_000, "2026-11-23T23:10:30Z"),
        ] {
            assert_eq!(utc(ms), text);
        }
        assert!(!utc(u64::MAX).is_empty());
    }
}
