//! Preemptions under way: what is gathered on one agent for a framework of a role that goes before others.

use std::collections::BTreeMap;

use apportion_types::{AgentId, FrameworkId, Resources, Role, Time, limits};

use super::{State, tasks::TaskKey, timers::Timer};

/// One preemption.
#[derive(Debug, Clone)]
pub(crate) struct Preemption {
    /// For whom.
    pub(crate) framework_id: FrameworkId,
    pub(crate) role: Role,
    /// What one of its waiting tasks needs, on no terms.
    pub(crate) wanted: Resources,
    pub(crate) agent_id: AgentId,
    /// What has to go, unless as much is given back otherwise.
    pub(crate) victims: Vec<TaskKey>,
    /// When they are killed.
    pub(crate) at: Time,
    /// What is gathered already: counted as allocated to the framework.
    pub(crate) held: Resources,
}

/// All of them, by number.
#[derive(Debug, Default)]
pub(crate) struct Preemptions {
    last: u64,
    /// When it was last found out who may preempt.
    pub(crate) planned_at: Option<Time>,
    /// How many kinds of waiting tasks had their turn.
    pub(crate) turn: usize,
    pub(crate) active: BTreeMap<u64, Preemption>,
}

impl Preemptions {
    pub(crate) fn begin(&mut self, preemption: Preemption) -> u64 {
        self.last += 1;
        self.active.insert(self.last, preemption);
        self.last
    }

    /// What is held on an agent for preemptions.
    #[cfg(debug_assertions)]
    pub(crate) fn held_on<'a>(&'a self, agent_id: &'a AgentId) -> impl Iterator<Item = &'a Resources> {
        self.active.values().filter(move |one| one.agent_id == *agent_id).map(|one| &one.held)
    }

    /// What is held for a framework.
    #[cfg(debug_assertions)]
    pub(crate) fn held_for<'a>(&'a self, id: &'a FrameworkId) -> impl Iterator<Item = &'a Resources> {
        self.active.values().filter(move |one| one.framework_id == *id).map(|one| &one.held)
    }
}

impl State {
    /// Has it found out soon who may preempt, if there is anybody who could.
    pub(crate) fn plan_preemptions_soon(&mut self, now: Time) {
        let someone = self.view.roles.values().any(|settings| settings.priority != 0);
        if someone && !self.timers.is_set(&Timer::PlanPreemptions) {
            let next = self.preemptions.planned_at.map_or(now, |at| at + limits::PREEMPTION_INTERVAL);
            self.timers.set(Timer::PlanPreemptions, next.max(now + self.config.allocation_coalesce));
        }
    }

    /// Ends a preemption and gives back what was gathered. The one door by which one ends without an offer.
    pub(crate) fn cancel_preemption(&mut self, number: u64) {
        let Some(one) = self.preemptions.active.remove(&number) else { return };
        self.timers.cancel(&Timer::Preempt(number));
        if !one.held.is_empty() {
            self.allocator.recover(&one.framework_id, &one.role, &one.agent_id, &one.held, None);
        }
    }

    /// Ends those for a framework.
    pub(crate) fn cancel_preemptions_for(&mut self, id: &FrameworkId) {
        self.cancel_preemptions(|one| one.framework_id == *id);
    }

    /// Ends those on an agent.
    pub(crate) fn cancel_preemptions_on(&mut self, id: &AgentId) {
        self.cancel_preemptions(|one| one.agent_id == *id);
    }

    /// Ends those that are meant.
    pub(crate) fn cancel_preemptions(&mut self, meant: impl Fn(&Preemption) -> bool) {
        let numbers: Vec<u64> =
            self.preemptions.active.iter().filter(|(_, one)| meant(one)).map(|(number, _)| *number).collect();
        numbers.into_iter().for_each(|number| self.cancel_preemption(number));
    }
}
