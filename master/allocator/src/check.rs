//! The laws of the allocator, recomputed from scratch.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::{Resources, resources::Value};

use crate::{
    hierarchical::Hierarchical,
    judge::Memo,
    ledger::volumes,
    quantities::Quantities,
    room::Bounds,
    slab::{AgentKey, ClientKey, Key, RoleKey},
};

/// Up to so many agents and clients, debug builds check everything in each cycle.
const CHECKED_MAX: usize = 64;

/// What a role's books should say.
#[derive(Debug, Default)]
struct Sums {
    allocated: Quantities,
    own: Quantities,
    used: Quantities,
    reserved: Quantities,
    clients: usize,
    tenants: usize,
    own_eligible: usize,
    eligible: usize,
}

impl Hierarchical {
    /// Asserts every law: on each agent allocated and free make the total, shared volumes and what is lent apart; what is counted for
    /// frameworks, for roles at every level, and for quotas and their headroom is what agents hold and reserve; the order is that of
    /// the shares; whoever could be offered something is looked at; roles have the weights and quotas that were set. For tests; slow.
    pub fn check(&self) {
        let mut total = Quantities::default();
        let mut held: BTreeMap<ClientKey, (Quantities, Quantities)> = BTreeMap::new();
        for (key, agent) in self.agents.iter() {
            assert_eq!(self.agent_keys.find(&agent.id), Some(key), "an agent is found by its id");
            self.check_amounts(key);
            self.check_candidate(key);
            total.add(&self.measure.kinds.quantities(agent.total.entries()));
            if let Some(lent) = &agent.lent {
                total.add(&self.measure.kinds.quantities(lent.entries()));
            }
            for (client, amount) in &agent.allocated {
                let sums = held.entry(*client).or_default();
                sums.0.add(amount.quantities());
                sums.1.add(amount.plain());
                assert!(self.clients[*client].holds.contains(key), "a holder is found by its client");
            }
            if let Some(filters) = &agent.filters {
                filters.check();
                for client in filters.clients() {
                    assert!(self.clients[client].filtered.contains(key), "a filter is found by its client");
                }
            }
            for (client, _) in self.clients.iter() {
                assert!(self.is_judged(client, key), "a bit says who is excluded");
            }
        }
        assert!(*self.capacity.total() == total, "the capacity is that of the agents");
        self.check_roles(&held);
        self.check_headroom();
        self.check_expected();
        self.top.check(&self.capacity);
        assert_eq!(self.agent_keys.len(), self.agents.len(), "every id has its agent");
        let dense = |last: Option<AgentKey>| last.is_none_or(|key| key.index() < self.agents.bound());
        assert!(dense(self.allocatable.iter().last()) && dense(self.candidates.iter().last()));
        let scheduled = self.agents.iter().filter_map(|(key, agent)| Some((agent.deadline?, key)));
        let scheduled: BTreeSet<_> = scheduled.collect();
        assert_eq!(scheduled, self.deadlines, "each deadline is an agent's");
        let full = self.frameworks.iter().filter(|(_, framework)| framework.is_full()).count();
        assert_eq!(self.full, full, "those are full who hold as many offers as they may");
    }

    /// What the books of clients and reservations say of each role.
    fn sums(&self, held: &BTreeMap<ClientKey, (Quantities, Quantities)>) -> BTreeMap<RoleKey, Sums> {
        let mut sums: BTreeMap<RoleKey, Sums> = BTreeMap::new();
        for (key, client) in self.clients.iter() {
            let eligible = usize::from(self.eligible.contains(key));
            let nothing = Default::default();
            let (amount, plain) = held.get(&key).unwrap_or(&nothing);
            let own = sums.entry(client.role).or_default();
            own.own.add(amount);
            own.clients += 1;
            own.own_eligible += eligible;
            for (role, _) in self.path(client.role) {
                let sum = sums.entry(role).or_default();
                sum.allocated.add(amount);
                sum.used.add(plain);
                sum.tenants += 1;
                sum.eligible += eligible;
            }
        }
        for (_, agent) in self.agents.iter() {
            for entry in agent.total.entries() {
                let (Some(role), Value::Scalar(milli)) = (entry.role(), entry.value()) else { continue };
                let mut one = Quantities::default();
                one.put(self.measure.kinds.find(entry.name()).expect("it is known"), *milli);
                for (role, _) in self.path(self.role_keys.find(role).expect("it has reservations")) {
                    sums.entry(role).or_default().reserved.add(&one);
                }
            }
        }
        sums
    }

