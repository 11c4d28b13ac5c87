//! `ironclaw scan`: what the scanners find in files, folders and standard input.
//!
//! It needs no installation and unlocks nothing: the shipped rules and the configuration decide; values
//! of the vault are not looked for. A matched text is never printed. Inputs of any size are read in
//! pieces, so memory stays bounded.

mod baseline;
mod pieces;
mod sarif;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use safety::{Action, Channel, Finding, Report, Safety, Severity, Untrusted};
use serde_json::Value;
use types::{Host, HostName, Source, ToolName, Trace, Verdict};

use self::baseline::Baseline;
use self::pieces::{Pieces, Place};
use self::sarif::Sarif;
use super::progress::Progress;
use crate::cli::{self, Direction, FailOn, ScanFormat, ScanInput, ScanSource};
use crate::config::Config;
use crate::exit::{Code, Failure, Outcome};
use crate::terminal::{Terminal, Tone};

/// The most findings that are kept of one input. Someone who has more needs no list of them.
const MAX_FINDINGS: usize = 10_000;

/// Runs the command.
pub async fn run(args: &cli::Scan, config: &Config, terminal: &Terminal) -> Outcome {
    let (input, leaks) = match args {
        cli::Scan::Leaks(input) => (input, true),
        cli::Scan::Prompt(input) => (input, false),
    };
    let mut rules = config.safety.clone();
    // The length of a message is no property of a file.
    rules.max_length = rules.max_length.max(pieces::PIECE as u64);
    let safety = Safety::new(rules).map_err(|error| Failure::usage(format!("configuration: {error}")))?;
    let scan = Scan {
        safety: &safety,
        terminal,
        source: source(input.source)?,
        channel: channel(input, leaks),
        leaks,
    };
    let baseline = match (&input.baseline, &input.write_baseline) {
        (Some(path), _) => Some(Baseline::read(path)?),
        (None, Some(path)) => Some(Baseline::write(path)?),
        (None, None) => None,
    };
    let sarif = (input.format == ScanFormat::Sarif).then(Sarif::default);
    let tally = Tally {
        inputs: 0,
        skipped: 0,
        findings: 0,
        accepted: 0,
        worst: Severity::None,
        failed: None,
        baseline,
        sarif,
    };
    // Reading and scanning keep one thread busy; nothing else runs in this process.
    tokio::task::block_in_place(|| scan.all(&input.inputs, input.fail_on, tally))
}

/// One run of the command.
struct Scan<'a> {
    safety: &'a Safety,
    terminal: &'a Terminal,
    source: Source,
    channel: Channel,
    leaks: bool,
}

/// What came of all inputs.
struct Tally {
    inputs: u64,
    skipped: u64,
    findings: u64,
    /// Findings that the baseline accepts.
    accepted: u64,
    worst: Severity,
    failed: Option<Code>,
    baseline: Option<Baseline>,
    /// The log, where that is what is printed.
    sarif: Option<Sarif>,
}

/// What came of one input.
struct Scanned {
    report: Report,
    places: Vec<Place>,
    /// What would pass; absent where nothing would, and where it would show what was found.
    output: Option<String>,
    /// Findings beyond [`MAX_FINDINGS`].
    dropped: u64,
}

