//! Prints the figures of labelled files, and the time of one message:
//! `cargo run --release -p safety --example figures -- leaks FILE...` (or `injection`, `flows`, `evasions`, `speed`, `show`). `files FILE...` counts what
//! honest files would lose, `letters FILE...` makes the table of `leak_detector/letters.rs`; both read names of files from
//! standard input when there is none. `--rules-alone` before the word leaves the model for attacks out.
//! Files are JSON lines as `ironclaw eval` reads them, plain or gzipped.

#![allow(clippy::disallowed_macros, reason = "a measuring program for developers, not part of the product")]

use std::io::Read as _;
use std::time::Instant;

use safety::eval::{self, Row};
use safety::{Channel, Config, Safety, Untrusted};
use types::{Source, Trace};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut what = arguments.next().unwrap_or_default();
    let mut config = Config::default();
    if what == "--rules-alone" {
        config.thresholds.model_margin = i32::MAX;
        what = arguments.next().unwrap_or_default();
    }
    let safety = Safety::new(config)?;
    if what == "files" || what == "letters" {
        let mut names: Vec<String> = arguments.collect();
        if names.is_empty() {
            names = std::io::stdin().lines().collect::<Result<_, _>>()?;
        }
        return if what == "files" { files(&safety, names) } else { letters(names) };
    }
    if what == "speed" {
        return speed(&safety, arguments.next());
    }
    for file in arguments {
        if what == "flows" {
            let flows =
                lines(&file)?.iter().map(|line| eval::Flow::parse(line)).collect::<Result<Vec<_>, _>>()?;
            let figures = eval::flows(&safety, flows);
            println!("recall {} fpr {} {:?}", share(figures.recall), share(figures.fpr), figures.by);
            continue;
        }
        if what == "evasions" {
            let rows = lines(&file)?;
            let rows = rows.iter().map(|line| eval::Evasion::parse(line)).collect::<Result<Vec<_>, _>>()?;
            let figures = eval::evasions(&safety, rows);
            println!("{} of {} reach the severity that is due", figures.all.tp, figures.all.rows);
            figures.missed.iter().flatten().for_each(|missed| println!("{missed:?}"));
            continue;
        }
        if what == "show" {
            show(&safety, &file, read(&file)?);
            continue;
        }
        let rows = read(&file)?;
        let figures =
            if what == "leaks" { eval::leaks(&safety, rows) } else { eval::injection(&safety, rows) };
        let name = file.rsplit('/').next().unwrap_or_default();
        let [recall, fpr, precision] = [figures.recall, figures.fpr, figures.precision].map(share);
        print!("{name}: recall {recall} fpr {fpr} precision {precision}");
        match figures.blocked {
            Some(blocked) => println!(
                " | blocked: tp {} fp {} | tpr@1% {} tpr@0.1% {} | {:?}",
                blocked.tp,
                blocked.fp,
                share(figures.by_score.and_then(|by| by.tpr_at_1_percent)),
                share(figures.by_score.and_then(|by| by.tpr_at_0_1_percent)),
                figures.all
            ),
            None => println!(" | {:?}", figures.all),
        }
    }
    Ok(())
}

fn share(share: Option<f64>) -> String {
    share.map_or("-".to_owned(), |share| format!("{share:.4}"))
}

fn read(file: &str) -> Result<Vec<Row>, Box<dyn std::error::Error>> {
    Ok(lines(file)?.iter().map(|line| Row::parse(line)).collect::<Result<_, _>>()?)
}

fn lines(file: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let bytes = std::fs::read(file)?;
    let mut text = String::new();
    if file.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(bytes.as_slice()).read_to_string(&mut text)?;
    } else {
        text = String::from_utf8(bytes)?;
    }
    Ok(text.lines().map(str::to_owned).collect())
}

/// One line for each row: label, id, and the rules that fired, with where.
fn show(safety: &Safety, file: &str, rows: Vec<Row>) {
    for row in rows {
        let report = safety.inspect(&Untrusted::new(Source::Pipe, row.text.clone()), Channel::Result);
        let rules: Vec<String> = report
            .findings
            .iter()
            .map(|finding| {
                format!("{}/{}/{}/{:?}", finding.rule, finding.severity, finding.view, finding.span)
            })
            .collect();
        let text: String = row.text.chars().take(240).collect();
        println!(
            "{}\t{}\t{}\t{}\t{:?}",
            file.rsplit('/').next().unwrap_or_default(),
            row.label,
            row.id,
            rules.join(" "),
            text
        );
    }
}

