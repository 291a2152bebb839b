//! The memory of tasks that ended and whose end is acknowledged.

use std::{collections::BTreeMap, sync::Arc};

use apportion_types::{AgentId, UpdateId, limits};

use super::tasks::TaskKey;
use crate::view::{TaskView, View};

/// Finds the newest completed task of a name in `view.completed`.
#[derive(Debug, Default)]
pub(crate) struct Completed {
    last: u64,
    newest: BTreeMap<TaskKey, u64>,
}

impl Completed {
    /// Remembers a task, and forgets the oldest beyond the bound.
    pub(crate) fn push(&mut self, view: &mut View, key: TaskKey, task: Arc<TaskView>) {
        self.last += 1;
        view.completed.insert(self.last, task);
        self.newest.insert(key, self.last);
        while view.completed.len() > limits::COMPLETED_TASKS_MAX {
            let (number, oldest) = view.completed.get_min().expect("it is not empty");
            let (number, key) = (*number, (oldest.framework_id.clone(), oldest.info.task_id.clone()));
            view.completed.remove(&number);
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

    /// True when this is the terminal update with which the task was completed: its acknowledgement was lost on the way.
    pub(crate) fn is_acknowledged(
        &self,
        view: &View,
        key: &TaskKey,
        agent_id: &AgentId,
        update_id: UpdateId,
    ) -> bool {
        self.find(view, key).is_some_and(|task| {
            task.agent_id == *agent_id && task.status.as_ref().is_some_and(|s| s.update_id == Some(update_id))
        })
    }
}
