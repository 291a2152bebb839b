//! What waits for other tasks, and hears of their ends.
//!
//! Each end is passed on once. A task that waits for that one alone is looked at then; one that waits for a whole stage when the stage is
//! done, or cannot succeed any more. So a job costs as many looks as it has tasks and dependencies, and no end costs more for the job's size.

use super::{Effect, IfFailed, JobState, Outcome, Phase, stage::Verdict};

impl JobState {
    /// Tells those that wait for tasks which have ended; some of them may be skipped by that, and others wait for these in turn.
    pub(super) fn pass_on(&mut self, effects: &mut Vec<Effect>) {
        while let Some(position) = self.unheard.pop() {
            let number = self.stage_of(position);
            let (at, bad) = (position - self.stages[number].first, !self.has_succeeded(position));
            let done = self.stages[number].is_done() && !self.stages[number].told;
            self.stages[number].told |= done;
            for index in 0..self.stages[number].dependents.len() {
                let dependent = self.stages[number].dependents[index];
                let stage = &mut self.stages[dependent.stage];
                if dependent.each {
                    let other = stage.first + at;
                    self.reconsider(other, effects);
                    continue;
                }
                let hopeless = bad && stage.rules.if_failed == IfFailed::Skip && !stage.hopeless;
                stage.hopeless |= hopeless;
                if hopeless || done {
                    for other in self.stages[dependent.stage].positions() {
                        self.reconsider(other, effects);
                    }
                }
            }
        }
    }

    /// Looks at a task again that may wait for others.
    pub(super) fn reconsider(&mut self, position: usize, effects: &mut Vec<Effect>) {
        if !matches!(self.tasks[position].phase, Phase::Blocked) {
            return;
        }
        match self.verdict(position) {
            Verdict::Wait => {}
            Verdict::Go => self.unblock(position),
            Verdict::Skip(because) => {
                let other = &self.tasks[because];
                let outcome = other.end().map_or("lost", |end| end.outcome.name());
                let why = format!("{} did not succeed: {outcome}", other.name);
                self.end_waiting(position, Outcome::Skipped, why, effects);
            }
        }
    }

    /// It waits for nothing but an offer from now on. Not written down: how others ended tells it again.
    pub(super) fn unblock(&mut self, position: usize) {
        debug_assert!(matches!(self.tasks[position].phase, Phase::Blocked));
        self.tasks[position].phase = Phase::Ready;
        self.counts.blocked -= 1;
        let class = self.class(position);
        self.ready.entry(class).or_default().insert(position);
    }

    fn verdict(&self, position: usize) -> Verdict {
        let stage = &self.stages[self.stage_of(position)];
        let skips = stage.rules.if_failed == IfFailed::Skip;
        let mut verdict = Verdict::Go;
        for dependency in &stage.rules.after {
            let other = &self.stages[dependency.stage];
            let (done, bad) = match dependency.each {
                false => (other.is_done(), other.bad),
                true => {
                    let other = other.first + position - stage.first;
                    let done = self.tasks[other].end().is_some();
                    (done, (done && !self.has_succeeded(other)).then_some(other))
                }
            };
            match bad {
                Some(bad) if skips => return Verdict::Skip(bad),
                _ if !done => verdict = Verdict::Wait,
                _ => {}
            }
        }
        verdict
    }

    fn has_succeeded(&self, position: usize) -> bool {
        self.tasks[position].end().is_some_and(|end| end.outcome == Outcome::Succeeded)
    }
}
