//! What a person sees while a job runs: a bar in a terminal, a line now and then elsewhere. Always on standard error, so that
//! standard output holds the result alone.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use apportion_sdk::lines::Lines;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::state::Counts;

/// Between two lines where there is no terminal: often enough to see that it lives, seldom enough for a log.
pub const LINES_EVERY: Duration = Duration::from_secs(5);

/// How far back the rate looks.
const PACE_OVER: Duration = Duration::from_secs(60);

/// The progress of one job.
#[derive(Debug)]
pub struct Progress {
    job: String,
    counts: Counts,
    bar: Option<ProgressBar>,
    /// While nobody may wait for whoever reads.
    lines: Option<Lines>,
    pace: Pace,
    /// When it began.
    started: Instant,
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
            lines: None,
            pace: Pace::default(),
            started: Instant::now(),
            written: None,
        }
    }

    /// From now on lines are written beside whoever says something: the same task drives a scheduler and hears signals.
    pub fn write_beside(&mut self) -> io::Result<()> {
        let job = self.job.clone();
        let missed = move |lines| format!("{job}: {lines} lines are left out here: nobody read them");
        self.lines = self.bar.is_none().then(|| Lines::new(io::stderr(), missed)).transpose()?;
        Ok(())
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
        self.pace.note(self.started.elapsed(), self.counts.ended());
        if self.bar.is_none() && self.written.replace(self.counts) != Some(self.counts) {
            self.say(&format!(
                "{} of {} done, {}{}",
                self.counts.ended(),
                self.counts.total,
                doing(&self.counts),
                self.pace.told(self.counts.total - self.counts.ended())
            ));
        }
    }

    /// Says something of its own line, above the bar if there is one.
    pub fn say(&self, what: &str) {
        let line = format!("{}: {what}", self.job);
        match (&self.bar, &self.lines) {
            (Some(bar), _) => bar.println(line),
            (None, Some(lines)) => lines.say(line),
            // A closed standard error must not end the job.
            (None, None) => _ = writeln!(io::stderr().lock(), "{line}"),
        }
    }

    /// Takes the bar away: the summary says it better. Lines are written at once again.
    pub async fn finish(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if let Some(lines) = self.lines.take() {
            lines.flush().await;
        }
    }
}

/// How fast tasks end, by the last minute: of a stage with long tasks the hour before says nothing.
#[derive(Debug, Default)]
struct Pace(VecDeque<(Duration, usize)>);

impl Pace {
    /// So many had ended at this time since the beginning.
    fn note(&mut self, at: Duration, ended: usize) {
        self.0.push_back((at, ended));
        while self.0.len() > 2 && self.0.front().is_some_and(|(first, _)| at - *first > PACE_OVER) {
            self.0.pop_front();
        }
    }

    /// The rate and the time left, once there is a rate.
    fn told(&self, left: usize) -> String {
        let (Some((first, before)), Some((last, now))) = (self.0.front(), self.0.back()) else {
            return String::new();
        };
        let rate = now.saturating_sub(*before) as f64 / last.saturating_sub(*first).as_secs_f64();
        if !rate.is_normal() || left == 0 {
            return String::new();
        }
        let left = Duration::from_secs((left as f64 / rate).ceil() as u64);
        format!(", {rate:.1}/s, {} left", humantime::format_duration(left))
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
        let mut progress = Progress {
            job: "j".into(),
            counts: Counts::default(),
            bar: None,
            lines: None,
            pace: Pace::default(),
            started: Instant::now(),
            written: None,
        };
        progress.tick();
        assert_eq!(progress.written, Some(Counts::default()));
        progress.moved(Counts { total: 1, active: 1, ..Counts::default() });
        assert_ne!(progress.written, Some(progress.counts), "the next tick writes");
    }

    #[test]
    fn the_rate_is_of_the_last_minute_and_tells_what_is_left() {
        let mut pace = Pace::default();
        assert_eq!(pace.told(9), "");
        pace.note(Duration::ZERO, 0);
        assert_eq!(pace.told(9), "", "no time has passed");
        for step in 1..=20u64 {
            pace.note(Duration::from_secs(step * 5), 1000);
        }
        assert_eq!(pace.told(9), "", "nothing has ended for a minute");
        for step in 21..=60u64 {
            pace.note(Duration::from_secs(step * 5), 1000 + 10 * (step as usize - 20));
        }
        assert_eq!(pace.told(130), ", 2.0/s, 1m 5s left");
        assert_eq!(pace.told(0), "");
    }
}
