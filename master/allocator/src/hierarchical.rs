//! The allocator: roles in order of their dominant share, and in each its frameworks in order of theirs.
//!
//! A cycle looks only at *candidates*: agents on which something happened that may let them be offered. An agent that nobody
//! took is no candidate again until more of it is free, a filter on it expires or is forgotten, or a client becomes eligible.
//! So a cycle costs what changed, not agents × frameworks, and one in which nothing changed costs nothing.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::{AgentId, FrameworkId, Resources, Role, Time, limits, resources::Name};

use crate::{
    Allocation, Allocator, Share,
    bits::BitSet,
    quantities::{Capacity, Kinds},
    slab::{AgentKey, ClientKey, FrameworkKey, RoleKey, Slab},
    sorter::Sorter,
    state::{Agent, Client, Framework, RoleState},
};

/// What an operator may decide about allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HierarchicalConfig {
    /// What is free on an agent is offered when it contains one of these whole; always when there are none.
    pub allocatable_min: Vec<Resources>,
    /// Scalars that do not count for fairness, though they are shared out (say `gpus`, which few want).
    pub fairness_excluded: Vec<Name>,
}

impl Default for HierarchicalConfig {
    fn default() -> Self {
        Self {
            allocatable_min: vec![
                Resources::scalar(Name::Cpus, limits::ALLOCATABLE_CPUS_MILLI_MIN),
                Resources::scalar(Name::Mem, limits::ALLOCATABLE_MEM_MILLI_MIN),
            ],
            fairness_excluded: Vec::new(),
        }
    }
}

/// Dominant-resource fairness at two levels: over roles, then over the frameworks of a role.
///
/// Each role is one leaf at the top level, whatever its path. Order is exact: dominant share of the cluster's scalars, then
/// fewer allocations, then name. Agents are visited in the order of their keys, beginning after the one that the last cycle
/// gave first (or, when it stopped at its bound, last), so that none is always given to the same framework.
#[derive(Debug)]
pub struct Hierarchical {
    pub(crate) config: HierarchicalConfig,
    pub(crate) capacity: Capacity,
    pub(crate) agents: Slab<AgentKey, Agent>,
    pub(crate) agent_keys: BTreeMap<AgentId, AgentKey>,
    pub(crate) frameworks: Slab<FrameworkKey, Framework>,
    pub(crate) framework_keys: BTreeMap<FrameworkId, FrameworkKey>,
    pub(crate) roles: Slab<RoleKey, RoleState>,
    pub(crate) role_keys: BTreeMap<Role, RoleKey>,
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
}

impl Default for Hierarchical {
    fn default() -> Self {
        Self::new(HierarchicalConfig::default())
    }
}

impl Hierarchical {
    /// An allocator without agents or frameworks.
    pub fn new(config: HierarchicalConfig) -> Self {
        Self {
            capacity: Capacity::new(Kinds::new(config.fairness_excluded.clone())),
            config,
            agents: Slab::default(),
            agent_keys: BTreeMap::new(),
            frameworks: Slab::default(),
            framework_keys: BTreeMap::new(),
            roles: Slab::default(),
            role_keys: BTreeMap::new(),
            role_order: Sorter::default(),
            clients: Slab::default(),
            eligible: BitSet::default(),
            allocatable: BitSet::default(),
            candidates: BitSet::default(),
            deadlines: BTreeSet::new(),
            cursor: 0,
        }
    }

    pub(crate) fn agent_key(&self, agent: &AgentId) -> AgentKey {
        *self.agent_keys.get(agent).unwrap_or_else(|| panic!("agent {agent} is not known to the allocator"))
    }

    pub(crate) fn framework_key(&self, framework: &FrameworkId) -> FrameworkKey {
        let key = self.framework_keys.get(framework);
        *key.unwrap_or_else(|| panic!("framework {framework} is not known to the allocator"))
    }

    pub(crate) fn is_allocatable(&self, free: &Resources) -> bool {
        let minimums = &self.config.allocatable_min;
        !free.is_empty() && (minimums.is_empty() || minimums.iter().any(|min| free.contains(min)))
    }

    /// Sees to what follows when what is free on an agent, or whether it is active, changed.
    pub(crate) fn settle(&mut self, key: AgentKey) {
        let agent = &self.agents[key];
        if agent.active && self.is_allocatable(&agent.free) {
            self.allocatable.insert(key);
            self.candidates.insert(key);
        } else {
            self.allocatable.remove(key);
            self.candidates.remove(key);
        }
        self.schedule(key);
    }

    /// Sees to it that an agent's next expiry is among the deadlines, if it matters.
    pub(crate) fn schedule(&mut self, key: AgentKey) {
        let agent = &mut self.agents[key];
        let filters = agent.filters.as_ref().filter(|_| self.allocatable.contains(key));
        let deadline = filters.and_then(|filters| filters.earliest());
        if agent.deadline == deadline {
            return;
        }
        if let Some(old) = std::mem::replace(&mut agent.deadline, deadline) {
            self.deadlines.remove(&(old, key));
        }
        if let Some(new) = deadline {
            self.deadlines.insert((new, key));
        }
    }

