//! The picture of a request's life: every layer that acted, in the order in which each began, each stage with
//! its verdict, its reason and its microseconds. A stage that waited for others (the sandbox, for the requests of
//! its tool) stands before them and says how much of its time was theirs.
//!
//! The five layers of the story carry their numbers. Decisions, the agent and the record are the
//! spine between them and carry none. A trace holds fixed words, numbers and parsed names only.

use std::time::Duration;

use serde_json::{Value, json};
use types::trace::Step;
use types::{Layer, Verdict};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::terminal::{Terminal, Tone};

/// The widest picture; longer lines are hard to read.
const WIDEST: usize = 120;
/// The narrowest picture. Below, the terminal wraps.
const NARROWEST: usize = 60;
/// Columns for the name of a stage.
const STAGE: usize = 15;
/// Columns for the word of a verdict.
const VERDICT: usize = 9;
/// Columns for the time.
const TIME: usize = 12;
/// Columns before the stage: the rail and the mark.
const RAIL: usize = 5;

/// Prints the picture of a trace's steps. No steps, no picture.
pub fn draw(steps: &[Step], terminal: &Terminal) {
    let columns = crossterm::terminal::size().map_or(WIDEST, |(columns, _)| usize::from(columns));
    for line in picture(steps, columns.clamp(NARROWEST, WIDEST)) {
        let painted: String = line.iter().map(|(tone, text)| paint(terminal, *tone, text)).collect();
        terminal.painted(painted.trim_end());
    }
}

/// The steps as objects with stable keys: layer, number (1 to 5 or null), stage, verdict, reason, micros.
pub fn as_json(steps: &[Step]) -> Value {
    let object = |step: &Step| {
        json!({
            "layer": step.layer.as_str(),
            "number": Block::of(step.layer).number,
            "stage": step.stage,
            "verdict": step.verdict.as_str(),
            "reason": step.reason,
            "micros": u64::try_from(step.took.as_micros()).unwrap_or(u64::MAX),
        })
    };
    steps.iter().map(object).collect()
}

/// A line made of pieces, each with its colour.
type Line = Vec<(Option<Tone>, String)>;

/// What one part of the picture is about.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Block {
    number: Option<u8>,
    title: &'static str,
    about: &'static str,
}

impl Block {
    fn of(layer: Layer) -> Self {
        let (number, title, about) = match layer {
            Layer::Safety => (Some(1), "SAFETY", "what comes in is screened"),
            Layer::Wasm => (Some(2), "WASM", "the tool runs alone in a fresh instance"),
            Layer::Container => (Some(2), "CONTAINER", "the command runs alone in a fresh container"),
            Layer::Egress | Layer::Vault => {
                (Some(3), "EGRESS", "one door out, and the key at the last moment")
            }
            Layer::Leaks => (Some(4), "LEAKS", "what comes back is searched for secrets"),
            Layer::Output => (Some(5), "OUTPUT", "what a person reads is checked"),
            Layer::Policy => (None, "POLICY", "decided and recorded before it happens"),
            Layer::Agent => (None, "AGENT", "asks and answers"),
            Layer::Audit => (None, "AUDIT", "the record"),
        };
        Self { number, title, about }
    }

    fn badge(self) -> char {
        self.number.and_then(|number| char::from_digit(u32::from(number), 10)).unwrap_or('\u{b7}')
    }
}

fn picture(steps: &[Step], columns: usize) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut open: Option<Block> = None;
    for (index, step) in steps.iter().enumerate() {
        let block = place(index, steps);
        if open != Some(block) {
            lines.push(heading(block, open.is_none(), columns));
            open = Some(block);
        }
        stage(step, inside(step, steps), columns, &mut lines);
    }
    if open.is_some() {
        lines.push(footer(steps, columns));
    }
    lines
}

/// The block that a step is drawn in. The leak scan of a text that is screened is one stage of that
/// screening; what stands by itself is the scan of a response.
fn place(index: usize, steps: &[Step]) -> Block {
    let layer = |at: Option<usize>| at.and_then(|at| steps.get(at)).map(|step| step.layer);
    let own = steps[index].layer;
    match (layer(index.checked_sub(1)), layer(Some(index + 1))) {
        (Some(before @ (Layer::Safety | Layer::Output)), Some(after))
            if own == Layer::Leaks && before == after =>
        {
            Block::of(before)
        }
        _ => Block::of(own),
    }
}

/// How much of a step's time passed in steps of other layers that began and ended inside it. Where those overlap,
/// time counts once.
fn inside(step: &Step, steps: &[Step]) -> Duration {
    let end = step.began + step.took;
    let others = steps.iter().filter(|other| {
        other.layer != step.layer && other.began >= step.began && other.began + other.took <= end
    });
    let (mut total, mut counted) = (Duration::ZERO, step.began);
    // They come in the order in which they began.
    for other in others {
        let from = other.began.max(counted);
        counted = counted.max(other.began + other.took);
        total += counted.saturating_duration_since(from);
    }
    total
}

