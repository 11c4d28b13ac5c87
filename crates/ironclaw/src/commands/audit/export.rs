//! `ironclaw audit export`: the records as JSON lines for another system.
//!
//! The log is its own spool: an export reads a page at a time and holds nothing open between two pages,
//! so whoever reads slowly, or not at all, holds up no one who records.

use audit::{Entry, Log};
use serde_json::{Value, json};
use types::{Field, Verdict};

use super::{broken, object, stored};
use crate::cli::ExportFormat;
use crate::exit::Outcome;
use crate::parts::Base;
use crate::terminal::Terminal;

/// Records read at a time.
const PAGE: u32 = 512;

/// Prints every record after number `after`.
pub(super) async fn run(
    log: &Log,
    format: ExportFormat,
    mut after: u64,
    base: &Base,
    terminal: &Terminal,
) -> Outcome {
    loop {
        let entries = log.after(after, PAGE).await.map_err(broken)?;
        let Some(last) = entries.last() else { return Ok(()) };
        after = last.seq;
        for entry in &entries {
            let record = object(entry, &base.safety);
            terminal.json(&match format {
                ExportFormat::Json => record,
                ExportFormat::Ocsf => ocsf(entry, record, &|text| stored(text, &base.safety)),
            });
        }
    }
}

/// An event of the Open Cybersecurity Schema Framework 1.4, class API Activity (6003), which covers who
/// did what and what came of it. All that the class has no attribute for stands under `unmapped`.
fn ocsf(entry: &Entry, record: Value, shown: &dyn Fn(String) -> String) -> Value {
    let field = |name| entry.record.field(name).map(|value| shown(value.to_owned()));
    let (severity, status) = judged(entry.record.verdict);
    // Activity "other": no CRUD verb says what a decision about a call is.
    json!({
        "class_uid": 6003, "class_name": "API Activity", "category_uid": 6, "category_name": "Application Activity",
        "activity_id": 99, "activity_name": entry.record.kind.as_str(), "type_uid": 600_399,
        "time": entry.at_ms,
        "severity_id": severity,
        "status_id": status, "status": entry.record.verdict.as_str(), "status_detail": field(Field::Reason),
        "actor": { "user": { "name": field(Field::Actor).unwrap_or_else(|| "ironclaw".to_owned()) } },
        "api": { "operation": entry.record.kind.as_str(), "request": { "uid": entry.seq.to_string() } },
        "src_endpoint": { "name": "ironclaw" },
        "metadata": {
            "version": "1.4.0", "uid": entry.seq.to_string(), "sequence": entry.seq,
            "product": { "name": "IronClaw", "vendor_name": "IronClaw", "version": env!("CARGO_PKG_VERSION") },
        },
        "unmapped": record,
    })
}

/// Severity (1 informational, 2 low, 3 medium, 4 high) and status (1 success, 2 failure, 99 other).
fn judged(verdict: Verdict) -> (u8, u8) {
    match verdict {
        Verdict::Allow | Verdict::Done => (1, 1),
        Verdict::Warn | Verdict::Redact => (2, 1),
        Verdict::Flag | Verdict::Ask => (3, 99),
        Verdict::Block => (4, 2),
        Verdict::Failed => (3, 2),
        Verdict::Abandoned => (1, 99),
    }
}
