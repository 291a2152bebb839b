//! Asking for the state of tasks until each was told.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{AgentId, TaskId, Time};

use crate::driver::bounds::{RECONCILE_PAUSE_MAX, RECONCILE_PAUSE_MIN};

/// The tasks whose state is asked for and not yet told, and when to ask again (Mesos: docs/reconciliation.md).
#[derive(Debug, Default)]
pub(super) struct Reconciliation {
    open: BTreeMap<TaskId, Option<AgentId>>,
    /// When to ask again; none while there is nobody to ask.
    next: Option<Time>,
    pause: Duration,
}

impl Reconciliation {
    /// Asks for these as well. An agent that is known is not forgotten again.
    pub(super) fn add(&mut self, tasks: impl IntoIterator<Item = (TaskId, Option<AgentId>)>) {
        for (task_id, agent_id) in tasks {
            let known = self.open.entry(task_id).or_default();
            *known = agent_id.or(known.take());
        }
    }

    /// The connection stands: everything is asked for from the beginning.
    pub(super) fn restart(&mut self, now: Time) -> Vec<(TaskId, Option<AgentId>)> {
        self.pause = RECONCILE_PAUSE_MIN;
        self.ask(now)
    }

    /// These were just asked for; the pause for all begins anew.
    pub(super) fn asked(&mut self, now: Time) {
        self.pause = RECONCILE_PAUSE_MIN;
        self.next = Some(now + self.pause);
    }

    /// The connection is lost.
    pub(super) fn pause(&mut self) {
        self.next = None;
    }

    /// The state of a task was told.
    pub(super) fn told(&mut self, task_id: &TaskId) {
        self.open.remove(task_id);
        if self.open.is_empty() {
            self.next = None;
        }
    }

    /// When [`ask_again`](Self::ask_again) has something.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.next
    }

    /// What is still open, when it is time; the next pause is twice as long.
    pub(super) fn ask_again(&mut self, now: Time) -> Vec<(TaskId, Option<AgentId>)> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        self.pause = (self.pause * 2).min(RECONCILE_PAUSE_MAX);
        self.ask(now)
    }

    fn ask(&mut self, now: Time) -> Vec<(TaskId, Option<AgentId>)> {
        self.next = (!self.open.is_empty()).then(|| now + self.pause);
        self.open.iter().map(|(task_id, agent_id)| (task_id.clone(), agent_id.clone())).collect()
    }
}
