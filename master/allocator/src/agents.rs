//! How agents take part: join, pause, lend, part; and whether a cycle looks at them.

use std::sync::Arc;

use apportion_types::{AgentId, Place, Resources, resources::Name};

use crate::{
    amount::Amount,
    explain::Inactive,
    hierarchical::Hierarchical,
    slab::{AgentKey, ClientKey},
    state::Agent,
};

impl Hierarchical {
    pub(crate) fn join_agent(&mut self, id: &AgentId, place: &Arc<Place>, total: &Resources) {
        self.measure.learn(total);
        let free = self.measure.some(total.clone());
        let total = free.clone().unwrap_or_else(|| self.measure.amount(Resources::new()));
        self.capacity.add(&self.measure.kinds.quantities(total.entries()));
        self.book_reservations(&total, true);
        let key = self.agents.insert(Agent {
            id: id.clone(),
            place: place.clone(),
            has_gpus: total.milli(&Name::Gpus) > 0,
            inactive: None,
            total,
            lent: None,
            free: None,
            allocated: Vec::new(),
            copies: Vec::new(),
            filters: None,
            barred: None,
            deadline: None,
        });
        let known = self.agent_keys.insert(id.clone(), key);
        assert!(known.is_none(), "agent {id} is added twice");
        self.set_free(key, free);
        self.judge_agent(key);
        self.headroom_grew();
        self.settle(key);
    }

    pub(crate) fn part_agent(&mut self, key: AgentKey) {
        let holders: Vec<ClientKey> = self.agents[key].allocated.iter().map(|&(client, _)| client).collect();
        for client in holders {
            self.release_all(client, key);
            self.prune(client);
        }
        self.set_free(key, None);
        self.withdraw(key);
        self.passed_over.remove(key);
        let gone = self.agents.remove(key);
        self.agent_keys.remove(&gone.id);
        self.capacity.subtract(&self.measure.kinds.quantities(gone.total.entries()));
        if let Some(lent) = &gone.lent {
            self.capacity.subtract(&self.measure.kinds.quantities(lent.entries()));
        }
        self.book_reservations(&gone.total, false);
        self.headroom_grew();
    }

    /// Makes an agent inactive, or active when there is no reason to be inactive.
    pub(crate) fn activate_agent(&mut self, key: AgentKey, why: Option<Inactive>) {
        let before = std::mem::replace(&mut self.agents[key].inactive, why);
        if before.is_some() == why.is_some() {
            return;
        }
        if self.headroom.guarantees > 0 {
            let free = self.agents[key].free.clone();
            // It is counted only while it is active.
            self.agents[key].inactive = before;
            self.set_free(key, None);
            self.agents[key].inactive = why;
            self.set_free(key, free);
            self.headroom_grew();
        }
        if let Some(changes) = &mut self.changes {
            changes.insert((key, self.agents[key].id.clone()));
        }
        self.settle(key);
    }

    /// Changes what an agent lends.
    pub(crate) fn lend(&mut self, key: AgentKey, revocable: &Resources) {
        let agent = &mut self.agents[key];
        let before = agent.lent.take().unwrap_or_default();
        agent.lent = Some(revocable.clone());
        self.measure.learn(revocable);
        self.capacity.subtract(&self.measure.kinds.quantities(before.entries()));
        self.capacity.add(&self.measure.kinds.quantities(revocable.entries()));
        self.recount_free(key);
        self.settle(key);
        self.check_agent(key);
    }

    /// What may be offered of an agent now.
    pub(crate) fn offerable(&self, key: AgentKey) -> Option<&Amount> {
        let agent = &self.agents[key];
        let enough = |free: &&Amount| agent.is_active() && (free.is_allocatable() || self.own_minimums > 0);
        agent.free.as_ref().filter(enough)
    }

    /// Decides whether the next cycle looks at an agent, after more of it became free or it became active.
    ///
    /// Where nobody is willing there is no need to: that spares a cycle after the last who could want it has declined.
    pub(crate) fn settle(&mut self, key: AgentKey) {
        if self.offerable(key).is_none() {
            self.withdraw(key);
            return;
        }
        self.allocatable.insert(key);
        match self.is_wanted(key, None) {
            true => {
                self.candidates.insert(key);
            }
            false => self.pass_over(key),
        }
    }

    /// Decides the same after less of an agent is free.
    pub(crate) fn look_again(&mut self, key: AgentKey) {
        if self.offerable(key).is_none() {
            self.withdraw(key);
        } else if !self.quotas.is_empty() {
            // What is left may fit into a role that had no room for all that made it worth offering.
            self.candidates.insert(key);
        }
        // Else who did not want what was free wants no part of it, so it is no candidate if it was none.
        self.check_agent(key);
    }

    /// Nobody wants what the agent has: it is looked at again when a filter on it expires.
    pub(crate) fn pass_over(&mut self, key: AgentKey) {
        self.candidates.remove(key);
        if self.full > 0 {
            self.passed_over.insert(key);
        }
        let agent = &mut self.agents[key];
        let Some(filters) = &mut agent.filters else { return };
        let filters = Arc::make_mut(filters);
        filters.visit();
        let deadline = filters.earliest();
        if agent.deadline != deadline {
            if let Some(old) = std::mem::replace(&mut agent.deadline, deadline) {
                self.deadlines.remove(&(old, key));
            }
            self.deadlines.extend(deadline.map(|new| (new, key)));
        }
    }

    /// The agent has nothing to offer now, and its filters do not matter.
    pub(crate) fn withdraw(&mut self, key: AgentKey) {
        self.allocatable.remove(key);
        self.candidates.remove(key);
        if let Some(old) = self.agents[key].deadline.take() {
            self.deadlines.remove(&(old, key));
        }
    }
}
