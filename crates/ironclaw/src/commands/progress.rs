//! A line of progress on standard error, for work that takes longer than a second.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Work that ends sooner shows nothing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Counts bytes, or rows, of a piece of work. Draws only on a terminal, and only once the work takes long.
pub struct Progress {
    total: Option<u64>,
    template: &'static str,
    done: u64,
    since: Instant,
    bar: Option<ProgressBar>,
    on: bool,
}

impl Progress {
    /// Progress of work that begins now; `total` bytes where that is known.
    pub fn new(total: Option<u64>) -> Self {
        let template = match total {
            Some(_) => "[{bar:30}] {binary_bytes} of {binary_total_bytes}, {eta} left",
            None => "{spinner} {binary_bytes} in {elapsed}",
        };
        Self::drawn_by(total, template)
    }

    /// Progress of work that begins now, on so many rows.
    pub fn of_rows(total: u64) -> Self {
        Self::drawn_by(Some(total), "[{bar:30}] {human_pos} of {human_len} rows, {eta} left")
    }

    fn drawn_by(total: Option<u64>, template: &'static str) -> Self {
        let on = std::io::stderr().is_terminal();
        Self { total, template, done: 0, since: Instant::now(), bar: None, on }
    }

    /// Counts what is done.
    pub fn add(&mut self, more: u64) {
        self.done += more;
        if !self.on || self.since.elapsed() < PATIENCE {
            return;
        }
        let (total, since, template) = (self.total, self.since, self.template);
        self.bar.get_or_insert_with(|| bar(total, since, template)).set_position(self.done);
    }

    /// Runs something that prints, with the line out of its way.
    pub fn aside(&self, print: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar(total: Option<u64>, since: Instant, template: &str) -> ProgressBar {
    let bar =
        ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr()).with_elapsed(since.elapsed());
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.progress_chars("=> ")),
        Err(_) => bar,
    }
}
