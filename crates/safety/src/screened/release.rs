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
        let (source, value) = text.into_parts();
        let examined = self.examine(&value, channel, &source, trace);
        if examined.report.verdict == Verdict::Block {
            return Err(Blocked::by(examined.report));
        }
        let flagged = examined.report.verdict >= Verdict::Flag;
        let as_typed = self.rulebook.leaves_alone(channel, &source);
        let value = match as_typed {
            true => value,
            false => self.released(&value, &examined, channel),
        };
        Ok(self.proof(value, source, flagged))
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
        let (source, mut value) = value.into_parts();
        let written = value.to_string();
        let whole = self.examine(&written, channel, &source, trace);
        if whole.report.verdict == Verdict::Block {
            return Err(Blocked::by(whole.report));
        }
        let mut leaves =
            Leaves { safety: self, channel, source: &source, flagged: whole.report.verdict >= Verdict::Flag };
        leaves.walk(&mut value, None)?;
        let flagged = leaves.flagged;
        Ok(self.proof(value, source, flagged))
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

/// A walk over the texts of a JSON value.
struct Leaves<'a> {
    safety: &'a Safety,
    channel: Channel,
    source: &'a Source,
    flagged: bool,
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
        self.flagged |= report.verdict >= Verdict::Flag;
        let altered = report.findings.iter().any(|finding| finding.action >= Action::Redact);
        if altered { Err(Blocked::by(report)) } else { Ok(()) }
    }

    /// A text after the name it is assigned to, so that rules about names see both.
    fn leaf(&mut self, text: &str, name: Option<&str>) -> Result<String, Blocked> {
        let before = name.map_or(String::new(), |name| format!("{name}: "));
        let together = format!("{before}{text}");
        let examined = self.safety.examine(&together, self.channel, self.source, &Trace::off());
        if examined.report.verdict == Verdict::Block {
            return Err(Blocked::by(examined.report));
        }
        self.flagged |= examined.report.verdict >= Verdict::Flag;
        let released = self.safety.released(&together, &examined, self.channel);
        match released.strip_prefix(&before) {
            Some(rest) => Ok(rest.to_owned()),
            // What was found begins in the name.
            None => Err(Blocked::by(examined.report)),
        }
    }
}
