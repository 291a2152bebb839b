//! How a framework takes part in roles: joins, pauses, changes what it wants, parts.

use std::{collections::BTreeSet, sync::Arc};

use apportion_types::{Capability, FrameworkId, Role, Time};

use crate::{
    Wants,
    amount::Amount,
    bits::BitSet,
    hierarchical::Hierarchical,
    slab::{AgentKey, ClientKey, FrameworkKey},
    state::{Client, Framework},
    weight::Weight,
};

impl Hierarchical {
    pub(crate) fn clients_of(&self, framework: FrameworkKey) -> Vec<ClientKey> {
        self.frameworks[framework].clients.iter().map(|&(_, client)| client).collect()
    }

    /// The clients of those of the framework's roles that are named; all when none is.
    pub(crate) fn named_clients(&self, framework: &FrameworkId, roles: &[Role]) -> Vec<ClientKey> {
        let framework = &self.frameworks[self.framework_key(framework)];
        let named = framework.clients.iter().filter(|(role, client)| {
            self.clients[*client].subscribed && (roles.is_empty() || roles.contains(role))
        });
        named.map(|&(_, client)| client).collect()
    }

    pub(crate) fn join_framework(
        &mut self,
        id: &FrameworkId,
        Wants { roles, suppressed, options }: Wants<'_>,
    ) {
        let state = Framework {
            id: id.clone(),
            active: true,
            options: options.clone(),
            outstanding: 0,
            offers_max: options.offers_max.unwrap_or(u32::MAX).min(self.offers_max),
            clients: Vec::new(),
        };
        self.full += usize::from(state.is_full());
        let key = self.frameworks.insert(state);
        let known = self.framework_keys.insert(id.clone(), key);
        assert!(known.is_none(), "framework {id} is added twice");
        self.subscribe(key, roles, suppressed);
    }

    pub(crate) fn part_framework(&mut self, key: FrameworkKey) {
        self.frameworks[key].active = false;
        let clients = self.clients_of(key);
        let mut freed = BitSet::default();
        for &client in &clients {
            self.reassess(client);
            self.forget_filters(client);
            for agent in self.clients[client].holds.iter().collect::<Vec<_>>() {
                self.release_all(client, agent);
                freed.insert(agent);
            }
            self.clients[client].subscribed = false;
            self.prune(client);
        }
        let gone = self.frameworks.remove(key);
        self.full -= usize::from(gone.is_full());
        self.framework_keys.remove(&gone.id);
        for agent in freed.iter() {
            self.settle(agent);
        }
    }

    pub(crate) fn activate_framework(&mut self, key: FrameworkKey, active: bool) {
        self.frameworks[key].active = active;
        for client in self.clients_of(key) {
            self.reassess(client);
            if !active {
                self.forget_filters(client);
            }
        }
    }

    pub(crate) fn change_wants(
        &mut self,
        key: FrameworkKey,
        Wants { roles, suppressed, options }: Wants<'_>,
    ) {
        for client in self.clients_of(key) {
            if !roles.contains(&self.clients[client].role_name) {
                self.clients[client].subscribed = false;
                self.clients[client].suppressed = false;
                self.reassess(client);
                self.forget_filters(client);
                self.prune(client);
            }
        }
        if self.frameworks[key].options != *options {
            let framework = &mut self.frameworks[key];
            self.full -= usize::from(framework.is_full());
            framework.options = options.clone();
            framework.offers_max = options.offers_max.unwrap_or(u32::MAX).min(self.offers_max);
            self.full += usize::from(framework.is_full());
            for client in self.clients_of(key) {
                self.equip(client);
                self.reassess(client);
                self.may_take_more(client);
            }
        }
        self.subscribe(key, roles, suppressed);
        for client in self.clients_of(key) {
            let state = &self.clients[client];
            if state.suppressed && !suppressed.contains(&state.role_name) {
                self.revive_client(client);
            }
        }
    }

    /// Adds roles to a framework; those that it has stay as they are, but for suppression by name.
    fn subscribe(&mut self, framework: FrameworkKey, roles: &[Role], suppressed: &BTreeSet<Role>) {
        for role in roles {
            let client = self.client_or_new(framework, role);
            self.clients[client].subscribed = true;
            self.clients[client].suppressed |= suppressed.contains(role);
            self.reassess(client);
        }
    }

    pub(crate) fn client_or_new(&mut self, framework: FrameworkKey, role: &Role) -> ClientKey {
        let index = match self.frameworks[framework].find(role) {
            Ok(index) => return self.frameworks[framework].clients[index].1,
            Err(index) => index,
        };
        let role_key = self.role_or_new(role);
        self.move_in(role_key);
        let framework_id = self.frameworks[framework].id.clone();
        let state = &mut self.roles[role_key];
        let client = self.clients.insert_with(|client| Client {
            framework,
            role: role_key,
            role_name: role.clone(),
            node: state.frameworks.add(framework_id.clone(), client, Weight::default()),
            framework_id,
            subscribed: false,
            suppressed: false,
            borrows: false,
            shares: false,
            minimums: None,
            holds: BitSet::default(),
            filtered: BitSet::default(),
        });
        self.frameworks[framework].clients.insert(index, (role.clone(), client));
        self.equip(client);
        client
    }

