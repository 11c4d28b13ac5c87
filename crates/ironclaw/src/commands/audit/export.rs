//! `ironclaw audit export`: the records as JSON lines for another system.
//!
//! The log is its own spool: an export reads a page at a time and holds nothing open between two pages,
//! so whoever reads slowly, or not at all, holds up no one who records.

use std::time::Duration;

use audit::{Entry, Log};
use safety::Safety;
use serde_json::{Value, json};
use types::{Field, Verdict};

use super::{broken, object, stored};
use crate::cli::ExportFormat;
use crate::exit::Outcome;
use crate::parts::Base;
use crate::terminal::Terminal;

/// Records read at a time.
const PAGE: u32 = 512;

/// How often the end of the log is looked at by who follows it.
const LOOK: Duration = Duration::from_secs(1);

/// Prints every record after number `after`; where it is followed, also those to come, as long as somebody reads.
pub(super) async fn run(
    log: &Log,
    format: ExportFormat,
    mut after: u64,
    follow: bool,
    base: &Base,
    terminal: &Terminal,
) -> Outcome {
    let work = async {
        loop {
            let entries = log.after(after, PAGE).await.map_err(broken)?;
            match entries.last() {
                Some(last) => after = last.seq,
                None if follow => tokio::time::sleep(LOOK).await,
                None => return Ok(()),
            }
            if !print(&entries, format, base, terminal) {
                return Ok(());
            }
        }
    };
    // Ctrl-C is how one stops following.
    terminal.unless_interrupted(work).await.unwrap_or(Ok(()))
}

/// Prints records in a form; false once nobody reads them.
pub(super) fn print(entries: &[Entry], format: ExportFormat, base: &Base, terminal: &Terminal) -> bool {
    let shown = shown(&base.safety);
    let line = |value: &Value| terminal.json_while_read(value);
    match format {
        ExportFormat::Otlp if entries.is_empty() => true,
        ExportFormat::Otlp => line(&otlp(entries, &shown)),
        ExportFormat::Json => entries.iter().all(|entry| line(&object(entry, &base.safety))),
        ExportFormat::Ocsf => {
            entries.iter().all(|entry| line(&ocsf(entry, object(entry, &base.safety), &shown)))
        }
    }
}

/// What is shown of a text in a record.
pub(crate) fn shown(safety: &Safety) -> impl Fn(String) -> String {
    |text| stored(text, safety)
}

/// Log records of OpenTelemetry in the JSON form of OTLP 1 (`LogsData`), as its file exporter writes and its receivers
/// read them. The turn is the trace: what one request caused stands together.
pub(crate) fn otlp(entries: &[Entry], shown: &dyn Fn(String) -> String) -> Value {
    let text = |key: &str, value: String| json!({ "key": key, "value": { "stringValue": value } });
    let record = |entry: &Entry| {
        let (kind, verdict) = (entry.record.kind.as_str(), entry.record.verdict.as_str());
        let mut attributes = vec![
            // 64-bit integers are strings in protobuf's JSON.
            json!({ "key": "ironclaw.seq", "value": { "intValue": entry.seq.to_string() } }),
            text("ironclaw.verdict", verdict.to_owned()),
            text("ironclaw.chain", entry.chain.to_string()),
        ];
        let fields = entry.record.fields().iter();
        attributes.extend(
            fields.map(|(field, value)| text(&format!("ironclaw.{}", field.as_str()), shown(value.clone()))),
        );
        let turn = entry.record.turn.as_ref().map(|turn| turn.to_string().replace('-', ""));
        let nanos = entry.at_ms.saturating_mul(1_000_000).to_string();
        let (number, name) = severity(entry.record.verdict);
        json!({
            "timeUnixNano": nanos, "observedTimeUnixNano": nanos, "severityNumber": number, "severityText": name,
            "eventName": format!("ironclaw.audit.{kind}"), "body": { "stringValue": format!("{kind} {verdict}") },
            "attributes": attributes, "traceId": turn.unwrap_or_default(),
        })
    };
    let records: Vec<Value> = entries.iter().map(record).collect();
    json!({ "resourceLogs": [{
        "resource": { "attributes": [text("service.name", "ironclaw".to_owned())] },
        "scopeLogs": [{ "scope": { "name": "ironclaw.audit", "version": env!("CARGO_PKG_VERSION") }, "logRecords": records }],
    }] })
}

/// Severity numbers of OpenTelemetry's log data model: 9 INFO, 13 WARN, 17 ERROR.
fn severity(verdict: Verdict) -> (u8, &'static str) {
    match verdict {
        Verdict::Allow | Verdict::Done | Verdict::Abandoned => (9, "INFO"),
        Verdict::Warn | Verdict::Redact | Verdict::Flag | Verdict::Ask | Verdict::Block => (13, "WARN"),
        Verdict::Failed => (17, "ERROR"),
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
