//! The allocator: roles in order of their dominant share, level by level, and in each its frameworks in order of theirs.
//!
//! A cycle looks only at *candidates*: agents on which something happened that may let them be offered. An agent of which nobody
//! took any is no candidate again until more of it is free, a filter on it expires or is forgotten, a client becomes eligible, or
//! a quota leaves room for more. So a cycle costs what changed, not agents × frameworks, and one in which nothing changed costs
//! nothing.
//!
//! A *client* is a framework within one of its roles. The roles below one stand in one [`Sorter`] with the role's own frameworks as
//! one of them, and these in another.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_types::{AgentId, FrameworkId, Place, Resources, Role, Time, operation::Conversion};

use crate::{
    Allocation, Allocator, ClaimDenied, Explanation, HierarchicalConfig, Inactive, Question, Quota, Share,
    SorterKind, Wants, Weight,
    amount::Measure,
    bits::BitSet,
    expected::Expected,
    headroom::Headroom,
    index::Index,
    quantities::{Capacity, Kinds},
    slab::{AgentKey, ClientKey, FrameworkKey, RoleKey, Slab},
    sorter::Sorter,
    state::{Agent, Client, Framework, RoleState},
};

/// Dominant-resource fairness over a tree of roles, then over the frameworks of a role; with quotas.
///
/// Order is exact: dominant share of the cluster's scalars divided by the weight, then fewer allocations, then name; or drawn, see
/// [`SorterKind`]. Agents are visited in the order of their keys, beginning after the one that the last cycle gave first (or, when it
/// stopped at its bound, last), so that none is always given to the same framework.
#[derive(Debug, Clone)]
pub struct Hierarchical {
    pub(crate) measure: Measure,
    /// What was set for roles, known or not.
    pub(crate) weights: BTreeMap<Role, Weight>,
    pub(crate) quotas: BTreeMap<Role, Quota>,
    pub(crate) sorter: SorterKind,
    pub(crate) filter_gpus: bool,
    pub(crate) region: Option<String>,
    pub(crate) offers_max: u32,
    pub(crate) capacity: Capacity,
    pub(crate) headroom: Headroom,
    pub(crate) expected: Expected,
    pub(crate) agents: Slab<AgentKey, Agent>,
    pub(crate) agent_keys: Index<AgentId, AgentKey>,
    pub(crate) frameworks: Slab<FrameworkKey, Framework>,
    pub(crate) framework_keys: Index<FrameworkId, FrameworkKey>,
    pub(crate) roles: Slab<RoleKey, RoleState>,
    pub(crate) role_keys: Index<Role, RoleKey>,
    /// The roles at the top of the tree.
    pub(crate) top: Sorter<Role, RoleKey>,
    pub(crate) clients: Slab<ClientKey, Client>,
    /// Clients that may be given something: subscribed, not suppressed, of an active framework that may hold more offers.
    pub(crate) eligible: BitSet<ClientKey>,
    /// Clients that may be excluded from some agents.
    pub(crate) selective: BitSet<ClientKey>,
    /// How many clients have minimums of their own.
    pub(crate) own_minimums: usize,
    /// Active agents with enough free to be offered.
    pub(crate) allocatable: BitSet<AgentKey>,
    /// Those of them that the next cycle looks at.
    pub(crate) candidates: BitSet<AgentKey>,
    /// How many frameworks hold as many offers as they may.
    pub(crate) full: usize,
    /// The agents that were passed over meanwhile: for those frameworks, they are to be looked at again.
    pub(crate) passed_over: BitSet<AgentKey>,
    /// For each allocatable agent with filters: when the first of them expires.
    pub(crate) deadlines: BTreeSet<(Time, AgentKey)>,
    /// Where the next cycle begins.
    pub(crate) cursor: usize,
    /// How many allocations were made.
    pub(crate) allocations: u64,
    /// The agents on which what is free has changed, while that is watched.
    pub(crate) changes: Option<BTreeSet<(AgentKey, AgentId)>>,
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
        let mut new = Self {
            capacity: Capacity::new(&mut kinds, &config.fairness_excluded),
            measure: Measure::new(kinds, config.allocatable_min),
            weights: config.weights,
            quotas: BTreeMap::new(),
            sorter: config.sorter,
            filter_gpus: config.filter_gpus,
            region: config.region,
            offers_max: config.offers_max,
            headroom: Headroom::default(),
            expected: Expected::default(),
            agents: Slab::default(),
            agent_keys: Index::default(),
            frameworks: Slab::default(),
            framework_keys: Index::default(),
            roles: Slab::default(),
            role_keys: Index::default(),
            top: Sorter::default(),
            clients: Slab::default(),
            eligible: BitSet::default(),
            selective: BitSet::default(),
            own_minimums: 0,
            allocatable: BitSet::default(),
            candidates: BitSet::default(),
            full: 0,
            passed_over: BitSet::default(),
            deadlines: BTreeSet::new(),
            cursor: 0,
            allocations: 0,
            changes: None,
        };
        for (role, quota) in config.quotas {
            new.change_quota(&role, quota);
        }
        new
    }

    pub(crate) fn agent_key(&self, agent: &AgentId) -> AgentKey {
        let key = self.agent_keys.find(agent);
        key.unwrap_or_else(|| panic!("agent {agent} is not known to the allocator"))
    }

    pub(crate) fn framework_key(&self, framework: &FrameworkId) -> FrameworkKey {
        let key = self.framework_keys.find(framework);
        key.unwrap_or_else(|| panic!("framework {framework} is not known to the allocator"))
    }

    /// The client of a framework for a role under which it holds something.
    fn holder(&self, framework: &FrameworkId, role: &Role, resources: &Resources) -> ClientKey {
        let framework = &self.frameworks[self.framework_key(framework)];
        match framework.find(role) {
            Ok(index) => framework.clients[index].1,
            Err(_) => {
                panic!(
                    "framework {}: {resources} recovered under role {role}, nothing is allocated",
                    framework.id
                )
            }
        }
    }
}

