//! Stages whose tasks start together, or not at all.

use std::ops::RangeInclusive;

use super::{Class, JobState};

fn sizes_of(stage: usize) -> RangeInclusive<Class> {
    Class { stage, step: 0 }..=Class { stage, step: u32::MAX }
}

impl JobState {
    /// The tasks of a stage that is a gang, when all of it that is not on an agent and has not ended can start now; none while one of them
    /// waits for something else, or when nothing is to start. Those that are to start again after a loss are together as well.
    pub fn gang(&self, stage: usize) -> Option<Vec<usize>> {
        if !self.is_gang(stage) {
            return None;
        }
        let ready: Vec<usize> =
            self.ready.range(sizes_of(stage)).flat_map(|(_, positions)| positions).copied().collect();
        (!ready.is_empty() && ready.len() == self.gang_waiting(stage)).then_some(ready)
    }

    /// How many tasks of a stage wait, for whatever.
    pub(super) fn gang_waiting(&self, stage: usize) -> usize {
        self.waiting.range(sizes_of(stage)).map(|(_, count)| count).sum()
    }

    /// Whether the tasks of a stage start together.
    pub fn is_gang(&self, stage: usize) -> bool {
        self.stages[stage].rules.gang
    }

    /// True while a gang could start, and waits for room.
    pub fn gang_waits(&self) -> bool {
        self.ready().any(|class| self.gang(class.stage).is_some())
    }

    /// The sizes of which something can start now: of a gang only when it is complete.
    pub fn launchable(&self) -> impl Iterator<Item = Class> + '_ {
        self.ready().filter(|class| !self.is_gang(class.stage) || self.gang(class.stage).is_some())
    }
}
