//! One seed.

use std::{process::ExitCode, time::Instant};

use anyhow::Context as _;
use apportion_sim::scenario::{Broken, Detail, Outcome, Scenario};
use serde::Serialize;

use super::pace;
use crate::{
    INTERRUPTED,
    output::{self, Format, say},
    signals::Signals,
};

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    scenario: &'a str,
    seed: u64,
    failure: Option<Wrong<'a>>,
    simulated_s: f64,
    steps: u64,
    text: &'a str,
}

#[derive(Debug, Serialize)]
struct Wrong<'a> {
    line: usize,
    command: &'a str,
    property: &'static str,
    message: &'a str,
    at_s: f64,
}

impl<'a> From<&'a Broken> for Wrong<'a> {
    fn from(Broken { line, command, failure, .. }: &'a Broken) -> Self {
        let (property, at_s) = (failure.check, failure.at.as_secs_f64());
        Wrong { line: *line, command, property, message: &failure.message, at_s }
    }
}

pub(super) async fn run(
    scenario: Scenario,
    seed: Option<u64>,
    history: bool,
    output: Format,
) -> anyhow::Result<ExitCode> {
    let seed = seed.unwrap_or(scenario.seed());
    let detail = if history { Detail::Everything } else { scenario.detail() };
    let begun = Instant::now();
    let signals = Signals::listen().context("listening to signals")?;
    let name = scenario.name().to_owned();
    let playing = tokio::task::spawn_blocking(move || scenario.run(seed, detail));
    let outcome = tokio::select! {
        played = playing => played.context("playing the scenario")?,
        () = signals.asked() => {
            say(&format!("interrupted after {:.1} s, before the scenario came to its end", begun.elapsed().as_secs_f64()));
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    let took = begun.elapsed();
    show(&name, seed, &outcome, output)?;
    match outcome.verdict {
        Ok(()) => {
            say(&format!("seed {seed} went as expected: {}", pace(outcome.simulated, took)));
            Ok(ExitCode::SUCCESS)
        }
        Err(broken) => {
            say(&format!("error: {broken}"));
            say(&format!("`--seeds {seed}..{}` says which faults it needs", seed.saturating_add(1)));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn show(name: &str, seed: u64, outcome: &Outcome, output: Format) -> anyhow::Result<()> {
    if output == Format::Text {
        return output::write(outcome.text.as_bytes());
    }
    let answer = Answer {
        scenario: name,
        seed,
        failure: outcome.verdict.as_ref().err().map(Wrong::from),
        simulated_s: outcome.simulated.as_secs_f64(),
        steps: outcome.steps,
        text: &outcome.text,
    };
    output::write(output::json(&answer).as_bytes())
}
