//! How far something is, for whoever watches: a bar on a terminal, a few lines in a pipe.

use std::io::{self, IsTerminal as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::say;

/// In a pipe, how many lines tell it.
const LINES: u64 = 10;

/// Goes from nothing to a total.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    total: u64,
    lines: u64,
}

impl Progress {
    /// Begins. `template` is what the bar shows, in indicatif's words; `first` is the first line in a pipe.
    pub(super) fn new(total: u64, template: &str, first: &str) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template(template).expect("templates are our own");
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(style)
        });
        if bar.is_none() {
            say(first);
        }
        Self { bar, total, lines: 0 }
    }

    /// So much is done; `line` says it for people.
    pub(super) fn at(&mut self, done: u64, line: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(line());
            return;
        }
        // Widened, for a total may be as large as there are numbers.
        let lines = u128::from(done) * u128::from(LINES) / u128::from(self.total.max(1));
        let lines = u64::try_from(lines).unwrap_or(u64::MAX);
        if lines > self.lines {
            self.lines = lines;
            say(&line());
        }
    }

    /// Leaves the terminal as it was.
    pub(super) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
