//! The allocator as plainly as it can be said: everything is recomputed each time, and everybody is asked about everything.

mod claim;
mod cycle;
mod fraction;
mod order;
mod quota;
mod rules;
mod verdict;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_allocator::{
    Allocation, Allocator, ClaimDenied, Explanation, HierarchicalConfig, Inactive, Question, Quota, Share,
    Wants, Weight,
};
use apportion_types::{
    AgentId, FrameworkId, FrameworkOptions, Place, Resources, Role, Time, operation::Conversion,
    resources::Entry,
};

pub(crate) use self::verdict::Expected;

#[derive(Debug, Clone)]
struct Agent {
    at: Arc<Place>,
    total: Resources,
    lent: Resources,
    active: bool,
    /// Agents are visited in the order of their places.
    place: usize,
    /// How often it was considered.
    visits: u64,
}

#[derive(Debug, Clone)]
struct Framework {
    active: bool,
    /// Whether it is suppressed.
    roles: BTreeMap<Role, bool>,
    options: FrameworkOptions,
    /// Offers that are not closed.
    outstanding: u32,
}

#[derive(Debug, Clone)]
struct Filter {
    framework: FrameworkId,
    role: Role,
    agent: AgentId,
    refused: Resources,
    until: Time,
    /// Of the agent, when it was made.
    visits: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    config: HierarchicalConfig,
    agents: BTreeMap<AgentId, Agent>,
    expected: BTreeMap<AgentId, Resources>,
    frameworks: BTreeMap<FrameworkId, Framework>,
    allocated: BTreeMap<(FrameworkId, Role, AgentId), Resources>,
    /// How many copies of a shared volume a client holds.
    copies: BTreeMap<(FrameworkId, Role, AgentId, String), u32>,
    filters: Vec<Filter>,
    /// How many allocations each client was made.
    client_allocations: BTreeMap<(Role, FrameworkId), u64>,
    /// The same of the frameworks of each role itself, as long as it has had some.
    own_allocations: BTreeMap<Role, u64>,
    /// The same of each role, with those below it.
    role_allocations: BTreeMap<Role, u64>,
    first_place: usize,
}

impl Model {
    pub(crate) fn new(config: HierarchicalConfig) -> Self {
        Self { config, ..Self::default() }
    }

    /// The same cluster under other settings.
    pub(crate) fn reconfigured(&self, config: &HierarchicalConfig) -> Self {
        Self { config: config.clone(), ..self.clone() }
    }

    pub(crate) fn config(&self) -> &HierarchicalConfig {
        &self.config
    }

    pub(crate) fn agents(&self) -> Vec<AgentId> {
        self.agents.keys().cloned().collect()
    }

    pub(crate) fn frameworks(&self) -> Vec<FrameworkId> {
        self.frameworks.keys().cloned().collect()
    }

    pub(crate) fn outstanding(&self, framework: &FrameworkId) -> u32 {
        self.frameworks[framework].outstanding
    }

    pub(crate) fn allocations(&self) -> Vec<Allocation> {
        let all = self.allocated.iter().map(|((framework, role, agent), resources)| Allocation {
            framework: framework.clone(),
            role: role.clone(),
            agent: agent.clone(),
            resources: resources.clone(),
        });
        all.collect()
    }

    /// Every framework in every role that it takes offers for, or holds something under.
    fn clients(&self) -> BTreeSet<(Role, FrameworkId)> {
        let subscribed = self
            .frameworks
            .iter()
            .flat_map(|(id, framework)| framework.roles.keys().map(move |role| (role.clone(), id.clone())));
        let holding = self.allocated.keys().map(|(framework, role, _)| (role.clone(), framework.clone()));
        subscribed.chain(holding).collect()
    }

    /// Counts end with what they count for.
    fn forget_unknown(&mut self) {
        let clients = self.clients();
        self.client_allocations.retain(|client, _| clients.contains(client));
        self.own_allocations.retain(|role, _| clients.iter().any(|(known, _)| known == role));
        self.role_allocations
            .retain(|role, _| clients.iter().any(|(known, _)| known == role || known.is_below(role)));
    }

    fn forget_filters(&mut self, framework: &FrameworkId, of_role: impl Fn(&Role) -> bool) {
        self.filters.retain(|filter| filter.framework != *framework || !of_role(&filter.role));
    }

    fn framework(&mut self, framework: &FrameworkId) -> &mut Framework {
        self.frameworks.get_mut(framework).expect("it exists")
    }

    fn hold(&mut self, framework: &FrameworkId, role: &Role, agent: &AgentId, resources: &Resources) {
        if !resources.is_empty() {
            *self.allocated.entry((framework.clone(), role.clone(), agent.clone())).or_default() += resources;
        }
        for volume in volumes(resources) {
            *self.copies.entry(copy_key(framework, role, agent, &volume)).or_default() += 1;
        }
    }

