//! `apportion sim`: a cluster in virtual time, from one seed.

mod play;
mod search;
mod seeds;

use std::{fs, path::PathBuf, process::ExitCode};

use apportion_sim::scenario::Scenario;

use self::seeds::Seeds;
use crate::{Usage, output::Format};

const AFTER_HELP: &str = "\
A scenario is a text that declares a cluster and says what is done with it; docs/scenarios.md has every word of it, and \
sim/scenarios examples. One scenario and one seed give one run, to the byte.

Exit codes: 0 it went as the scenario expects, 1 it did not, 2 wrong usage or a mistake in the scenario, 130 interrupted.";

/// Simulate a cluster: play a scenario under one seed, or search many for one that fails
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The scenario
    #[arg(long, value_name = "FILE")]
    scenario: PathBuf,
    /// The seed from which all chance comes [default: the one that the scenario states, else 0]
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Play it under each of these seeds, from A and below B, on all processors; the first that fails is made as small as it can be
    #[arg(long, value_name = "A..B")]
    seeds: Option<Seeds>,
    /// Show every message and every write, not only what takes effect
    #[arg(long, conflicts_with = "seeds")]
    history: bool,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let name = args.scenario.display().to_string();
    let text = fs::read_to_string(&args.scenario).map_err(|error| {
        Usage(format!("reading the scenario {name}: {error}; name a readable one with `--scenario FILE`"))
    })?;
    let scenario = Scenario::parse(&name, &text).map_err(|mistake| Usage(mistake.to_string()))?;
    match args.seeds {
        Some(seeds) => search::run(scenario, seeds, args.output).await,
        None => play::run(scenario, args.seed, args.history, args.output).await,
    }
}

/// The command that plays a seed again, ready to be pasted into a shell.
fn replay(scenario: &Scenario, seed: u64) -> String {
    format!("apportion sim --scenario {} --seed {seed} --history", quoted(scenario.name()))
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
