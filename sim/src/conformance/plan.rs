//! A history before it is played: how large the cluster is, what its tasks do, what goes wrong and when. Data, drawn from a seed and a
//! number, so that any part of it can be left out.

use std::{fmt, time::Duration};

use apportion_sdk::{Resources, resources::Value};
use fastrand::Rng;

use super::workload::Mode;
use crate::{
    fault::{Chaos, Timed},
    random,
    world::Death,
};

/// Faults begin within so long.
const LASTS: Duration = Duration::from_secs(20);

/// The longest that one holds.
const LONGEST: Duration = Duration::from_secs(15);

/// The longest that the scheduler is down where nothing else goes wrong.
const DOWN: Duration = Duration::from_secs(5);

/// Something that goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Trouble {
    /// A fault of the cluster.
    Fault(Timed),
    /// The scheduler's process dies after so many inputs.
    Dies { after: u64, death: Death },
    /// An operator kills a task that runs: which, modulo their number.
    Kill { at: Duration, task: usize },
    /// An operator plans that a machine will be taken away; it never is.
    Window { at: Duration, machine: usize, notice: Duration, lasts: Duration },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Fault(Timed { at, fault }) => write!(f, "at {at:?}: {fault}"),
            Trouble::Dies { after, death: Death { unsent, down } } => {
                let when = if *unsent { ", before what it asked for is sent," } else { "" };
                write!(
                    f,
                    "the scheduler's process dies after its input number {after}{when} and is back after {down:?}"
                )
            }
            Trouble::Kill { at, .. } => write!(f, "at {at:?}: an operator kills a task"),
            Trouble::Window { at, machine, notice, lasts } => {
                write!(
                    f,
                    "at {at:?}: an operator plans to take host-{machine} away after {notice:?} for {lasts:?}"
                )
            }
        }
    }
}

/// A history to be played.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) number: u64,
    pub(super) seed: u64,
    /// What each agent has.
    pub(super) agents: Vec<Resources>,
    pub(super) mode: Mode,
    pub(super) offer_timeout: Duration,
    pub(super) launches_fail_ppm: u32,
    pub(super) signals_fail_ppm: u32,
    pub(super) clock_skew: Duration,
    pub(super) troubles: Vec<Trouble>,
    /// Only the scheduler's process is troubled: its work is to be done as if nothing had been.
    pub(super) only_crashes: bool,
}

/// How many inputs a scheduler gets when nothing goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Inputs {
    pub(super) ending: u64,
    pub(super) lasting: u64,
}

/// Histories in which nothing goes wrong: the first ones.
pub(super) const CALM: u64 = 2;

impl Plan {
    /// Nothing goes wrong.
    pub(super) fn calm(seed: u64, number: u64, agents: Vec<Resources>, mode: Mode) -> Self {
        Self {
            number,
            seed: random::stream(seed, number).u64(..),
            agents,
            mode,
            offer_timeout: Duration::from_secs(30),
            launches_fail_ppm: 0,
            signals_fail_ppm: 0,
            clock_skew: Duration::ZERO,
            troubles: Vec::new(),
            only_crashes: false,
        }
    }

    /// The history of this number: the first are calm, then by turns the scheduler crashes while tasks end, while they last, or anything
    /// may go wrong.
    pub(super) fn draw(seed: u64, number: u64, agents: &[Resources], inputs: Inputs) -> Self {
        let Some(later) = number.checked_sub(CALM) else {
            let mode = if number == 0 { Mode::Ending } else { Mode::Lasting };
            return Self::calm(seed, number, agents.to_vec(), mode);
        };
        let rng = &mut random::stream(seed, number + (1 << 32));
        match later % 3 {
            0 => Self::crashes(seed, number, agents, Mode::Ending, later / 3 + 1, inputs.ending, rng),
            1 => Self::crashes(seed, number, agents, Mode::Lasting, later / 3 + 1, inputs.lasting, rng),
            _ => Self::anything(seed, number, agents, rng),
        }
    }

    /// The scheduler's process dies after each of its inputs in turn, before and after it has sent what it asked for; when there are no
    /// more, twice, after any two of them.
    fn crashes(
        seed: u64,
        number: u64,
        agents: &[Resources],
        mode: Mode,
        turn: u64,
        inputs: u64,
        rng: &mut Rng,
    ) -> Self {
        let after = turn.div_ceil(2);
        let troubles = if after <= inputs {
            vec![Trouble::Dies { after, death: death(rng, turn.is_multiple_of(2), DOWN) }]
        } else {
            let (one, other) = (rng.u64(1..=inputs.max(1)), rng.u64(1..=inputs.max(1)));
            let mut dies = |after| {
                let unsent = rng.bool();
                Trouble::Dies { after, death: death(rng, unsent, DOWN) }
            };
            vec![dies(one), dies(one + other)]
        };
        Self { troubles, only_crashes: true, ..Self::calm(seed, number, agents.to_vec(), mode) }
    }

