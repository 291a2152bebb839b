//! The tasks that the driver knows, and the updates that it has acknowledged.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use apportion_types::{AgentId, TaskId, TaskState, TaskStatus, UpdateId};

use crate::driver::bounds::UPDATES_REMEMBERED;

/// A task that was launched or heard of, and has not ended.
#[derive(Debug)]
struct Live {
    agent_id: AgentId,
    /// The accept that launched it, until it is heard of.
    accept: Option<u64>,
}

/// What is known of tasks: what to reconcile after a lost connection, whom to kill again, what was told already.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    live: BTreeMap<TaskId, Live>,
    /// Wishes that are not yet told to have come true; none is the task's own grace.
    kills: BTreeMap<TaskId, Option<Duration>>,
    /// With their tasks: agents make update ids, and do not know of each other.
    acknowledged: BTreeSet<(TaskId, UpdateId)>,
    /// The same, oldest first.
    order: VecDeque<(TaskId, UpdateId)>,
}

impl Tasks {
    /// Sent for launch by this accept.
    pub(super) fn launched(&mut self, task_id: TaskId, agent_id: AgentId, accept: u64) {
        self.live.insert(task_id, Live { agent_id, accept: Some(accept) });
    }

    /// Something was told of a task.
    pub(super) fn heard(&mut self, status: &TaskStatus) {
        if status.state.is_terminal() || status.state == TaskState::Unknown {
            self.live.remove(&status.task_id);
            self.kills.remove(&status.task_id);
        } else if let Some(agent_id) = &status.agent_id {
            let live = Live { agent_id: agent_id.clone(), accept: None };
            self.live.insert(status.task_id.clone(), live);
        }
    }

    /// Forgets the tasks of an accept of which nothing was heard, and names them with their agents.
    pub(super) fn refused(&mut self, accept: u64) -> Vec<(TaskId, AgentId)> {
        let unheard: Vec<(TaskId, AgentId)> = self
            .live
            .iter()
            .filter(|(_, live)| live.accept == Some(accept))
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
        self.acknowledged.contains(&(task_id.clone(), update_id))
    }

    /// The scheduler was told this update.
    pub(super) fn acknowledge(&mut self, task_id: TaskId, update_id: UpdateId) {
        let update = (task_id, update_id);
        if !self.acknowledged.insert(update.clone()) {
            return;
        }
        self.order.push_back(update);
        if self.order.len() > UPDATES_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.acknowledged.remove(&oldest);
        }
    }
}