/// `├─ 3 EGRESS ── one door out ─────`
fn heading(block: Block, first: bool, columns: usize) -> Line {
    let corner = if first { '\u{250c}' } else { '\u{251c}' };
    let title = format!("{} {}", block.badge(), block.title);
    let rule = columns.saturating_sub(6 + title.width() + block.about.width());
    vec![
        (Some(Tone::Dim), format!("{corner}\u{2500} ")),
        (Some(Tone::Strong), title),
        (Some(Tone::Dim), format!("  {} {}", block.about, "\u{2500}".repeat(rule))),
    ]
}

/// `│  ✓ sanitizer  allow  no pattern in 3 readings   41 µs`, and more lines where the reason is long.
fn stage(step: &Step, inside: Duration, columns: usize, lines: &mut Vec<Line>) {
    let (tone, mark) = mark(step.verdict);
    let room = columns.saturating_sub(RAIL + STAGE + VERDICT + TIME);
    let reason = match inside.as_micros() {
        0 => step.reason.clone(),
        others => format!("{}; {} of the time in the layers inside", step.reason, micros(others)),
    };
    let mut reason = wrap(&reason, room).into_iter();
    let first = reason.next().unwrap_or_default();
    lines.push(vec![
        (Some(Tone::Dim), "\u{2502}  ".to_owned()),
        (Some(tone), format!("{mark} ")),
        (None, pad(step.stage, STAGE)),
        (Some(tone), pad(step.verdict.as_str(), VERDICT)),
        (None, pad(&first, room)),
        (Some(Tone::Dim), right(&micros(step.took.as_micros()), TIME)),
    ]);
    for rest in reason {
        lines.push(vec![
            (Some(Tone::Dim), "\u{2502}".to_owned()),
            (None, " ".repeat(RAIL - 1 + STAGE + VERDICT) + &rest),
        ]);
    }
}

/// Where something was stopped. The times of stages inside stages overlap, so there is no sum of them.
fn footer(steps: &[Step], columns: usize) -> Line {
    let mut stopped: Vec<&str> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let title = place(index, steps).title;
        if step.verdict == Verdict::Block && !stopped.contains(&title) {
            stopped.push(title);
        }
    }
    let marked =
        steps.iter().any(|step| matches!(step.verdict, Verdict::Warn | Verdict::Flag | Verdict::Redact));
    let (tone, words) = match (stopped.is_empty(), marked) {
        (true, false) => (Tone::Good, "nothing was stopped".to_owned()),
        (true, true) => (Tone::Warn, "nothing was stopped, something was marked".to_owned()),
        (false, _) => (Tone::Bad, format!("stopped in {}", stopped.join(", "))),
    };
    let words = format!("{} stages, {words}", steps.len());
    let rule = columns.saturating_sub(4 + words.width());
    vec![
        (Some(Tone::Dim), "\u{2514}\u{2500} ".to_owned()),
        (Some(tone), words),
        (Some(Tone::Dim), format!(" {}", "\u{2500}".repeat(rule))),
    ]
}

fn mark(verdict: Verdict) -> (Tone, char) {
    match verdict {
        Verdict::Allow | Verdict::Done => (Tone::Good, '\u{2713}'),
        Verdict::Warn | Verdict::Flag => (Tone::Warn, '!'),
        Verdict::Redact => (Tone::Warn, '~'),
        Verdict::Ask => (Tone::Warn, '?'),
        Verdict::Block | Verdict::Failed => (Tone::Bad, '\u{2717}'),
        Verdict::Abandoned => (Tone::Dim, '-'),
    }
}

fn paint(terminal: &Terminal, tone: Option<Tone>, text: &str) -> String {
    match tone {
        Some(tone) => terminal.paint(tone, text),
        None => text.to_owned(),
    }
}

/// Digits in groups of three, `12,401 µs`.
fn micros(n: u128) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} \u{b5}s")
}

fn pad(text: &str, columns: usize) -> String {
    format!("{text}{}", " ".repeat(columns.saturating_sub(text.width()).max(usize::from(columns > 0))))
}

fn right(text: &str, columns: usize) -> String {
    format!("{}{text}", " ".repeat(columns.saturating_sub(text.width())))
}

/// Breaks at spaces; a word that is longer than a line is broken where the line ends. One column stays free.
fn wrap(text: &str, columns: usize) -> Vec<String> {
    let room = columns.saturating_sub(1).max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split_whitespace() {
        let width = word.width();
        if used > 0 && used + 1 + width > room {
            lines.push(String::new());
            used = 0;
        }
        if used > 0 {
            push(&mut lines, ' ');
            used += 1;
        }
        for c in word.chars() {
            let width = c.width().unwrap_or(0);
            if used + width > room {
                lines.push(String::new());
                used = 0;
            }
            push(&mut lines, c);
            used += width;
        }
    }
    lines
}

