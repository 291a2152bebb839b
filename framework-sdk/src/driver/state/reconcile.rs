//! Asking for the state of tasks and operations until each was told.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{AgentId, Time};

use crate::driver::bounds::{RECONCILE_PAUSE_MAX, RECONCILE_PAUSE_MIN};

/// What is asked for and not yet told, by its id, and when to ask again (Mesos: docs/reconciliation.md).
#[derive(Debug)]
pub(super) struct Reconciliation<Id> {
    open: BTreeMap<Id, Option<AgentId>>,
    /// When to ask again; none while there is nobody to ask.
    next: Option<Time>,
    pause: Duration,
}

impl<Id: Ord + Clone> Reconciliation<Id> {
    pub(super) fn new() -> Self {
        Self { open: BTreeMap::new(), next: None, pause: RECONCILE_PAUSE_MIN }
    }

    /// Asks for these as well. An agent that is known is not forgotten again.
    pub(super) fn add(&mut self, asked: impl IntoIterator<Item = (Id, Option<AgentId>)>) {
        for (id, agent_id) in asked {
            let known = self.open.entry(id).or_default();
            *known = agent_id.or(known.take());
        }
    }

    /// The connection stands: everything is asked for from the beginning.
    pub(super) fn restart(&mut self, now: Time) -> Vec<(Id, Option<AgentId>)> {
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

    /// The state of one was told.
    pub(super) fn told(&mut self, id: &Id) {
        self.open.remove(id);
        if self.open.is_empty() {
            self.next = None;
        }
    }

    /// When [`ask_again`](Self::ask_again) has something.
    pub(super) fn deadline(&self) -> Option<Time> {
        self.next
    }

    /// What is still open, when it is time; the next pause is twice as long.
    pub(super) fn ask_again(&mut self, now: Time) -> Vec<(Id, Option<AgentId>)> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        self.pause = (self.pause * 2).min(RECONCILE_PAUSE_MAX);
        self.ask(now)
    }

    fn ask(&mut self, now: Time) -> Vec<(Id, Option<AgentId>)> {
        self.next = (!self.open.is_empty()).then(|| now + self.pause);
        self.open.iter().map(|(id, agent_id)| (id.clone(), agent_id.clone())).collect()
    }
}
