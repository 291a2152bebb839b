//! Many seeds, on all processors.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use anyhow::Context as _;
use apportion_sim::{Found, Searched, Sim, Timed, find, find_at_every_write, scenario::Scenario};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{pace, progress::Progress, replay, seeds::Seeds};
use crate::{
    INTERRUPTED,
    output::{self, Format},
    signals::Signals,
    table::count,
};

/// What a terminal shows meanwhile.
const BAR: &str = "{bar:40} {pos} of {len} seeds, {per_sec}, {eta} left";

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    scenario: &'a str,
    from: u64,
    to: u64,
    /// Those that went as expected.
    clean: u64,
    /// Several of a seed where processes are killed at its writes.
    runs: u64,
    writes: u64,
    simulated_s: f64,
    steps: u64,
    wall_s: f64,
    seeds_per_s: f64,
    interrupted: bool,
    failure: Option<Wrong<'a>>,
}

#[derive(Debug, Serialize)]
struct Wrong<'a> {
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    killed: Option<String>,
    property: &'static str,
    message: &'a str,
    at_s: f64,
    faults: Vec<String>,
    faults_before: usize,
    agents: usize,
    agents_before: usize,
    trace: &'a [String],
    replay: &'a str,
}

impl<'a> From<&'a Found> for Wrong<'a> {
    fn from(found: &'a Found) -> Self {
        let failure = &found.failure;
        let (agents, agents_before) = found.agents;
        Wrong {
            seed: failure.seed,
            killed: found.killed.map(|killed| killed.to_string()),
            property: failure.check,
            message: &failure.message,
            at_s: failure.at.as_secs_f64(),
            faults: found.faults.iter().map(|Timed { at, fault }| format!("at {at:?} {fault}")).collect(),
            faults_before: found.faults_before,
            agents,
            agents_before,
            trace: &found.trace,
            replay: &found.replay,
        }
    }
}

/// What the threads share: which seed is next, and from which on none is begun any more.
struct Work {
    scenario: Scenario,
    /// Each seed is played again for each of its writes.
    at_every_write: bool,
    next: AtomicU64,
    end: AtomicU64,
}

impl Work {
    /// Plays seed after seed; from one that fails on no later one is begun, so that the first of all is found, whichever thread is
    /// quicker.
    fn play(&self, tell: &mpsc::UnboundedSender<Result<Searched, Box<Found>>>) {
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.end.load(Ordering::Relaxed) {
                return;
            }
            let scenario = &self.scenario;
            let build = || (scenario.build(), ());
            let story = |sim: &mut Sim, (): &()| scenario.story(sim);
            let mut played = match self.at_every_write {
                true => find_at_every_write([seed], build, story),
                false => find([seed], build, story),
            };
            if let Err(found) = &mut played {
                found.replay = replay(scenario, seed, found.killed);
                self.end.fetch_min(seed, Ordering::Relaxed);
            }
            if tell.send(played).is_err() {
                return;
            }
        }
    }
}

pub(super) async fn run(
    scenario: Scenario,
    seeds: Seeds,
    at_every_write: bool,
    output: Format,
) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let signals = Signals::listen().context("listening to signals")?;
    let (next, end) = (AtomicU64::new(seeds.0.start), AtomicU64::new(seeds.0.end));
    let work = Arc::new(Work { scenario, at_every_write, next, end });
    let (tell, mut told) = mpsc::unbounded_channel();
    for number in 0..thread::available_parallelism().map_or(1, usize::from) {
        let (work, tell) = (work.clone(), tell.clone());
        let thread = thread::Builder::new().name(format!("seeds-{number}"));
        thread.spawn(move || work.play(&tell)).context("starting a thread for seeds")?;
    }
    drop(tell);
    let mut progress = Progress::new(seeds.count(), BAR, &format!("playing the seeds {seeds}"));
    let (mut searched, mut found) = (Searched::default(), None::<Box<Found>>);
    let interrupted = loop {
        let played = tokio::select! {
            played = told.recv() => played,
            () = signals.asked() => break true,
        };
        match played {
            None => break false,
            Some(Ok(more)) => {
                searched.seeds += more.seeds;
                searched.runs += more.runs;
                searched.writes += more.writes;
                searched.steps += more.steps;
                searched.simulated += more.simulated;
                progress.at(searched.seeds, || {
                    format!("{} of {} went as expected", searched.seeds, count(seeds.count(), "seed"))
                });
            }
            Some(Err(earlier)) => {
                if found.as_ref().is_none_or(|found| earlier.failure.seed < found.failure.seed) {
                    found = Some(earlier);
                }
            }
        }
    };
    progress.end();
    let took = begun.elapsed();
    let answer = Answer {
        scenario: work.scenario.name(),
        from: seeds.0.start,
        to: seeds.0.end,
        clean: searched.seeds,
        runs: searched.runs,
        writes: searched.writes,
        simulated_s: searched.simulated.as_secs_f64(),
        steps: searched.steps,
        wall_s: took.as_secs_f64(),
        seeds_per_s: searched.seeds as f64 / took.as_secs_f64(),
        interrupted,
        failure: found.as_deref().map(Wrong::from),
    };
    output::answer(output, &answer, |answer| {
        let mut text = found.as_ref().map_or(String::new(), |found| format!("{found}\n\n"));
        if at_every_write {
            let (runs, writes) = (count(answer.runs, "run"), count(answer.writes, "write"));
            text += &format!("{runs}, with processes killed at {writes}\n");
        }
        text += &format!(
            "{} of {} went as expected, {:.1} a second: {}\n",
            count(answer.clean, "seed"),
            seeds.count(),
            answer.seeds_per_s,
            pace(searched.simulated, took)
        );
        text
    })?;
    Ok(match (&answer.failure, interrupted) {
        (Some(_), _) => ExitCode::FAILURE,
        (None, true) => ExitCode::from(INTERRUPTED),
        (None, false) => ExitCode::SUCCESS,
    })
}