    /// Takes resources back from a client: the one way for all causes.
    pub(crate) fn release(&mut self, client: ClientKey, agent: AgentKey, resources: &Resources) {
        let quantities = self.capacity.kinds.quantities(resources);
        let state = &mut self.clients[client];
        if self.agents[agent].recover(client, resources) {
            state.holds.remove(agent);
        }
        let role = &mut self.roles[state.role];
        role.frameworks.unallocate(state.node, &quantities);
        self.role_order.unallocate(role.node, &quantities);
        self.check_agent(agent);
    }
}

impl Allocator for Hierarchical {
    fn add_agent(&mut self, agent: &AgentId, total: &Resources) {
        let key = self.agents.insert(Agent::new(agent.clone(), total.clone()));
        let known = self.agent_keys.insert(agent.clone(), key);
        assert!(known.is_none(), "agent {agent} is added twice");
        self.capacity.add(total);
        self.settle(key);
    }

    fn remove_agent(&mut self, agent: &AgentId) {
        let key = self.agent_key(agent);
        for (client, resources) in self.agents[key].allocated().to_vec() {
            self.release(client, key, &resources);
            self.prune(client);
        }
        self.agents[key].filters = None;
        self.agents[key].active = false;
        self.settle(key);
        let gone = self.agents.remove(key);
        self.agent_keys.remove(agent);
        self.capacity.subtract(&gone.total);
    }

    fn set_agent_active(&mut self, agent: &AgentId, active: bool) {
        let key = self.agent_key(agent);
        if self.agents[key].active != active {
            self.agents[key].active = active;
            self.settle(key);
        }
    }

    fn add_framework(&mut self, framework: &FrameworkId, roles: &[Role], suppressed: &BTreeSet<Role>) {
        let state = Framework { id: framework.clone(), active: true, clients: Vec::new() };
        let key = self.frameworks.insert(state);
        let known = self.framework_keys.insert(framework.clone(), key);
        assert!(known.is_none(), "framework {framework} is added twice");
        self.subscribe(key, roles, suppressed);
    }

    fn remove_framework(&mut self, framework: &FrameworkId) {
        let key = self.framework_key(framework);
        self.frameworks[key].active = false;
        for client in self.clients_of(key) {
            self.clients[client].subscribed = false;
            self.reassess(client);
            self.forget_filters(client);
            for agent in self.clients[client].holds.iter().collect::<Vec<_>>() {
                let held = self.agents[agent].allocated_to(client).expect("a holder holds something").clone();
                self.release(client, agent, &held);
                self.settle(agent);
            }
            self.prune(client);
        }
        self.frameworks.remove(key);
        self.framework_keys.remove(framework);
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

    /// A role in `suppressed` is suppressed from now on; one that stays and is not in it keeps its suppression, if any, until
    /// it is revived.
    fn set_framework_roles(&mut self, framework: &FrameworkId, roles: &[Role], suppressed: &BTreeSet<Role>) {
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

    fn charge(&mut self, framework: &FrameworkId, role: &Role, agent: &AgentId, resources: &Resources) {
        let agent = self.agent_key(agent);
        let framework = self.framework_key(framework);
        if resources.is_empty() {
            return;
        }
        let free = &self.agents[agent].free;
        assert!(free.contains(resources), "{resources} charged, {free} is free");
        let client = self.client_or_new(framework, role);
        self.credit(client, agent, resources);
        self.agents[agent].allocate(client, resources);
        let candidate = self.candidates.contains(agent);
        self.settle(agent);
        if !candidate {
            // Who did not take what was free takes no part of it.
            self.candidates.remove(agent);
        }
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
        self.release(client, agent, resources);
        if let Some(until) = refuse_until.filter(|_| active && self.clients[client].subscribed) {
            self.clients[client].filtered.insert(agent);
            self.agents[agent].filters.get_or_insert_default().refuse(client, resources, until);
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

    fn free(&self, agent: &AgentId) -> Resources {
        self.agents[self.agent_key(agent)].free.clone()
    }

    fn shares(&self) -> Vec<Share> {
        let mut shares = Vec::new();
        for (rank, allocated) in self.role_order.ranked(&self.capacity) {
            shares.push(Share {
                role: rank.name.clone(),
                framework: None,
                allocated: self.capacity.kinds.resources(allocated),
                dominant_share_ppm: rank.share.ppm(),
                allocations: rank.allocations,
            });
            for (inner, allocated) in self.roles[rank.key].frameworks.ranked(&self.capacity) {
                shares.push(Share {
                    role: rank.name.clone(),
                    framework: Some(inner.name),
                    allocated: self.capacity.kinds.resources(allocated),
                    dominant_share_ppm: inner.share.ppm(),
                    allocations: inner.allocations,
                });
            }
        }
        shares
    }
}
