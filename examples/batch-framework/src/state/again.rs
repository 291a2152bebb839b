//! A job that has ended, and of which what did not succeed is to run again.

use std::mem;

use apportion_sdk::Time;

use super::{Effect, JobState, Outcome, Phase};
use crate::job::Job;

impl JobState {
    /// Has every task run again that ended in another way than by success; gives how many these are. What succeeded stays, and so do the
    /// numbers of attempts, because an id is never given twice. Failures count anew.
    ///
    /// Of a job that has not ended nothing is changed: what runs may yet succeed.
    pub fn run_again(&mut self, job: &Job, now: Time, effects: &mut Vec<Effect>) -> usize {
        if !self.is_done() {
            return 0;
        }
        let bad = |phase: &Phase| matches!(phase, Phase::Ended(end) if end.outcome != Outcome::Succeeded);
        let again: Vec<usize> =
            (0..self.tasks.len()).filter(|position| bad(&self.tasks[*position].phase)).collect();
        if again.is_empty() {
            return 0;
        }
        // How far stages are is counted once for each end, so it is counted from the beginning, as for a job that goes on where it was.
        let mut fresh = JobState::of(job).with_ids(&self.ids);
        for (position, mut task) in mem::take(&mut self.tasks).into_iter().enumerate() {
            if bad(&task.phase) {
                (task.phase, task.failures) = (Phase::Blocked, 0);
            }
            fresh.restore(position, task, now);
        }
        fresh.changed.extend(again.iter().copied());
        *self = fresh;
        self.settle(effects);
        again.len()
    }
}
