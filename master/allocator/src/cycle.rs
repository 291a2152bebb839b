//! One allocation cycle.

use apportion_types::{Resources, Time};

use crate::{
    Allocation, SorterKind,
    amount::Amount,
    hierarchical::Hierarchical,
    room::Fit,
    slab::{AgentKey, ClientKey, Key},
    sorter::random::Random,
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
            // It comes again when a part of it was given and the rest is worth offering.
            at = agent.index();
            match self.choose(agent, now) {
                Some((client, part)) => {
                    allocations.push(self.give(agent, client, part));
                    first.get_or_insert(at + 1);
                    last = Some(at + 1);
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

    /// Who is to have what is free on the agent, or which part of it: the first in order who has room for it and whom no filter
    /// keeps from it.
    fn choose(&mut self, agent: AgentKey, now: Time) -> Option<(ClientKey, Option<Amount>)> {
        let number = agent.index();
        let agent = &mut self.agents[agent];
        let free = agent.free.as_ref().expect("a candidate has something free");
        let mut filters = agent.filters.as_deref_mut().filter(|filters| !filters.is_empty());
        if let Some(filters) = &mut filters {
            filters.expire(now);
            // Who refuses all of it refuses every part of it.
            if self.eligible.is_within(filters.blocked(free)) {
                return None;
            }
        }
        let mut random = match self.sorter {
            SorterKind::Drf => None,
            // Not by what was drawn before: agents that nobody wants leave no trace, however often they are looked at.
            SorterKind::Random { seed } => Some(Random::of([seed, self.allocations, number as u64])),
        };
        self.role_order.refresh(&self.capacity);
        for role in self.role_order.turns(random.as_mut().map(Random::fork)) {
            let role = &mut self.roles[role];
            let fit = self.measure.fit(role.limit.as_ref(), self.role_order.allocated(role.node), free);
            role.short |= !matches!(fit, Fit::Whole);
            let part = match fit {
                Fit::Whole => None,
                Fit::Part(part) => Some(part),
                Fit::Nothing => continue,
            };
            role.frameworks.refresh(&self.capacity);
            let mut frameworks = role.frameworks.turns(random.as_mut().map(Random::fork));
            let willing = match &filters {
                Some(filters) => frameworks.find(|&client| !filters.forbid(client, part.as_ref())),
                None => frameworks.next(),
            };
            if let Some(client) = willing {
                return Some((client, part));
            }
        }
        None
    }

    /// Gives the client a part of what is free on the agent; all of it when none is named.
    fn give(&mut self, agent: AgentKey, client: ClientKey, part: Option<Amount>) -> Allocation {
        let given = match part {
            None => self.give_free(client, agent),
            Some(part) => {
                self.give_part(client, agent, part.clone());
                part
            }
        };
        if let Some(filters) = &mut self.agents[agent].filters {
            filters.visit();
        }
        if self.agents[agent].offerable().is_none() {
            self.withdraw(agent);
        }
        self.check_agent(agent);
        let client = &self.clients[client];
        let role = &mut self.roles[client.role];
        role.frameworks.count(client.node);
        self.role_order.count(role.node);
        self.allocations += 1;
        Allocation {
            framework: client.framework_id.clone(),
            role: client.role_name.clone(),
            agent: self.agents[agent].id.clone(),
            resources: Resources::clone(&given),
        }
    }
}
