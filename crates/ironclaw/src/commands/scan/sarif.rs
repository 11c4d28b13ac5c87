//! Findings as SARIF 2.1.0, which code hosts and editors read (OASIS, "Static Analysis Results Interchange Format").
//! It names places and rules and holds no matched text.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safety::{Action, Finding, Severity};
use serde_json::{Value, json};

use super::pieces::Place;
use super::walk::Reason;

/// More results than this no reader takes.
const MAX_RESULTS: usize = 25_000;

/// More notes on what was not read than this say nothing new.
const MAX_NOTES: usize = 10_000;

/// One run of the command.
pub(super) struct Sarif {
    /// The folder that the run is in: places are named from here on.
    here: Option<PathBuf>,
    results: Vec<Value>,
    /// What was not read.
    notes: Vec<Value>,
    /// Id to index, reason and worst severity.
    rules: BTreeMap<Arc<str>, (usize, Arc<str>, Severity)>,
    dropped: usize,
}

impl Sarif {
    /// An empty one.
    pub(super) fn new() -> Self {
        let here = std::env::current_dir().ok();
        Self { here, results: Vec::new(), notes: Vec::new(), rules: BTreeMap::new(), dropped: 0 }
    }

    /// Adds one finding, with how to accept it.
    pub(super) fn add(&mut self, input: &str, finding: &Finding, place: &Place, how: &str) {
        if self.results.len() == MAX_RESULTS {
            self.dropped += 1;
            return;
        }
        let next = self.rules.len();
        let rule = self.rules.entry(finding.rule.clone());
        let rule = rule.or_insert((next, finding.reason.clone(), finding.severity));
        rule.2 = rule.2.max(finding.severity);
        let mut result = json!({
            "ruleId": &*finding.rule,
            "ruleIndex": rule.0,
            "level": level(finding.severity),
            "message": { "text": &*finding.reason, "markdown": format!("{}. {how}", finding.reason) },
            "locations": [{ "physicalLocation": {
                "artifactLocation": artifact(input, self.here.as_deref()),
                "region": {
                    "startLine": place.line,
                    "startColumn": place.column,
                    "byteOffset": finding.span.start,
                    "byteLength": finding.span.len(),
                },
            } }],
            "partialFingerprints": { "ironclawFinding/v1": finding.fingerprint },
        });
        if finding.action == Action::Allow {
            result["suppressions"] = json!([{ "kind": "external", "status": "accepted" }]);
        }
        self.results.push(result);
    }

    /// Notes something that was left out.
    pub(super) fn left_out(&mut self, input: &str, reason: Reason) {
        self.note(input, "note", &format!("not read: {}", reason.counted(1)));
    }

    /// Notes something that could not be read.
    pub(super) fn unread(&mut self, input: &str, words: &str) {
        self.note(input, "error", words);
    }

    fn note(&mut self, input: &str, level: &str, words: &str) {
        if self.notes.len() < MAX_NOTES {
            let artifact = artifact(input, self.here.as_deref());
            self.notes.push(json!({
                "level": level, "message": { "text": words },
                "locations": [{ "physicalLocation": { "artifactLocation": artifact } }],
            }));
        }
    }

    /// How many findings were more than a reader takes.
    pub(super) fn dropped(&self) -> usize {
        self.dropped
    }

    /// The whole log. `succeeded` says whether every input could be read.
    pub(super) fn finish(self, succeeded: bool) -> Value {
        let mut rules: Vec<_> = self.rules.into_iter().collect();
        rules.sort_by_key(|(_, (index, ..))| *index);
        let rules: Vec<Value> = rules
            .into_iter()
            .map(|(id, (_, reason, severity))| {
                json!({
                    "id": &*id,
                    "shortDescription": { "text": &*reason },
                    "help": { "text": HELP, "markdown": HELP },
                    "defaultConfiguration": { "level": level(severity) },
                    "properties": { "security-severity": score(severity), "tags": ["security"] },
                })
            })
            .collect();
        json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": { "driver": {
                    "name": "ironclaw",
                    "semanticVersion": env!("CARGO_PKG_VERSION"),
                    "rules": rules,
                } },
                "columnKind": "unicodeCodePoints",
                "invocations": [{
                    "executionSuccessful": succeeded,
                    "toolExecutionNotifications": self.notes,
                }],
                "results": self.results,
            }],
        })
    }
}

/// What to do about a finding, whatever its rule.
const HELP: &str = "A secret that stood in a file is to be replaced where it is valid, since it was read already; then remove it \
here. Text that is aimed at an agent is to be removed. A finding that you know can be accepted, for good or until a day: \
`[[safety.allow]]` in the configuration of ironclaw names it by its fingerprint, the result's \
`partialFingerprints.ironclawFinding/v1`. Everything that is there can be accepted at once by a baseline: \
`ironclaw scan leaks . --write-baseline FILE`.";

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::None => "none",
        Severity::Low => "note",
        Severity::Medium => "warning",
        Severity::High | Severity::Critical => "error",
    }
}

/// The number from 0 to 10 by which code hosts sort.
fn score(severity: Severity) -> &'static str {
    match severity {
        Severity::None => "0.0",
        Severity::Low => "3.0",
        Severity::Medium => "5.5",
        Severity::High => "8.0",
        Severity::Critical => "9.5",
    }
}

/// Where an input is: relative to the folder of the run where it is in it, since that is how readers find a file of a
/// repository.
fn artifact(input: &str, here: Option<&Path>) -> Value {
    let path = Path::new(input);
    match here.and_then(|here| path.strip_prefix(here).ok()) {
        Some(inside) => json!({ "uri": uri(&inside.to_string_lossy()), "uriBaseId": "%SRCROOT%" }),
        None if path.is_absolute() => json!({ "uri": format!("file://{}", uri(input)) }),
        None => json!({ "uri": uri(input), "uriBaseId": "%SRCROOT%" }),
    }
}

/// A path as a reference (RFC 3986, section 4.2): what is not unreserved is written as `%XX`.
fn uri(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            byte if byte.is_ascii_alphanumeric() => out.push(byte.into()),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_becomes_a_reference() {
        assert_eq!(uri("src/a b/ä:1.rs"), "src/a%20b/%C3%A4%3A1.rs");
        let named = |input| artifact(input, Some(Path::new("/srv/project")))["uri"].clone();
        assert_eq!(named("src/a.rs"), "src/a.rs");
        assert_eq!(named("/srv/project/src/a.rs"), "src/a.rs");
        assert_eq!(named("/home/me/other/a b.rs"), "file:///home/me/other/a%20b.rs");
    }
}
