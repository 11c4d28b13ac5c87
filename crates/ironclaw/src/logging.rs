//! Diagnostics on standard error, screened where they are written.
//!
//! Whatever an event holds, the finished line passes the leak detector and loses its controls before
//! it leaves; a line that does not pass is replaced by the rule that stopped it. Other people's crates
//! may only warn: their debug output shows headers, statements and buffers.

use std::io::{self, Write};
use std::sync::Arc;

use safety::{Channel, Safety, Untrusted};
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use types::{Source, Trace};

/// What is logged when nothing is configured.
const DEFAULT: &str = "warn";

/// Our own crates, whose events are written with this rule in mind.
const OURS: &[&str] =
    &["types", "safety", "store", "audit", "policy", "secrets", "egress", "wasm", "agent", "ironclaw"];

/// Starts logging for the whole process. `filter` is what IRONCLAW_LOG says: a level, or a list
/// such as `warn,egress=debug`. A second start changes nothing.
pub fn start(filter: Option<&str>, safety: Arc<Safety>) {
    let parsed = filter.map(EnvFilter::try_new).transpose();
    let wrong = parsed.is_err();
    let chosen = parsed.ok().flatten().unwrap_or_else(|| EnvFilter::new(DEFAULT));
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(Screen { safety })
        .with_filter(filter_fn(may_speak))
        .with_filter(chosen);
    if tracing_subscriber::registry().with(lines).try_init().is_ok() && wrong {
        tracing::warn!(
            "IRONCLAW_LOG is not a filter such as `info` or `warn,egress=debug`; using `{DEFAULT}`"
        );
    }
}

/// Foreign crates may warn; only ours may say more.
fn may_speak(event: &Metadata<'_>) -> bool {
    let krate = event.target().split("::").next().unwrap_or_default();
    *event.level() <= Level::WARN || OURS.contains(&krate)
}

/// Makes one [`Line`] for each event.
struct Screen {
    safety: Arc<Safety>,
}

/// The bytes of one event. They are screened together and written when the event is complete.
struct Line<'a> {
    safety: &'a Safety,
    bytes: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { safety: &self.safety, bytes: Vec::new() }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if !self.bytes.is_empty() {
            // Where a log cannot be written there is nowhere to say so.
            let _ = writeln!(io::stderr().lock(), "{}", screened(self.safety, &self.bytes));
        }
    }
}

/// The line as it may be shown: on one row, without secrets and without controls.
fn screened(safety: &Safety, bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
    // An event may quote anything; no source of ours is trusted less than this one.
    match safety.screen(Untrusted::new(Source::Store, text), Channel::Log, &Trace::off()) {
        Ok(line) => line.as_str().replace('\n', "\\n"),
        Err(blocked) => format!("a log line was withheld ({})", blocked.refusal.rule.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safety() -> Safety {
        Safety::new(Default::default()).unwrap()
    }

    #[test]
    fn a_secret_in_an_event_is_not_written() {
        let token = format!("ghp_{}", "aB3dE6gH9jK2mN5pQ8sT1vW4xY7zC0fI2lO5");
        let line = screened(&safety(), format!("request failed: authorization: bearer {token}\n").as_bytes());
        assert!(!line.contains(&token), "{line}");
        let body = "MIIEpAIBAAKCAQEA7bqQ0k3Vt5Yx".repeat(8);
        let kind = "RSA PRIVATE KEY";
        let key = format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----");
        let line = screened(&safety(), key.as_bytes());
        assert!(!line.contains(&body), "{line}");
    }

    #[test]
    fn one_event_is_one_line_without_controls() {
        let line = screened(&safety(), b"a\nWARN forged\x1b[2J\xff end\n");
        assert!(!line.contains(['\n', '\u{1b}']), "{line:?}");
        assert!(line.starts_with("a\\nWARN forged"), "{line:?}");
    }
}
