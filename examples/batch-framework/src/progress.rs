//! What a person sees while a job runs: a bar in a terminal, a line now and then elsewhere. Always on standard error, so that
//! standard output holds the result alone.

use std::{
    fmt,
    io::{IsTerminal, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::state::Counts;

/// Between two lines where there is no terminal: often enough to see that it lives, seldom enough for a log.
pub const LINES_EVERY: Duration = Duration::from_secs(5);

/// The progress of one job.
#[derive(Debug)]
pub struct Progress {
    job: String,
    counts: Counts,
    bar: Option<ProgressBar>,
    /// The last line that was written, so that a job that stands still does not fill the log.
    written: Option<Counts>,
}

impl Progress {
    /// A bar when standard error is a terminal.
    pub fn new(job: &str, tasks: usize) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{prefix} [{bar:30}] {pos}/{len} {msg}, {rate}, {eta} left";
            let style = ProgressStyle::with_template(style).expect("the template is well-formed");
            let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
                _ = write!(text, "{:.1}/s", state.per_sec())
            };
            let style = style.with_key("rate", rate).progress_chars("=> ");
            // Hidden until it has all its parts.
            let bar = ProgressBar::with_draw_target(Some(tasks as u64), ProgressDrawTarget::hidden());
            let bar = bar.with_style(style).with_prefix(job.to_owned()).with_message("connecting");
            bar.set_draw_target(ProgressDrawTarget::stderr());
            // So that the time left goes on being told while one long task runs.
            bar.enable_steady_tick(Duration::from_secs(1));
            bar
        });
        Self {
            job: job.to_owned(),
            counts: Counts { total: tasks, waiting: tasks, ..Counts::default() },
            bar,
            written: None,
        }
    }

    /// Takes new counts.
    pub fn moved(&mut self, counts: Counts) {
        self.counts = counts;
        if let Some(bar) = &self.bar {
            bar.set_position(counts.ended() as u64);
            bar.set_message(doing(&counts));
        }
    }

    /// Writes a line when there is no bar and something has changed. To be called every [`LINES_EVERY`].
    pub fn tick(&mut self) {
        if self.bar.is_none() && self.written.replace(self.counts) != Some(self.counts) {
            self.say(&format!(
                "{} of {} done, {}",
                self.counts.ended(),
                self.counts.total,
                doing(&self.counts)
            ));
        }
    }

    /// Says something of its own line, above the bar if there is one.
    pub fn say(&self, what: &str) {
        let line = format!("{}: {what}", self.job);
        match &self.bar {
            Some(bar) => bar.println(line),
            // A closed standard error must not end the job.
            None => _ = writeln!(std::io::stderr().lock(), "{line}"),
        }
    }

    /// Takes the bar away: the summary says it better.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn doing(counts: &Counts) -> String {
    let skipped = if counts.skipped == 0 { String::new() } else { format!(", {} skipped", counts.skipped) };
    format!("{} running, {} waiting, {} failed{skipped}", counts.active, counts.waiting, counts.failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_tells_what_the_tasks_do() {
        let counts = Counts { total: 9, waiting: 3, active: 2, succeeded: 3, failed: 1, ..Counts::default() };
        assert_eq!(doing(&counts), "2 running, 3 waiting, 1 failed");
        assert_eq!(doing(&Counts { skipped: 2, ..counts }), "2 running, 3 waiting, 1 failed, 2 skipped");
    }

    #[test]
    fn a_job_that_stands_still_says_so_once() {
        let mut progress = Progress { job: "j".into(), counts: Counts::default(), bar: None, written: None };
        progress.tick();
        assert_eq!(progress.written, Some(Counts::default()));
        progress.moved(Counts { total: 1, active: 1, ..Counts::default() });
        assert_ne!(progress.written, Some(progress.counts), "the next tick writes");
    }
}