impl Allocator for Hierarchical {
    fn add_agent(&mut self, agent: &AgentId, place: &Arc<Place>, total: &Resources) {
        self.expect_no_more(agent);
        self.join_agent(agent, place, total);
    }

    fn remove_agent(&mut self, agent: &AgentId) {
        self.part_agent(self.agent_key(agent));
    }

    fn set_agent_inactive(&mut self, agent: &AgentId, why: Option<Inactive>) {
        self.activate_agent(self.agent_key(agent), why);
    }

    fn expect_agent(&mut self, agent: &AgentId, total: &Resources) {
        self.expect(agent, total);
    }

    fn expect_agent_no_more(&mut self, agent: &AgentId) {
        self.expect_no_more(agent);
    }

    fn set_revocable(&mut self, agent: &AgentId, revocable: &Resources) {
        self.lend(self.agent_key(agent), revocable);
    }

    fn convert_free(&mut self, agent: &AgentId, conversion: &Conversion) -> bool {
        let key = self.agent_key(agent);
        let done = self.convert_what_is_free(key, conversion);
        if done {
            self.settle(key);
            self.check_agent(key);
        }
        done
    }

    fn convert_allocated(
        &mut self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        conversion: &Conversion,
    ) {
        let key = self.agent_key(agent);
        let client = self.holder(framework, role, &conversion.consumed);
        self.convert_held(client, key, conversion);
        self.settle(key);
        self.check_agent(key);
    }

    fn add_framework(&mut self, framework: &FrameworkId, wants: Wants<'_>) {
        self.join_framework(framework, wants);
    }

    fn remove_framework(&mut self, framework: &FrameworkId) {
        self.part_framework(self.framework_key(framework));
    }

    fn set_framework_active(&mut self, framework: &FrameworkId, active: bool) {
        self.activate_framework(self.framework_key(framework), active);
    }

