//! The attempts that are under way.

use std::collections::BTreeMap;

use apportion_sdk::TaskId;

use super::{Class, JobState};

/// The attempts under way by their ids, and how many there are of each size. An id that is not here is of an attempt that no longer counts.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    /// With the size that it was launched with: a task may have grown until its attempt is forgotten.
    attempts: BTreeMap<TaskId, (usize, Class)>,
    held: BTreeMap<Class, usize>,
}

impl Live {
    pub(super) fn insert(&mut self, id: TaskId, position: usize, class: Class) {
        self.attempts.insert(id, (position, class));
        *self.held.entry(class).or_default() += 1;
    }

    pub(super) fn remove(&mut self, id: &TaskId) {
        let Some((_, class)) = self.attempts.remove(id) else { return };
        if let Some(held) = self.held.get_mut(&class) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&class);
            }
        }
    }

    pub(super) fn position(&self, id: &TaskId) -> Option<usize> {
        self.attempts.get(id).map(|(position, _)| *position)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = &TaskId> {
        self.attempts.keys()
    }

    /// The position of each attempt; of a task with a second copy twice.
    pub(super) fn positions(&self) -> impl Iterator<Item = usize> + '_ {
        self.attempts.values().map(|(position, _)| *position)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&TaskId, usize)> {
        self.attempts.iter().map(|(id, (position, _))| (id, *position))
    }
}

impl JobState {
    /// How many attempts of each size are under way: what a job holds of a cluster.
    pub fn held(&self) -> impl Iterator<Item = (Class, usize)> + '_ {
        self.live.held.iter().map(|(class, count)| (*class, *count))
    }

    /// How often its tasks were launched.
    pub fn launches(&self) -> u64 {
        self.launches
    }
}
