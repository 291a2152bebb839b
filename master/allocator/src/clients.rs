//! How a framework takes part in roles: begins, pauses, ends.

use std::collections::BTreeSet;

use apportion_types::{FrameworkId, Role};

use crate::{
    bits::BitSet,
    hierarchical::Hierarchical,
    room::Limit,
    slab::{AgentKey, ClientKey, FrameworkKey, RoleKey},
    sorter::Sorter,
    state::{Client, RoleState},
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

    /// Adds roles to a framework; those that it has stay as they are, but for suppression by name.
    pub(crate) fn subscribe(&mut self, framework: FrameworkKey, roles: &[Role], suppressed: &BTreeSet<Role>) {
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
        let framework_id = self.frameworks[framework].id.clone();
        let state = &mut self.roles[role_key];
        state.clients += 1;
        let client = self.clients.insert_with(|client| Client {
            framework,
            role: role_key,
            role_name: role.clone(),
            node: state.frameworks.add(framework_id.clone(), client, Weight::default()),
            framework_id,
            subscribed: false,
            suppressed: false,
            holds: BitSet::default(),
            filtered: BitSet::default(),
        });
        self.frameworks[framework].clients.insert(index, (role.clone(), client));
        client
    }

    fn role_or_new(&mut self, role: &Role) -> RoleKey {
        if let Some(key) = self.role_keys.find(role) {
            return key;
        }
        let order = &mut self.role_order;
        let weight = self.weights.get(role).copied().unwrap_or_default();
        let limit = self.quota_limits.get(role).map(|limit| Limit::new(&mut self.measure.kinds, limit));
        let key = self.roles.insert_with(|key| RoleState {
            name: role.clone(),
            node: order.add(role.clone(), key, weight),
            frameworks: Sorter::default(),
            limit,
            short: false,
            clients: 0,
            eligible: 0,
        });
        self.role_keys.insert(role.clone(), key);
        key
    }

    /// Lists a client among those who may be given something, or no longer, as its state says. When it joins them, every
    /// agent with something to offer becomes a candidate.
    pub(crate) fn reassess(&mut self, key: ClientKey) {
        let client = &self.clients[key];
        let eligible = client.subscribed && !client.suppressed && self.frameworks[client.framework].active;
        if eligible == self.eligible.contains(key) {
            return;
        }
        let role = &mut self.roles[client.role];
        if eligible {
            self.eligible.insert(key);
            role.frameworks.list(client.node);
            role.eligible += 1;
            if role.eligible == 1 {
                self.role_order.list(role.node);
            }
            self.candidates.extend_from(&self.allocatable);
        } else {
            self.eligible.remove(key);
            role.frameworks.unlist(client.node);
            role.eligible -= 1;
            if role.eligible == 0 {
                self.role_order.unlist(role.node);
            }
        }
    }

    /// A role may have room for more: when that was what kept resources from it, every agent with something to offer becomes a
    /// candidate.
    pub(crate) fn room_grew(&mut self, role: RoleKey) {
        if std::mem::take(&mut self.roles[role].short) {
            self.candidates.extend_from(&self.allocatable);
        }
    }

    /// Forgets a client's filters; says on which allocatable agents there were some.
    pub(crate) fn forget_filters(&mut self, key: ClientKey) -> BitSet<AgentKey> {
        let mut forgotten = BitSet::default();
        for agent in std::mem::take(&mut self.clients[key].filtered).iter() {
            let state = self.agents.find_mut(agent).and_then(|agent| agent.filters.as_mut());
            let any = state.is_some_and(|filters| filters.forget(key));
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
        let client = self.clients.remove(key);
        let framework = &mut self.frameworks[client.framework];
        let index = framework.find(&client.role_name).expect("a client is among its framework's");
        framework.clients.remove(index);
        let role = &mut self.roles[client.role];
        role.frameworks.remove(client.node);
        role.clients -= 1;
        if role.clients == 0 {
            self.role_order.remove(role.node);
            self.roles.remove(client.role);
            self.role_keys.remove(&client.role_name);
        }
    }
}