/// The time of one screening of about 4 KB, or of a file.
fn speed(safety: &Safety, file: Option<String>) -> Result<(), Box<dyn std::error::Error>> {
    const SENTENCES: [&str; 6] = [
        "The meeting on Tuesday has been moved to the larger room, so please bring the printed notes with you. ",
        "We measured the temperature three times a day and wrote the results into the shared table. ",
        "If the package arrives before noon, leave it with the neighbours and send me a short message. ",
        "Her first novel sold slowly, but the second one was read aloud on the radio and made her known. ",
        "Every password reset is now confirmed by a second message, as the support team had asked for.\n",
        "The train from Hamburg was late again; we used the time to go through the previous version of the plan. ",
    ];
    let text: String = match file {
        Some(file) => std::fs::read_to_string(file)?,
        None => SENTENCES.iter().cycle().take(42).copied().collect(),
    };
    let rounds = (40_000_000 / text.len().max(1)).clamp(5, 5_000);
    let mut times = Vec::with_capacity(rounds);
    let mut floor = Vec::with_capacity(rounds);
    let mut last = None;
    for _ in 0..rounds {
        let started = Instant::now();
        std::hint::black_box(crc32fast::hash(std::hint::black_box(text.as_bytes())));
        floor.push(started.elapsed());
        let value = Untrusted::new(Source::Pipe, text.clone());
        let started = Instant::now();
        let screened = safety.screen(value, Channel::Result, &Trace::off());
        times.push(started.elapsed());
        last = Some(screened.is_ok());
    }
    times.sort();
    floor.sort();
    let (median, floor) = (times[rounds / 2], floor[rounds / 2]);
    let report = safety.inspect(&Untrusted::new(Source::Pipe, text.clone()), Channel::Result);
    println!(
        "{} bytes, passed: {last:?}, {rounds} samples: floor (one pass, CRC-32) {floor:?}, ours {median:?} ({:.0} times), 99th {:?}, {:?}",
        text.len(),
        median.as_secs_f64() / floor.as_secs_f64(),
        times[rounds * 99 / 100],
        report.timings
    );
    Ok(())
}

/// Honest files: what would be redacted or blocked, by rule, with the bytes read.
fn files(safety: &Safety, files: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
    let mut bytes = 0;
    let mut rules = std::collections::BTreeMap::<String, usize>::new();
    let started = Instant::now();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        bytes += text.len();
        for finding in safety.inspect(&Untrusted::new(Source::Pipe, text.clone()), Channel::Result).findings {
            if finding.action >= safety::Action::Redact && finding.kind.is_leak() {
                *rules.entry(finding.rule.to_string()).or_default() += 1;
                let line = text[..finding.span.start].rfind('\n').map_or(0, |at| at + 1);
                let line = line.max(text.floor_char_boundary(finding.span.start.saturating_sub(80)));
                let around: String = text[line..].chars().take(200).collect();
                let around = around.lines().next().unwrap_or_default();
                println!("{} {} {} {file} {around:?}", finding.rule, finding.severity, finding.view);
            }
        }
    }
    println!("{bytes} bytes in {:?}: {rules:?}", started.elapsed());
    Ok(())
}

/// Counts pairs of letters in the words of the files, and prints ten times the binary logarithm of how much more often
/// each stands there than in a random string.
fn letters(files: Vec<String>) -> Result<(), Box<dyn std::error::Error>> {
    /// A word that is rarer than this may be part of a digest.
    const SELDOM: usize = 8;
    let mut words = std::collections::HashMap::<String, usize>::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for run in text.split(|c: char| !c.is_ascii_alphabetic()) {
            let begins = |at: &usize| run[*at - 1..*at + 1].chars().map(char::is_lowercase).eq([true, false]);
            let mut from = 0;
            for at in (1..run.len()).filter(begins).chain([run.len()]) {
                if (3..=20).contains(&(at - from)) {
                    *words.entry(run[from..at].to_ascii_lowercase()).or_default() += 1;
                }
                from = at;
            }
        }
    }
    let mut pairs = [[1.0f64; 26]; 27];
    for word in words.iter().filter(|(_, count)| **count >= SELDOM).map(|(word, _)| word) {
        let mut row = 0;
        for byte in word.bytes() {
            pairs[row][usize::from(byte - b'a')] += 1.0;
            row = usize::from(byte - b'a') + 1;
        }
    }
    for row in pairs {
        let sum: f64 = row.iter().sum();
        let weights = row.map(|count| ((count / sum * 26.0).log2() * 10.0).round().max(-60.0).to_string());
        println!("{}", weights.join(" "));
    }
    Ok(())
}
