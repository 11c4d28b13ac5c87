//! The scanners behind one door, compiled once and shared.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use types::{SecretName, Source, Trace, Verdict};

use crate::Channel;
use crate::finding::{Action, Finding, Kind, Report, Severity, Timings};
use crate::leak_detector::{self, Fingerprints, KnownValues, LeakDetector};
use crate::rulebook::{Config, ConfigError, Rulebook};
use crate::sanitizer::Sanitizer;
use crate::signal::{Fingerprinter, OPEN_KEY, Print, Signal};
use crate::validator::characters::{self, Cleaned};
use crate::validator::xml;

/// All scanners, compiled. Share it as `Arc<Safety>`; every method takes `&self`.
pub struct Safety {
    pub(crate) rulebook: Rulebook,
    pub(crate) leaks: LeakDetector,
    sanitizer: Sanitizer,
    prints: Fingerprinter,
    known: RwLock<Arc<KnownValues>>,
}

/// One text after all scanners.
pub(crate) struct Examined<'a> {
    pub(crate) report: Report,
    pub(crate) cleaned: Cleaned<'a>,
    /// Spans of the cleaned text to replace, in order and apart, each with the rule's id.
    pub(crate) redactions: Vec<(std::ops::Range<usize>, Arc<str>)>,
}

impl Safety {
    /// Compiles the shipped rules under a configuration, with fingerprints that anyone can compute.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        Self::with_key(config, &OPEN_KEY)
    }

    /// The same with fingerprints under a key of the installation, so that a fingerprint in a log
    /// cannot be used to try passwords. Entries of the configuration may name either kind.
    pub fn with_key(config: Config, key: &[u8; 32]) -> Result<Self, ConfigError> {
        let prints = Fingerprinter::new(key);
        let leaks = LeakDetector::new(prints.clone());
        let sanitizer = Sanitizer::new(prints.clone(), config.thresholds).map_err(ConfigError::Shipped)?;
        let mut ids: Vec<Arc<str>> = Vec::new();
        if !config.rules.is_empty() {
            let form = characters::ids().chain(xml::ids()).map(Arc::from);
            ids.extend(LeakDetector::ids().chain(sanitizer.ids()).chain(form));
        }
        let patterns = Sanitizer::shipped().map(str::as_bytes);
        let shipped: Vec<&[u8]> = patterns.chain([LeakDetector::shipped()]).collect();
        let rulebook = Rulebook::new(&config, &ids, &shipped)?;
        let known = RwLock::new(Arc::new(KnownValues::new([0; 32])));
        Ok(Self { rulebook, leaks, sanitizer, prints, known })
    }

    /// Names the rules and settings that this instance screens by. Equal numbers mean equal rules.
    pub fn generation(&self) -> u64 {
        self.rulebook.generation()
    }

    /// Replaces the values of the vault that are looked for. The scan of a text that has begun ends with the old; a body
    /// goes on with the new.
    pub fn learn(&self, known: KnownValues) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }

    /// Adds one version of a secret to what is looked for, unless it is there: `read` gives its fingerprints, under
    /// the key of the others. Reading and adding are one step, so that of two neither forgets the other's.
    pub fn know<E>(
        &self,
        name: &SecretName,
        version: i64,
        read: impl FnOnce() -> Result<(Fingerprints, KnownValues), E>,
    ) -> Result<(), E> {
        if self.known().has(name, version) {
            return Ok(());
        }
        let (fingerprints, none) = read()?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if !known.has(name, version) {
            let mut more = if known.is_empty() { none } else { (**known).clone() };
            more.add_version(name.clone(), version, fingerprints);
            *known = Arc::new(more);
        }
        Ok(())
    }

    /// The newest version of a secret that is looked for.
    pub fn newest_known(&self, name: &SecretName) -> Option<i64> {
        self.known().newest(name)
    }

    pub(crate) fn known(&self) -> Arc<KnownValues> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Runs every scanner that the channel asks for.
    pub(crate) fn examine<'a>(
        &self,
        text: &'a str,
        channel: Channel,
        source: &Source,
        trace: &Trace,
    ) -> Examined<'a> {
        let mut timings = Timings::default();
        let mut signals = Vec::new();
        let started = Instant::now();
        if self.size(text, channel, &mut signals) {
            return self.unread(signals, channel, source, trace, started);
        }
        let cleaned = match channel.strips_controls() || channel.reads_patterns() {
            true => characters::clean(text, &self.prints, &mut signals),
            false => Cleaned::whole(text),
        };
        if matches!(channel, Channel::Input | Channel::Result) {
            xml::check(text, &self.prints, &mut signals);
        }
        timings.validator = started.elapsed();

        let started = Instant::now();
        let listed = !channel.reads_patterns()
            || self.sanitizer.scan(&cleaned, channel.carries_data(source), &mut signals);
        timings.sanitizer = started.elapsed();

        let started = Instant::now();
        let subject = if channel.strips_controls() { &*cleaned.text } else { text };
        let mut leaks = self.leaks.scan(subject.as_bytes(), &self.known());
        leak_detector::to_characters(subject, &mut leaks);
        timings.leak_detector = started.elapsed();

        let started = Instant::now();
        if channel.strips_controls() {
            leaks.iter_mut().for_each(|leak| leak.span = cleaned.original(leak.span.clone()));
        }
        signals.append(&mut leaks);
        let mut judged = self.rulebook.judge(signals, channel, source);
        if !listed {
            judged.refuse_cuts();
        }
        let redactions = cuts(&judged.findings, &cleaned);
        timings.rulebook = started.elapsed();
        let report = Report {
            verdict: judged.verdict,
            severity: judged.severity,
            score: judged.score,
            findings: judged.findings,
            timings,
        };
        record(&report, text, channel, trace);
        Examined { report, cleaned, redactions }
    }

    /// Notes a text that is too long; true when it is too long to be read at all.
    fn size(&self, text: &str, channel: Channel, signals: &mut Vec<Signal>) -> bool {
        let (cut, read) = (self.rulebook.max_length(), self.rulebook.max_read());
        // Arguments that were cut would mean something else.
        let limit = if channel == Channel::Arguments { cut } else { read };
        let unread = text.len() > limit;
        if unread || text.len() > cut && channel.limits_length() {
            let limit = if unread { limit } else { cut };
            signals.push(Signal {
                rule: "too-long".into(),
                reason: format!("{} bytes where {limit} are taken", text.len()).into(),
                kind: Kind::Size,
                severity: if unread { Severity::High } else { Severity::Low },
                span: limit.min(text.len())..text.len(),
                view: "plain",
                fingerprint: Print::default(),
                secret: None,
            });
        }
        unread
    }

    fn unread<'a>(
        &self,
        signals: Vec<Signal>,
        channel: Channel,
        source: &Source,
        trace: &Trace,
        started: Instant,
    ) -> Examined<'a> {
        let judged = self.rulebook.judge(signals, channel, source);
        let report = Report {
            verdict: judged.verdict,
            severity: judged.severity,
            score: judged.score,
            findings: judged.findings,
            timings: Timings { validator: started.elapsed(), ..Timings::default() },
        };
        trace.push(channel.layer(), "validator", report.verdict, report.timings.validator, || {
            "too long to read".into()
        });
        Examined { report, cleaned: Cleaned::whole(""), redactions: Vec::new() }
    }
}

