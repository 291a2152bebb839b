//! `apportion sim`: a cluster in virtual time, from one seed: scenarios, and recorded clusters.

mod play;
mod progress;
mod search;
mod seeds;
mod trace;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use apportion_sim::{KillAt, scenario::Scenario};

use self::seeds::Seeds;
use crate::{Usage, output::Format};

const AFTER_HELP: &str = "\
A scenario is a text that declares a cluster and says what is done with it; docs/scenarios.md has every word of it, and \
sim/scenarios examples. One scenario and one seed give one run, to the byte.

Recorded clusters are in sim/data, with what is known of them.

Exit codes: 0 it went as the scenario expects, 1 it did not, 2 wrong usage or a mistake in the scenario, 130 interrupted.";

/// Simulate a cluster: play a scenario under one seed, search many for one that fails, or replay a recorded cluster
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The scenario
    #[arg(long, value_name = "FILE", required_unless_present = "nodes")]
    scenario: Option<PathBuf>,
    /// The seed from which all chance comes [default: the one that the scenario states, else 0]
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Play it under each of these seeds, from A and below B, on all processors; the first that fails is made as small as it can be
    #[arg(long, value_name = "A..B", requires = "scenario")]
    seeds: Option<Seeds>,
    /// Play each seed again for each write that is persisted in it, twice: the process that writes is killed before the write lasts, and
    /// after it lasts but before anything that follows from it is done or told
    #[arg(long, requires = "scenario", conflicts_with = "history")]
    kill_at_every_write: bool,
    /// Kill the process that makes this write of the run, counted from 1, before the write lasts
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), requires = "scenario",
        conflicts_with_all = ["kill_at_every_write", "kill_after_write"])]
    kill_before_write: Option<u64>,
    /// Kill it after the write lasts, before anything that follows from it is done or told
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), requires = "scenario",
        conflicts_with = "kill_at_every_write")]
    kill_after_write: Option<u64>,
    /// Show every message and every write, not only what takes effect
    #[arg(long, conflicts_with = "seeds", requires = "scenario")]
    history: bool,
    #[command(flatten)]
    trace: trace::Args,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    if let Some(replay) = args.trace.read(args.seed.unwrap_or(0))? {
        return replay.run(args.output).await;
    }
    let file = args.scenario.expect("a scenario is required where there is no trace");
    let name = file.display().to_string();
    let text = fs::read_to_string(&file).map_err(|error| {
        Usage(format!("reading the scenario {name}: {error}; name a readable one with `--scenario FILE`"))
    })?;
    let mut scenario = Scenario::parse(&name, &text).map_err(|mistake| Usage(mistake.to_string()))?;
    let before = args.kill_before_write.map(KillAt::Before);
    if let Some(write) = before.or(args.kill_after_write.map(KillAt::After)) {
        scenario.kill_at(write);
    }
    let seed = args.seed.unwrap_or(scenario.seed());
    let seeds = args.seeds.or(args.kill_at_every_write.then(|| Seeds(seed..seed.saturating_add(1))));
    match seeds {
        Some(seeds) => search::run(scenario, seeds, args.kill_at_every_write, args.output).await,
        None => play::run(scenario, args.seed, args.history, args.output).await,
    }
}

/// How fast virtual time went by.
fn pace(simulated: Duration, took: Duration) -> String {
    let (simulated, took) = (simulated.as_secs_f64(), took.as_secs_f64());
    format!("{simulated:.1} s simulated in {took:.1} s, {:.0} times as fast", simulated / took.max(1e-6))
}

/// The command that plays a seed again, ready to be pasted into a shell.
fn replay(scenario: &Scenario, seed: u64, killed: Option<KillAt>) -> String {
    let killed = match killed {
        Some(KillAt::Before(write)) => format!(" --kill-before-write {write}"),
        Some(KillAt::After(write)) => format!(" --kill-after-write {write}"),
        None => String::new(),
    };
    format!("apportion sim --scenario {} --seed {seed}{killed} --history", quoted(scenario.name()))
}

/// A word as a shell takes it for one.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_one_word_of_the_shell() {
        assert_eq!(quoted("sim/scenarios/hello.txt"), "sim/scenarios/hello.txt");
        assert_eq!(quoted("it's here.txt"), r"'it'\''s here.txt'");
    }
}
