//! The allocator as plainly as it can be said: everything is recomputed each time, and everybody is asked about everything.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use apportion_allocator::{
    Allocation, Allocator, ClaimDenied, Explanation, Question, Quota, QuotaLimit, Share, Wants, Weight,
};
use apportion_types::{AgentId, AgentInfo, FrameworkId, Resources, Role, Time, operation::Conversion};

#[derive(Debug, Clone)]
struct Agent {
    total: Resources,
    active: bool,
    place: usize,
    visits: u64,
}

#[derive(Debug, Clone)]
struct Framework {
    active: bool,
    /// Whether it is suppressed.
    roles: BTreeMap<Role, bool>,
}

#[derive(Debug, Clone)]
struct Filter {
    framework: FrameworkId,
    role: Role,
    agent: AgentId,
    refused: Resources,
    until: Time,
    visits: u64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    agents: BTreeMap<AgentId, Agent>,
    frameworks: BTreeMap<FrameworkId, Framework>,
    allocated: BTreeMap<(FrameworkId, Role, AgentId), Resources>,
    filters: Vec<Filter>,
    weights: BTreeMap<Role, Weight>,
    limits: BTreeMap<Role, QuotaLimit>,
    framework_allocations: BTreeMap<(Role, FrameworkId), u64>,
    role_allocations: BTreeMap<Role, u64>,
    first_place: usize,
}

impl Model {
    pub(crate) fn agents(&self) -> Vec<AgentId> {
        self.agents.keys().cloned().collect()
    }

