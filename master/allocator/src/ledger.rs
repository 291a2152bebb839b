//! Who holds what: the one way for resources to be given and to come back.

use apportion_types::Resources;

use crate::{
    amount::Amount,
    hierarchical::Hierarchical,
    slab::{AgentKey, ClientKey},
};

impl Hierarchical {
    /// Gives a client all that is free on an agent.
    pub(crate) fn give_free(&mut self, client: ClientKey, agent: AgentKey) -> Amount {
        let free = self.agents[agent].free.take().expect("only what is free is given");
        self.hold(client, agent, free.clone());
        free
    }

    /// Gives a client a part of what is free on an agent; the caller has seen to it that it is free.
    pub(crate) fn give_part(&mut self, client: ClientKey, agent: AgentKey, part: Amount) {
        let free = self.agents[agent].free.take().expect("only what is free is given");
        self.agents[agent].free = self.measure.difference(free, &part);
        self.hold(client, agent, part);
    }

    fn hold(&mut self, key: ClientKey, agent_key: AgentKey, amount: Amount) {
        let client = &mut self.clients[key];
        let role = &mut self.roles[client.role];
        role.frameworks.allocate(client.node, amount.quantities());
        self.role_order.allocate(role.node, amount.quantities());
        let agent = &mut self.agents[agent_key];
        match agent.find(key) {
            Ok(index) => {
                let held = std::mem::replace(&mut agent.allocated[index].1, amount.clone());
                agent.allocated[index].1 = self.measure.sum(held, &amount);
            }
            Err(index) => {
                agent.allocated.insert(index, (key, amount));
                client.holds.insert(agent_key);
            }
        }
    }

    /// Takes resources back from a client, and says what they were.
    pub(crate) fn release(&mut self, key: ClientKey, agent_key: AgentKey, resources: &Resources) -> Amount {
        let agent = &mut self.agents[agent_key];
        let Ok(index) = agent.find(key) else {
            panic!("agent {}: {resources} recovered, nothing is allocated", agent.id)
        };
        let client = &mut self.clients[key];
        let held = &agent.allocated[index].1;
        let taken = if **held == *resources {
            client.holds.remove(agent_key);
            agent.allocated.remove(index).1
        } else {
            assert!(held.contains(resources), "agent {}: {resources} recovered of {}", agent.id, **held);
            let taken = self.measure.amount(resources.clone());
            let held = std::mem::replace(&mut agent.allocated[index].1, taken.clone());
            let rest = self.measure.difference(held, resources);
            agent.allocated[index].1 = rest.expect("unequal amounts have a difference");
            taken
        };
        let role = &mut self.roles[client.role];
        role.frameworks.unallocate(client.node, taken.quantities());
        self.role_order.unallocate(role.node, taken.quantities());
        agent.free = Some(match agent.free.take() {
            Some(free) => self.measure.sum(free, &taken),
            None => taken.clone(),
        });
        let role = client.role;
        self.room_grew(role);
        self.check_agent(agent_key);
        taken
    }
}