    fn anything(seed: u64, number: u64, agents: &[Resources], rng: &mut Rng) -> Self {
        let count = rng.usize(1..=agents.len());
        let sizes = agents[..count].iter().enumerate().map(|(index, whole)| {
            // One stays whole, so that whatever fits at all has a place.
            let part = if index == 0 { 1 } else { [1, 1, 2, 4, 16][rng.usize(0..5)] };
            shrunk(whole, part)
        });
        let agents: Vec<Resources> = sizes.collect();
        let mut plan = Self::calm(seed, number, agents, Mode::Mixed);
        plan.offer_timeout = Duration::from_secs([1, 2, 30][rng.usize(0..3)]);
        plan.launches_fail_ppm = [0, 0, 50_000][rng.usize(0..3)];
        plan.signals_fail_ppm = [0, 0, 50_000][rng.usize(0..3)];
        plan.clock_skew = Duration::from_secs([0, 2][rng.usize(0..2)]);
        let mut chaos = Chaos { lasts: LASTS, longest: LONGEST, ..Chaos::NONE };
        for _ in 0..rng.usize(1..=3) {
            let kind = match rng.u8(0..12) {
                0 | 1 => &mut chaos.cuts,
                2 => &mut chaos.breaks,
                3 => &mut chaos.slow,
                4 | 5 => &mut chaos.master_crashes,
                6 => &mut chaos.agent_crashes,
                7 => &mut chaos.reboots,
                8 => &mut chaos.disk_failures,
                9 | 10 => &mut chaos.framework_crashes,
                _ => &mut chaos.out_of_memory,
            };
            // One more of its kind.
            *kind += 60.0 / LASTS.as_secs_f64();
        }
        let script = chaos.script(plan.seed, plan.agents.len(), 1);
        plan.troubles = script.into_iter().map(Trouble::Fault).collect();
        for _ in 0..rng.usize(0..=2) {
            let at = random::between(rng, Duration::ZERO, LASTS);
            plan.troubles.push(Trouble::Kill { at, task: rng.usize(0..64) });
        }
        if rng.u8(0..4) == 0 {
            let (after, unsent) = (rng.u64(1..=40), rng.bool());
            plan.troubles.push(Trouble::Dies { after, death: death(rng, unsent, LONGEST) });
        }
        if rng.bool() {
            plan.troubles.push(Trouble::Window {
                at: random::between(rng, Duration::ZERO, LASTS),
                machine: rng.usize(0..plan.agents.len()),
                notice: random::between(rng, Duration::ZERO, 2 * LONGEST),
                lasts: random::between(rng, LONGEST, 4 * LONGEST),
            });
        }
        plan
    }

    /// The cluster's faults, in order.
    pub(super) fn script(&self) -> Vec<Timed> {
        let faults = self.troubles.iter().filter_map(|trouble| match trouble {
            Trouble::Fault(timed) => Some(timed.clone()),
            _ => None,
        });
        let mut script: Vec<Timed> = faults.collect();
        script.sort_by_key(|timed| timed.at);
        script
    }

    /// When an operator does something, in order, and what: kills and windows.
    pub(super) fn deeds(&self) -> Vec<(Duration, &Trouble)> {
        let deeds = self.troubles.iter().filter_map(|trouble| match trouble {
            Trouble::Kill { at, .. } | Trouble::Window { at, .. } => Some((*at, trouble)),
            Trouble::Fault(_) | Trouble::Dies { .. } => None,
        });
        let mut deeds: Vec<_> = deeds.collect();
        deeds.sort_by_key(|(at, _)| *at);
        deeds
    }
}

fn death(rng: &mut Rng, unsent: bool, longest: Duration) -> Death {
    Death { unsent, down: random::between(rng, Duration::from_millis(10), longest) }
}

/// A part of what there is: of amounts, not of ports and the like.
fn shrunk(whole: &Resources, part: i64) -> Resources {
    let mut shrunk = Resources::new();
    for (name, value) in whole.iter() {
        let value = match value {
            Value::Scalar(milli) => Value::Scalar(milli / part),
            other => other.clone(),
        };
        shrunk.insert(name.clone(), value);
    }
    shrunk
}
