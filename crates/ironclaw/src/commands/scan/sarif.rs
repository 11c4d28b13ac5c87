//! Findings as SARIF 2.1.0, which code hosts and editors read (OASIS, "Static Analysis Results Interchange Format").
//! It names places and rules and holds no matched text.

use std::collections::BTreeMap;
use std::sync::Arc;

use safety::{Action, Finding, Severity};
use serde_json::{Value, json};

use super::pieces::Place;

/// More results than this no reader takes.
const MAX_RESULTS: usize = 25_000;

/// One run of the command.
#[derive(Default)]
pub(super) struct Sarif {
    results: Vec<Value>,
    /// Id to index, reason and worst severity.
    rules: BTreeMap<Arc<str>, (usize, Arc<str>, Severity)>,
    dropped: usize,
}

impl Sarif {
    /// Adds one finding.
    pub(super) fn add(&mut self, input: &str, finding: &Finding, place: &Place) {
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
            "message": { "text": &*finding.reason },
            "locations": [{ "physicalLocation": {
                "artifactLocation": { "uri": uri(input) },
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
                "invocations": [{ "executionSuccessful": succeeded }],
                "results": self.results,
            }],
        })
    }
}

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
    }
}