    pub(crate) fn has_framework(&self, framework: &FrameworkId) -> bool {
        self.frameworks.contains_key(framework)
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

    /// The dominant share of what the chosen hold.
    fn share(&self, chosen: impl Fn(&FrameworkId, &Role) -> bool) -> Fraction {
        let capacity: Resources = self.agents.values().map(|agent| &agent.total).sum();
        let held: Resources = self.held(chosen);
        let share = |(name, total)| Fraction(i128::from(held.milli(name)), i128::from(total));
        capacity.scalars().map(share).max().unwrap_or(Fraction(0, 1))
    }

    fn held(&self, chosen: impl Fn(&FrameworkId, &Role) -> bool) -> Resources {
        let mut held = Resources::new();
        for ((framework, role, _), resources) in &self.allocated {
            if chosen(framework, role) {
                for (name, milli) in resources.scalars() {
                    held += &Resources::scalar(name.clone(), milli);
                }
            }
        }
        held
    }

    fn known_clients(&self) -> BTreeSet<(Role, FrameworkId)> {
        let subscribed = self
            .frameworks
            .iter()
            .flat_map(|(id, framework)| framework.roles.keys().map(move |role| (role.clone(), id.clone())));
        let holding = self.allocated.keys().map(|(framework, role, _)| (role.clone(), framework.clone()));
        subscribed.chain(holding).collect()
    }

    fn forget_unknown(&mut self) {
        let clients = self.known_clients();
        self.framework_allocations.retain(|client, _| clients.contains(client));
        self.role_allocations.retain(|role, _| clients.iter().any(|(known, _)| known == role));
    }

    fn allocations_of(&self, role: &Role, framework: &FrameworkId) -> u64 {
        self.framework_allocations.get(&(role.clone(), framework.clone())).copied().unwrap_or(0)
    }

    /// Every role with every framework in it, in order of fairness.
    fn order(&self) -> Vec<(Role, Vec<FrameworkId>)> {
        let clients = self.known_clients();
        let mut roles: Vec<Role> = clients.iter().map(|(role, _)| role.clone()).collect();
        roles.dedup();
        roles.sort_by_cached_key(|role| {
            let count = self.role_allocations.get(role).copied().unwrap_or(0);
            let weight = self.weights.get(role).copied().unwrap_or_default();
            (self.share(|_, known| known == role).divided_by(weight), count, role.clone())
        });
        let sorted = roles.into_iter().map(|role| {
            let of_role = clients.iter().filter(|(known, _)| *known == role);
            let mut frameworks: Vec<_> = of_role.map(|(_, framework)| framework.clone()).collect();
            frameworks.sort_by_cached_key(|id| {
                (self.share(|f, r| f == id && *r == role), self.allocations_of(&role, id), id.clone())
            });
            (role, frameworks)
        });
        sorted.collect()
    }

    fn wants(&self, framework: &FrameworkId, role: &Role) -> bool {
        let framework = &self.frameworks[framework];
        framework.active && framework.roles.get(role) == Some(&false)
    }

    /// What of it the role has room for, if that is of use.
    fn fit(&self, role: &Role, free: &Resources) -> Option<Resources> {
        let mut part = free.clone();
        let held = self.held(|_, known| known == role);
        for (name, limit) in self.limits.get(role).iter().flat_map(|limit| limit.iter()) {
            let room = (limit - held.milli(name)).max(0);
            part.saturating_sub(&Resources::scalar(name.clone(), free.milli(name) - room));
        }
        let useful = |milli: fn(&Resources) -> i64, min| milli(free) < min || milli(&part) >= min;
        (useful(Resources::cpus_milli, 10) && useful(Resources::mem_milli, 32_000)).then_some(part)
    }

    fn refuses(&self, framework: &FrameworkId, role: &Role, agent: &AgentId, free: &Resources) -> bool {
        self.filters.iter().any(|filter| {
            (&filter.framework, &filter.role, &filter.agent) == (framework, role, agent)
                && filter.refused.contains(free)
        })
    }

    /// When nobody would take what the agent has, it has been considered.
    fn consider(&mut self, agent: &AgentId) {
        let free = self.free(agent);
        let somebody = self.known_clients().into_iter().any(|(role, framework)| {
            self.wants(&framework, &role) && !self.refuses(&framework, &role, agent, &free)
        });
        if self.is_offerable(agent) && !somebody {
            self.visit(agent);
        }
    }

    fn visit(&mut self, agent: &AgentId) {
        self.agents.get_mut(agent).expect("it exists").visits += 1;
    }

    fn is_offerable(&self, agent: &AgentId) -> bool {
        let free = self.free(agent);
        self.agents[agent].active && (free.cpus_milli() >= 10 || free.mem_milli() >= 32_000)
    }

    fn forget_filters(&mut self, framework: &FrameworkId, of_role: impl Fn(&Role) -> bool) {
        self.filters.retain(|filter| filter.framework != *framework || !of_role(&filter.role));
    }
}

#[derive(Debug, Clone, Copy)]
struct Fraction(i128, i128);

impl Fraction {
    fn divided_by(self, weight: Weight) -> Fraction {
        Fraction(self.0, self.1 * i128::from(weight.milli()))
    }
}

impl Ord for Fraction {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.0 * other.1).cmp(&(other.0 * self.1))
    }
}

impl PartialOrd for Fraction {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Fraction {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Fraction {}

fn named(roles: &[Role], role: &Role) -> bool {
    roles.is_empty() || roles.contains(role)
}

impl Allocator for Model {
    fn add_agent(&mut self, agent: &AgentId, _: &AgentInfo, total: &Resources) {
        let taken: BTreeSet<usize> = self.agents.values().map(|agent| agent.place).collect();
        let place = (0..).find(|place| !taken.contains(place)).expect("places do not end");
        self.agents.insert(agent.clone(), Agent { total: total.clone(), active: true, place, visits: 0 });
    }

    fn remove_agent(&mut self, agent: &AgentId) {
        self.agents.remove(agent);
        self.allocated.retain(|(_, _, on), _| on != agent);
        self.filters.retain(|filter| filter.agent != *agent);
        self.forget_unknown();
    }

    fn set_agent_active(&mut self, agent: &AgentId, active: bool) {
        let state = self.agents.get_mut(agent).expect("it exists");
        if state.active != active {
            state.active = active;
            self.consider(agent);
        }
    }

