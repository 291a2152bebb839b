//! Tasks: the one door by which one comes to be, the one by which its state changes, and the one by which it is completed.

use std::{sync::Arc, time::Duration};

use apportion_types::{
    FrameworkId, Reason, Source, TaskId, TaskState, TaskStatus, limits,
    protocol::scheduler::Event as SchedulerEvent,
};

use super::State;
use crate::{
    turn::Turn,
    view::{FrameworkState, TaskView},
};

/// Names a task within the cluster.
pub(crate) type TaskKey = (FrameworkId, TaskId);

/// The private half of a task.
#[derive(Debug, Default)]
pub(crate) struct Task {
    /// The newest status of its agent that is not acknowledged; sent again when the framework subscribes anew.
    pub(crate) unacknowledged: Option<Arc<TaskStatus>>,
    /// The wish that it ends, sent again whenever its agent registers.
    pub(crate) kill: Option<Kill>,
    /// Its resources are in the books of its agent, of its framework and of the allocator.
    pub(crate) charged: bool,
}

/// The wish that a task ends.
#[derive(Debug, Clone)]
pub(crate) struct Kill {
    /// From TERM to KILL; the task's own when none.
    pub(crate) grace: Option<Duration>,
    /// Whose wish it was first.
    pub(crate) reason: Reason,
}

/// Where the resources of a new task come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Charge {
    /// From an offer: the allocator counts them already.
    Offered,
    /// From what is free on the agent.
    Free,
}

/// A step of a task.
#[derive(Debug)]
pub(crate) struct Step {
    /// The newest state known. A step that is not legal leaves the state as it is.
    pub(crate) state: TaskState,
    /// A status to be told to the framework, which may be of an earlier state.
    pub(crate) status: Option<TaskStatus>,
    /// No further status of it will come and none is waited for: a task that has ended is completed at once.
    pub(crate) last: bool,
}

impl State {
    /// Adds a task. The one door by which one comes to be.
    pub(crate) fn add_task(
        &mut self,
        view: TaskView,
        unacknowledged: Option<Arc<TaskStatus>>,
        charge: Charge,
    ) {
        let key = (view.framework_id.clone(), view.info.task_id.clone());
        let ended = view.state.is_terminal();
        let holds = view.state.holds_resources();
        self.completed.revive(&mut self.view, &key, &view.agent_id);
        self.agent(&view.agent_id).tasks.insert(key.clone());
        if !ended {
            self.agent_view(&view.agent_id).tasks += 1;
            self.framework_view(&view.framework_id).tasks += 1;
        }
        let view = Arc::new(view);
        let before = self.view.tasks.insert(key.clone(), view.clone());
        assert!(before.is_none(), "task {} of {} is added twice", key.1, key.0);
        let framework = self.framework(&key.0);
        if let Some(group) = &view.info.group {
            *framework.groups.entry(group.group_id.clone()).or_default() += 1;
        }
        if let Some(executor) = view.info.executor() {
            *framework.executed.entry(executor.clone()).or_default() += 1;
        }
        framework.tasks.insert(key.1, Task { unacknowledged, charged: holds, ..Task::default() });
        if holds {
            self.put_into_books(&view, charge);
        }
    }

    /// Changes a task's state. The one door: it alone moves resources in the books, keeps what is not acknowledged, and tells
    /// the framework.
    pub(crate) fn step_task(&mut self, turn: &mut Turn<'_>, key: &TaskKey, step: Step) {
        let view = self.task_view(key);
        let before = view.state;
        if before != step.state && before.may_become(step.state) {
            view.state = step.state;
        }
        let after = view.state;
        // The end that was told stays the newest, whatever a confused agent still tells.
        let ended = view.status.as_ref().is_some_and(|status| status.state.is_terminal());
        let newest = step.status.as_ref().filter(|status| status.state.is_terminal() || !ended);
        let newest = newest.cloned().map(Arc::new);
        if newest.is_some() {
            view.status.clone_from(&newest);
        }
        let waits = newest.filter(|status| status.update_id.is_some());
        let agent_id = view.agent_id.clone();
        if after.is_terminal() && !before.is_terminal() {
            *self.view.counters.tasks_ended.entry(after.name()).or_default() += 1;
            self.agent_view(&agent_id).tasks -= 1;
            self.framework_view(&key.0).tasks -= 1;
        }
        if after.holds_resources() {
            self.charge_task(key, Charge::Free);
        } else {
            self.release_task(key);
        }
        if waits.is_some() {
            self.task(key).unacknowledged = waits;
        }
        if let Some(status) = step.status {
            self.tell_status(turn, &key.0, status);
        }
        if step.last && !after.holds_resources() {
            self.complete_task(key);
        }
    }

