//! The allocator: roles in order of their dominant share, and in each its frameworks in order of theirs.
//!
//! A cycle looks only at *candidates*: agents on which something happened that may let them be offered. An agent that nobody
//! took is no candidate again until more of it is free, a filter on it expires or is forgotten, or a client becomes eligible.
//! So a cycle costs what changed, not agents × frameworks, and one in which nothing changed costs nothing.
//!
//! A *client* is a framework within one of its roles. Roles stand in one [`Sorter`], and each has one for its frameworks; all
//! that a tree of roles adds is sorters between them.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::{
    AgentId, AgentInfo, FrameworkId, Resources, Role, Time, operation::Conversion,
    protocol::scheduler::ClaimRefusal,
};

use crate::{
    Allocation, Allocator, ClaimDenied, Explanation, HierarchicalConfig, Question, Quota, QuotaLimit, Share,
    SorterKind, Wants, Weight,
    amount::Measure,
    bits::BitSet,
    index::Index,
    quantities::{Capacity, Kinds},
    room::Limit,
    slab::{AgentKey, ClientKey, FrameworkKey, RoleKey, Slab},
    sorter::Sorter,
    state::{Agent, Client, Framework, RoleState},
};

/// Dominant-resource fairness at two levels: over roles, then over the frameworks of a role.
///
/// Each role is one leaf at the top level, whatever its path. Order is exact: dominant share of the cluster's scalars divided
/// by the role's weight, then fewer allocations, then name; or drawn, see [`SorterKind`]. Agents are visited in the order of their keys, beginning after the one that the last cycle
/// gave first (or, when it stopped at its bound, last), so that none is always given to the same framework.
#[derive(Debug, Clone)]
pub struct Hierarchical {
    pub(crate) measure: Measure,
    /// What was set for roles, known or not.
    pub(crate) weights: BTreeMap<Role, Weight>,
    pub(crate) quota_limits: BTreeMap<Role, QuotaLimit>,
    pub(crate) sorter: SorterKind,
    pub(crate) capacity: Capacity,
    pub(crate) agents: Slab<AgentKey, Agent>,
    pub(crate) agent_keys: Index<AgentId, AgentKey>,
    pub(crate) frameworks: Slab<FrameworkKey, Framework>,
    pub(crate) framework_keys: Index<FrameworkId, FrameworkKey>,
    pub(crate) roles: Slab<RoleKey, RoleState>,
    pub(crate) role_keys: Index<Role, RoleKey>,
    pub(crate) role_order: Sorter<Role, RoleKey>,
    pub(crate) clients: Slab<ClientKey, Client>,
    /// Clients that may be given something: subscribed, not suppressed, of an active framework.
    pub(crate) eligible: BitSet<ClientKey>,
    /// Active agents with enough free to be offered.
    pub(crate) allocatable: BitSet<AgentKey>,
    /// Those of them that the next cycle looks at.
    pub(crate) candidates: BitSet<AgentKey>,
    /// For each allocatable agent with filters: when the first of them expires.
    pub(crate) deadlines: BTreeSet<(Time, AgentKey)>,
    /// Where the next cycle begins.
    pub(crate) cursor: usize,
    /// How many allocations were ever made.
    pub(crate) allocations: u64,
}

impl Default for Hierarchical {
    fn default() -> Self {
        Self::new(HierarchicalConfig::default())
    }
}

impl Hierarchical {
    /// An allocator without agents or frameworks.
    pub fn new(config: HierarchicalConfig) -> Self {
        let mut kinds = Kinds::default();
        Self {
            capacity: Capacity::new(&mut kinds, &config.fairness_excluded),
            measure: Measure { kinds, allocatable_min: config.allocatable_min },
            weights: config.weights,
            quota_limits: crate::quota::limits(&config.quotas),
            sorter: config.sorter,
            agents: Slab::default(),
            agent_keys: Index::default(),
            frameworks: Slab::default(),
            framework_keys: Index::default(),
            roles: Slab::default(),
            role_keys: Index::default(),
            role_order: Sorter::default(),
            clients: Slab::default(),
            eligible: BitSet::default(),
            allocatable: BitSet::default(),
            candidates: BitSet::default(),
            deadlines: BTreeSet::new(),
            cursor: 0,
            allocations: 0,
        }
    }