    fn add_framework(&mut self, framework: &FrameworkId, Wants { roles, suppressed, .. }: Wants<'_>) {
        let roles = roles.iter().map(|role| (role.clone(), suppressed.contains(role))).collect();
        self.frameworks.insert(framework.clone(), Framework { active: true, roles });
    }

    fn remove_framework(&mut self, framework: &FrameworkId) {
        self.frameworks.remove(framework);
        let freed: BTreeSet<AgentId> = self
            .allocated
            .keys()
            .filter(|(of, _, _)| of == framework)
            .map(|(_, _, agent)| agent.clone())
            .collect();
        self.allocated.retain(|(of, _, _), _| of != framework);
        self.forget_filters(framework, |_| true);
        freed.iter().for_each(|agent| self.consider(agent));
        self.forget_unknown();
    }

    fn set_framework_active(&mut self, framework: &FrameworkId, active: bool) {
        self.frameworks.get_mut(framework).expect("it exists").active = active;
        if !active {
            self.forget_filters(framework, |_| true);
        }
    }

    fn set_framework_wants(&mut self, framework: &FrameworkId, Wants { roles, suppressed, .. }: Wants<'_>) {
        let state = self.frameworks.get_mut(framework).expect("it exists");
        let now = roles.iter().map(|role| (role.clone(), suppressed.contains(role))).collect();
        let before = std::mem::replace(&mut state.roles, now);
        let revived = |role: &Role| before.get(role) == Some(&true) && !suppressed.contains(role);
        self.forget_filters(framework, |role| !roles.contains(role) || revived(role));
        self.forget_unknown();
    }

    fn suppress(&mut self, framework: &FrameworkId, roles: &[Role]) {
        let state = self.frameworks.get_mut(framework).expect("it exists");
        state
            .roles
            .iter_mut()
            .filter(|(role, _)| named(roles, role))
            .for_each(|(_, suppressed)| *suppressed = true);
    }

    fn revive(&mut self, framework: &FrameworkId, roles: &[Role]) {
        let state = self.frameworks.get_mut(framework).expect("it exists");
        state
            .roles
            .iter_mut()
            .filter(|(role, _)| named(roles, role))
            .for_each(|(_, suppressed)| *suppressed = false);
        self.forget_filters(framework, |role| named(roles, role));
    }

    fn set_weight(&mut self, role: &Role, weight: Weight) {
        self.weights.insert(role.clone(), weight);
    }

    fn set_quota(&mut self, role: &Role, Quota { limit, .. }: Quota) {
        self.limits.remove(role);
        self.limits.extend(limit.map(|limit| (role.clone(), limit)));
    }

    fn charge(&mut self, framework: &FrameworkId, role: &Role, agent: &AgentId, resources: &Resources) {
        if !resources.is_empty() {
            *self.allocated.entry((framework.clone(), role.clone(), agent.clone())).or_default() += resources;
        }
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
        let key = (framework.clone(), role.clone(), agent.clone());
        let held = self.allocated.get_mut(&key).expect("it is allocated");
        held.saturating_sub(resources);
        if held.is_empty() {
            self.allocated.remove(&key);
        }
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
    }

    fn set_revocable(&mut self, _: &AgentId, _: &Resources) {
        unreachable!("it is not asked")
    }

    fn convert_free(&mut self, _: &AgentId, _: &Conversion) -> bool {
        unreachable!("it is not asked")
    }

    fn convert_allocated(&mut self, _: &FrameworkId, _: &Role, _: &AgentId, _: &Conversion) {
        unreachable!("it is not asked")
    }

    fn offers_closed(&mut self, _: &FrameworkId, _: u32) {
        unreachable!("it is not asked")
    }

    fn claim(
        &mut self,
        _: Time,
        _: &FrameworkId,
        _: &Role,
        _: &AgentId,
        _: &Resources,
    ) -> Result<(), ClaimDenied> {
        unreachable!("it is not asked")
    }

