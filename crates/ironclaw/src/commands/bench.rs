//! `ironclaw bench`: what one turn costs on this machine, and where its time goes.
//!
//! The turns are those of the demo: the weather request through all five layers, against a service on loopback.
//! Two costs are not the layers' own and stand beside them: the upstream, measured as one bare exchange with
//! the same service (connect, TLS, request, response), and the disk, measured by running the same turns on a memory
//! file system, where a sync is free. Durability is the same in both runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use types::trace::Step;

use super::demo;
use super::demo::scenes::REQUEST;
use super::demo::stage::Stage;
use super::signals::Signals;
use crate::cli;
use crate::exit::{Failure, Outcome};
use crate::terminal::{Terminal, Tone};

/// Turns before the clock runs: caches fill, lazily compiled expressions compile.
const WARM_UP: u32 = 20;

/// Where Linux keeps a memory file system that every user may write to.
const MEMORY: &str = "/dev/shm";

/// What one stage came to.
struct Measured {
    /// Whole turns.
    turn: Samples,
    /// Bare exchanges with the upstream, between the turns.
    upstream: Samples,
    /// Time by layer and stage, summed within a turn.
    stages: BTreeMap<(&'static str, &'static str), Samples>,
    /// Durable records a turn.
    records: u64,
}

/// Runs the command.
pub async fn run(args: &cli::Bench, terminal: &Terminal) -> Outcome {
    let mut signals = Signals::listen()?;
    let on_disk = measure(&std::env::temp_dir(), args.turns, &mut signals, terminal).await?;
    let memory = Path::new(MEMORY);
    let in_memory = match memory.is_dir() {
        true => Some(measure(memory, args.turns, &mut signals, terminal).await?),
        false => None,
    };
    report(args.turns, &on_disk, in_memory.as_ref(), terminal);
    Ok(())
}

/// Turns on a stage of its own under `place`, which is removed however they end.
async fn measure(
    place: &Path,
    turns: u32,
    signals: &mut Signals,
    terminal: &Terminal,
) -> Result<Measured, Failure> {
    let stage = signals.unless_ended(Stage::set_up(place, terminal)).await?;
    let measured = signals.unless_ended(play(&stage, turns)).await;
    stage.take_down().await;
    measured
}

async fn play(stage: &Stage, turns: u32) -> Result<Measured, Failure> {
    let mut measured = Measured {
        turn: Samples::default(),
        upstream: Samples::default(),
        stages: BTreeMap::new(),
        records: 0,
    };
    for _ in 0..WARM_UP {
        turn(stage).await?;
        stage.bare_exchange().await?;
    }
    let before = stage.records().await?;
    for _ in 0..turns {
        let (took, steps) = turn(stage).await?;
        measured.turn.add(took);
        measured.upstream.add(stage.bare_exchange().await?);
        let mut stages: BTreeMap<_, Duration> = BTreeMap::new();
        for step in steps {
            *stages.entry((step.layer.as_str(), step.stage)).or_default() += step.took;
        }
        for (stage, took) in stages {
            measured.stages.entry(stage).or_default().add(took);
        }
    }
    measured.records = (stage.records().await? - before) / u64::from(turns.max(1));
    Ok(measured)
}

/// One turn, which must end as it should: a figure of failed turns says nothing.
async fn turn(stage: &Stage) -> Result<(Duration, Vec<Step>), Failure> {
    let since = Instant::now();
    let outcome = demo::ask(stage, &REQUEST).await;
    let took = since.elapsed();
    if outcome.reply.is_none() || !outcome.refusals.is_empty() || !stage.weather_saw_the_key() {
        return Err(Failure::failed("the request did not come through, so there is nothing to measure"));
    }
    Ok((took, outcome.turn.trace().steps()))
}

fn report(turns: u32, disk: &Measured, memory: Option<&Measured>, terminal: &Terminal) {
    let free = memory.unwrap_or(disk);
    let ours = free.turn.median().saturating_sub(free.upstream.median());
    if terminal.is_json() {
        let stages = free.stages.iter().map(|((layer, stage), samples)| {
            json!({ "layer": layer, "stage": stage, "micros": micros(samples.median()) })
        });
        terminal.json(&json!({
            "turns": turns,
            "records_per_turn": free.records,
            "turn_on_disk_micros": micros(disk.turn.median()),
            "turn_in_memory_micros": memory.map(|memory| micros(memory.turn.median())),
            "upstream_micros": micros(free.upstream.median()),
            "ours_micros": micros(ours),
            "samples": turns,
            "stages": stages.collect::<Vec<_>>(),
        }));
        return;
    }
    let line = |what: &str, samples: &Samples| {
        terminal.say(format!("  {what:<44}{:>12}{:>12}", figure(samples.median()), figure(samples.high())));
    };
    terminal.painted(
        &terminal.paint(Tone::Strong, format!("One turn, {turns} samples{:>31}{:>12}", "median", "p95")),
    );
    line("whole turn, on this disk", &disk.turn);
    if let Some(memory) = memory {
        line("whole turn, where a sync is free", &memory.turn);
    }
    line("floor: a bare exchange with the upstream", &free.upstream);
    let what = if memory.is_some() { "ours: without upstream and sync" } else { "ours: without upstream" };
    terminal.say(format!("  {what:<44}{:>12}", figure(ours)));
    let ratio = ours.as_secs_f64() / free.upstream.median().as_secs_f64().max(f64::EPSILON);
    terminal.say(format!("  ours to the floor{:>38.1}\u{d7}", ratio));
    terminal.say(format!("  durable records in a turn{:>31}", free.records));
    let word = "Where it goes (a stage may contain others)";
    terminal.painted(&format!("\n{}", terminal.paint(Tone::Strong, word)));
    for ((layer, stage), samples) in &free.stages {
        line(&format!("{layer}, {stage}"), samples);
    }
}

fn figure(took: Duration) -> String {
    format!("{} \u{b5}s", micros(took))
}

fn micros(took: Duration) -> u64 {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
}

/// Durations, in the order in which they were taken.
#[derive(Default)]
struct Samples(Vec<Duration>);

impl Samples {
    fn add(&mut self, took: Duration) {
        self.0.push(took);
    }

    fn median(&self) -> Duration {
        self.quantile(50)
    }

    fn high(&self) -> Duration {
        self.quantile(95)
    }

    fn quantile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        sorted.get((last * percent).div_ceil(100)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let mut samples = Samples::default();
        assert_eq!(samples.median(), Duration::ZERO);
        for n in [5, 1, 4, 2, 3] {
            samples.add(Duration::from_micros(n));
        }
        assert_eq!(samples.median(), Duration::from_micros(3));
        assert_eq!(samples.high(), Duration::from_micros(5));
    }
}
