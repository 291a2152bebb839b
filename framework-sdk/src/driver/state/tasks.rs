//! The tasks that the driver knows, and the updates that it has acknowledged.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{AgentId, TaskId, TaskState, TaskStatus, UpdateId};

use super::acknowledged::Acknowledged;

/// A task that was launched or heard of, and has not ended.
#[derive(Debug)]
struct Live {
    agent_id: AgentId,
    /// The call that launched it, until it is heard of.
    call: Option<u64>,
}

/// What is known of tasks: what to reconcile after a lost connection, whom to kill again, what was told already.
#[derive(Debug)]
pub(super) struct Tasks {
    live: BTreeMap<TaskId, Live>,
    /// Wishes that are not yet told to have come true; none is the task's own grace.
    kills: BTreeMap<TaskId, Option<Duration>>,
    acknowledged: Acknowledged<TaskId>,
}

impl Tasks {
    pub(super) fn new() -> Self {
        Self { live: BTreeMap::new(), kills: BTreeMap::new(), acknowledged: Acknowledged::new() }
    }

    /// Sent for launch by this call.
    pub(super) fn launched(&mut self, task_id: TaskId, agent_id: AgentId, call: u64) {
        self.live.insert(task_id, Live { agent_id, call: Some(call) });
    }

    /// Something was told of a task.
    pub(super) fn heard(&mut self, status: &TaskStatus) {
        if status.state.is_terminal() || status.state == TaskState::Unknown {
            self.live.remove(&status.task_id);
            self.kills.remove(&status.task_id);
        } else if let Some(agent_id) = &status.agent_id {
            let live = Live { agent_id: agent_id.clone(), call: None };
            self.live.insert(status.task_id.clone(), live);
        }
    }

    /// Forgets those tasks of a call of which nothing was heard, as far as they are wanted, and names them with their agents.
    pub(super) fn refused(&mut self, call: u64, wanted: impl Fn(&TaskId) -> bool) -> Vec<(TaskId, AgentId)> {
        let unheard: Vec<(TaskId, AgentId)> = self
            .live
            .iter()
            .filter(|(task_id, live)| live.call == Some(call) && wanted(task_id))
            .map(|(task_id, live)| (task_id.clone(), live.agent_id.clone()))
            .collect();
        for (task_id, _) in &unheard {
            self.live.remove(task_id);
        }
        unheard
    }

    /// Every task that should be alive, with its agent.
    pub(super) fn live(&self) -> impl Iterator<Item = (TaskId, Option<AgentId>)> {
        self.live.iter().map(|(task_id, live)| (task_id.clone(), Some(live.agent_id.clone())))
    }

    /// A task is to end. A wish that was there already only becomes more urgent.
    pub(super) fn kill(&mut self, task_id: TaskId, grace: Option<Duration>) {
        let wish = self.kills.entry(task_id).or_insert(grace);
        *wish = match (*wish, grace) {
            (Some(old), Some(new)) => Some(old.min(new)),
            (old, new) => new.or(old),
        };
    }

    /// True for a task that was launched or heard of, and has not ended.
    pub(super) fn is_live(&self, task_id: &TaskId) -> bool {
        self.live.contains_key(task_id)
    }

    /// The grace with which a task is to end, if it is to end; its own when that is none.
    pub(super) fn kill_wish(&self, task_id: &TaskId) -> Option<Option<Duration>> {
        self.kills.get(task_id).copied()
    }

    /// The tasks that are to end and are not told to have ended.
    pub(super) fn kills(&self) -> Vec<(TaskId, Option<Duration>)> {
        self.kills.iter().map(|(task_id, grace)| (task_id.clone(), *grace)).collect()
    }

    /// True when the scheduler was told this update before, as far as that is remembered.
    pub(super) fn is_acknowledged(&self, task_id: &TaskId, update_id: UpdateId) -> bool {
        self.acknowledged.contains(task_id, update_id)
    }

    /// The scheduler was told this update.
    pub(super) fn acknowledge(&mut self, task_id: TaskId, update_id: UpdateId) {
        self.acknowledged.insert(task_id, update_id);
    }
}
