//! `ironclaw scan`: what the scanners find in files, folders and standard input.
//!
//! It needs no installation and unlocks nothing: the shipped rules and the configuration decide; values
//! of the vault are not looked for. A matched text is never printed. Inputs of any size are read in
//! pieces, so memory stays bounded.

mod baseline;
mod encoding;
mod lines;
mod pieces;
mod sarif;
mod walk;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use safety::{Action, Channel, Finding, Report, Safety, Severity, Untrusted};
use types::{Host, HostName, Source, ToolName, Trace, Verdict};

use self::baseline::Baseline;
use self::encoding::Text;
use self::lines::{Acceptance, Lines};
use self::pieces::{Pieces, Place};
use self::sarif::Sarif;
use self::walk::{Closed, Met, Reason, Walk, open_met, open_named};
use super::progress::Progress;
use crate::cli::{self, Direction, FailOn, ScanFormat, ScanInput, ScanSource};
use crate::config::Config;
use crate::exit::{Code, Failure, Outcome};
use crate::terminal::Terminal;

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
    let accepting = Acceptance::new(&config.safety);
    let scan = Scan {
        safety: &safety,
        lines: Lines { terminal, accepting: &accepting, is_verbose: input.verbose },
        source: source(input.source)?,
        channel: channel(input, leaks),
        leaks,
        follows_git: leaks && !input.ignored,
    };
    let baseline = match (&input.baseline, &input.write_baseline) {
        (Some(path), _) => Some(Baseline::read(path)?),
        (None, Some(path)) => Some(Baseline::write(path)?),
        (None, None) => None,
    };
    let sarif = (input.format == ScanFormat::Sarif).then(Sarif::new);
    let tally = Tally {
        inputs: 0,
        skipped: BTreeMap::new(),
        unreadable: 0,
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
    lines: Lines<'a>,
    source: Source,
    channel: Channel,
    leaks: bool,
    /// What git ignores is left out.
    follows_git: bool,
}

/// What came of all inputs.
struct Tally {
    inputs: u64,
    /// Files, links and folders that were left out.
    skipped: BTreeMap<Reason, u64>,
    /// Files and folders that could not be read.
    unreadable: u64,
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
                let name = input.to_string_lossy();
                match open_named(input) {
                    Ok(file) => self.one(&name, file, &mut tally, &mut progress),
                    Err(error) => self.unreadable(&name, error.kind(), &mut tally, &progress),
                }
            }
        }
        drop(progress);
        self.lines.summary(&mut tally)?;
        if reaches(tally.worst, fail_on) {
            return Err(Failure::Said(Code::Findings));
        }
        tally.failed.map_or(Ok(()), |code| Err(Failure::Said(code)))
    }

    /// Every text file below a folder.
    fn folder(&self, folder: &Path, tally: &mut Tally, progress: &mut Progress) {
        for met in Walk::below(folder, self.follows_git) {
            match met {
                Met::File(path) => self.met(&path, tally, progress),
                Met::Skipped(path, reason) => self.skipped(&path, reason, tally, progress),
                Met::Unreadable(path, kind) => {
                    let path = path.as_deref().unwrap_or(folder);
                    self.unreadable(&path.to_string_lossy(), kind, tally, progress);
                }
            }
        }
    }

    /// One file below a folder.
    fn met(&self, path: &Path, tally: &mut Tally, progress: &mut Progress) {
        let name = path.to_string_lossy();
        let file = match open_met(path) {
            Ok(file) => file,
            Err(Closed::Skipped(reason)) => return self.skipped(path, reason, tally, progress),
            Err(Closed::Unreadable(error)) => return self.unreadable(&name, error.kind(), tally, progress),
        };
        match Text::open(file) {
            Ok(text) if text.is_binary() => self.skipped(path, Reason::Binary, tally, progress),
            Ok(text) => self.text(&name, text, tally, progress),
            Err(error) => self.unreadable(&name, error.kind(), tally, progress),
        }
    }

    /// One input that was named itself, which is read whatever it holds.
    fn one(&self, name: &str, from: impl Read, tally: &mut Tally, progress: &mut Progress) {
        match Text::open(from) {
            Ok(text) => self.text(name, text, tally, progress),
            Err(error) => self.unreadable(name, error.kind(), tally, progress),
        }
    }

    fn text(&self, name: &str, text: Text<impl Read>, tally: &mut Tally, progress: &mut Progress) {
        let shown = self.shown(name);
        match self.read(text, &shown, tally, progress) {
            Ok(scanned) => {
                tally.inputs += 1;
                tally.findings += scanned.places.len() as u64 + scanned.dropped;
                tally.worst = tally.worst.max(scanned.report.severity);
                match &mut tally.sarif {
                    Some(sarif) => {
                        let found = scanned.report.findings.iter().zip(&scanned.places);
                        let how = |finding| self.lines.accepting.words(finding);
                        found.for_each(|(finding, place)| sarif.add(&shown, finding, place, &how(finding)));
                    }
                    None => progress.aside(|| self.lines.print(&shown, &scanned)),
                }
            }
            Err(error) => self.unreadable(name, error.kind(), tally, progress),
        }
    }

    /// Scans one input piece by piece.
    fn read(
        &self,
        from: Text<impl Read>,
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
            let whole = piece.is_first && piece.is_last;
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
        if pieces.was_empty() {
            scanned.output = Some(String::new());
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

    fn skipped(&self, path: &Path, reason: Reason, tally: &mut Tally, progress: &Progress) {
        *tally.skipped.entry(reason).or_default() += 1;
        let name = self.shown(&path.to_string_lossy());
        match &mut tally.sarif {
            Some(sarif) => sarif.left_out(&name, reason),
            None => progress.aside(|| self.lines.skipped(&name, reason)),
        }
    }

    fn unreadable(&self, name: &str, kind: ErrorKind, tally: &mut Tally, progress: &Progress) {
        let name = self.shown(name);
        let (code, words) = match kind {
            ErrorKind::NotFound => (Code::NotFound, format!("there is no {name}")),
            kind => (Code::Failed, format!("{name} cannot be read: {kind}")),
        };
        tally.unreadable += 1;
        tally.failed = Some(code);
        if let Some(sarif) = &mut tally.sarif {
            sarif.unread(&name, &words);
        }
        progress.aside(|| self.lines.terminal.failure(Failure::Plain(code, words)));
    }
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
