//! What tasks do in a history, where the author does not say.

use std::time::Duration;

use apportion_agent_core::LaunchFailureKind;
use apportion_sdk::TaskInfo;
use fastrand::Rng;

use crate::{
    machine::{Behaviour, Ending, OnTerm},
    random,
};

/// What tasks are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Each ends soon, with success.
    Ending,
    /// Each runs until it is asked to end.
    Lasting,
    /// Whatever tasks do: start late or not at all, fail, hang, run for ever.
    Mixed,
}

impl Mode {
    pub(super) fn behaviour(self, _task: &TaskInfo, rng: &mut Rng) -> Behaviour {
        let soon = random::between(rng, Duration::from_millis(50), Duration::from_secs(5));
        match self {
            Mode::Ending => Behaviour::succeeds_after(soon),
            Mode::Lasting => Behaviour::runs(),
            Mode::Mixed => mixed(soon, rng),
        }
    }
}

fn mixed(soon: Duration, rng: &mut Rng) -> Behaviour {
    let mut behaviour = match rng.u8(0..16) {
        0 => Behaviour::exits(soon, 1),
        1 => Behaviour { ends: Ending::OutOfMemory, ..Behaviour::succeeds_after(soon) },
        2 => Behaviour { fails_to_start: Some(LaunchFailureKind::Command), ..Behaviour::runs() },
        3 => Behaviour::runs(),
        _ => Behaviour::succeeds_after(soon),
    };
    if rng.u8(0..5) == 0 {
        behaviour.starts_after = random::between(rng, Duration::from_millis(10), Duration::from_secs(8));
    }
    if rng.u8(0..5) == 0 {
        behaviour.on_term = OnTerm::Hangs;
    }
    behaviour
}
