//! One allocation cycle.

use apportion_types::{Resources, Time};

use crate::{
    Allocation,
    hierarchical::Hierarchical,
    slab::{AgentKey, ClientKey, Key},
};

impl Hierarchical {
    pub(crate) fn cycle(&mut self, now: Time, allocations_max: usize) -> Vec<Allocation> {
        while let Some(&(time, agent)) = self.deadlines.first() {
            if time > now {
                break;
            }
            self.deadlines.pop_first();
            self.agents[agent].deadline = None;
            self.candidates.insert(agent);
        }
        if self.eligible.is_empty() {
            return Vec::new();
        }
        let mut allocations = Vec::with_capacity(self.candidates.len().min(allocations_max));
        let (mut at, mut wrapped) = (self.cursor, false);
        let (mut first, mut last) = (None, None);
        while allocations.len() < allocations_max && !self.candidates.is_empty() {
            let agent = match self.candidates.next_from(at) {
                Some(agent) if !wrapped || agent.index() < self.cursor => agent,
                None if !wrapped => {
                    (at, wrapped) = (0, true);
                    continue;
                }
                _ => break,
            };
            at = agent.index() + 1;
            match self.choose(agent, now) {
                Some(client) => {
                    allocations.push(self.give(agent, client));
                    first.get_or_insert(at);
                    last = Some(at);
                }
                None => self.pass_over(agent),
            }
        }
        // At the bound, those who were not reached come next; else a different one begins.
        let stopped = allocations.len() >= allocations_max;
        self.cursor = if stopped { last } else { first }.unwrap_or(self.cursor);
        self.check_small();
        allocations
    }

    /// Who is to have what is free on the agent: the first in order whom no filter keeps from it.
    fn choose(&mut self, agent: AgentKey, now: Time) -> Option<ClientKey> {
        let agent = &mut self.agents[agent];
        self.role_order.refresh(&self.capacity);
        let Some(filters) = agent.filters.as_mut().filter(|filters| !filters.is_empty()) else {
            let role = &mut self.roles[self.role_order.iter().next()?];
            role.frameworks.refresh(&self.capacity);
            return role.frameworks.iter().next();
        };
        filters.expire(now);
        let free = agent.free.as_ref().expect("a candidate has something free");
        let blocked = filters.blocked(free);
        if self.eligible.is_within(blocked) {
            return None;
        }
        for role in self.role_order.iter() {
            let role = &mut self.roles[role];
            role.frameworks.refresh(&self.capacity);
            if let Some(client) = role.frameworks.iter().find(|&client| !blocked.contains(client)) {
                return Some(client);
            }
        }
        None
    }

    fn give(&mut self, agent: AgentKey, client: ClientKey) -> Allocation {
        let given = self.give_free(client, agent);
        if let Some(filters) = &mut self.agents[agent].filters {
            filters.visit();
        }
        self.withdraw(agent);
        self.check_agent(agent);
        let client = &self.clients[client];
        let role = &mut self.roles[client.role];
        role.frameworks.count(client.node);
        self.role_order.count(role.node);
        Allocation {
            framework: client.framework_id.clone(),
            role: client.role_name.clone(),
            agent: self.agents[agent].id.clone(),
            resources: Resources::clone(&given),
        }
    }
}
