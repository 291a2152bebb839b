//! Second copies of stragglers: when most of a stage has ended, and a task runs for much longer than the others did, it is begun once more on
//! another agent. What ends first counts, and the other is killed; so a slow machine costs a job less.
//!
//! A task with a copy is one task all the same: nothing that becomes of one attempt while the other lives is a failure or a loss of it.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
    time::Duration,
};

use apportion_sdk::{AgentId, TaskId, Time};

use super::{Effect, Fate, Host, JobState, Phase};

/// When a second copy of a task is worth it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speculate {
    /// It has run so many times as long as half of the others did.
    pub after: f64,
    /// This share of its stage has succeeded, so that it is known how long they take.
    pub share: f64,
    /// And at least for so long: of what is short a copy gains nothing.
    pub at_least: Duration,
}

/// How long the tasks of a stage take, and which run.
#[derive(Debug, Clone, Default)]
pub(super) struct Stragglers {
    lengths: Median,
    /// Tasks of which one attempt runs, by when it began.
    running: BTreeSet<(Time, usize)>,
}

/// The middle one of all lengths so far: the lesser half and the greater half, each with its border on top.
#[derive(Debug, Clone, Default)]
struct Median {
    lesser: BinaryHeap<Duration>,
    greater: BinaryHeap<Reverse<Duration>>,
}

impl Median {
    fn add(&mut self, length: Duration) {
        match self.lesser.peek() {
            Some(middle) if length > *middle => self.greater.push(Reverse(length)),
            _ => self.lesser.push(length),
        }
        if self.greater.len() > self.lesser.len() {
            self.lesser.extend(self.greater.pop().map(|Reverse(length)| length));
        } else if self.lesser.len() > self.greater.len() + 1 {
            self.greater.extend(self.lesser.pop().map(Reverse));
        }
    }

    fn count(&self) -> usize {
        self.lesser.len() + self.greater.len()
    }

    fn get(&self) -> Option<Duration> {
        self.lesser.peek().copied()
    }
}

impl JobState {
    /// Where tasks run of which a copy is wanted on another agent: their positions.
    pub fn copies_wanted(&self) -> &BTreeSet<usize> {
        &self.copies_wanted
    }

    /// The agent where a task runs, and where a copy of it would be no use.
    pub fn runs_on(&self, position: usize) -> Option<&AgentId> {
        self.tasks[position].attempt().map(|attempt| &attempt.host.agent_id)
    }

    /// A [copy](JobState::copies_wanted) of a task, by its [next id](JobState::next_id), is on its way to an agent.
    pub fn copied(&mut self, position: usize, host: Host, now: Time) {
        assert!(self.copies_wanted.remove(&position), "only a wanted copy is launched");
        let id = self.next_id(position);
        self.change(position).begin_copy(id.clone(), host, now);
        self.launches += 1;
        self.live.insert(id, position, self.class(position));
    }

    /// One of two attempts has come to an end that is none of the task's; the other goes on as if it had been alone, without another
    /// copy: one that fails must not bring the next. True when there were two.
    pub(super) fn drop_attempt(&mut self, id: &TaskId, fate: Fate, now: Time) -> bool {
        let Some(position) = self.live.position(id) else { return false };
        let timeout = self.policy(position).timeout;
        let task = self.change(position);
        let Phase::Active { attempt, copy } = &mut task.phase else { return false };
        let Some(second) = copy.take().map(|second| *second) else { return false };
        let dropped = if second.id == *id { second } else { std::mem::replace(attempt, second) };
        // The time of whoever is left counts from its own start.
        let before = dropped.due;
        if before.is_some() {
            attempt.due = attempt.running_since.and_then(|since| timeout.map(|timeout| since + timeout));
        }
        let due = attempt.due;
        self.live.remove(id);
        if let Some(at) = before {
            self.due.remove(&(at, position));
            self.due.extend(due.map(|at| (at, position)));
        }
        self.tasks[position].remember(dropped, fate, now);
        true
    }