impl Scan<'_> {
    fn all(&self, inputs: &[PathBuf], fail_on: FailOn, mut tally: Tally) -> Outcome {
        let mut progress = Progress::new(None);
        for input in inputs {
            if input == Path::new("-") {
                self.one("-", std::io::stdin().lock(), &mut tally, &mut progress);
            } else if input.is_dir() {
                self.folder(input, &mut tally, &mut progress);
            } else {
                self.file(input, &mut tally, &mut progress);
            }
        }
        drop(progress);
        self.summary(&mut tally)?;
        if reaches(tally.worst, fail_on) {
            return Err(Failure::Said(Code::Findings));
        }
        tally.failed.map_or(Ok(()), |code| Err(Failure::Said(code)))
    }

    /// Every text file below a folder, in the order of their names. A repository's own ignore files
    /// say what will not be committed, so a search for leaks follows them; they do not say what an
    /// agent will read, so a search for attacks does not.
    fn folder(&self, folder: &Path, tally: &mut Tally, progress: &mut Progress) {
        let walk = ignore::WalkBuilder::new(folder)
            .standard_filters(false)
            .git_ignore(self.leaks)
            .git_exclude(self.leaks)
            .git_global(self.leaks)
            .parents(self.leaks)
            .filter_entry(|entry| entry.file_name() != ".git")
            .sort_by_file_path(Path::cmp)
            .build();
        for entry in walk {
            match entry {
                Ok(entry) if !entry.file_type().is_some_and(|kind| kind.is_file()) => {}
                Ok(entry) => match open_text(entry.path()) {
                    Ok(Some(file)) => self.one(&entry.path().to_string_lossy(), file, tally, progress),
                    Ok(None) => tally.skipped += 1,
                    Err(error) => self.unreadable(&entry.path().to_string_lossy(), &error, tally),
                },
                Err(_) => {
                    self.terminal.warn("ironclaw: a folder cannot be read");
                    tally.failed = Some(Code::Failed);
                }
            }
        }
    }

    fn file(&self, path: &Path, tally: &mut Tally, progress: &mut Progress) {
        let name = path.to_string_lossy();
        match File::open(path) {
            Ok(file) => self.one(&name, file, tally, progress),
            Err(error) => self.unreadable(&name, &error, tally),
        }
    }

    fn one(&self, name: &str, from: impl Read, tally: &mut Tally, progress: &mut Progress) {
        let shown = self.shown(name);
        match self.read(from, &shown, tally, progress) {
            Ok(scanned) => {
                tally.inputs += 1;
                tally.findings += scanned.places.len() as u64 + scanned.dropped;
                tally.worst = tally.worst.max(scanned.report.severity);
                if scanned.dropped > 0 {
                    let more = format!("ironclaw: {shown}: {} more findings are not listed", scanned.dropped);
                    progress.aside(|| self.terminal.warn(more));
                }
                match &mut tally.sarif {
                    Some(sarif) => {
                        let found = scanned.report.findings.iter().zip(&scanned.places);
                        found.for_each(|(finding, place)| sarif.add(&shown, finding, place));
                    }
                    None => progress.aside(|| self.print(&shown, &scanned)),
                }
            }
            Err(error) => self.unreadable(name, &error, tally),
        }
    }

    /// Scans one input piece by piece.
    fn read(
        &self,
        from: impl Read,
        name: &str,
        tally: &mut Tally,
        progress: &mut Progress,
    ) -> std::io::Result<Scanned> {
        let mut pieces = Pieces::new(from);
        let mut scanned = Scanned { report: Report::clean(), places: Vec::new(), output: None, dropped: 0 };
        let mut doubt = 1.0;
        let mut worst = Action::Allow;
        while let Some(piece) = pieces.next()? {
            let text = Untrusted::new(self.source.clone(), piece.text.clone());
            let report = self.safety.inspect(&text, self.channel);
            let whole = piece.base == 0 && piece.is_last;
            doubt *= 1.0 - report.score;
            let found = report.findings.into_iter().filter(|finding| self.wanted(finding));
            for (finding, place) in pieces.accept(&piece, found) {
                if tally.baseline.as_mut().is_some_and(|baseline| baseline.takes(name, &finding)) {
                    tally.accepted += 1;
                    continue;
                }
                worst = worst.max(finding.action);
                if finding.action > Action::Allow {
                    scanned.report.severity = scanned.report.severity.max(finding.severity);
                }
                if scanned.places.len() == MAX_FINDINGS {
                    scanned.dropped += 1;
                    continue;
                }
                scanned.report.findings.push(finding);
                scanned.places.push(place);
            }
            if whole {
                scanned.output = self.passes(text, &scanned.report);
            }
            progress.add(piece.settled as u64);
        }
        scanned.report.score = if self.leaks { 0.0 } else { 1.0 - doubt };
        scanned.report.verdict = Verdict::from(worst);
        Ok(scanned)
    }

    /// What would go on, unless a secret would go on with it.
    fn passes(&self, text: Untrusted<String>, report: &Report) -> Option<String> {
        let all = self.safety.inspect(&text, self.channel);
        let shows = |finding: &Finding| finding.kind.is_leak() && finding.action != Action::Redact;
        if all.findings.iter().any(shows) || report.verdict == Verdict::Block {
            return None;
        }
        self.safety.screen(text, self.channel, &Trace::off()).ok().map(|screened| screened.into_inner())
    }

    fn wanted(&self, finding: &Finding) -> bool {
        finding.kind.is_leak() == self.leaks
    }

    /// A name of a file is foreign text as well.
    fn shown(&self, name: &str) -> String {
        let name = name.strip_prefix("./").unwrap_or(name);
        let name = Untrusted::new(Source::File, name.to_owned());
        match self.safety.screen(name, Channel::Log, &Trace::off()) {
            Ok(name) => name.into_inner(),
            Err(_) => "(a name that is not shown)".to_owned(),
        }
    }

    fn unreadable(&self, name: &str, error: &std::io::Error, tally: &mut Tally) {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        self.terminal.warn(format!("ironclaw: {} cannot be read: {}", self.shown(name), error.kind()));
        tally.failed = Some(if missing { Code::NotFound } else { Code::Failed });
    }

    fn print(&self, name: &str, scanned: &Scanned) {
        if self.terminal.is_json() {
            let mut object = scanned.report.to_json();
            if let Value::Object(map) = &mut object {
                map.shift_insert(0, "input".to_owned(), name.into());
                map.insert("output".to_owned(), scanned.output.clone().into());
            }
            return self.terminal.json(&object);
        }
        for (finding, place) in scanned.report.findings.iter().zip(&scanned.places) {
            self.line(name, finding, place);
        }
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
            _ => format!(
                "(fingerprint {}; to accept it: ironclaw config explain safety.allow)",
                finding.fingerprint
            ),
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

    fn summary(&self, tally: &mut Tally) -> Outcome {
        let counted = |n: u64, one: &str| if n == 1 { format!("1 {one}") } else { format!("{n} {one}s") };
        if tally.skipped > 0 {
            self.terminal.warn(format!("ironclaw: skipped {}", counted(tally.skipped, "binary file")));
        }
        let written = tally.baseline.take().map_or(Ok(None), Baseline::finish)?;
        if let Some(sarif) = tally.sarif.take() {
            if sarif.dropped() > 0 {
                self.terminal.warn(format!("ironclaw: {} more findings are not listed", sarif.dropped()));
            }
            self.terminal.json(&sarif.finish(tally.failed.is_none()));
        } else if !self.terminal.is_json() {
            let accepted = match (written, tally.accepted) {
                (Some(entries), _) => format!(", {entries} written to the baseline"),
                (None, 0) => String::new(),
                (None, accepted) => format!(", {accepted} more in the baseline"),
            };
            self.terminal.say(format!(
                "{} in {}{accepted}",
                counted(tally.findings, "finding"),
                counted(tally.inputs, "input")
            ));
        }
        Ok(())
    }
}

