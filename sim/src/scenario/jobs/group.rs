//! Launching task groups: each so many tasks that follow each other, launched again as a whole until all have done their part once.

use std::ops::Range;

use apportion_sdk::{DeclineReason, Offer, Part, Reason, TaskGroup, TaskGroupInfo, TaskState, TaskStatus};

use super::{Job, Jobs, Stage};

impl Jobs {
    /// Places what fits whole.
    pub(super) fn place_groups(&mut self, mut offer: Offer) {
        let is_first = |number: &usize| number.is_multiple_of(self.work.group);
        for first in self.waiting.iter().copied().filter(is_first).collect::<Vec<_>>() {
            let members = self.members(first);
            if members.end > self.jobs.len() || !members.clone().all(|member| self.waiting.contains(&member))
            {
                continue;
            }
            if offer.launch_group(self.described_group(members.clone())).is_err() {
                return offer.decline(DeclineReason::TOO_SMALL);
            }
            for member in members {
                self.launched(member, offer.agent_id().clone());
            }
        }
    }

    /// The tasks of a task's group.
    fn members(&self, number: usize) -> Range<usize> {
        let first = number - number % self.work.group;
        first..first + self.work.group
    }

    /// The first is an init task where there are others, the second a sidecar where there are more.
    fn described_group(&self, members: Range<usize>) -> TaskGroupInfo {
        let (first, attempt) = (members.start, self.jobs[members.start].attempt);
        let count = members.len();
        let mut group = TaskGroup::new(format!("{}-{first}.{attempt}", self.work.name));
        for (place, number) in members.enumerate() {
            let task = self.work.describe(&self.task_id(number), Vec::new());
            group = match part(place, count) {
                Part::Init => group.init(task),
                Part::Sidecar => group.sidecar(task),
                Part::Main => group.main(task),
            };
        }
        group.build().expect("one like it was built before")
    }

    /// One of a group has ended; with the last of them it is known whether they have done their part, or are all to begin anew.
    pub(super) fn member_ended(&mut self, number: usize, status: &TaskStatus) {
        let done = status.reason == Some(Reason::TaskGroupFinished);
        let stage = match status.state {
            TaskState::Finished => Stage::Finished,
            TaskState::Killed if done => Stage::Finished,
            TaskState::Killed if fell(status.reason) => Stage::Failed,
            TaskState::Killed => Stage::Killed,
            _ => Stage::Failed,
        };
        let members = self.members(number);
        let now = |member: usize| if member == number { stage } else { self.jobs[member].stage };
        let stands = |stage: Stage| members.clone().filter(|member| now(*member) == stage).count();
        let tired = self.work.retries_max.is_some_and(|most| self.jobs[number].failures >= most);
        if stands(Stage::Launched) > 0 || stands(Stage::Killed) > 0 || stands(Stage::Failed) == 0 || tired {
            return self.put(number, Job { stage, ..self.jobs[number].clone() });
        }
        let again = |member: usize| {
            let Job { attempt, failures, .. } = self.jobs[member];
            Job { stage: Stage::Waiting, attempt: attempt + 1, failures: failures + 1, agent_id: None }
        };
        self.put_all(members.map(|member| (member, again(member))).collect());
    }

    /// None of a group that waits is launched any more.
    pub(super) fn drop_group(&mut self, number: usize) {
        let members = self.members(number).filter(|member| *member < self.jobs.len());
        let killed = |member: usize| Job { stage: Stage::Killed, ..self.jobs[member].clone() };
        self.put_all(members.map(|member| (member, killed(member))).collect());
    }
}

/// True for a task that nobody wished to end for good.
fn fell(reason: Option<Reason>) -> bool {
    matches!(reason, Some(Reason::TaskGroupFailed | Reason::Preempted | Reason::AgentDraining))
}

fn part(place: usize, count: usize) -> Part {
    match place {
        0 if count > 1 => Part::Init,
        1 if count > 2 => Part::Sidecar,
        _ => Part::Main,
    }
}
