//! Where tasks wait, and how they come there and leave.

use super::{Class, Effect, End, JobState, Outcome, Phase};

impl JobState {
    /// Ends a task that waits, for whatever; another one stays as it is.
    pub(super) fn end_waiting(
        &mut self,
        position: usize,
        outcome: Outcome,
        why: String,
        effects: &mut Vec<Effect>,
    ) {
        if !self.leave_waiting(position) {
            return;
        }
        self.change(position).phase =
            Phase::Ended(Box::new(End { outcome, last: None, status: None, why, at: None }));
        self.count_end(position, outcome, effects);
    }

    /// The one door into waiting: a task whose phase says so takes its place among those that wait.
    pub(super) fn enter_waiting(&mut self, position: usize) {
        let class = self.class(position);
        match self.tasks[position].phase {
            Phase::Blocked => self.counts.blocked += 1,
            Phase::Ready => _ = self.ready.entry(class).or_default().insert(position),
            Phase::Paused { until } => _ = self.due.insert((until, position)),
            Phase::Active { .. } | Phase::Ended(_) => return,
        }
        self.counts.waiting += 1;
        *self.waiting.entry(class).or_default() += 1;
    }

    /// The one door out of it; false for a task that does not wait.
    pub(super) fn leave_waiting(&mut self, position: usize) -> bool {
        let class = self.class(position);
        match self.tasks[position].phase {
            Phase::Blocked => self.counts.blocked -= 1,
            Phase::Ready => self.leave_ready(class, position),
            Phase::Paused { until } => _ = self.due.remove(&(until, position)),
            Phase::Active { .. } | Phase::Ended(_) => return false,
        }
        self.counts.waiting -= 1;
        let there = self.waiting.get_mut(&class).expect("it is counted there");
        *there -= 1;
        if *there == 0 {
            self.waiting.remove(&class);
        }
        true
    }

    pub(super) fn leave_ready(&mut self, class: Class, position: usize) {
        if let Some(queue) = self.ready.get_mut(&class) {
            queue.remove(&position);
            if queue.is_empty() {
                self.ready.remove(&class);
            }
        }
    }

    pub(super) fn class(&self, position: usize) -> Class {
        Class { stage: self.stage_of(position), step: self.tasks[position].memory_step }
    }

    pub(super) fn stage_of(&self, position: usize) -> usize {
        self.stages.partition_point(|stage| stage.first <= position) - 1
    }

    pub(super) fn count(&mut self, position: usize, outcome: Outcome) {
        match outcome {
            Outcome::Succeeded => self.counts.succeeded += 1,
            Outcome::Skipped => self.counts.skipped += 1,
            _ => self.counts.failed += 1,
        }
        let stage = self.stage_of(position);
        self.stages[stage].count(position, outcome);
    }

    pub(super) fn count_end(&mut self, position: usize, outcome: Outcome, effects: &mut Vec<Effect>) {
        self.count(position, outcome);
        self.unheard.push(position);
        effects.push(Effect::Ended(position));
    }
}