/// A file to read from its beginning; `None` for one that is no text.
fn open_text(path: &Path) -> std::io::Result<Option<impl Read + use<>>> {
    let mut file = File::open(path)?;
    let mut head = Vec::with_capacity(8192);
    file.by_ref().take(8192).read_to_end(&mut head)?;
    if head.contains(&0) {
        return Ok(None);
    }
    Ok(Some(std::io::Cursor::new(head).chain(file)))
}

fn source(source: ScanSource) -> Result<Source, Failure> {
    Ok(match source {
        ScanSource::User => Source::Owner,
        ScanSource::File => Source::File,
        ScanSource::Tool => Source::Tool(ToolName::parse("scanned").map_err(Failure::usage)?),
        ScanSource::Web => {
            Source::Web(Host::Name(HostName::parse("scanned.invalid").map_err(Failure::usage)?))
        }
    })
}

/// The way that the text is judged to be on.
fn channel(input: &ScanInput, leaks: bool) -> Channel {
    match (input.direction, leaks, input.source) {
        (Direction::Out, true, _) => Channel::Outbound,
        (Direction::Out, false, _) => Channel::Arguments,
        (Direction::In, _, ScanSource::User) => Channel::Input,
        (Direction::In, true, _) => Channel::Response,
        (Direction::In, false, _) => Channel::Result,
    }
}

fn reaches(worst: Severity, fail_on: FailOn) -> bool {
    let least = match fail_on {
        FailOn::Low => Severity::Low,
        FailOn::Medium => Severity::Medium,
        FailOn::High => Severity::High,
        FailOn::Critical => Severity::Critical,
        FailOn::Never => return false,
    };
    worst >= least
}
