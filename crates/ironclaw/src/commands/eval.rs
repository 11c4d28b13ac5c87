//! `ironclaw eval`: figures of the detectors against labelled files. Nothing leaves the machine.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::MultiGzDecoder;
use safety::eval::{self, Counts, Evasion, Figures, Flow, Row};

use super::progress::Progress;
use crate::cli;
use crate::config::Config;
use crate::exit::{Code, Failure, Outcome};
use crate::terminal::{Terminal, Tone};

/// The longest line: the longest text that is screened, with room for its escapes.
const MAX_LINE: u64 = 64 << 20;

/// Runs the command.
pub async fn run(args: &cli::Eval, config: &Config, terminal: &Terminal) -> Outcome {
    let safety = crate::parts::scanners(config)?;
    let figures = tokio::task::block_in_place(|| match args {
        cli::Eval::Leaks { files } => {
            whole(Rows::open(files, labelled(["positive", "negative"]))?, |rows| eval::leaks(&safety, rows))
        }
        cli::Eval::Injection { files } => {
            let labelled = labelled(["injection", "benign"]);
            // A disguise is an attack, too.
            let row = |line: &str| {
                Evasion::parse(line).map_or_else(|_| labelled(line), |found| Ok(found.into_row()))
            };
            whole(Rows::open(files, row)?, |rows| eval::injection(&safety, rows))
        }
        cli::Eval::Evasions { files } => {
            let row = |line: &str| Evasion::parse(line).map_err(|error| error.to_string());
            whole(Rows::open(files, row)?, |rows| eval::evasions(&safety, rows))
        }
        cli::Eval::Flows { files } => whole(Rows::open(files, flow)?, |rows| eval::flows(&safety, rows)),
    })?;
    print(&figures, terminal)
}

/// Figures of a part are not the figures of the file: none where a line was no row.
fn whole<T, P>(
    mut rows: Rows<'_, P>,
    count: impl FnOnce(&mut Rows<'_, P>) -> Figures,
) -> Result<Figures, Failure>
where
    P: Fn(&str) -> Result<T, String>,
{
    let figures = count(&mut rows);
    rows.failure.map_or(Ok(figures), Err)
}

/// Reads a labelled text with one of two labels.
fn labelled(labels: [&'static str; 2]) -> impl Fn(&str) -> Result<Row, String> {
    move |line| {
        let row = Row::parse(line).map_err(|error| error.to_string())?;
        let [yes, no] = labels;
        match labels.contains(&row.label.as_str()) {
            true => Ok(row),
            false => Err(format!("the label is neither `{yes}` nor `{no}`")),
        }
    }
}

/// Reads a run of an agent.
fn flow(line: &str) -> Result<Flow, String> {
    Flow::parse(line).map_err(|error| error.to_string())
}

fn print(figures: &Figures, terminal: &Terminal) -> Outcome {
    if terminal.is_json() {
        terminal.json(&serde_json::to_value(figures).map_err(Failure::failed)?);
        return Ok(());
    }
    let percent =
        |share: Option<f64>| share.map_or("n/a".to_owned(), |share| format!("{:.2}%", share * 100.0));
    let rate = |part: usize, whole: usize| percent((whole > 0).then(|| part as f64 / whole as f64));
    let row = |name: &str, counts: &Counts| {
        let Counts { rows, tp, fp, tn, r#fn } = *counts;
        format!("{name:<28} {rows:>7} {tp:>7} {fp:>7} {tn:>7} {fn:>7} {:>9} {:>9}", rate(tp, tp + r#fn), rate(fp, fp + tn), fn = r#fn)
    };
    let head = format!(
        "{:<28} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9}",
        "", "rows", "tp", "fp", "tn", "fn", "recall", "fpr"
    );
    terminal.painted(&terminal.paint(Tone::Strong, head));
    if figures.by.len() > 1 {
        for (name, counts) in &figures.by {
            terminal.say(row(&shortened(name), counts));
        }
    }
    terminal.painted(&terminal.paint(Tone::Strong, row("all", &figures.all)));
    if let Some(blocked) = &figures.blocked {
        terminal.say(row("all, high or critical only", blocked));
    }
    terminal.say(match figures.precision {
        Some(_) => format!("precision {}", percent(figures.precision)),
        None => "precision n/a: nothing was found".to_owned(),
    });
    if let Some(by) = figures.by_score {
        let (one, tenth) = (percent(by.tpr_at_1_percent), percent(by.tpr_at_0_1_percent));
        terminal.say(format!("by score: {one} found at 1% false positives, {tenth} at 0.1%"));
    }
    for missed in figures.missed.iter().flatten() {
        terminal.say(format!("{} is {} where {} is due", shortened(&missed.id), missed.severity, missed.due));
    }
    Ok(())
}

/// The name of a group is a word of the file: its plain characters, as many as the column has.
fn shortened(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    name.chars().map(plain).take(28).collect()
}

/// The rows of all files, one by one. Ends early at the first line that is none, and says why.
struct Rows<'a, P> {
    files: std::slice::Iter<'a, PathBuf>,
    parse: P,
    open: Option<Lines<'a>>,
    progress: Progress,
    failure: Option<Failure>,
}

/// The lines of one file.
struct Lines<'a> {
    path: &'a Path,
    number: u64,
    from: Box<dyn BufRead>,
    read: Rc<Cell<u64>>,
}

impl<'a, T, P: Fn(&str) -> Result<T, String>> Rows<'a, P> {
    fn open(files: &'a [PathBuf], parse: P) -> Result<Self, Failure> {
        let mut total = 0;
        for file in files {
            total += std::fs::metadata(file).map_err(|error| unreadable(file, &error))?.len();
        }
        Ok(Self {
            files: files.iter(),
            parse,
            open: None,
            progress: Progress::new(Some(total)),
            failure: None,
        })
    }

    fn row(&mut self) -> Result<Option<T>, Failure> {
        loop {
            if self.open.is_none() {
                let Some(path) = self.files.next() else { return Ok(None) };
                self.open = Some(Lines::open(path)?);
            }
            let Some(lines) = &mut self.open else { return Ok(None) };
            let Some(line) = lines.next()? else {
                self.progress.add(lines.read.take());
                self.open = None;
                continue;
            };
            self.progress.add(lines.read.take());
            if line.trim().is_empty() {
                continue;
            }
            let row = (self.parse)(&line).map_err(|why| {
                Failure::usage(format!("{} line {}: {why}", lines.path.display(), lines.number))
            })?;
            return Ok(Some(row));
        }
    }
}

impl<T, P: Fn(&str) -> Result<T, String>> Iterator for Rows<'_, P> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        if self.failure.is_some() {
            return None;
        }
        match self.row() {
            Ok(row) => row,
            Err(failure) => {
                self.failure = Some(failure);
                None
            }
        }
    }
}

