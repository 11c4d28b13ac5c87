//! The door: text in, screened text out or a refusal.

use serde_json::Value;
use types::{Source, Trace, Verdict};

use super::{Screened, redaction};
use crate::finding::{Action, Report};
use crate::safety::Examined;
use crate::{Blocked, Channel, Safety, Untrusted};

impl Safety {
    /// Screens a text for a channel. What passes has its controls and hidden characters removed,
    /// its secrets replaced and its excess cut, as the channel asks for; arguments and outgoing
    /// text pass as they are or not at all.
    pub fn screen(
        &self,
        text: Untrusted<String>,
        channel: Channel,
        trace: &Trace,
    ) -> Result<Screened<String>, Blocked> {
        self.screen_and_tell(text, channel, trace).map(|(screened, _)| screened)
    }

    /// The same, with what was found in a text that passes.
    pub fn screen_and_tell(
        &self,
        text: Untrusted<String>,
        channel: Channel,
        trace: &Trace,
    ) -> Result<(Screened<String>, Report), Blocked> {
        let (source, value) = text.into_parts();
        let examined = self.examine(&value, channel, &source, trace);
        if examined.report.verdict == Verdict::Block {
            return Err(Blocked::by(examined.report));
        }
        let flagged = examined.report.verdict >= Verdict::Flag;
        let released = match self.rulebook.leaves_alone(channel, &source) {
            true => None,
            false => Some(self.released(&value, &examined, channel)),
        };
        let report = examined.report;
        Ok((self.proof(released.unwrap_or(value), source, flagged), report))
    }

    /// Screens every name and every text of a JSON value, each decoded and each together with its
    /// name, and the whole as it will be written. Spans in the report count inside the text that
    /// they were found in.
    pub fn screen_json(
        &self,
        value: Untrusted<Value>,
        channel: Channel,
        trace: &Trace,
    ) -> Result<Screened<Value>, Blocked> {
        self.screen_json_and_tell(value, channel, trace).map(|(screened, _)| screened)
    }

    /// The same, with what was found in a value that passes, in the whole and in each of its texts.
    pub fn screen_json_and_tell(
        &self,
        value: Untrusted<Value>,
        channel: Channel,
        trace: &Trace,
    ) -> Result<(Screened<Value>, Report), Blocked> {
        let (source, mut value) = value.into_parts();
        let report = self.examine(&value.to_string(), channel, &source, trace).report;
        if report.verdict == Verdict::Block {
            return Err(Blocked::by(report));
        }
        let cuts = |report: &Report| report.findings.iter().any(|finding| finding.action >= Action::Redact);
        let was_cut = cuts(&report);
        let mut leaves = Leaves { safety: self, channel, source: &source, report };
        leaves.walk(&mut value, None)?;
        let report = leaves.report;
        if was_cut {
            // What stands across texts is in none of them alone and was not cut.
            let left = self.examine(&value.to_string(), channel, &source, &Trace::off()).report;
            if cuts(&left) {
                return Err(Blocked::by(left));
            }
        }
        let flagged = report.verdict >= Verdict::Flag;
        Ok((self.proof(value, source, flagged), report))
    }

    /// What screening would find; releases nothing.
    pub fn inspect(&self, text: &Untrusted<String>, channel: Channel) -> Report {
        self.examine(text.expose(), channel, text.source(), &Trace::off()).report
    }

    /// Looks for secrets in bytes that are about to leave: values of the vault, tokens, keys.
    pub fn scan_bytes(&self, bytes: &[u8], channel: Channel) -> Result<(), Blocked> {
        let signals = self.leaks.scan(bytes, &self.known());
        let judged = self.rulebook.judge(signals, channel, &Source::Model);
        let mut report = Report::clean();
        (report.verdict, report.severity) = (judged.verdict, judged.severity);
        report.findings = judged.findings;
        // Bytes are never altered: what would be replaced in a text does not pass.
        let stops = |action| action == Action::Block || action == Action::Redact;
        match report.findings.iter().any(|finding| stops(finding.action)) {
            true => Err(Blocked::by(report)),
            false => Ok(()),
        }
    }

    /// The text that passes.
    fn released(&self, original: &str, examined: &Examined<'_>, channel: Channel) -> String {
        let text = if channel.strips_controls() { &*examined.cleaned.text } else { original };
        let mut out = String::with_capacity(text.len());
        let mut from = 0;
        for (span, rule) in &examined.redactions {
            out.push_str(&text[from..span.start]);
            out.push_str(&redaction(rule));
            from = span.end;
        }
        out.push_str(&text[from..]);
        if channel.limits_length() && channel.can_alter() {
            out.truncate(floor(&out, self.rulebook.max_length()));
        }
        out
    }

    fn proof<T>(&self, value: T, source: Source, flagged: bool) -> Screened<T> {
        let label = source.label();
        Screened { value, source, label, generation: self.generation(), flagged }
    }
}

/// The last character boundary at or before `at`.
fn floor(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// A walk over the texts of a JSON value, and all that was found so far.
struct Leaves<'a> {
    safety: &'a Safety,
    channel: Channel,
    source: &'a Source,
    report: Report,
}

impl Leaves<'_> {
    fn walk(&mut self, value: &mut Value, name: Option<&str>) -> Result<(), Blocked> {
        match value {
            Value::String(text) => {
                *text = self.leaf(text, name)?;
                Ok(())
            }
            Value::Array(items) => items.iter_mut().try_for_each(|item| self.walk(item, name)),
            Value::Object(members) => {
                for (name, member) in members.iter_mut() {
                    self.name(name)?;
                    self.walk(member, Some(name))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A name cannot be replaced without changing what the value means.
    fn name(&mut self, name: &str) -> Result<(), Blocked> {
        let report = self.safety.examine(name, self.channel, self.source, &Trace::off()).report;
        if report.findings.iter().any(|finding| finding.action >= Action::Redact) {
            return Err(Blocked::by(report));
        }
        self.report.add(report);
        Ok(())
    }

    /// A text after the name it is assigned to, so that rules about names see both.
    fn leaf(&mut self, text: &str, name: Option<&str>) -> Result<String, Blocked> {
        let before = name.map_or(String::new(), |name| format!("{name}: "));
        let together = format!("{before}{text}");
        let examined = self.safety.examine(&together, self.channel, self.source, &Trace::off());
        if examined.report.verdict == Verdict::Block {
            return Err(Blocked::by(examined.report));
        }
        let released = self.safety.released(&together, &examined, self.channel);
        let Some(rest) = released.strip_prefix(&before) else {
            // What was found begins in the name.
            return Err(Blocked::by(examined.report));
        };
        self.report.add(examined.report);
        Ok(rest.to_owned())
    }
}