    /// Takes back what was given, and one copy of each shared volume.
    fn release(&mut self, framework: &FrameworkId, role: &Role, agent: &AgentId, resources: &Resources) {
        let mut gone = resources.exclusive();
        for volume in volumes(resources) {
            let key = copy_key(framework, role, agent, &volume);
            let copies = self.copies.get_mut(&key).expect("a volume that is held has its copies");
            *copies -= 1;
            if *copies == 0 {
                self.copies.remove(&key);
                gone += &volume;
            }
        }
        let key = (framework.clone(), role.clone(), agent.clone());
        let held = self.allocated.get_mut(&key).expect("it is allocated");
        *held = held.checked_sub(&gone).expect("no more comes back than was given");
        if held.is_empty() {
            self.allocated.remove(&key);
        }
    }

    /// Some client has a minimum of its own.
    fn has_own_minimums(&self) -> bool {
        self.clients().iter().any(|(role, f)| self.frameworks[f].options.min_allocatable.contains_key(role))
    }

    /// When the first client with a minimum of its own comes, or the last goes, every agent is considered.
    fn consider_all_unless(&mut self, before: bool) {
        if self.has_own_minimums() != before {
            self.agents().iter().for_each(|agent| self.consider(agent));
        }
    }
}

/// The shared volumes among some resources, one by one.
fn volumes(resources: &Resources) -> Vec<Resources> {
    let shared: Vec<Entry> = resources.shared().entries().cloned().collect();
    shared.iter().map(|entry| resources.only(|other| other == entry)).collect()
}

fn copy_key(
    framework: &FrameworkId,
    role: &Role,
    agent: &AgentId,
    volume: &Resources,
) -> (FrameworkId, Role, AgentId, String) {
    (framework.clone(), role.clone(), agent.clone(), volume.to_string())
}

fn named(roles: &[Role], role: &Role) -> bool {
    roles.is_empty() || roles.contains(role)
}

impl Allocator for Model {
    fn add_agent(&mut self, agent: &AgentId, at: &Arc<Place>, total: &Resources) {
        let taken: BTreeSet<usize> = self.agents.values().map(|agent| agent.place).collect();
        let place = (0..).find(|place| !taken.contains(place)).expect("places do not end");
        self.expected.remove(agent);
        let (at, total, lent) = (at.clone(), total.clone(), Resources::new());
        self.agents.insert(agent.clone(), Agent { at, total, lent, active: true, place, visits: 0 });
    }

    fn remove_agent(&mut self, agent: &AgentId) {
        self.agents.remove(agent);
        let own_minimums = self.has_own_minimums();
        self.allocated.retain(|(_, _, on), _| on != agent);
        self.copies.retain(|(_, _, on, _), _| on != agent);
        self.filters.retain(|filter| filter.agent != *agent);
        self.forget_unknown();
        self.consider_all_unless(own_minimums);
    }

    fn set_agent_inactive(&mut self, agent: &AgentId, why: Option<Inactive>) {
        let active = why.is_none();
        let state = self.agents.get_mut(agent).expect("it exists");
        if state.active != active {
            state.active = active;
            self.consider(agent);
        }
    }

    fn expect_agent(&mut self, agent: &AgentId, total: &Resources) {
        self.expected.insert(agent.clone(), total.clone());
    }

    fn expect_agent_no_more(&mut self, agent: &AgentId) {
        self.expected.remove(agent);
    }

    fn set_revocable(&mut self, agent: &AgentId, revocable: &Resources) {
        self.agents.get_mut(agent).expect("it exists").lent = revocable.clone();
        self.consider(agent);
    }

    fn convert_free(&mut self, agent: &AgentId, conversion: &Conversion) -> bool {
        if !self.convertible(agent).contains(&conversion.consumed) {
            return false;
        }
        let state = self.agents.get_mut(agent).expect("it exists");
        let Some(total) = conversion.apply(&state.total) else { return false };
        state.total = total;
        self.consider(agent);
        true
    }

    fn convert_allocated(
        &mut self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        conversion: &Conversion,
    ) {
        let key = (framework.clone(), role.clone(), agent.clone());
        let held = self.allocated.remove(&key).expect("it holds something");
        self.allocated.insert(key, conversion.apply(&held).expect("it holds what is consumed"));
        for volume in volumes(&conversion.consumed) {
            self.copies.remove(&copy_key(framework, role, agent, &volume));
        }
        for volume in volumes(&conversion.produced) {
            self.copies.insert(copy_key(framework, role, agent, &volume), 1);
        }
        let state = self.agents.get_mut(agent).expect("it exists");
        state.total = conversion.apply(&state.total).expect("what is held is part of the whole");
        self.consider(agent);
    }

    fn add_framework(&mut self, framework: &FrameworkId, Wants { roles, suppressed, options }: Wants<'_>) {
        let roles = roles.iter().map(|role| (role.clone(), suppressed.contains(role))).collect();
        let options = options.clone();
        let state = Framework { active: true, roles, options, outstanding: 0 };
        let own_minimums = self.has_own_minimums();
        self.frameworks.insert(framework.clone(), state);
        self.consider_all_unless(own_minimums);
    }