    /// Takes a task that has ended, or never will be heard of again, out of the books and into the memory of completed ones.
    /// The one door by which a task goes.
    pub(crate) fn complete_task(&mut self, key: &TaskKey) {
        let task = self.framework(&key.0).tasks.remove(&key.1).expect("the task is known");
        assert!(!task.charged, "task {} of {} is completed while it holds resources", key.1, key.0);
        let view = self.view.tasks.remove(key).expect("the task is known");
        if !view.state.is_terminal() {
            self.agent_view(&view.agent_id).tasks -= 1;
            self.framework_view(&key.0).tasks -= 1;
        }
        if let Some(group) = &view.info.group {
            let groups = &mut self.framework(&key.0).groups;
            let tasks = groups.get_mut(&group.group_id).expect("it was counted when it was added");
            *tasks -= 1;
            if *tasks == 0 {
                groups.remove(&group.group_id);
            }
        }
        if let Some(executor) = view.info.executor() {
            let executed = &mut self.framework(&key.0).executed;
            let tasks = executed.get_mut(executor).expect("it was counted when it was added");
            *tasks -= 1;
            if *tasks == 0 {
                executed.remove(executor);
            }
        }
        // An agent that was removed takes no note of the tasks whose end it has told.
        if let Some(agent) = self.agents.get_mut(&view.agent_id) {
            agent.tasks.remove(key);
        }
        self.completed.push(&mut self.view, key.clone(), view);
    }

    /// Sends a status to its framework, if that is connected.
    pub(crate) fn tell_status(
        &mut self,
        turn: &mut Turn<'_>,
        framework_id: &FrameworkId,
        status: TaskStatus,
    ) {
        let Some(conn) = self.scheduler_conn(framework_id) else { return };
        if status.source == Source::Agent {
            self.view.counters.updates_forwarded += 1;
        }
        turn.tell_scheduler(conn, SchedulerEvent::Update(status));
    }

    /// Puts a task's resources into the books, unless they are there. Shared volumes are in nobody's books: none is used up by a task.
    pub(crate) fn charge_task(&mut self, key: &TaskKey, charge: Charge) {
        if std::mem::replace(&mut self.task(key).charged, true) {
            return;
        }
        let task = self.view.tasks[key].clone();
        self.put_into_books(&task, charge);
    }

    fn put_into_books(&mut self, task: &TaskView, charge: Charge) {
        let TaskView { framework_id, agent_id, .. } = task;
        let held = task.info.resources.exclusive();
        if charge == Charge::Free {
            self.list_in_allocator(framework_id);
            self.allocator.charge(framework_id, &task.role, agent_id, &held);
        }
        self.agent_view(agent_id).allocated += &held;
        self.framework_view(framework_id).allocated += &held.summable();
        self.framework(framework_id).holding += 1;
        self.look_who_leaves(agent_id);
    }

    /// Takes a task's resources out of the books, if they are there.
    pub(crate) fn release_task(&mut self, key: &TaskKey) {
        if !std::mem::replace(&mut self.task(key).charged, false) {
            return;
        }
        let task = self.view.tasks[key].clone();
        let held = task.info.resources.exclusive();
        self.allocator.recover(&key.0, &task.role, &task.agent_id, &held, None);
        self.agent_view(&task.agent_id).allocated.saturating_sub(&held);
        self.look_who_leaves(&task.agent_id);
        let framework = self.framework_view(&key.0);
        framework.allocated.saturating_sub(&held.summable());
        let removed = framework.state == FrameworkState::Removed;
        self.framework(&key.0).holding -= 1;
        if removed {
            self.retire_framework(&key.0);
        }
    }

    /// The tasks of the task group of a task, itself among them, as far as they are known; none when it is of no group.
    pub(crate) fn members_of(&self, key: &TaskKey) -> Vec<TaskKey> {
        let view = &self.view.tasks[key];
        let Some(group) = &view.info.group else { return Vec::new() };
        let of_agent = self.agents.get(&view.agent_id).into_iter().flat_map(|agent| &agent.tasks);
        let of_framework = of_agent.filter(|other| other.0 == key.0);
        let same = |other: &&TaskKey| {
            let of = self.view.tasks[*other].info.group.as_ref();
            of.is_some_and(|of| of.group_id == group.group_id)
        };
        of_framework.filter(same).cloned().collect()
    }

    /// Records the wish that a task ends, and returns what its agent is to be told. A repeated wish can only shorten the grace.
    pub(crate) fn record_kill(&mut self, key: &TaskKey, grace: Option<Duration>, reason: Reason) -> Kill {
        let own = self.view.tasks[key].info.kill_grace.unwrap_or(limits::KILL_GRACE_DEFAULT);
        let task = self.task(key);
        let kill = match task.kill.take() {
            None => Kill { grace, reason },
            Some(before) if grace.unwrap_or(own) < before.grace.unwrap_or(own) => Kill { grace, ..before },
            Some(before) => before,
        };
        task.kill = Some(kill.clone());
        kill
    }
}
