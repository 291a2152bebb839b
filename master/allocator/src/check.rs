//! The laws of the allocator, recomputed from scratch.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::Resources;

use crate::{
    hierarchical::Hierarchical,
    quantities::Quantities,
    room::{Fit, Limit},
    slab::{AgentKey, ClientKey, Key, RoleKey},
};

/// Up to so many agents and clients, debug builds check everything in each cycle.
const CHECKED_MAX: usize = 64;

impl Hierarchical {
    /// Asserts every law: on each agent allocated and free make the total; what is counted for roles and frameworks is what
    /// agents hold; the order is that of the shares; whoever could be offered something is looked at; roles have the weights and limits that were set. For tests; slow.
    pub fn check(&self) {
        let mut total = Quantities::default();
        let mut held: BTreeMap<ClientKey, Quantities> = BTreeMap::new();
        for (key, agent) in self.agents.iter() {
            assert_eq!(self.agent_keys.find(&agent.id), Some(key), "an agent is found by its id");
            self.check_amounts(key);
            self.check_candidate(key);
            total.add(agent.total.quantities());
            for (client, amount) in &agent.allocated {
                held.entry(*client).or_default().add(amount.quantities());
                assert!(self.clients[*client].holds.contains(key), "a holder is found by its client");
            }
            if let Some(filters) = &agent.filters {
                filters.check();
                for client in filters.clients() {
                    assert!(self.clients[client].filtered.contains(key), "a filter is found by its client");
                }
            }
        }
        assert!(*self.capacity.total() == total, "the capacity is that of the agents");
        self.check_clients(&held);
        self.role_order.check(&self.capacity);
        assert_eq!(self.agent_keys.len(), self.agents.len(), "every id has its agent");
        let dense = |last: Option<AgentKey>| last.is_none_or(|key| key.index() < self.agents.bound());
        assert!(dense(self.allocatable.iter().last()) && dense(self.candidates.iter().last()));
        let scheduled = self.agents.iter().filter_map(|(key, agent)| Some((agent.deadline?, key)));
        let scheduled: BTreeSet<_> = scheduled.collect();
        assert_eq!(scheduled, self.deadlines, "each deadline is an agent's");
    }

    fn check_clients(&self, held: &BTreeMap<ClientKey, Quantities>) {
        let nothing = Quantities::default();
        let mut roles: BTreeMap<RoleKey, (Quantities, usize, usize)> = BTreeMap::new();
        for (key, client) in self.clients.iter() {
            let framework = &self.frameworks[client.framework];
            let eligible = client.subscribed && !client.suppressed && framework.active;
            assert_eq!(self.eligible.contains(key), eligible, "eligible is who wants and may");
            assert_eq!(framework.find(&client.role_name).map(|i| framework.clients[i].1), Ok(key));
            assert!(client.subscribed || !client.holds.is_empty(), "a client of no use is forgotten");
            let role = &self.roles[client.role];
            let amount = held.get(&key).unwrap_or(&nothing);
            assert!(
                role.frameworks.allocated(client.node) == amount,
                "a framework's count is what agents hold"
            );
            let sum = roles.entry(client.role).or_default();
            sum.0.add(amount);
            sum.1 += 1;
            sum.2 += usize::from(eligible);
        }
        assert_eq!(self.role_keys.len(), self.roles.len(), "every name has its role");
        for (key, role) in self.roles.iter() {
            let (amount, clients, eligible) = roles.get(&key).expect("a role without clients is forgotten");
            assert!(
                self.role_order.allocated(role.node) == amount,
                "a role's count is that of its frameworks"
            );
            assert_eq!((role.clients, role.eligible), (*clients, *eligible));
            let weight = self.weights.get(&role.name).copied().unwrap_or_default();
            assert_eq!(self.role_order.weight(role.node), weight, "a role has the weight that was set");
            let limit = self.quota_limits.get(&role.name);
            let limit = limit.map(|limit| Limit::new(&mut self.measure.kinds.clone(), limit));
            assert_eq!(role.limit, limit, "a role has the limit that was set");
            assert!(!role.short || limit.is_some(), "only a limited role is short");
            assert_eq!(self.role_keys.find(&role.name), Some(key), "a role is found by its name");
            role.frameworks.check(&self.capacity);
        }
    }

    fn check_candidate(&self, key: AgentKey) {
        let agent = &self.agents[key];
        let candidate = self.candidates.contains(key);
        let offerable = agent.offerable();
        assert_eq!(self.allocatable.contains(key), offerable.is_some());
        let Some(free) = offerable else {
            assert!(!candidate && agent.deadline.is_none(), "only what may be offered is looked at");
            return;
        };
        if candidate {
            return;
        }
        let mut measure = self.measure.clone();
        for client in self.eligible.iter() {
            let role = &self.roles[self.clients[client].role];
            let part = match measure.fit(role.limit.as_ref(), self.role_order.allocated(role.node), free) {
                Fit::Whole => free.clone(),
                Fit::Part(part) => part,
                Fit::Nothing => continue,
            };
            let refuses = agent.filters.as_ref().is_some_and(|filters| filters.refuses(client, &part));
            assert!(refuses, "what somebody would take is looked at");
        }
        let expiry = agent.filters.as_ref().and_then(|filters| filters.earliest());
        if let Some(expiry) = expiry.filter(|_| !self.eligible.is_empty()) {
            assert!(
                agent.deadline.is_some_and(|deadline| deadline <= expiry),
                "an expiry that matters is a deadline"
            );
        }
    }

    fn check_amounts(&self, key: AgentKey) {
        let agent = &self.agents[key];
        let mut sum = agent.free.as_ref().map_or_else(Resources::new, |free| Resources::clone(free));
        assert!(agent.free.as_ref().is_none_or(|free| !free.is_empty()), "nothing is not kept");
        for (_, amount) in &agent.allocated {
            assert!(!amount.is_empty(), "nothing is not kept");
            assert!(disjoint(&sum, amount), "agent {}: nothing is given twice", agent.id);
            sum += amount;
        }
        assert_eq!(sum, *agent.total, "agent {}: allocated and free make the total", agent.id);
    }

    /// In debug builds, the law of one agent after each change of it.
    pub(crate) fn check_agent(&self, key: AgentKey) {
        if cfg!(debug_assertions) {
            self.check_amounts(key);
        }
    }

    /// In debug builds, every law, while that is quick.
    pub(crate) fn check_small(&self) {
        if cfg!(debug_assertions) && self.agents.len() + self.clients.len() <= CHECKED_MAX {
            self.check();
        }
    }
}

/// True when no range or set of one shares a member with the other's, for then taking `b` away again leaves `a`.
fn disjoint(a: &Resources, b: &Resources) -> bool {
    let mut rest = a.clone() + b;
    rest.saturating_sub(b);
    rest == *a
}
