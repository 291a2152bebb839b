//! Stages whose tasks start together, or not at all.

use super::{Class, Effect, JobState, Outcome};

impl JobState {
    /// The tasks of a stage that is a gang, when all of it that is not on an agent and has not ended can start now; none while one of them
    /// waits for something else, or when nothing is to start. Those that are to start again after a loss are together as well.
    pub fn gang(&self, stage: usize) -> Option<Vec<usize>> {
        let of_stage = Class { stage, step: 0 }..=Class { stage, step: u32::MAX };
        if !self.is_gang(stage) {
            return None;
        }
        let waiting: usize = self.waiting.range(of_stage.clone()).map(|(_, count)| count).sum();
        let ready: Vec<usize> =
            self.ready.range(of_stage).flat_map(|(_, positions)| positions).copied().collect();
        (!ready.is_empty() && ready.len() == waiting).then_some(ready)
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

    /// Ends what waits of a stage, because it can never start; the rest goes on.
    pub fn give_up_stage(&mut self, stage: usize, why: &str, effects: &mut Vec<Effect>) {
        for position in self.stages[stage].positions() {
            self.end_waiting(position, Outcome::Unplaceable, why.to_owned(), effects);
        }
        self.pass_on(effects);
    }
}