    fn set_framework_wants(&mut self, framework: &FrameworkId, wants: Wants<'_>) {
        self.change_wants(self.framework_key(framework), wants);
    }

    fn suppress(&mut self, framework: &FrameworkId, roles: &[Role]) {
        for client in self.named_clients(framework, roles) {
            self.clients[client].suppressed = true;
            self.reassess(client);
        }
    }

    fn revive(&mut self, framework: &FrameworkId, roles: &[Role]) {
        for client in self.named_clients(framework, roles) {
            self.revive_client(client);
        }
    }

    fn set_weight(&mut self, role: &Role, weight: Weight) {
        self.weights.insert(role.clone(), weight);
        let known = self.role_keys.find(role).map(|key| &self.roles[key]);
        if let Some((node, parent)) = known.and_then(|role| Some((role.node?, role.parent))) {
            self.level_mut(parent).set_weight(node, weight);
        }
    }

    fn set_quota(&mut self, role: &Role, quota: Quota) {
        self.change_quota(role, quota);
    }

    fn charge(&mut self, framework: &FrameworkId, role: &Role, agent: &AgentId, resources: &Resources) {
        let agent = self.agent_key(agent);
        let framework = self.framework_key(framework);
        if resources.is_empty() {
            return;
        }
        let free = self.agents[agent].free.as_ref();
        let firm = resources.firm();
        assert!(
            firm.is_empty() || free.is_some_and(|free| free.contains(&firm)),
            "{resources} charged, and not free"
        );
        self.measure.learn(resources);
        if resources.has_terms() && self.agents[agent].lent.is_none() && !resources.revocable().is_empty() {
            self.agents[agent].lent = Some(Resources::new());
        }
        let client = self.client_or_new(framework, role);
        let part = self.measure.amount(resources.clone());
        self.give_part(client, agent, part);
        // What an inactive agent has was not available to guarantees, and now fulfils one.
        self.headroom_grew();
        self.look_again(agent);
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
        if resources.is_empty() {
            return;
        }
        let client = self.holder(framework, role, resources);
        let refused = self.release(client, agent, resources);
        let active = self.frameworks[self.clients[client].framework].active;
        if let Some(until) = refuse_until.filter(|_| active && self.clients[client].subscribed) {
            self.refuse(client, agent, &refused, until);
        }
        self.settle(agent);
        self.prune(client);
    }

    fn offers_closed(&mut self, framework: &FrameworkId, offers: u32) {
        self.close_offers(self.framework_key(framework), offers);
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
        now: Time,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
    ) -> Result<(), ClaimDenied> {
        self.commit(now, framework, role, self.agent_key(agent), resources)
    }

    fn explain(&self, now: Time, question: &Question) -> Explanation {
        self.answer(now, question)
    }

    fn judge_quotas(
        &self,
        quotas: &BTreeMap<Role, Quota>,
        offered: &BTreeMap<Role, Resources>,
    ) -> Result<(), String> {
        self.judge(quotas, offered)
    }

    fn over_limit(&self, role: &Role) -> Resources {
        self.excess_of(role)
    }

    fn short_of_guarantees(&self) -> Resources {
        self.shortage()
    }

    fn watch_free(&mut self, on: bool) {
        match on {
            true => {
                self.changes.get_or_insert_default();
            }
            false => self.changes = None,
        }
    }

    fn free_changes(&mut self) -> Vec<AgentId> {
        let changes = self.changes.as_mut().map(std::mem::take).unwrap_or_default();
        changes.into_iter().map(|(_, agent)| agent).collect()
    }

    fn free(&self, agent: &AgentId) -> Resources {
        let agent = self.agent_keys.find(agent).map(|key| &self.agents[key]);
        let free = agent.and_then(|agent| agent.free.as_ref());
        free.map_or_else(Resources::new, |free| Resources::clone(free))
    }

    fn shares(&self) -> Vec<Share> {
        let mut shares = Vec::new();
        self.shares_below(None, &mut shares);
        shares
    }
}