    fn remove_framework(&mut self, framework: &FrameworkId) {
        let own_minimums = self.has_own_minimums();
        let held = self.allocated.keys().filter(|(of, _, _)| of == framework);
        let freed: BTreeSet<AgentId> = held.map(|(_, _, agent)| agent.clone()).collect();
        self.allocated.retain(|(of, _, _), _| of != framework);
        self.copies.retain(|(of, _, _, _), _| of != framework);
        self.frameworks.remove(framework);
        self.forget_filters(framework, |_| true);
        self.forget_unknown();
        self.consider_all_unless(own_minimums);
        freed.iter().for_each(|agent| self.consider(agent));
    }

    fn set_framework_active(&mut self, framework: &FrameworkId, active: bool) {
        self.framework(framework).active = active;
        if !active {
            self.forget_filters(framework, |_| true);
        }
    }

    fn set_framework_wants(
        &mut self,
        framework: &FrameworkId,
        Wants { roles, suppressed, options }: Wants<'_>,
    ) {
        let own_minimums = self.has_own_minimums();
        let state = self.framework(framework);
        state.options = options.clone();
        let before = state.roles.clone();
        // Roles that go do so before others come, and the counts of those above them with them.
        state.roles.retain(|role, _| roles.contains(role));
        self.forget_unknown();
        self.framework(framework).roles =
            roles.iter().map(|role| (role.clone(), suppressed.contains(role))).collect();
        let revived = |role: &Role| before.get(role) == Some(&true) && !suppressed.contains(role);
        self.forget_filters(framework, |role| !roles.contains(role) || revived(role));
        self.consider_all_unless(own_minimums);
    }

    fn suppress(&mut self, framework: &FrameworkId, roles: &[Role]) {
        let known = self.framework(framework).roles.iter_mut();
        known.filter(|(role, _)| named(roles, role)).for_each(|(_, suppressed)| *suppressed = true);
    }

    fn revive(&mut self, framework: &FrameworkId, roles: &[Role]) {
        let known = self.framework(framework).roles.iter_mut();
        known.filter(|(role, _)| named(roles, role)).for_each(|(_, suppressed)| *suppressed = false);
        self.forget_filters(framework, |role| named(roles, role));
    }

    fn set_weight(&mut self, role: &Role, weight: Weight) {
        self.config.weights.insert(role.clone(), weight);
    }

    fn set_quota(&mut self, role: &Role, quota: Quota) {
        self.config.quotas.insert(role.clone(), quota);
    }

    fn charge(&mut self, framework: &FrameworkId, role: &Role, agent: &AgentId, resources: &Resources) {
        let own_minimums = self.has_own_minimums();
        self.hold(framework, role, agent, resources);
        self.consider_all_unless(own_minimums);
    }

    fn recover(
        &mut self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
        refuse_until: Option<Time>,
    ) {
        if resources.is_empty() {
            return; // nothing came back, so nobody is asked again
        }
        let own_minimums = self.has_own_minimums();
        self.release(framework, role, agent, resources);
        let state = &self.frameworks[framework];
        if let Some(until) = refuse_until.filter(|_| state.active && state.roles.contains_key(role)) {
            self.filters.push(Filter {
                framework: framework.clone(),
                role: role.clone(),
                agent: agent.clone(),
                refused: resources.clone(),
                until,
                visits: self.agents[agent].visits,
            });
        }
        self.consider(agent);
        self.forget_unknown();
        self.consider_all_unless(own_minimums);
    }

    fn offers_closed(&mut self, framework: &FrameworkId, offers: u32) {
        self.framework(framework).outstanding -= offers;
    }

    /// It always looks.
    fn is_dirty(&self) -> bool {
        true
    }

    fn next_deadline(&self) -> Option<Time> {
        self.filters.iter().map(|filter| filter.until).min()
    }

    fn allocate(&mut self, now: Time, allocations_max: usize) -> Vec<Allocation> {
        self.cycle(now, allocations_max, None)
    }

    fn claim(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
    ) -> Result<(), ClaimDenied> {
        self.judge_claim(now, framework, role, agent, resources)?;
        if !resources.is_empty() {
            self.hold(framework, role, agent, resources);
            self.count(framework, role);
        }
        Ok(())
    }

    fn explain(&self, _: Time, _: &Question) -> Explanation {
        unreachable!("what it would say is asked by `Model::expected`")
    }

    fn judge_quotas(
        &self,
        quotas: &BTreeMap<Role, Quota>,
        offered: &BTreeMap<Role, Resources>,
    ) -> Result<(), String> {
        self.judge(quotas, offered)
    }

    fn over_limit(&self, role: &Role) -> Resources {
        self.above_limit(role)
    }

    fn short_of_guarantees(&self) -> Resources {
        self.short()
    }

    fn watch_free(&mut self, _: bool) {}

    fn free_changes(&mut self) -> Vec<AgentId> {
        unreachable!("what is free is compared")
    }

    fn free(&self, agent: &AgentId) -> Resources {
        self.free_on(agent)
    }

    fn shares(&self) -> Vec<Share> {
        self.all_shares()
    }
}
