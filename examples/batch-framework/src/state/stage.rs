//! The stages of a job: which tasks wait for which others.

use std::{ops::Range, time::Duration};

use super::{Outcome, Retry, Speculate, speculate::Stragglers};

/// What holds for every task of a stage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    /// When a task that failed is tried again.
    pub retry: Retry,
    /// How long one attempt may run before it is killed, and its task has failed.
    pub timeout: Option<Duration>,
    /// When a task that takes long gets a second copy; never when none.
    pub speculate: Option<Speculate>,
}

/// What tasks of one stage wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// The number of the other stage.
    pub stage: usize,
    /// Each task for that with the same number there; otherwise for all of the stage.
    pub each: bool,
}

/// What becomes of a task when one that it waits for ends without success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IfFailed {
    /// It is skipped, at once.
    #[default]
    Skip,
    /// It waits for the others, and runs all the same.
    Continue,
}

/// The rules of one stage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rules {
    /// When attempts are ended, and tasks are tried again.
    pub policy: Policy,
    /// What its tasks wait for.
    pub after: Vec<Dependency>,
    /// What becomes of them when that does not succeed.
    pub if_failed: IfFailed,
    /// Whether they start together, or not at all.
    pub gang: bool,
}

/// One stage, and how far it is.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub rules: Rules,
    /// The position of its first task.
    pub first: usize,
    /// How many tasks it has.
    pub tasks: usize,
    /// How many of them have ended.
    pub ended: usize,
    /// The first that ended without success.
    pub bad: Option<usize>,
    /// The stages that wait for this one, and in which way.
    pub dependents: Vec<Dependency>,
    /// All of it was skipped already, because a stage that it waits for as a whole cannot succeed any more.
    pub hopeless: bool,
    /// That all of it has ended was passed on.
    pub told: bool,
    pub stragglers: Stragglers,
}

impl Stage {
    pub(super) fn new(rules: Rules, first: usize, tasks: usize) -> Self {
        Self {
            rules,
            first,
            tasks,
            ended: 0,
            bad: None,
            dependents: Vec::new(),
            hopeless: false,
            told: false,
            stragglers: Stragglers::default(),
        }
    }

    pub(super) fn positions(&self) -> Range<usize> {
        self.first..self.first + self.tasks
    }

    pub(super) fn is_done(&self) -> bool {
        self.ended == self.tasks
    }

    /// Counts an end, once for each task.
    pub(super) fn count(&mut self, position: usize, outcome: Outcome) {
        self.ended += 1;
        if outcome != Outcome::Succeeded {
            self.bad.get_or_insert(position);
        }
    }
}

/// Tasks of one size wait in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// The number of their stage.
    pub stage: usize,
    /// How many steps their memory has grown.
    pub step: u32,
}

/// What is to become of a task that waits for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    Go,
    /// Because of this one, which ended without success.
    Skip(usize),
}