    fn explain(&self, _: Time, _: &Question) -> Explanation {
        unreachable!("it is not asked")
    }

    fn judge_quotas(&self, _: &BTreeMap<Role, Quota>) -> Result<(), String> {
        unreachable!("it is not asked")
    }

    fn over_limit(&self, _: &Role) -> Resources {
        unreachable!("it is not asked")
    }

    fn short_of_guarantees(&self) -> Resources {
        unreachable!("it is not asked")
    }

    fn watch_free(&mut self, _: bool) {
        unreachable!("it is not asked")
    }

    fn free_changes(&mut self) -> Vec<AgentId> {
        unreachable!("it is not asked")
    }

    /// It always looks.
    fn is_dirty(&self) -> bool {
        true
    }

    fn next_deadline(&self) -> Option<Time> {
        self.filters.iter().map(|filter| filter.until).min()
    }

    fn allocate(&mut self, now: Time, allocations_max: usize) -> Vec<Allocation> {
        let mut allocations = Vec::new();
        let somebody_wants = self.known_clients().iter().any(|(role, framework)| self.wants(framework, role));
        if !somebody_wants {
            return allocations;
        }
        let mut agents: Vec<(bool, usize, AgentId)> = self
            .agents
            .iter()
            .map(|(id, agent)| (agent.place < self.first_place, agent.place, id.clone()))
            .collect();
        agents.sort();
        let mut given = Vec::new();
        let mut order = self.order();
        for (_, place, id) in agents {
            while allocations.len() < allocations_max && self.is_offerable(&id) {
                let free = self.free(&id);
                let visits = self.agents[&id].visits;
                self.filters
                    .retain(|filter| filter.agent != id || now < filter.until || filter.visits == visits);
                let mut clients =
                    order.iter().flat_map(|(role, frameworks)| frameworks.iter().map(move |f| (f, role)));
                let taker = clients.find_map(|(framework, role)| {
                    let part = self.fit(role, &free)?;
                    let takes = self.wants(framework, role) && !self.refuses(framework, role, &id, &part);
                    takes.then(|| (framework.clone(), role.clone(), part))
                });
                self.visit(&id);
                let Some((framework, role, part)) = taker else { break };
                self.charge(&framework, &role, &id, &part);
                *self.framework_allocations.entry((role.clone(), framework.clone())).or_default() += 1;
                *self.role_allocations.entry(role.clone()).or_default() += 1;
                allocations.push(Allocation { framework, role, agent: id.clone(), resources: part });
                given.push(place + 1);
                order = self.order();
            }
        }
        let next = if allocations.len() >= allocations_max { given.last() } else { given.first() };
        self.first_place = next.copied().unwrap_or(self.first_place);
        allocations
    }

    fn free(&self, agent: &AgentId) -> Resources {
        let mut free = self.agents[agent].total.clone();
        for ((_, _, on), resources) in &self.allocated {
            if on == agent {
                free = free.checked_sub(resources).expect("no more is allocated than there is");
            }
        }
        free
    }

    fn shares(&self) -> Vec<Share> {
        let ppm =
            |share: Fraction| u64::try_from(share.0 * 1_000_000 / share.1).expect("a share is positive");
        let mut shares = Vec::new();
        for (role, frameworks) in self.order() {
            shares.push(Share {
                framework: None,
                allocated: self.held(|_, r| *r == role),
                dominant_share_ppm: ppm(self.share(|_, r| *r == role)),
                allocations: self.role_allocations.get(&role).copied().unwrap_or(0),
                role: role.clone(),
            });
            for framework in frameworks {
                shares.push(Share {
                    allocated: self.held(|f, r| *f == framework && *r == role),
                    dominant_share_ppm: ppm(self.share(|f, r| *f == framework && *r == role)),
                    allocations: self.allocations_of(&role, &framework),
                    framework: Some(framework),
                    role: role.clone(),
                });
            }
        }
        shares
    }
}