    fn check_roles(&self, held: &BTreeMap<ClientKey, (Quantities, Quantities)>) {
        for (key, client) in self.clients.iter() {
            let framework = &self.frameworks[client.framework];
            let eligible =
                client.subscribed && !client.suppressed && framework.active && !framework.is_full();
            assert_eq!(self.eligible.contains(key), eligible, "eligible is who wants and may");
            assert_eq!(framework.find(&client.role_name).map(|i| framework.clients[i].1), Ok(key));
            assert!(client.subscribed || !client.holds.is_empty(), "a client of no use is forgotten");
            let nothing = Default::default();
            let counted = self.roles[client.role].frameworks.allocated(client.node);
            let (amount, _) = held.get(&key).unwrap_or(&nothing);
            assert!(counted == amount, "a framework's count is what agents hold");
        }
        let own = self.clients.iter().filter(|(_, client)| client.minimums.is_some()).count();
        assert_eq!(self.own_minimums, own, "minimums of their own are counted");
        assert_eq!(self.role_keys.len(), self.roles.len(), "every name has its role");
        let sums = self.sums(held);
        let nothing = Sums::default();
        for (key, role) in self.roles.iter() {
            let sum = sums.get(&key).unwrap_or(&nothing);
            let name = &role.name;
            assert_eq!(self.role_keys.find(name), Some(key), "a role is found by its name");
            let counts = (role.clients, role.tenants, role.own_eligible, role.eligible);
            assert_eq!(counts, (sum.clients, sum.tenants, sum.own_eligible, sum.eligible), "role {name}");
            assert!(role.used == sum.used, "role {name}: what is used is what its clients hold");
            assert!(role.reserved == sum.reserved, "role {name}: what is reserved is so on agents");
            let children = self.roles.iter().filter(|(_, child)| child.parent == Some(key)).count();
            assert_eq!(role.children, children, "role {name}");
            let quota = self.quotas.get(name);
            let useful = role.tenants > 0 || children > 0 || !role.reserved.is_zero() || quota.is_some();
            assert!(useful, "role {name} of no use is forgotten");
            assert_eq!((role.node.is_some(), role.own.is_some()), (role.tenants > 0, role.clients > 0));
            if let Some(node) = role.node {
                let level = self.level(role.parent);
                assert!(*level.allocated(node) == sum.allocated, "a role's count is that of its clients");
                let weight = self.weights.get(name).copied().unwrap_or_default();
                assert_eq!(level.weight(node), weight, "a role has the weight that was set");
                assert_eq!(level.is_listed(node), role.eligible > 0);
            }
            if let Some(own) = role.own {
                assert!(
                    *role.below.allocated(own) == sum.own && role.below.weight(own) == Default::default()
                );
                assert_eq!(role.below.is_listed(own), role.own_eligible > 0);
            }
            let limit = quota.and_then(|quota| quota.limit.as_ref());
            let limit = limit.map(|limit| Bounds::limit(&mut self.measure.kinds.clone(), limit));
            assert_eq!(role.limit, limit, "a role has the limit that was set");
            assert_eq!(role.limited, self.path(key).any(|(_, role)| role.limit.is_some()));
            assert!(!role.short || limit.is_some(), "only a limited role is short");
            role.below.check(&self.capacity);
            role.frameworks.check(&self.capacity);
        }
    }

    fn check_headroom(&self) {
        let (mut required, mut guarantees) = (Quantities::default(), 0);
        for (key, role) in self.roles.iter() {
            let guarantee = self.quotas.get(&role.name).filter(|_| role.parent.is_none());
            let kinds = &mut self.measure.kinds.clone();
            let guarantee = guarantee.and_then(|quota| Bounds::guarantee(kinds, &quota.guarantee));
            assert_eq!(role.guarantee, guarantee, "a role has the guarantee that was set");
            guarantees += usize::from(guarantee.is_some());
            let lacks = role.lacks();
            assert!(role.unmet == lacks, "role {}: what it lacks of its guarantee", role.name);
            assert_eq!(self.headroom.wanting.contains(&key), !lacks.is_zero());
            required.add(&lacks);
        }
        assert_eq!(self.headroom.guarantees, guarantees);
        assert!(self.headroom.required == required, "what guarantees lack is kept");
        if guarantees > 0 {
            assert!(self.headroom.available == self.count_available(), "what is available is free");
        }
    }

    fn check_candidate(&self, key: AgentKey) {
        let agent = &self.agents[key];
        let candidate = self.candidates.contains(key);
        let offerable = self.offerable(key);
        assert_eq!(self.allocatable.contains(key), offerable.is_some());
        if offerable.is_none() {
            assert!(!candidate && agent.deadline.is_none(), "only what may be offered is looked at");
            return;
        }
        if candidate {
            return;
        }
        let mut copy = self.clone();
        copy.is_wanted(key, None);
        for (client, _) in self.clients.iter() {
            let state = &self.clients[client];
            let framework = &self.frameworks[state.framework];
            let waits = framework.is_full() && !self.passed_over.contains(key);
            let wants = state.subscribed && !state.suppressed && framework.active;
            if self.eligible.contains(client) || wants && waits {
                let takes = copy.takes(client, key, &mut Memo::default());
                let (who, role) = (&state.framework_id, &state.role_name);
                assert!(takes.is_err(), "what {who} would take of {} for {role} is looked at", agent.id);
            }
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
        let name = &agent.id;
        assert!(agent.free.as_ref().is_none_or(|free| !free.is_empty()), "nothing is not kept");
        let free = agent.free.as_ref().map_or_else(Resources::new, |free| Resources::clone(free));
        assert_eq!(free.shared(), agent.total.shared(), "agent {name}: shared volumes are free");
        let mut sum = free.firm();
        let mut given = Resources::new();
        for (client, amount) in &agent.allocated {
            assert!(!amount.is_empty(), "nothing is not kept");
            assert!(disjoint(&sum, &amount.firm()), "agent {name}: nothing is given twice");
            sum += &amount.firm();
            given += &amount.revocable();
            let copies = agent.copies.iter().filter(|(holder, _, copies)| holder == client && *copies > 0);
            let copies: Resources = copies.map(|(_, volume, _)| volume).sum();
            assert_eq!(copies, amount.shared(), "agent {name}: who holds a shared volume has copies of it");
        }
        assert_eq!(sum, agent.total.exclusive(), "agent {name}: allocated and free make the total");
        let mut lent = agent.lent.clone().unwrap_or_default();
        lent.saturating_sub(&given);
        assert_eq!(free.revocable(), lent, "agent {name}: what is lent is free as far as it is not given");
        assert!(agent.lent.is_some() || given.is_empty(), "agent {name}: it knows that it has lent");
        let holders = agent
            .copies
            .iter()
            .all(|(holder, volume, _)| volumes(volume).count() == 1 && agent.find(*holder).is_ok());
        assert!(holders, "agent {name}: who has copies holds something");
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