/// What the findings cut out of the cleaned text, in order and apart.
fn cuts(findings: &[Finding], cleaned: &Cleaned<'_>) -> Vec<(std::ops::Range<usize>, Arc<str>)> {
    let mut cuts: Vec<(std::ops::Range<usize>, Arc<str>)> = Vec::new();
    for finding in findings.iter().filter(|finding| finding.action == Action::Redact) {
        let span = cleaned.here(&finding.span);
        match cuts.last_mut() {
            // What hides characters is gone with them.
            _ if span.is_empty() => {}
            Some((last, _)) if span.start < last.end => last.end = last.end.max(span.end),
            _ => cuts.push((span, finding.rule.clone())),
        }
    }
    cuts
}

/// Says nothing of its contents.
impl std::fmt::Debug for Safety {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Safety(generation {:016x})", self.generation())
    }
}

/// One step for each stage.
fn record(report: &Report, text: &str, channel: Channel, trace: &Trace) {
    let layer = channel.layer();
    let worst = |part: fn(Kind) -> bool| {
        let part = report.findings.iter().filter(move |finding| part(finding.kind));
        part.max_by_key(|finding| (finding.action, finding.severity))
    };
    let verdict = |found: Option<&Finding>| found.map_or(Verdict::Allow, |finding| finding.action.into());
    let say = |found: Option<&Finding>, clean: &str| match found {
        Some(finding) => format!("{}: {}", finding.rule, finding.reason),
        None => clean.to_owned(),
    };
    let form = worst(|kind| matches!(kind, Kind::Control | Kind::HiddenChannel | Kind::Size));
    let timings = &report.timings;
    // The stages ran one after the other and have just ended.
    let began = [timings.rulebook, timings.leak_detector, timings.sanitizer, timings.validator]
        .into_iter()
        .scan(Instant::now(), |at, took| {
            *at = at.checked_sub(took).unwrap_or(*at);
            Some(*at)
        });
    let [rulebook, leaks, sanitizer, validator] = began.collect::<Vec<_>>()[..] else { return };
    trace.at(layer, "validator", verdict(form), validator, timings.validator, || {
        say(form, &format!("{} bytes, UTF-8, nothing hidden", text.len()))
    });
    if channel.reads_patterns() {
        let attack = worst(|kind| matches!(kind, Kind::Injection | Kind::Task));
        trace.at(layer, "sanitizer", verdict(attack), sanitizer, timings.sanitizer, || {
            say(attack, "no known attack pattern")
        });
    }
    let leak = worst(Kind::is_leak);
    trace.at(types::Layer::Leaks, "leak detector", verdict(leak), leaks, timings.leak_detector, || {
        say(leak, "no secret")
    });
    trace.at(layer, "rulebook", report.verdict, rulebook, timings.rulebook, || {
        format!("{} findings, severity {}", report.findings.len(), report.severity)
    });
}
