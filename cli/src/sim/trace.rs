//! A recorded cluster, replayed with a bundled framework.

mod kinds;
mod summary;

use std::{
    fs,
    num::NonZeroU32,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use apportion_sim::trace::{
    Frameworks, Node, Options, Progress as Far, ReplayError, Report, Task, nodes, replay, svg, tasks,
};

use self::kinds::{Batch, Service};
use super::progress::Progress;
use crate::{
    INTERRUPTED, Usage,
    output::{self, Format, say},
    signals::Signals,
    value,
};

/// What a terminal shows meanwhile.
const BAR: &str = "{bar:40} {percent}% of the trace, {eta} left: {msg}";

/// What is replayed, and how.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Args {
    /// The machines of a recorded cluster, as CSV
    #[arg(long, value_name = "FILE", requires = "tasks", conflicts_with_all = ["scenario", "seeds", "history"], help_heading = "Recorded cluster")]
    nodes: Option<PathBuf>,
    /// The tasks that it was to run, as CSV
    #[arg(long, value_name = "FILE", requires_all = ["nodes", "framework"], help_heading = "Recorded cluster")]
    tasks: Option<PathBuf>,
    /// The framework that runs those that ask for the same: as a job's tasks, or as a service's replicas
    #[arg(long, value_enum, requires = "tasks", help_heading = "Recorded cluster")]
    framework: Option<Kind>,
    /// How many times as fast as recorded tasks come; each runs for as long as recorded, so more are alive at once [default: 1]
    #[arg(long, value_name = "TIMES", requires = "tasks", help_heading = "Recorded cluster")]
    load: Option<NonZeroU32>,
    /// How long to go on after the last task came, while some wait or run [default: 1h]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>, requires = "tasks", help_heading = "Recorded cluster")]
    tail: Option<Duration>,
    /// Draw how it went into this file
    #[arg(long, value_name = "FILE", requires = "tasks", help_heading = "Recorded cluster")]
    svg: Option<PathBuf>,
}

/// A bundled framework.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A task ends when it has run for as long as recorded
    Batch,
    /// A task ends so long after it came as recorded, wherever it is by then
    Service,
}

/// A replay that can begin.
pub(super) struct Replay {
    nodes: Vec<Node>,
    tasks: Vec<Task>,
    kind: Kind,
    options: Options,
    svg: Option<PathBuf>,
}

impl Args {
    /// Reads the trace; none when no trace is asked for.
    pub(super) fn read(self, seed: u64) -> anyhow::Result<Option<Replay>> {
        let (Some(nodes_file), Some(tasks_file), Some(kind)) = (self.nodes, self.tasks, self.framework)
        else {
            return Ok(None);
        };
        let usage = |error: &dyn std::error::Error| Usage(error.to_string());
        let nodes = nodes::parse(&nodes_file.display().to_string(), &text(&nodes_file)?)
            .map_err(|error| usage(&error))?;
        let tasks = tasks::parse(&tasks_file.display().to_string(), &text(&tasks_file)?)
            .map_err(|error| usage(&error))?;
        let mut options = Options { seed, ..Options::default() };
        options.load = self.load.unwrap_or(options.load);
        options.tail = self.tail.unwrap_or(options.tail);
        Ok(Some(Replay { nodes, tasks, kind, options, svg: self.svg }))
    }
}

fn text(path: &Path) -> Result<String, Usage> {
    fs::read_to_string(path).map_err(|error| {
        Usage(format!("reading the trace {}: {error}; name a readable file", path.display()))
    })
}

impl Replay {
    /// Replays it to its end, and answers with the report.
    pub(super) async fn run(self, output: Format) -> anyhow::Result<ExitCode> {
        let begun = Instant::now();
        let signals = Signals::listen().context("listening to signals")?;
        let svg_file = self.svg.clone();
        let replaying = tokio::task::spawn_blocking(move || match self.kind {
            Kind::Batch => self.replay(&mut Batch),
            Kind::Service => self.replay(&mut Service),
        });
        let replayed = tokio::select! {
            replayed = replaying => replayed.context("replaying the trace")?,
            () = signals.asked() => {
                say(&format!("interrupted after {:.1} s, before the trace came to its end", begun.elapsed().as_secs_f64()));
                return Ok(ExitCode::from(INTERRUPTED));
            }
        };
        let mut report = replayed.context("replaying the trace")?;
        report.wall_us = Some(u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX));
        if let Some(file) = svg_file {
            fs::write(&file, svg::draw(&report))
                .with_context(|| format!("writing the picture {}", file.display()))?;
        }
        output::answer(output, &report, summary::text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn replay(&self, frameworks: &mut impl Frameworks) -> Result<Report, ReplayError> {
        let mut shown: Option<Progress> = None;
        let mut progress = |far: Far| {
            let shown =
                shown.get_or_insert_with(|| Progress::new(far.end.as_secs(), BAR, "replaying the trace"));
            shown.at(far.simulated.as_secs(), || summary::line(far));
        };
        let replayed = replay(&self.nodes, &self.tasks, &self.options, frameworks, &mut progress);
        if let Some(shown) = shown {
            shown.end();
        }
        replayed
    }
}
