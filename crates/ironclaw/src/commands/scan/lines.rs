//! How a scan speaks to people, and to programs in JSON: findings, what was not read, and how to accept a finding.

use std::collections::BTreeMap;

use safety::rulebook::Config;
use safety::{Action, Finding, Severity};
use serde_json::{Value, json};

use super::baseline::Baseline;
use super::pieces::Place;
use super::walk::Reason;
use super::{Scanned, Tally};
use crate::exit::Outcome;
use crate::terminal::{Terminal, Tone};

/// What the configuration accepted and accepts no more: fingerprints with their last days.
pub(super) struct Acceptance(BTreeMap<String, String>);

impl Acceptance {
    pub(super) fn new(config: &Config) -> Self {
        let day = |until: &Option<String>| until.clone().unwrap_or_default();
        Self(config.ended().map(|entry| (entry.fingerprint.to_lowercase(), day(&entry.until))).collect())
    }

    /// The last day of the entry that accepted this finding, where that day is over.
    fn ended(&self, finding: &Finding) -> Option<&str> {
        self.0.get(&finding.fingerprint).map(String::as_str)
    }

    /// What to put into the configuration.
    fn entry(finding: &Finding) -> String {
        format!("[[safety.allow]]\nfingerprint = \"{}\"", finding.fingerprint)
    }

    /// How to accept a finding, in Markdown.
    pub(super) fn words(&self, finding: &Finding) -> String {
        let ended =
            self.ended(finding).map(|day| format!("It was accepted until {day}. ")).unwrap_or_default();
        let entry = Self::entry(finding);
        format!("{ended}To accept this finding, in the configuration of ironclaw:\n\n```toml\n{entry}\n```")
    }
}

/// Where all of it is printed.
pub(super) struct Lines<'a> {
    pub(super) terminal: &'a Terminal,
    pub(super) accepting: &'a Acceptance,
    /// What was not read is named.
    pub(super) is_verbose: bool,
}

impl Lines<'_> {
    /// What came of one input.
    pub(super) fn print(&self, name: &str, scanned: &Scanned) {
        if self.terminal.is_json() {
            return self.terminal.json(&self.object(name, scanned));
        }
        for (finding, place) in scanned.report.findings.iter().zip(&scanned.places) {
            self.line(name, finding, place);
        }
        if scanned.dropped > 0 {
            let more = scanned.dropped;
            self.terminal.warn(format!("ironclaw: {name}: {more} more findings are not listed"));
        }
    }

    fn object(&self, name: &str, scanned: &Scanned) -> Value {
        let mut object = scanned.report.to_json();
        object["findings"] = scanned.report.findings.iter().map(|finding| self.finding(finding)).collect();
        if let Value::Object(map) = &mut object {
            map.shift_insert(0, "input".to_owned(), name.into());
            map.insert("output".to_owned(), scanned.output.clone().into());
            if scanned.dropped > 0 {
                map.insert("more".to_owned(), scanned.dropped.into());
            }
        }
        object
    }

    fn finding(&self, finding: &Finding) -> Value {
        let mut object = finding.to_json();
        object["allow"] = Acceptance::entry(finding).into();
        if let Some(day) = self.accepting.ended(finding) {
            object["allow_ended"] = day.into();
        }
        object
    }

    /// `file:line:column severity rule reason (fingerprint …; to accept it: …)`
    fn line(&self, name: &str, finding: &Finding, place: &Place) {
        let tone = match finding.severity {
            _ if finding.action == Action::Allow => Tone::Dim,
            Severity::None | Severity::Low => Tone::Dim,
            Severity::Medium => Tone::Warn,
            Severity::High | Severity::Critical => Tone::Bad,
        };
        let note = match finding.action {
            Action::Allow => "(allowed by the configuration)".to_owned(),
            _ => {
                let ended = self.accepting.ended(finding);
                let ended =
                    ended.map(|day| format!("; accepted until {day}, which is over")).unwrap_or_default();
                let print = &finding.fingerprint;
                format!("(fingerprint {print}{ended}; to accept it: ironclaw config explain safety.allow)")
            }
        };
        let terminal = self.terminal;
        terminal.painted(&format!(
            "{} {} {} {} {}",
            terminal.paint(Tone::Strong, format!("{name}:{}:{}", place.line, place.column)),
            terminal.paint(tone, finding.severity),
            finding.rule,
            finding.reason,
            terminal.paint(Tone::Dim, note)
        ));
    }

    /// One that was not read has the keys of one that was, so that no reader fails, and no verdict, so that none takes
    /// it for clean.
    pub(super) fn skipped(&self, name: &str, reason: Reason) {
        if self.terminal.is_json() {
            self.terminal.json(&json!({
                "input": name, "verdict": null, "severity": null, "score": null, "findings": [], "output": null,
                "skipped": reason.as_str(),
            }));
        } else if self.is_verbose {
            self.terminal.warn(format!("ironclaw: {name} is not read: {}", reason.counted(1)));
        }
    }

    /// The end: the log, the baseline, and the counts.
    pub(super) fn summary(&self, tally: &mut Tally) -> Outcome {
        let written = tally.baseline.take().map_or(Ok(None), Baseline::finish)?;
        if let Some(sarif) = tally.sarif.take() {
            if sarif.dropped() > 0 {
                self.terminal.warn(format!("ironclaw: {} more findings are not listed", sarif.dropped()));
            }
            self.terminal.json(&sarif.finish(tally.failed.is_none()));
        } else if !self.terminal.is_json() {
            self.terminal.say(counts(tally, written));
        }
        if !tally.skipped.is_empty() && !self.terminal.is_json() {
            let all: Vec<String> =
                tally.skipped.iter().map(|(reason, count)| reason.counted(*count)).collect();
            let which = if self.is_verbose { "" } else { "; which: --verbose" };
            self.terminal.warn(format!("ironclaw: not read: {}{which}", all.join(", ")));
        }
        Ok(())
    }
}

/// `2 findings in 7 inputs, 3 more in the baseline; 4 not read`
fn counts(tally: &Tally, written: Option<usize>) -> String {
    let counted = |n: u64, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
    let accepted = match (written, tally.accepted) {
        (Some(entries), _) => format!(", {entries} written to the baseline"),
        (None, 0) => String::new(),
        (None, accepted) => format!(", {accepted} more in the baseline"),
    };
    let unread = match tally.skipped.values().sum::<u64>() + tally.unreadable {
        0 => String::new(),
        unread => format!("; {unread} not read"),
    };
    format!("{} in {}{accepted}{unread}", counted(tally.findings, "finding"), counted(tally.inputs, "input"))
}
