//! Many seeds, one story: what a test calls.

use std::{fmt, ops::Range, time::Duration};

use crate::{
    Cluster, Failure, KillAt, Sim, Timed,
    shrink::{self, Attempt, Ran},
};

/// The environment variable that names the seeds to be run.
pub const SEED_VARIABLE: &str = "APPORTION_SIM_SEED";

/// What a search over seeds has gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Searched {
    /// Seeds that ran clean.
    pub seeds: u64,
    /// Runs, of which there are several of a seed when processes are killed at its writes.
    pub runs: u64,
    /// What was persisted in the runs in which nobody is killed at a write.
    pub writes: u64,
    /// Things that happened in them.
    pub steps: u64,
    /// Virtual time that went by in them.
    pub simulated: Duration,
}

impl Searched {
    fn add(&mut self, ran: &Ran) {
        self.runs += 1;
        self.steps += ran.steps;
        self.simulated += ran.simulated;
    }
}

/// A seed whose run fails, with as few faults as still make it fail in the same way.
#[derive(Debug, Clone)]
pub struct Found {
    /// How the run with the faults below fails.
    pub failure: Failure,
    /// At which write a process is killed, if it needs that.
    pub killed: Option<KillAt>,
    /// How many faults the seed brought.
    pub faults_before: usize,
    /// Those that are needed.
    pub faults: Vec<Timed>,
    /// How many agents are needed, of how many.
    pub agents: (usize, usize),
    /// What led to it: the lines about what the failure names, the last ones.
    pub trace: Vec<String>,
    /// The command that runs the seed again.
    pub replay: String,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.failure)?;
        if let Some(killed) = self.killed {
            writeln!(f, "when the process that writes is killed {killed}")?;
        }
        let (agents, of) = self.agents;
        writeln!(
            f,
            "it needs {agents} of {of} agents and {} of {} faults{}",
            self.faults.len(),
            self.faults_before,
            if self.faults.is_empty() { "" } else { ":" },
        )?;
        for Timed { at, fault } in &self.faults {
            writeln!(f, "    at {at:?} {fault}")?;
        }
        writeln!(f, "what led to it:")?;
        self.trace.iter().try_for_each(|line| writeln!(f, "    {line}"))?;
        write!(f, "again: {}", self.replay)
    }
}

impl std::error::Error for Found {}

/// Runs a story on a cluster under each of the seeds, and fails the test on the first that goes wrong.
///
/// `build` describes the cluster, and names what the story speaks of, such as the handles of frameworks; `story` says what to do with
/// it and what to expect. Both must do the same each time they are called.
///
/// A panic of either, of the scheduler, or of a core is a failure like any other. What went wrong is run again with fewer faults and
/// fewer agents for as long as it still goes wrong, and told with its seed, what led to it, and the command that runs it again: with
/// the environment variable `APPORTION_SIM_SEED` only that seed is run, or with two of them, as in `1000..2000`, those from the first to
/// before the last.
///
/// # Panics
///
/// When a seed goes wrong.
#[track_caller]
pub fn check<H>(
    seeds: impl IntoIterator<Item = u64>,
    build: impl Fn() -> (Cluster, H),
    story: impl Fn(&mut Sim, &H) -> Result<(), Failure>,
) -> Searched {
    #[expect(clippy::disallowed_methods, reason = "says which seed is to be run, never how")]
    let only = std::env::var(SEED_VARIABLE).ok().map(|text| {
        seeds_of(&text).unwrap_or_else(|| {
            panic!(
                "{SEED_VARIABLE} is `{text}`; set it to a seed such as 7, or to several such as 1000..2000"
            )
        })
    });
    let found = match only {
        Some(seeds) => find(seeds, &build, &story),
        None => find(seeds, &build, &story),
    };
    found.unwrap_or_else(|found| panic!("{found}"))
}

/// One seed, or several as a range; at least one.
fn seeds_of(text: &str) -> Option<Range<u64>> {
    let (first, end) = match text.split_once("..") {
        Some((first, end)) => (first.parse().ok()?, end.parse().ok()?),
        None => {
            let seed: u64 = text.parse().ok()?;
            (seed, seed.checked_add(1)?)
        }
    };
    (first < end).then_some(first..end)
}

/// As [`check`], for those who want to know rather than fail.
pub fn find<H>(
    seeds: impl IntoIterator<Item = u64>,
    build: impl Fn() -> (Cluster, H),
    story: impl Fn(&mut Sim, &H) -> Result<(), Failure>,
) -> Result<Searched, Box<Found>> {
    let mut searched = Searched::default();
    for seed in seeds {
        let ran = attempt(seed, &build, &story)?;
        searched.seeds += 1;
        searched.writes += ran.writes;
        searched.add(&ran);
    }
    Ok(searched)
}

/// As [`find`]; and then each seed again for each of its persisted writes, twice: the process that writes is killed before the write
/// lasts, and after it lasts but before anything that follows from it is done or told.
pub fn find_at_every_write<H>(
    seeds: impl IntoIterator<Item = u64>,
    build: impl Fn() -> (Cluster, H),
    story: impl Fn(&mut Sim, &H) -> Result<(), Failure>,
) -> Result<Searched, Box<Found>> {
    let mut searched = Searched::default();
    for seed in seeds {
        let whole = attempt(seed, &build, &story)?;
        searched.add(&whole);
        for kill in (1..=whole.writes).flat_map(|write| [KillAt::Before(write), KillAt::After(write)]) {
            let build = || {
                let (cluster, named) = build();
                (cluster.kill_at(kill), named)
            };
            let ran = attempt(seed, &build, &story).map_err(|mut found| {
                found.killed = Some(kill);
                found
            })?;
            searched.add(&ran);
        }
        searched.seeds += 1;
        searched.writes += whole.writes;
    }
    Ok(searched)
}

/// Runs a story once; what goes wrong is made small.
fn attempt<H>(
    seed: u64,
    build: &impl Fn() -> (Cluster, H),
    story: &impl Fn(&mut Sim, &H) -> Result<(), Failure>,
) -> Result<Ran, Box<Found>> {
    let ran = shrink::run(&Attempt::of(&build().0, seed), build, story, false);
    if ran.failure.is_some() {
        let mut found = shrink::shrink(seed, build, story);
        found.replay = replay_command(seed);
        return Err(Box::new(found));
    }
    Ok(ran)
}

/// How to run a seed of the test that is running again: its thread has its name.
fn replay_command(seed: u64) -> String {
    let test = std::thread::current().name().filter(|name| *name != "main").map(str::to_owned);
    let test = test.map_or(String::new(), |test| format!(" {test} -- --exact"));
    format!("{SEED_VARIABLE}={seed} cargo test{test}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_one_or_several() {
        assert_eq!(seeds_of("7"), Some(7..8));
        assert_eq!(seeds_of("1000..2000"), Some(1000..2000));
        for bad in ["", "x", "7..", "..7", "7..7", "9..7", "-1", "0..1..2", "18446744073709551615"] {
            assert_eq!(seeds_of(bad), None, "{bad}");
        }
    }
}