    pub(crate) fn agent_key(&self, agent: &AgentId) -> AgentKey {
        let key = self.agent_keys.find(agent);
        key.unwrap_or_else(|| panic!("agent {agent} is not known to the allocator"))
    }

    pub(crate) fn framework_key(&self, framework: &FrameworkId) -> FrameworkKey {
        let key = self.framework_keys.find(framework);
        key.unwrap_or_else(|| panic!("framework {framework} is not known to the allocator"))
    }

    /// Decides whether the next cycle looks at an agent, after more of it became free or it became active.
    ///
    /// Where nobody is willing there is no need to: that spares a cycle after the last who could want it has declined.
    pub(crate) fn settle(&mut self, key: AgentKey) {
        let agent = &mut self.agents[key];
        let Some(free) = agent.free.as_ref().filter(|free| agent.active && free.is_allocatable()) else {
            self.withdraw(key);
            return;
        };
        self.allocatable.insert(key);
        let willing = match &mut agent.filters {
            Some(filters) if !filters.is_empty() => !self.eligible.is_within(filters.blocked(free)),
            _ => !self.eligible.is_empty(),
        };
        match willing {
            true => {
                self.candidates.insert(key);
            }
            false => self.pass_over(key),
        }
    }

    /// Nobody wants what the agent has: it is looked at again when a filter on it expires.
    pub(crate) fn pass_over(&mut self, key: AgentKey) {
        self.candidates.remove(key);
        let agent = &mut self.agents[key];
        let Some(filters) = &mut agent.filters else { return };
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

impl Allocator for Hierarchical {
    fn add_agent(&mut self, agent: &AgentId, _info: &AgentInfo, total: &Resources) {
        let total = self.measure.amount(total.clone());
        self.capacity.add(total.quantities());
        let key = self.agents.insert(Agent {
            id: agent.clone(),
            active: true,
            free: (!total.is_empty()).then(|| total.clone()),
            total,
            allocated: Vec::new(),
            filters: None,
            deadline: None,
        });
        let known = self.agent_keys.insert(agent.clone(), key);
        assert!(known.is_none(), "agent {agent} is added twice");
        self.settle(key);
    }

    fn remove_agent(&mut self, agent: &AgentId) {
        let key = self.agent_key(agent);
        for (client, amount) in self.agents[key].allocated.clone() {
            self.release(client, key, &amount);
            self.prune(client);
        }
        self.withdraw(key);
        let gone = self.agents.remove(key);
        self.agent_keys.remove(agent);
        self.capacity.subtract(gone.total.quantities());
    }

    fn set_agent_active(&mut self, agent: &AgentId, active: bool) {
        let key = self.agent_key(agent);
        if self.agents[key].active != active {
            self.agents[key].active = active;
            self.settle(key);
        }
    }

    fn set_revocable(&mut self, _agent: &AgentId, _revocable: &Resources) {}

    fn convert_free(&mut self, agent: &AgentId, conversion: &Conversion) -> bool {
        let key = self.agent_key(agent);
        let Some(free) = conversion.apply(&self.free(agent)) else { return false };
        let total = conversion.apply(&self.agents[key].total).expect("what is free is part of the whole");
        self.agents[key].free = (!free.is_empty()).then(|| self.measure.amount(free));
        self.agents[key].total = self.measure.amount(total);
        self.settle(key);
        true
    }

    fn convert_allocated(
        &mut self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        conversion: &Conversion,
    ) {
        let key = self.agent_key(agent);
        let framework = &self.frameworks[self.framework_key(framework)];
        let client = framework.clients[framework.find(role).expect("it holds something")].1;
        let index = self.agents[key].find(client).expect("it holds something");
        let held = conversion.apply(&self.agents[key].allocated[index].1).expect("it holds what is consumed");
        let total = conversion.apply(&self.agents[key].total).expect("what is held is part of the whole");
        self.agents[key].allocated[index].1 = self.measure.amount(held);
        self.agents[key].total = self.measure.amount(total);
    }

    fn offers_closed(&mut self, _framework: &FrameworkId, _offers: u32) {}

    fn add_framework(&mut self, framework: &FrameworkId, Wants { roles, suppressed, .. }: Wants<'_>) {
        let state = Framework { id: framework.clone(), active: true, clients: Vec::new() };
        let key = self.frameworks.insert(state);
        let known = self.framework_keys.insert(framework.clone(), key);
        assert!(known.is_none(), "framework {framework} is added twice");
        self.subscribe(key, roles, suppressed);
    }

    fn remove_framework(&mut self, framework: &FrameworkId) {
        let key = self.framework_key(framework);
        self.frameworks[key].active = false;
        let clients = self.clients_of(key);
        let mut freed = BitSet::default();
        for &client in &clients {
            self.reassess(client);
            self.forget_filters(client);
            for agent in self.clients[client].holds.iter().collect::<Vec<_>>() {
                let index = self.agents[agent].find(client).expect("a holder holds something");
                let held = self.agents[agent].allocated[index].1.clone();
                self.release(client, agent, &held);
                freed.insert(agent);
            }
            self.clients[client].subscribed = false;
            self.prune(client);
        }
        self.frameworks.remove(key);
        self.framework_keys.remove(framework);
        for agent in freed.iter() {
            self.settle(agent);
        }
    }

    fn set_framework_active(&mut self, framework: &FrameworkId, active: bool) {
        let key = self.framework_key(framework);
        self.frameworks[key].active = active;
        for client in self.clients_of(key) {
            self.reassess(client);
            if !active {
                self.forget_filters(client);
            }
        }
    }

    fn set_framework_wants(&mut self, framework: &FrameworkId, Wants { roles, suppressed, .. }: Wants<'_>) {
        let key = self.framework_key(framework);
        for client in self.clients_of(key) {
            if !roles.contains(&self.clients[client].role_name) {
                self.clients[client].subscribed = false;
                self.clients[client].suppressed = false;
                self.reassess(client);
                self.forget_filters(client);
                self.prune(client);
            }
        }
        self.subscribe(key, roles, suppressed);
        let no_more = |client: &ClientKey| {
            let client = &self.clients[*client];
            client.suppressed && !suppressed.contains(&client.role_name)
        };
        let no_more: Vec<Role> = self
            .clients_of(key)
            .iter()
            .filter(|key| no_more(key))
            .map(|key| self.clients[*key].role_name.clone())
            .collect();
        if !no_more.is_empty() {
            self.revive(framework, &no_more);
        }
    }

    fn suppress(&mut self, framework: &FrameworkId, roles: &[Role]) {
        for client in self.named_clients(framework, roles) {
            self.clients[client].suppressed = true;
            self.reassess(client);
        }
    }

    fn revive(&mut self, framework: &FrameworkId, roles: &[Role]) {
        for client in self.named_clients(framework, roles) {
            self.clients[client].suppressed = false;
            self.reassess(client);
            let forgotten = self.forget_filters(client);
            if self.eligible.contains(client) {
                self.candidates.extend_from(&forgotten);
            }
        }
    }

    fn set_weight(&mut self, role: &Role, weight: Weight) {
        self.weights.insert(role.clone(), weight);
        if let Some(key) = self.role_keys.find(role) {
            self.role_order.set_weight(self.roles[key].node, weight);
        }
    }

    fn set_quota(&mut self, role: &Role, Quota { limit, .. }: Quota) {
        if let Some(key) = self.role_keys.find(role) {
            let kinds = &mut self.measure.kinds;
            self.roles[key].limit = limit.as_ref().map(|limit| Limit::new(kinds, limit));
            self.room_grew(key);
        }
        match limit {
            Some(limit) => self.quota_limits.insert(role.clone(), limit),
            None => self.quota_limits.remove(role),
        };
    }

    fn charge(&mut self, framework: &FrameworkId, role: &Role, agent: &AgentId, resources: &Resources) {
        let agent = self.agent_key(agent);
        let framework = self.framework_key(framework);
        if resources.is_empty() {
            return;
        }
        let free = self.agents[agent].free.as_ref();
        assert!(free.is_some_and(|free| free.contains(resources)), "{resources} charged, and not free");
        let client = self.client_or_new(framework, role);
        let part = self.measure.amount(resources.clone());
        self.give_part(client, agent, part);
        if self.agents[agent].offerable().is_none() {
            self.withdraw(agent);
        } else if !self.quota_limits.is_empty() {
            // What is left may fit into a role that had no room for all that made it worth offering.
            self.candidates.insert(agent);
        }
        // Else who did not want what was free wants no part of it, so it is no candidate if it was none.
        self.check_agent(agent);
    }

    fn recover(
        &mut self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
        refuse_until: Option<Time>,
    ) {
        let agent = self.agent_key(agent);
        let framework = &self.frameworks[self.framework_key(framework)];
        if resources.is_empty() {
            return;
        }
        let Ok(index) = framework.find(role) else {
            panic!(
                "framework {}: {resources} recovered under role {role}, nothing is allocated",
                framework.id
            )
        };
        let (client, active) = (framework.clients[index].1, framework.active);
        let refused = self.release(client, agent, resources);
        if let Some(until) = refuse_until.filter(|_| active && self.clients[client].subscribed) {
            self.clients[client].filtered.insert(agent);
            self.agents[agent].filters.get_or_insert_default().refuse(client, &refused, until);
        }
        self.settle(agent);
        self.prune(client);
    }

    fn is_dirty(&self) -> bool {
        !self.candidates.is_empty() && !self.eligible.is_empty()
    }

    fn next_deadline(&self) -> Option<Time> {
        self.deadlines.first().map(|&(time, _)| time)
    }

    fn allocate(&mut self, now: Time, allocations_max: usize) -> Vec<Allocation> {
        self.cycle(now, allocations_max)
    }

    fn claim(
        &mut self,
        _now: Time,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
    ) -> Result<(), ClaimDenied> {
        if !self.free(agent).contains(resources) {
            let message = format!("`{resources}` is not all free on agent {agent}");
            return Err(ClaimDenied { code: ClaimRefusal::NotFree, message, winner: None });
        }
        self.charge(framework, role, agent, resources);
        Ok(())
    }

    fn explain(&self, _now: Time, _question: &Question) -> Explanation {
        Explanation { roles: Vec::new() }
    }

    fn judge_quotas(&self, _quotas: &BTreeMap<Role, Quota>) -> Result<(), String> {
        Ok(())
    }

    fn over_limit(&self, _role: &Role) -> Resources {
        Resources::new()
    }

    fn short_of_guarantees(&self) -> Resources {
        Resources::new()
    }

    fn watch_free(&mut self, _on: bool) {}

    fn free_changes(&mut self) -> Vec<AgentId> {
        Vec::new()
    }

    fn free(&self, agent: &AgentId) -> Resources {
        let free = &self.agents[self.agent_key(agent)].free;
        free.as_ref().map_or_else(Resources::new, |free| Resources::clone(free))
    }

    fn shares(&self) -> Vec<Share> {
        let mut shares = Vec::new();
        for (rank, allocated) in self.role_order.ranked(&self.capacity) {
            shares.push(Share {
                role: rank.name.clone(),
                framework: None,
                allocated: self.measure.kinds.resources(allocated),
                dominant_share_ppm: rank.share.ppm(),
                allocations: rank.allocations,
            });
            for (inner, allocated) in self.roles[rank.key].frameworks.ranked(&self.capacity) {
                shares.push(Share {
                    role: rank.name.clone(),
                    framework: Some(inner.name),
                    allocated: self.measure.kinds.resources(allocated),
                    dominant_share_ppm: inner.share.ppm(),
                    allocations: inner.allocations,
                });
            }
        }
        shares
    }
}
