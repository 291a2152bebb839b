//! An executor on this agent: whether it listens, what it runs.

use std::collections::BTreeMap;

use apportion_types::{RunId, TaskState, UpdateId};

use super::task::{Phase, Task};
use crate::{container::ContainerId, event::TaskKey};

/// What is known of an executor beside that it is a task. Nothing of it is on disk: an executor says all that matters of it when it
/// subscribes.
#[derive(Debug, Default)]
pub(crate) struct Executor {
    /// True from its subscription to the end of its stream.
    pub(crate) subscribed: bool,
    /// The newest that its container is known to be held to.
    pub(crate) confirmed: u64,
    /// Its tasks that have not ended, each with the number of the limits that take it in; none before those are asked for.
    pub(crate) tasks: BTreeMap<TaskKey, Option<u64>>,
    /// The newest that it said of a running task and, if that speaks of no health, the newest before that does; where nothing is written of
    /// them yet.
    pub(crate) unwritten: BTreeMap<TaskKey, Vec<Said>>,
    /// What is to be acknowledged to it once an update of the agent is on disk.
    pub(crate) owed: BTreeMap<UpdateId, Vec<UpdateId>>,
}

/// Something that an executor said of a running task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) update_id: UpdateId,
    /// It says whether the task is healthy.
    pub(crate) of_health: bool,
}

impl Executor {
    /// True once its container is known to have been held to what one of its tasks brings: what it is held to later takes that in too.
    pub(crate) fn has_room_for(&self, task: &TaskKey) -> bool {
        self.tasks.get(task).copied().flatten().is_some_and(|number| number <= self.confirmed)
    }
}

impl Task {
    /// The executor that runs it, if that is not its agent.
    pub(crate) fn executor(&self) -> Option<TaskKey> {
        let executor = self.record.info.executor()?;
        Some((self.record.framework_id.clone(), executor.clone()))
    }

    /// How its executor is told of it: no container has the name that it was given.
    pub(crate) fn run_id(&self) -> RunId {
        RunId::new(&self.record.container_id.0).expect("what names a container names a run")
    }

    /// True while its executor knows of it, which has not said that it has ended.
    pub(crate) fn is_handed_over(&self) -> bool {
        matches!(self.phase, Phase::Launching | Phase::Running)
    }

    /// True once its executor has, or may have, said that it runs.
    pub(crate) fn was_running(&self) -> bool {
        matches!(self.state, TaskState::Running | TaskState::Killing)
    }

    /// For what those wait that it is to run, for people; empty when that is nothing that takes its time.
    pub(crate) fn awaited(&self, subscribed: bool) -> String {
        let name = &self.record.info.task_id;
        match self.phase {
            Phase::Running if subscribed => String::new(),
            Phase::Running => format!("waits for executor `{name}` to subscribe"),
            _ => format!("waits for executor `{name}` to run"),
        }
    }
}

/// The container that a run is named by.
pub(crate) fn container_id(run_id: &RunId) -> ContainerId {
    ContainerId(run_id.to_string())
}
