//! The tree of roles: who stands where, and what each level counts.

use apportion_types::{Resources, Role, resources::Value};

use crate::{
    amount::Amount,
    hierarchical::Hierarchical,
    quantities::Quantities,
    slab::{ClientKey, RoleKey},
    sorter::Sorter,
    state::RoleState,
    weight::Weight,
};

/// A change of what a client has, at every level from it to the top.
#[derive(Clone, Copy)]
pub(crate) enum Posting<'a> {
    Give(&'a Amount),
    Take(&'a Amount),
    /// One more allocation.
    Count,
    /// One fewer: it never was.
    Uncount,
}

impl<N: Ord + Clone, K: crate::slab::Key> Sorter<N, K> {
    fn post(&mut self, node: crate::slab::NodeKey, posting: Posting<'_>) {
        match posting {
            Posting::Give(amount) => self.allocate(node, amount.quantities()),
            Posting::Take(amount) => self.unallocate(node, amount.quantities()),
            Posting::Count => self.count(node),
            Posting::Uncount => self.uncount(node),
        }
    }
}

impl Hierarchical {
    /// The roles directly below one, or at the top.
    pub(crate) fn level(&self, above: Option<RoleKey>) -> &Sorter<Role, RoleKey> {
        match above {
            Some(role) => &self.roles[role].below,
            None => &self.top,
        }
    }

    pub(crate) fn level_mut(&mut self, above: Option<RoleKey>) -> &mut Sorter<Role, RoleKey> {
        match above {
            Some(role) => &mut self.roles[role].below,
            None => &mut self.top,
        }
    }

    pub(crate) fn role_or_new(&mut self, role: &Role) -> RoleKey {
        if let Some(key) = self.role_keys.find(role) {
            return key;
        }
        let parent = role.parent().map(|parent| self.role_or_new(&parent));
        if let Some(parent) = parent {
            self.roles[parent].children += 1;
        }
        // A role with a quota is known as long as it has it.
        let limited = parent.is_some_and(|parent| self.roles[parent].limited);
        let key = self.roles.insert(RoleState {
            name: role.clone(),
            parent,
            node: None,
            own: None,
            below: Sorter::default(),
            frameworks: Sorter::default(),
            children: 0,
            clients: 0,
            tenants: 0,
            own_eligible: 0,
            eligible: 0,
            limit: None,
            limited,
            short: false,
            guarantee: None,
            unmet: Quantities::default(),
            used: Quantities::default(),
            reserved: Quantities::default(),
        });
        self.role_keys.insert(role.clone(), key);
        key
    }

    /// Forgets a role of no use, and those above it that are of none without it.
    pub(crate) fn prune_role(&mut self, key: RoleKey) {
        let role = &self.roles[key];
        if role.tenants > 0
            || role.children > 0
            || !role.reserved.is_zero()
            || self.quotas.contains_key(&role.name)
        {
            return;
        }
        let gone = self.roles.remove(key);
        self.role_keys.remove(&gone.name);
        if let Some(parent) = gone.parent {
            self.roles[parent].children -= 1;
            self.prune_role(parent);
        }
    }

    /// One more client in a role.
    pub(crate) fn move_in(&mut self, key: RoleKey) {
        let role = &mut self.roles[key];
        role.clients += 1;
        if role.clients == 1 {
            role.own = Some(role.below.add(role.name.clone(), key, Weight::default()));
        }
        let mut at = Some(key);
        while let Some(key) = at {
            let role = &mut self.roles[key];
            role.tenants += 1;
            at = role.parent;
            if role.tenants == 1 {
                let (name, parent) = (role.name.clone(), role.parent);
                let weight = self.weights.get(&name).copied().unwrap_or_default();
                let node = self.level_mut(parent).add(name, key, weight);
                self.roles[key].node = Some(node);
            }
        }
    }

    /// One client fewer in a role.
    pub(crate) fn move_out(&mut self, key: RoleKey) {
        let role = &mut self.roles[key];
        role.clients -= 1;
        if role.clients == 0 {
            role.below.remove(role.own.take().expect("it has had clients"));
        }
        let mut at = Some(key);
        while let Some(key) = at {
            let role = &mut self.roles[key];
            role.tenants -= 1;
            at = role.parent;
            if role.tenants == 0 {
                let node = role.node.take().expect("it has had clients");
                self.level_mut(at).remove(node);
            }
        }
        self.prune_role(key);
    }

    /// Lists a client among those who are asked.
    pub(crate) fn enroll(&mut self, client: ClientKey) {
        let client = &self.clients[client];
        let mut at = client.role;
        let role = &mut self.roles[at];
        role.frameworks.list(client.node);
        role.own_eligible += 1;
        if role.own_eligible == 1 {
            role.below.list(role.own.expect("it has clients"));
        }
        loop {
            let role = &mut self.roles[at];
            role.eligible += 1;
            let (first, node, parent) = (role.eligible == 1, role.node.expect("it has clients"), role.parent);
            if first {
                self.level_mut(parent).list(node);
            }
            match parent {
                Some(parent) => at = parent,
                None => break,
            }
        }
    }

    /// Lists a client no longer.
    pub(crate) fn dismiss(&mut self, client: ClientKey) {
        let client = &self.clients[client];
        let mut at = client.role;
        let role = &mut self.roles[at];
        role.frameworks.unlist(client.node);
        role.own_eligible -= 1;
        if role.own_eligible == 0 {
            role.below.unlist(role.own.expect("it has clients"));
        }
        loop {
            let role = &mut self.roles[at];
            role.eligible -= 1;
            let (last, node, parent) = (role.eligible == 0, role.node.expect("it has clients"), role.parent);
            if last {
                self.level_mut(parent).unlist(node);
            }
            match parent {
                Some(parent) => at = parent,
                None => break,
            }
        }
    }

    /// Counts a change of what a client has.
    pub(crate) fn post(&mut self, client: ClientKey, posting: Posting<'_>) {
        let client = &self.clients[client];
        let mut at = client.role;
        let role = &mut self.roles[at];
        role.frameworks.post(client.node, posting);
        role.below.post(role.own.expect("it has clients"), posting);
        loop {
            let role = &mut self.roles[at];
            match posting {
                Posting::Give(amount) => role.used.add(amount.plain()),
                Posting::Take(amount) => role.used.subtract(amount.plain()),
                Posting::Count | Posting::Uncount => {}
            }
            let node = role.node.expect("it has clients");
            match role.parent {
                Some(parent) => {
                    self.roles[parent].below.post(node, posting);
                    at = parent;
                }
                None => {
                    self.top.post(node, posting);
                    break;
                }
            }
        }
        self.reckon(at);
    }

    /// Counts the reservations among an agent's resources, or no longer.
    pub(crate) fn book_reservations(&mut self, resources: &Resources, made: bool) {
        if !resources.has_terms() {
            return;
        }
        let mut sums: Vec<(&Role, Quantities)> = Vec::new();
        for entry in resources.entries() {
            let (Some(role), Value::Scalar(milli)) = (entry.role(), entry.value()) else { continue };
            let kind = self.measure.kinds.number(entry.name());
            let index = sums.iter().position(|(known, _)| *known == role).unwrap_or_else(|| {
                sums.push((role, Quantities::default()));
                sums.len() - 1
            });
            let sum = &mut sums[index].1;
            sum.put(kind, sum.of(kind) + milli);
        }
        for (role, quantities) in sums {
            let key = self.role_or_new(role);
            let (mut at, mut top) = (Some(key), key);
            while let Some(key) = at {
                let role = &mut self.roles[key];
                match made {
                    true => role.reserved.add(&quantities),
                    false => role.reserved.subtract(&quantities),
                }
                (top, at) = (key, role.parent);
            }
            self.reckon(top);
            self.room_grew(key);
            self.prune_role(key);
        }
    }
}
