//! Whether an operator lets an agent be offered, and how one is drained.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An operator's wish that an agent has no task any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drain {
    /// From TERM to KILL: shortens what a task wishes, and counts where it wishes nothing. None to leave each task its own.
    pub grace_max: Option<Duration>,
    /// Whether the agent is gone for ever once it is drained.
    pub mark_gone: bool,
}

impl Drain {
    /// The grace of a task that wishes this; none for its own.
    pub fn grace(&self, wished: Option<Duration>) -> Option<Duration> {
        match (wished, self.grace_max) {
            (Some(wished), Some(most)) => Some(wished.min(most)),
            (None, most) => most,
            (Some(_), None) => None,
        }
    }
}

/// Whether an operator lets what an agent has be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// It is offered while it is connected.
    #[default]
    Active,
    /// It is not offered; its tasks run on.
    Deactivated,
    /// It is not offered, and its tasks are killed.
    Draining(Drain),
    /// It is not offered, and all its tasks have ended.
    Drained(Drain),
}

impl Activation {
    /// Its name for people and programs.
    pub fn name(self) -> &'static str {
        match self {
            Activation::Active => "active",
            Activation::Deactivated => "deactivated",
            Activation::Draining(_) => "draining",
            Activation::Drained(_) => "drained",
        }
    }

    /// How the agent is drained, or was.
    pub fn drain(self) -> Option<Drain> {
        match self {
            Activation::Active | Activation::Deactivated => None,
            Activation::Draining(drain) | Activation::Drained(drain) => Some(drain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_shortens_a_grace_and_supplies_one_but_lengthens_none() {
        let seconds = |s| Some(Duration::from_secs(s));
        let drain = |grace_max| Drain { grace_max, mark_gone: false };
        for (most, wished, grace) in [
            (seconds(10), seconds(60), seconds(10)),
            (seconds(60), seconds(10), seconds(10)),
            (seconds(60), None, seconds(60)),
            (None, seconds(60), None),
            (None, None, None),
        ] {
            assert_eq!(drain(most).grace(wished), grace, "most {most:?}, wished {wished:?}");
        }
    }
}
