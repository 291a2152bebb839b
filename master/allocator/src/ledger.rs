//! Who holds what: the one way for resources to be given, to come back, and to become others.

use apportion_types::{
    Resources,
    operation::Conversion,
    resources::{Entry, Value},
};

use crate::{
    amount::Amount,
    hierarchical::Hierarchical,
    slab::{AgentKey, ClientKey},
    tree::Posting,
};

impl Hierarchical {
    /// Says anew what of an agent is free; what was.
    pub(crate) fn set_free(&mut self, key: AgentKey, free: Option<Amount>) -> Option<Amount> {
        let agent = &mut self.agents[key];
        let before = std::mem::replace(&mut agent.free, free);
        if self.headroom.guarantees > 0 && agent.is_active() {
            if let Some(before) = &before {
                self.headroom.available.subtract(before.plain());
            }
            if let Some(free) = &agent.free {
                self.headroom.available.add(free.plain());
            }
        }
        if let Some(changes) = &mut self.changes {
            changes.insert((key, agent.id.clone()));
        }
        before
    }

    /// Gives a client all that is free on an agent.
    pub(crate) fn give_free(&mut self, client: ClientKey, agent: AgentKey) -> Amount {
        if !self.agents[agent].is_apart() {
            let free = self.set_free(agent, None).expect("only what is free is given");
            self.hold(client, agent, free.clone());
            return free;
        }
        let free = self.agents[agent].free.clone().expect("only what is free is given");
        self.give_part(client, agent, free.clone());
        free
    }

    /// Gives a client a part of what is free on an agent; the caller has seen to it that it is free.
    pub(crate) fn give_part(&mut self, client: ClientKey, agent: AgentKey, part: Amount) {
        if self.agents[agent].is_apart() {
            self.hold(client, agent, part);
            self.recount_free(agent);
            return;
        }
        let free = self.agents[agent].free.clone().expect("only what is free is given");
        let rest = self.measure.difference(free, &part);
        self.set_free(agent, rest);
        self.hold(client, agent, part);
    }

    pub(crate) fn hold(&mut self, key: ClientKey, agent_key: AgentKey, amount: Amount) {
        self.post(key, Posting::Give(&amount));
        let agent = &mut self.agents[agent_key];
        if amount.shares() {
            for volume in volumes(&amount) {
                match agent.copies_of(key, &volume) {
                    Some(copies) => *copies += 1,
                    None => agent.copies.push((key, volume, 1)),
                }
            }
        }
        match agent.find(key) {
            Ok(index) => {
                let held = std::mem::replace(&mut agent.allocated[index].1, amount.clone());
                agent.allocated[index].1 = self.measure.sum(held, &amount);
            }
            Err(index) => {
                agent.allocated.insert(index, (key, amount));
                self.clients[key].holds.insert(agent_key);
            }
        }
    }

    /// Takes resources back from a client, and says what they were.
    pub(crate) fn release(&mut self, key: ClientKey, agent_key: AgentKey, resources: &Resources) -> Amount {
        let agent = &mut self.agents[agent_key];
        let Ok(index) = agent.find(key) else {
            panic!("agent {}: {resources} recovered, nothing is allocated", agent.id)
        };
        let held = &agent.allocated[index].1;
        let taken = if **held == *resources && !held.shares() {
            self.clients[key].holds.remove(agent_key);
            agent.allocated.remove(index).1
        } else {
            assert!(held.contains(resources), "agent {}: {resources} recovered of {}", agent.id, **held);
            let taken = self.measure.amount(resources.clone());
            let held = held.clone();
            let gone =
                if taken.shares() { self.return_copies(key, agent_key, &taken) } else { taken.clone() };
            let rest = self.measure.difference(held, &gone);
            self.set_held(key, agent_key, rest);
            taken
        };
        self.post(key, Posting::Take(&taken));
        self.free_again(agent_key, &taken);
        let role = self.clients[key].role;
        self.room_grew(role);
        self.headroom_grew();
        self.check_agent(agent_key);
        taken
    }

    /// Takes back everything that a client holds on an agent.
    pub(crate) fn release_all(&mut self, key: ClientKey, agent_key: AgentKey) {
        let agent = &mut self.agents[agent_key];
        let index = agent.find(key).expect("a holder holds something");
        let (_, held) = agent.allocated.remove(index);
        agent.copies.retain(|(holder, _, _)| *holder != key);
        self.clients[key].holds.remove(agent_key);
        self.post(key, Posting::Take(&held));
        self.free_again(agent_key, &held);
        let role = self.clients[key].role;
        self.room_grew(role);
        self.headroom_grew();
        self.check_agent(agent_key);
    }

