//! The laws of the allocator, recomputed from scratch.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::Resources;

use crate::{
    hierarchical::Hierarchical,
    quantities::{Capacity, Kinds, Quantities},
    slab::{AgentKey, ClientKey, Key, RoleKey},
};

/// Up to so many agents and clients, debug builds check everything in each cycle.
const CHECKED_MAX: usize = 64;

impl Hierarchical {
    /// Asserts every law: on each agent allocated and free make the total; what is counted for roles and frameworks is what
    /// agents hold; the order is that of the shares; whoever could be offered something is looked at. For tests; slow.
    pub fn check(&self) {
        let mut capacity = Capacity::new(Kinds::new(self.config.fairness_excluded.clone()));
        let mut held: BTreeMap<ClientKey, Quantities> = BTreeMap::new();
        for (key, agent) in self.agents.iter() {
            assert_eq!(self.agent_keys.get(&agent.id), Some(&key), "an agent is found by its id");
            self.check_amounts(key);
            self.check_candidate(key);
            capacity.add(&agent.total);
            for (client, resources) in agent.allocated() {
                let quantities = self.capacity.kinds.clone().quantities(resources);
                held.entry(*client).or_default().add(&quantities);
                assert!(self.clients[*client].holds.contains(key), "a holder is found by its client");
            }
            if let Some(filters) = &agent.filters {
                filters.check(&agent.free);
                for client in filters.clients() {
                    assert!(self.clients[client].filtered.contains(key), "a filter is found by its client");
                }
            }
        }
        let total = |capacity: &Capacity| capacity.kinds.resources(capacity.total());
        assert_eq!(total(&self.capacity), total(&capacity), "the capacity is that of the agents");
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
            assert_eq!(self.role_keys.get(&role.name), Some(&key), "a role is found by its name");
            role.frameworks.check(&self.capacity);
        }
    }

    fn check_candidate(&self, key: AgentKey) {
        let agent = &self.agents[key];
        let allocatable = agent.active && self.is_allocatable(&agent.free);
        assert_eq!(self.allocatable.contains(key), allocatable);
        let candidate = self.candidates.contains(key);
        assert!(allocatable || !candidate, "only what may be offered is a candidate");
        let filters = agent.filters.as_ref().filter(|_| allocatable && !candidate);
        if let Some(expiry) = filters.and_then(|filters| filters.earliest()) {
            assert!(
                agent.deadline.is_some_and(|deadline| deadline <= expiry),
                "an expiry that matters is a deadline"
            );
        }
        if allocatable && !candidate {
            let unblocked = match &agent.filters {
                Some(filters) if !filters.is_empty() => self.eligible.len_without(filters.blocked()),
                _ => self.eligible.len(),
            };
            assert_eq!(unblocked, 0, "what somebody would take is a candidate");
        }
    }

    fn check_amounts(&self, key: AgentKey) {
        let agent = &self.agents[key];
        let mut sum = agent.free.clone();
        for (_, resources) in agent.allocated() {
            assert!(!resources.is_empty(), "nothing is not kept");
            assert!(disjoint(&sum, resources), "agent {}: nothing is given twice", agent.id);
            sum += resources;
        }
        assert_eq!(sum, agent.total, "agent {}: allocated and free make the total", agent.id);
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

/// Scalars may be of one name; ranges and sets share no member: adding makes at least as much of them as both together.
fn disjoint(a: &Resources, b: &Resources) -> bool {
    let mut without = a.clone();
    without += b;
    without.saturating_sub(b);
    without == *a
}