    /// Has a client know its framework's options.
    pub(crate) fn equip(&mut self, key: ClientKey) {
        let client = &mut self.clients[key];
        let options = &self.frameworks[client.framework].options;
        client.borrows = options.capabilities.contains(&Capability::RevocableResources);
        client.shares = options.capabilities.contains(&Capability::SharedResources);
        let minimums = options.min_allocatable.get(&client.role_name).map(|own| Arc::from(own.as_slice()));
        let had = std::mem::replace(&mut client.minimums, minimums).is_some();
        let has = client.minimums.is_some();
        self.judge_client(key);
        self.count_minimums(usize::from(has), usize::from(had));
    }

    /// So many clients more, and so many fewer, have minimums of their own. With the first, what all others would call too little
    /// may be offered.
    fn count_minimums(&mut self, more: usize, fewer: usize) {
        let before = self.own_minimums;
        self.own_minimums = before + more - fewer;
        if (before == 0) != (self.own_minimums == 0) {
            self.settle_all();
        }
    }

    /// Decides for every agent anew whether the next cycle looks at it.
    pub(crate) fn settle_all(&mut self) {
        let agents: Vec<AgentKey> = self.agents.iter().map(|(key, _)| key).collect();
        for agent in agents {
            self.settle(agent);
        }
    }

    /// Lists a client among those who may be given something, or no longer, as its state says. When it joins them, every
    /// agent with something to offer becomes a candidate.
    pub(crate) fn reassess(&mut self, key: ClientKey) {
        if self.enlist(key) {
            self.candidates.extend_from(&self.allocatable);
        } else {
            self.may_take_later(key, None);
        }
    }

    /// The same; true when it has joined.
    fn enlist(&mut self, key: ClientKey) -> bool {
        let eligible = self.standing(key).next().is_none();
        match (self.eligible.contains(key), eligible) {
            (false, true) => {
                self.eligible.insert(key);
                self.enroll(key);
                true
            }
            (true, false) => {
                self.eligible.remove(key);
                self.dismiss(key);
                false
            }
            _ => false,
        }
    }

    /// A client may take what it did not before, of any agent.
    fn may_take_more(&mut self, key: ClientKey) {
        if self.eligible.contains(key) {
            self.candidates.extend_from(&self.allocatable);
        }
    }

    /// While a framework holds as many offers as it may, notes what it is to be shown when it does not: these agents, or all.
    fn may_take_later(&mut self, key: ClientKey, agents: Option<&BitSet<AgentKey>>) {
        if self.frameworks[self.clients[key].framework].is_full() && !self.eligible.contains(key) {
            self.passed_over.extend_from(agents.unwrap_or(&self.allocatable));
        }
    }

    /// A client holds one more offer.
    pub(crate) fn open_offer(&mut self, client: ClientKey) {
        let framework = self.clients[client].framework;
        self.frameworks[framework].outstanding += 1;
        if self.frameworks[framework].is_full() {
            self.full += 1;
            for client in self.clients_of(framework) {
                self.enlist(client);
            }
        }
    }

    /// A framework holds so many offers fewer.
    pub(crate) fn close_offers(&mut self, key: FrameworkKey, offers: u32) {
        let framework = &mut self.frameworks[key];
        let was_full = framework.is_full();
        let rest = framework.outstanding.checked_sub(offers);
        framework.outstanding =
            rest.unwrap_or_else(|| panic!("framework {}: more offers closed than made", framework.id));
        if !was_full || framework.is_full() {
            return;
        }
        self.full -= 1;
        let mut joined = false;
        for client in self.clients_of(key) {
            joined |= self.enlist(client);
        }
        if joined {
            self.candidates.extend_from_both(&self.passed_over, &self.allocatable);
        }
        if self.full == 0 {
            self.passed_over.clear();
        }
    }

    pub(crate) fn revive_client(&mut self, key: ClientKey) {
        self.clients[key].suppressed = false;
        self.reassess(key);
        let forgotten = self.forget_filters(key);
        if self.eligible.contains(key) {
            self.candidates.extend_from(&forgotten);
        } else {
            self.may_take_later(key, Some(&forgotten));
        }
    }

    /// Keeps a client from what it refused, for a time.
    pub(crate) fn refuse(&mut self, key: ClientKey, agent: AgentKey, refused: &Amount, until: Time) {
        self.clients[key].filtered.insert(agent);
        let filters = self.agents[agent].filters.get_or_insert_default();
        Arc::make_mut(filters).refuse(key, refused, until);
    }

    /// Forgets a client's filters; says on which allocatable agents there were some.
    pub(crate) fn forget_filters(&mut self, key: ClientKey) -> BitSet<AgentKey> {
        let mut forgotten = BitSet::default();
        for agent in std::mem::take(&mut self.clients[key].filtered).iter() {
            let state = self.agents.find_mut(agent).and_then(|agent| agent.filters.as_mut());
            let any = state.is_some_and(|filters| Arc::make_mut(filters).forget(key));
            if any && self.allocatable.contains(agent) {
                forgotten.insert(agent);
            }
        }
        forgotten
    }

    /// Forgets a client that neither subscribes nor holds anything, and its role with the last one.
    pub(crate) fn prune(&mut self, key: ClientKey) {
        let client = &self.clients[key];
        if client.subscribed || !client.holds.is_empty() {
            return;
        }
        debug_assert!(!self.eligible.contains(key) && client.filtered.is_empty(), "it ended before");
        self.forget_judgements(key);
        let client = self.clients.remove(key);
        let framework = &mut self.frameworks[client.framework];
        let index = framework.find(&client.role_name).expect("a client is among its framework's");
        framework.clients.remove(index);
        self.roles[client.role].frameworks.remove(client.node);
        self.move_out(client.role);
        self.count_minimums(0, usize::from(client.minimums.is_some()));
    }
}