fn push(lines: &mut [String], c: char) {
    if let Some(last) = lines.last_mut() {
        last.push(c);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use types::Trace;

    use super::*;

    /// A call whose request takes 500 of its 600 microseconds, recorded in the order in which things ended.
    fn life() -> Vec<Step> {
        let trace = Trace::collecting();
        let zero = Instant::now();
        let at = |layer, stage, verdict, began, micros, reason: &str| {
            let began = zero + Duration::from_micros(began);
            trace.at(layer, stage, verdict, began, Duration::from_micros(micros), || reason.to_owned());
        };
        at(Layer::Safety, "sanitizer", Verdict::Allow, 0, 41, "no attack pattern");
        at(Layer::Safety, "rulebook", Verdict::Flag, 41, 1, "flagged, since the owner typed it");
        at(Layer::Policy, "decision", Verdict::Allow, 50, 1310, "weather by shipped:tool-calls");
        at(Layer::Egress, "allowlist", Verdict::Allow, 1420, 210, "weather lists api.weather.com:443");
        at(Layer::Vault, "secret", Verdict::Done, 1630, 290, "WEATHER_KEY unsealed for one request");
        at(Layer::Leaks, "response", Verdict::Block, 1920, 60, &"a value of the vault ".repeat(9));
        at(Layer::Wasm, "instance", Verdict::Done, 1400, 10, "fresh");
        at(Layer::Wasm, "fuel", Verdict::Done, 1400, 1_204_001, "12 of 50 units");
        trace.steps()
    }

    fn plain(steps: &[Step], columns: usize) -> Vec<String> {
        picture(steps, columns)
            .iter()
            .map(|line| line.iter().map(|(_, text)| text.as_str()).collect::<String>())
            .collect()
    }

    #[test]
    fn every_line_fits_and_every_step_has_its_time() {
        for columns in [60, 80, 100, 120] {
            let lines = plain(&life(), columns);
            for line in &lines {
                assert!(line.trim_end().width() <= columns, "{columns}: {line}");
            }
            for time in ["41 µs", "1,310 µs", "1,204,001 µs"] {
                assert!(lines.iter().any(|line| line.ends_with(time)), "{time}");
            }
        }
    }

    #[test]
    fn layers_carry_their_numbers_and_the_vault_belongs_to_the_door() {
        let lines = plain(&life(), 100);
        let headings: Vec<&str> =
            lines.iter().filter(|line| line.starts_with(['┌', '├'])).map(|line| &line[7..]).collect();
        let begins = ["1 SAFETY", "· POLICY", "2 WASM", "3 EGRESS", "4 LEAKS"];
        assert_eq!(headings.len(), begins.len(), "{headings:?}");
        for (heading, begin) in headings.iter().zip(begins) {
            assert!(heading.starts_with(begin), "{heading}");
        }
        assert!(lines[lines.len() - 1].contains("8 stages, stopped in LEAKS"));
    }

    #[test]
    fn a_stage_says_how_much_of_its_time_passed_in_the_layers_inside_it() {
        let lines = plain(&life(), 120);
        let fuel = lines.iter().find(|line| line.contains("fuel")).unwrap();
        assert!(
            fuel.contains("560 µs of the time in the layers inside") && fuel.ends_with("1,204,001 µs"),
            "{fuel}"
        );
        assert!(!lines.iter().any(|line| line.contains("decision") && line.contains("inside")));
    }

    #[test]
    fn the_leak_scan_of_a_text_belongs_to_its_screening() {
        let mut steps = life();
        steps[1].layer = Layer::Leaks;
        steps.insert(2, Step { layer: Layer::Safety, ..steps[0].clone() });
        let lines = plain(&steps, 100);
        assert!(lines[0].starts_with("┌─ 1 SAFETY") && lines[4].starts_with("├─ · POLICY"), "{lines:#?}");
    }

    #[test]
    fn an_empty_trace_draws_nothing() {
        assert!(picture(&[], 80).is_empty());
        assert_eq!(as_json(&[]), json!([]));
    }

    #[test]
    fn json_has_stable_keys() {
        let first = &as_json(&life())[0];
        assert_eq!(
            *first,
            json!({"layer": "safety", "number": 1, "stage": "sanitizer", "verdict": "allow", "reason": "no attack pattern", "micros": 41})
        );
        assert_eq!(as_json(&life())[2]["number"], Value::Null);
    }

    #[test]
    fn long_words_are_broken() {
        assert_eq!(wrap("abcdefgh ij", 5), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 5), [""]);
        assert_eq!(wrap("北京北京", 4), ["北", "京", "北", "京"]);
    }
}
