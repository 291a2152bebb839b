//! The memory of tasks that ended and whose end is acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_types::{AgentId, UpdateId, limits};

use super::tasks::TaskKey;
use crate::view::{TaskView, View};

/// Finds what is in `view.completed`.
#[derive(Debug, Default)]
pub(crate) struct Completed {
    last: u64,
    /// The newest completed task of a name.
    newest: BTreeMap<TaskKey, u64>,
    /// The terminal updates with which tasks were completed; by their ids first, which nearly always tell them apart.
    ends: BTreeSet<(UpdateId, AgentId, TaskKey)>,
}

/// The terminal update with which a task was completed, if it came from its agent.
fn end(key: &TaskKey, task: &TaskView) -> Option<(UpdateId, AgentId, TaskKey)> {
    let status = task.status.as_ref().filter(|status| status.state.is_terminal())?;
    Some((status.update_id?, task.agent_id.clone(), key.clone()))
}

impl Completed {
    /// Remembers a task, and forgets the oldest beyond the bound.
    pub(crate) fn push(&mut self, view: &mut View, key: TaskKey, task: Arc<TaskView>) {
        self.last += 1;
        self.ends.extend(end(&key, &task));
        view.completed.insert(self.last, task);
        self.newest.insert(key, self.last);
        while view.completed.len() > limits::COMPLETED_TASKS_MAX {
            let number = view.completed.get_min().expect("it is not empty").0;
            let oldest = view.completed.remove(&number).expect("it was just found");
            let key = (oldest.framework_id.clone(), oldest.info.task_id.clone());
            if let Some(end) = end(&key, &oldest) {
                self.ends.remove(&end);
            }
            if self.newest.get(&key) == Some(&number) {
                self.newest.remove(&key);
            }
        }
    }

    /// The newest completed task of this name, as far as it is remembered.
    pub(crate) fn find<'a>(&self, view: &'a View, key: &TaskKey) -> Option<&'a Arc<TaskView>> {
        view.completed.get(self.newest.get(key)?)
    }

    /// Forgets the newest of this name when it stood on this agent and had not ended: the agent has returned, and it lives.
    pub(crate) fn revive(&mut self, view: &mut View, key: &TaskKey, agent_id: &AgentId) {
        let Some(&number) = self.newest.get(key) else { return };
        if view
            .completed
            .get(&number)
            .is_some_and(|task| !task.state.is_terminal() && task.agent_id == *agent_id)
        {
            view.completed.remove(&number);
            self.newest.remove(key);
        }
    }

    /// True when a task was completed with this terminal update: should it come again, its acknowledgement was lost on the way.
    pub(crate) fn is_acknowledged(&self, key: &TaskKey, agent_id: &AgentId, update_id: UpdateId) -> bool {
        self.ends.contains(&(update_id, agent_id.clone(), key.clone()))
    }
}
