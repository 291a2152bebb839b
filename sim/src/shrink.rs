//! Making a failing run small: fewer faults, fewer agents, and of its history what matters.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
    time::Duration,
};

use crate::{
    Cluster, Failure, Sim, Timed, check, fault::Fault, harness::Found, history::History, network::Peer,
};

/// Happenings that may be spent on making a failure smaller, as a multiple of the run that failed, and at least; what is found by
/// then is told.
const EFFORT_TIMES: u64 = 30;
const EFFORT_MIN: u64 = 1_000_000;

/// Lines of history that are told.
const TRACE_LINES_MAX: usize = 60;

/// A run as it is to be: a seed, with these faults and so many agents.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) seed: u64,
    pub(crate) script: Vec<Timed>,
    pub(crate) agents: usize,
}

impl Attempt {
    /// All that the seed brings.
    pub(crate) fn of(cluster: &Cluster, seed: u64) -> Self {
        Self { seed, script: cluster.script_of(seed), agents: cluster.agent_count() }
    }
}

/// What came of it.
pub(crate) struct Ran {
    pub(crate) failure: Option<Failure>,
    pub(crate) steps: u64,
    pub(crate) writes: u64,
    pub(crate) simulated: Duration,
    pub(crate) history: Vec<String>,
}

pub(crate) fn run<H>(
    attempt: &Attempt,
    build: &impl Fn() -> (Cluster, H),
    story: &impl Fn(&mut Sim, &H) -> Result<(), Failure>,
    keep_history: bool,
) -> Ran {
    let history = if keep_history { History::kept() } else { History::default() };
    let (mut cluster, named) = build();
    cluster.keep_agents(attempt.agents);
    let mut sim = cluster.start_as(attempt.seed, attempt.script.clone(), history, check::all());
    let told = quietly(|| panic::catch_unwind(AssertUnwindSafe(|| story(&mut sim, &named))));
    let failure = match told {
        Ok(Ok(())) => None,
        Ok(Err(failure)) => Some(failure),
        Err(payload) => {
            let message = words(payload.as_ref());
            Some(Failure { check: "panic", ..sim.failure(message) })
        }
    };
    Ran {
        failure,
        steps: sim.steps(),
        writes: sim.writes(),
        simulated: sim.elapsed(),
        history: sim.history().to_vec(),
    }
}

/// Finds the least that still fails in the same way, as far as it can within its attempts.
pub(crate) fn shrink<H>(
    seed: u64,
    build: &impl Fn() -> (Cluster, H),
    story: &impl Fn(&mut Sim, &H) -> Result<(), Failure>,
) -> Found {
    let whole = Attempt::of(&build().0, seed);
    let mut best = whole.clone();
    let first = run(&best, build, story, false);
    let mut effort = EFFORT_MIN.max(first.steps * EFFORT_TIMES);
    let first = first.failure.expect("a run that has failed fails again");
    let mut still_fails = |attempt: &Attempt| {
        if effort == 0 {
            return false;
        }
        let ran = run(attempt, build, story, false);
        effort = effort.saturating_sub(ran.steps);
        ran.failure.is_some_and(|failure| failure.check == first.check)
    };
    fewer_faults(&mut best, &mut still_fails);
    // A test's own expectation may be about as many agents as it asked for.
    if first.check != "story" {
        fewer_agents(&mut best, &mut still_fails);
        fewer_faults(&mut best, &mut still_fails);
    }
    let last = run(&best, build, story, true);
    let failure = last.failure.unwrap_or(first);
    Found {
        trace: relevant(&last.history, &failure.message),
        failure,
        killed: None,
        faults_before: whole.script.len(),
        faults: best.script,
        agents: (best.agents, whole.agents),
        replay: String::new(),
    }
}

/// Delta debugging (Zeller, Hildebrandt, 2002), by leaving out: halves first, then smaller parts.
fn fewer_faults(best: &mut Attempt, still_fails: &mut impl FnMut(&Attempt) -> bool) {
    let mut part = best.script.len();
    while part > 0 {
        let mut at = 0;
        while at < best.script.len() {
            let mut fewer = best.clone();
            fewer.script.drain(at..(at + part).min(best.script.len()));
            if still_fails(&fewer) {
                *best = fewer;
            } else {
                at += part;
            }
        }
        part /= 2;
    }
}

fn fewer_agents(best: &mut Attempt, still_fails: &mut impl FnMut(&Attempt) -> bool) {
    let mut step = best.agents / 2;
    while step > 0 {
        let agents = best.agents - step;
        let concerns = |timed: &Timed| agent_of(&timed.fault).is_none_or(|agent| agent < agents);
        let script = best.script.iter().filter(|timed| concerns(timed)).cloned().collect();
        let fewer = Attempt { seed: best.seed, script, agents };
        if agents > 0 && still_fails(&fewer) {
            *best = fewer;
            step = step.min(best.agents / 2);
        } else {
            step /= 2;
        }
    }
}

/// The agent that a fault concerns.
pub(crate) fn agent_of(fault: &Fault) -> Option<usize> {
    use crate::fault::Process;
    match *fault {
        Fault::Cut { peer, .. } | Fault::Break { peer } | Fault::Slow { peer, .. } => match peer {
            Peer::Agent(agent) => Some(agent),
            Peer::Framework(_) => None,
        },
        Fault::Crash { process: Process::Agent(agent), .. } => Some(agent),
        Fault::Crash { .. } => None,
        Fault::Reboot { agent, .. }
        | Fault::DiskFails { agent, .. }
        | Fault::Deactivate { agent, .. }
        | Fault::Drain { agent, .. }
        | Fault::Gone { agent }
        | Fault::OutOfMemory { agent, .. } => Some(agent),
    }
}

/// Of the history, the last lines that name what the message names; faults and the beginnings and ends of processes besides.
pub(crate) fn relevant(history: &[String], message: &str) -> Vec<String> {
    let is_id = |word: &&str| word.len() > 2 && word.bytes().any(|byte| byte.is_ascii_digit());
    let split = |text: &'static str| move |c: char| c.is_whitespace() || text.contains(c);
    let ids: Vec<&str> = message.split(split(",;:()`\"")).filter(is_id).collect();
    let matters = |line: &&String| {
        ["fault:", " starts", " dies", "BROKEN"].iter().any(|mark| line.contains(mark))
            || ids.iter().any(|id| line.split(split(",;:()`\"")).any(|word| word == *id))
    };
    let lines: Vec<&String> =
        if ids.is_empty() { history.iter().collect() } else { history.iter().filter(matters).collect() };
    lines[lines.len().saturating_sub(TRACE_LINES_MAX)..].iter().map(|line| (*line).clone()).collect()
}

/// The words of a panic.
pub(crate) fn words(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words").to_owned()
}

thread_local! {
    /// Panics of this thread are looked at, not printed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs something whose panics are told by whoever called, once, and not also by each run.
pub(crate) fn quietly<T>(run: impl FnOnce() -> T) -> T {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                print(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    let done = run();
    QUIET.set(before);
    done
}
