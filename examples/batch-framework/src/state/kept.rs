//! A job that goes on where it was.

use std::collections::BTreeSet;

use apportion_sdk::{TaskId, Time};

use super::{Class, Effect, JobState, Outcome, PAUSE_MAX, Phase, Task};

impl JobState {
    /// Puts a task that is new here where it was when it was kept: see [`take_changed`](JobState::take_changed). A clock that was set back
    /// makes nothing wait for longer than it does at most. When all are there again, [`settle`](JobState::settle) is due.
    pub fn restore(&mut self, position: usize, mut kept: Task, now: Time) {
        assert_eq!(self.tasks[position].launches, 0, "only a new task is put where it was");
        self.leave_waiting(position);
        let stage = self.stage_of(position);
        let policy = &self.stages[stage].rules.policy;
        let mut since = None;
        match &mut kept.phase {
            Phase::Blocked | Phase::Ready => {}
            Phase::Paused { until } => *until = (*until).min(now + policy.retry.backoff_max.max(PAUSE_MAX)),
            Phase::Active { attempt, copy } => {
                let class = Class { stage, step: kept.memory_step };
                self.live.insert(attempt.id.clone(), position, class);
                copy.iter().for_each(|copy| self.live.insert(copy.id.clone(), position, class));
                since = attempt.running_since.filter(|_| copy.is_none());
                attempt.due = attempt.due.map(|due| policy.timeout.map_or(due, |most| due.min(now + most)));
                self.due.extend(attempt.due.map(|at| (at, position)));
                self.counts.active += 1;
            }
            Phase::Ended(end) => {
                self.count(position, end.outcome);
                let ran = end.last.as_ref().and_then(|last| last.running_since);
                if let (Some(at), Outcome::Succeeded) = (end.at, end.outcome) {
                    self.add_length(position, ran, at);
                }
            }
        }
        if let Some(since) = since {
            self.watch(position, since, true);
        }
        self.launches += u64::from(kept.launches);
        let name = std::mem::take(&mut self.tasks[position].name);
        self.tasks[position] = Task { name, ..kept };
        self.enter_waiting(position);
    }

    /// Lets go on what waits for tasks that have ended since, once all that was kept is [restored](JobState::restore).
    pub fn settle(&mut self, effects: &mut Vec<Effect>) {
        for position in 0..self.tasks.len() {
            self.reconsider(position, effects);
        }
        self.pass_on(effects);
    }

    /// The positions of tasks that are not as they were when this was called last: what is to be kept anew.
    pub fn take_changed(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.changed)
    }

    /// What was launched is gone with the framework that launched it: it runs again, as another one's.
    pub fn begin_anew(&mut self, why: &str, now: Time, effects: &mut Vec<Effect>) {
        for position in self.live.positions().collect::<BTreeSet<_>>() {
            self.drop_copy(position, now, effects);
            self.lost(position, why, None, now, effects);
        }
    }

    /// Attempts that are to end: their kills are to be asked for again by a scheduler that takes over.
    pub fn unwanted(&self) -> impl Iterator<Item = &TaskId> {
        self.attempts().filter(|attempt| self.interrupted || attempt.timed_out).map(|attempt| &attempt.id)
    }
}