    /// This attempt has won; the other one, if there is any, is killed.
    pub(super) fn win(&mut self, position: usize, id: &TaskId, now: Time, effects: &mut Vec<Effect>) {
        let other = self.tasks[position].attempts().map(|attempt| &attempt.id).find(|other| *other != id);
        if let Some(other) = other.cloned() {
            self.drop_attempt(&other, Fate::Superseded, now);
            effects.push(Effect::Kill(other));
        }
        let since = self.tasks[position].attempt().and_then(|attempt| attempt.running_since);
        self.add_length(position, since, now);
    }

    /// The copy of a task is wanted no more, and killed if it runs.
    pub(super) fn drop_copy(&mut self, position: usize, now: Time, effects: &mut Vec<Effect>) {
        self.copies_wanted.remove(&position);
        let copy = self.tasks[position].attempts().nth(1).map(|copy| copy.id.clone());
        if let Some(copy) = copy {
            self.drop_attempt(&copy, Fate::Superseded, now);
            effects.push(Effect::Kill(copy));
        }
    }

    /// A task of the stage took so long; of one that is not known to have run nothing is learned.
    pub(super) fn add_length(&mut self, position: usize, since: Option<Time>, until: Time) {
        let stage = self.stage_of(position);
        if let (Some(_), Some(since)) = (self.policy(position).speculate, since) {
            self.stages[stage].stragglers.lengths.add(until.since(since));
        }
    }

    /// The only attempt of a task runs since then, or does not any more.
    pub(super) fn watch(&mut self, position: usize, since: Time, on: bool) {
        let stage = self.stage_of(position);
        if self.stages[stage].rules.policy.speculate.is_none() {
            return;
        }
        let running = &mut self.stages[stage].stragglers.running;
        if on {
            running.insert((since, position))
        } else {
            running.remove(&(since, position))
        };
    }

    /// When the next copy is due of a task of this stage; so far its own pace tells.
    pub(super) fn copy_due(&self, stage: usize) -> Option<(Time, usize)> {
        let stage = &self.stages[stage];
        let rule = stage.rules.policy.speculate?;
        let (since, position) = stage.stragglers.running.first()?;
        let enough = (stage.tasks as f64 * rule.share).ceil() as usize;
        let median = stage.stragglers.lengths.get()?;
        let after = Duration::try_from_secs_f64(median.as_secs_f64() * rule.after).unwrap_or(Duration::MAX);
        let long = after.max(rule.at_least);
        (stage.stragglers.lengths.count() >= enough && !self.interrupted).then(|| (*since + long, *position))
    }

    /// Wants a copy of each task that has run for so long by now.
    pub(super) fn want_copies(&mut self, now: Time, effects: &mut Vec<Effect>) {
        for number in 0..self.stages.len() {
            while let Some((_, position)) = self.copy_due(number).filter(|(at, _)| *at <= now) {
                let stage = &mut self.stages[number];
                let since = stage.stragglers.running.pop_first();
                let running = since.map(|(since, _)| now.since(since)).unwrap_or_default();
                let median = stage.stragglers.lengths.get().unwrap_or_default();
                self.copies_wanted.insert(position);
                let round =
                    |length: Duration| humantime::format_duration(Duration::from_secs(length.as_secs()));
                let why = format!(
                    "it has run for {}, half of the others took {} or less",
                    round(running),
                    round(median)
                );
                effects.push(Effect::Copy { position, why });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        let mut median = Median::default();
        assert_eq!(median.get(), None);
        let mut sorted = Vec::new();
        for number in 0..101u64 {
            let length = Duration::from_secs(number * 37 % 101);
            median.add(length);
            sorted.push(length);
            sorted.sort();
            assert_eq!(median.get(), Some(sorted[(sorted.len() - 1) / 2]), "{sorted:?}");
        }
    }
}