    fn free_again(&mut self, key: AgentKey, taken: &Amount) {
        if self.agents[key].is_apart() {
            self.recount_free(key);
            return;
        }
        let free = match self.agents[key].free.clone() {
            Some(free) => self.measure.sum(free, taken),
            None => taken.clone(),
        };
        self.set_free(key, Some(free));
    }

    /// Takes back one copy of each shared volume; says what of the amount the client then has no more.
    fn return_copies(&mut self, key: ClientKey, agent_key: AgentKey, taken: &Amount) -> Amount {
        let agent = &mut self.agents[agent_key];
        let mut gone = taken.exclusive();
        for volume in volumes(taken) {
            let copies = agent.copies_of(key, &volume).expect("a shared volume that is held has its copies");
            *copies -= 1;
            if *copies == 0 {
                agent.copies.retain(|(holder, held, _)| *holder != key || *held != volume);
                gone += &volume;
            }
        }
        self.measure.amount(gone)
    }

    fn set_held(&mut self, key: ClientKey, agent_key: AgentKey, held: Option<Amount>) {
        let agent = &mut self.agents[agent_key];
        let index = agent.find(key).expect("it holds something");
        match held {
            Some(held) => agent.allocated[index].1 = held,
            None => {
                agent.allocated.remove(index);
                self.clients[key].holds.remove(agent_key);
            }
        }
    }

    /// What is free of an agent, when that is not simply what is not given: shared volumes are free however many hold them, and of
    /// what is lent there may be less than is given.
    pub(crate) fn recount_free(&mut self, key: AgentKey) {
        let agent = &self.agents[key];
        let mut free = Resources::clone(&agent.total);
        if let Some(lent) = &agent.lent {
            free += lent;
        }
        for (_, held) in &agent.allocated {
            match held.shares() {
                true => free.saturating_sub(&held.exclusive()),
                false => free.saturating_sub(held),
            }
        }
        if agent.free.as_ref().is_some_and(|known| **known == free) {
            return;
        }
        let free = self.measure.some(free);
        self.set_free(key, free);
    }

    /// Does an operation with what is free on an agent, if it can be done.
    pub(crate) fn convert_what_is_free(&mut self, key: AgentKey, conversion: &Conversion) -> bool {
        let agent = &self.agents[key];
        let free = agent.free.as_ref().map_or_else(Resources::new, |free| Resources::clone(free));
        let in_use = |volume| agent.copies.iter().any(|(_, held, _)| *held == volume);
        if volumes(&conversion.consumed).any(in_use) {
            return false;
        }
        let converted = conversion.apply(&free).zip(conversion.apply(&agent.total));
        let Some((free, total)) = converted else { return false };
        let free = self.measure.some(free);
        self.convert_total(key, total);
        self.set_free(key, free);
        self.headroom_grew();
        true
    }

    /// Does an operation with what a client holds on an agent.
    pub(crate) fn convert_held(&mut self, client: ClientKey, key: AgentKey, conversion: &Conversion) {
        let agent = &mut self.agents[key];
        let index = agent.find(client).expect("it holds something");
        let held = agent.allocated[index].1.clone();
        let converted = conversion.apply(&held).expect("it holds what is consumed");
        let total = conversion.apply(&agent.total).expect("what is held is part of the whole");
        for volume in volumes(&conversion.consumed) {
            agent.copies.retain(|(holder, known, _)| *holder != client || *known != volume);
        }
        agent.copies.extend(volumes(&conversion.produced).map(|volume| (client, volume, 1)));
        let converted = self.measure.amount(converted);
        self.post(client, Posting::Take(&held));
        self.post(client, Posting::Give(&converted));
        self.set_held(client, key, Some(converted));
        self.convert_total(key, total);
        self.recount_free(key);
        let role = self.clients[client].role;
        self.room_grew(role);
        self.headroom_grew();
    }

    fn convert_total(&mut self, key: AgentKey, total: Resources) {
        let total = self.measure.amount(total);
        let before = std::mem::replace(&mut self.agents[key].total, total.clone());
        self.book_reservations(&total, true);
        self.book_reservations(&before, false);
    }
}

/// The shared volumes among some resources, one by one.
pub(crate) fn volumes(resources: &Resources) -> impl Iterator<Item = Resources> + '_ {
    resources.entries().filter(|entry| entry.is_shared()).map(one)
}

fn one(entry: &Entry) -> Resources {
    let mut one = Resources::new();
    let value: Value = entry.value().clone();
    one.insert_on(entry.name().clone(), entry.terms().cloned().map(std::sync::Arc::new), value);
    one
}