impl<'a> Lines<'a> {
    fn open(path: &'a Path) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let read = Rc::new(Cell::new(0));
        let mut plain = BufReader::new(Counted { from: file, read: read.clone() });
        // A file is what it is, whatever its name says (RFC 1952, section 2.3.1).
        let gzipped = plain.fill_buf().map_err(|error| unreadable(path, &error))?.starts_with(&[0x1f, 0x8b]);
        let from: Box<dyn BufRead> =
            if gzipped { Box::new(BufReader::new(MultiGzDecoder::new(plain))) } else { Box::new(plain) };
        Ok(Self { path, number: 0, from, read })
    }

    fn next(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        self.number += 1;
        let read = self
            .from
            .by_ref()
            .take(MAX_LINE)
            .read_line(&mut line)
            .map_err(|error| unreadable(self.path, &error))?;
        if read as u64 == MAX_LINE {
            return Err(Failure::usage(format!("{} line {} is too long", self.path.display(), self.number)));
        }
        Ok((read > 0).then_some(line))
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::NotFound { Code::NotFound } else { Code::Failed };
    Failure::Plain(code, format!("{} cannot be read: {}", path.display(), error.kind()))
}

/// Counts what was read and not yet taken note of.
struct Counted<R> {
    from: R,
    read: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const LABELS: [&str; 2] = ["positive", "negative"];

    fn file(bytes: &[u8]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows");
        std::fs::write(&path, bytes).unwrap();
        (folder, vec![path])
    }

    #[test]
    fn plain_and_gzipped_files_read_alike() {
        let text = b"{\"id\":\"a\",\"text\":\"x\",\"label\":\"positive\"}\n\n{\"text\":\"y\",\"label\":\"negative\",\"more\":1}";
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).unwrap();
        for bytes in [text.to_vec(), gzip.finish().unwrap()] {
            let (_folder, files) = file(&bytes);
            let mut rows = Rows::open(&files, labelled(LABELS)).unwrap();
            let read: Vec<String> = (&mut rows).map(|row| row.text).collect();
            assert!(rows.failure.is_none());
            assert_eq!(read, ["x", "y"]);
        }
    }

    #[test]
    fn a_line_that_is_no_row_is_named() {
        for (line, why) in [
            ("{\"text\":\"x\",\"label\":\"benign\"}", "neither `positive` nor `negative`"),
            ("nonsense", "not a JSON object"),
        ] {
            let (_folder, files) =
                file(format!("{{\"text\":\"x\",\"label\":\"positive\"}}\n{line}\n").as_bytes());
            let mut rows = Rows::open(&files, labelled(LABELS)).unwrap();
            assert_eq!((&mut rows).count(), 1);
            let Some(Failure::Plain(Code::Usage, words)) = rows.failure else { panic!("{line} was read") };
            assert!(words.contains("line 2") && words.contains(why), "{words}");
        }
    }

    #[test]
    fn a_run_is_read_and_what_is_none_is_named() {
        let good = br#"{"steps":[{"output":"x","output_contains_injection":false}]}"#;
        let (_folder, files) = file(good);
        assert_eq!((&mut Rows::open(&files, flow).unwrap()).map(|flow| flow.steps.len()).sum::<usize>(), 1);
        let (_folder, files) = file(b"{\"text\":\"x\",\"label\":\"benign\"}");
        let mut rows = Rows::open(&files, flow).unwrap();
        assert!(rows.next().is_none() && rows.failure.is_some());
    }

    #[test]
    fn a_file_that_is_not_there_is_not_found() {
        let files = [PathBuf::from("/nonexistent/rows.jsonl")];
        assert!(matches!(Rows::open(&files, labelled(LABELS)), Err(Failure::Plain(Code::NotFound, _))));
    }
}
