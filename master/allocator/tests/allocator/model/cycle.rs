//! One cycle.

use apportion_allocator::Allocation;
use apportion_types::{AgentId, Resources, Time};

use super::{Model, rules::holds_any};

impl Model {
    /// A cycle; over one agent alone, when it is named.
    pub(super) fn cycle(
        &mut self,
        now: Time,
        allocations_max: usize,
        only: Option<&AgentId>,
    ) -> Vec<Allocation> {
        let mut allocations = Vec::new();
        let first_place = self.first_place;
        let looked_at = self.agents.iter().filter(|(id, _)| only.is_none_or(|only| only == *id));
        let mut agents: Vec<(bool, usize, AgentId)> =
            looked_at.map(|(id, agent)| (agent.place < first_place, agent.place, id.clone())).collect();
        agents.sort();
        let mut given = Vec::new();
        for guarantees in [true, false] {
            for (_, place, id) in &agents {
                while self.anybody_wants() && allocations.len() < allocations_max && self.is_offerable(id) {
                    let Some(allocation) = self.give(now, id, guarantees) else { break };
                    allocations.push(allocation);
                    given.push(place + 1);
                }
            }
        }
        let next = if allocations.len() >= allocations_max { given.last() } else { given.first() };
        self.first_place = next.copied().unwrap_or(self.first_place);
        allocations
    }

    /// Once nobody may be given more, the agents that were not reached have not been considered.
    fn anybody_wants(&self) -> bool {
        self.clients().iter().any(|(role, framework)| self.wants(framework, role))
    }

    /// Gives somebody something of the agent, if somebody takes it.
    fn give(&mut self, now: Time, agent: &AgentId, guarantees: bool) -> Option<Allocation> {
        self.end_filters(now, agent);
        let free = self.free_on(agent);
        let taker = self.order().into_iter().find_map(|(role, framework)| {
            if guarantees && !self.helps(&role, &free) {
                return None;
            }
            let part = self.part(&framework, &role, agent)?;
            (!self.refuses(&framework, &role, agent, &part)).then_some((framework, role, part))
        });
        if !guarantees || taker.is_some() {
            self.visit(agent);
        }
        let (framework, role, resources) = taker?;
        self.hold(&framework, &role, agent, &resources);
        self.count(&framework, &role);
        self.framework(&framework).outstanding += 1;
        Some(Allocation { framework, role, agent: agent.clone(), resources })
    }

    /// Drops the filters whose time is over, but not before the agent was considered with them.
    pub(super) fn end_filters(&mut self, now: Time, agent: &AgentId) {
        let visits = self.agents[agent].visits;
        self.filters.retain(|filter| filter.agent != *agent || now < filter.until || filter.visits == visits);
    }

    pub(super) fn visit(&mut self, agent: &AgentId) {
        self.agents.get_mut(agent).expect("it exists").visits += 1;
    }

    /// When nobody wants what the agent has, whatever they would be left of it, it has been considered.
    pub(super) fn consider(&mut self, agent: &AgentId) {
        let free: Resources = self.free_on(agent);
        let somebody = self.clients().into_iter().any(|(role, framework)| {
            self.wants(&framework, &role)
                && self.suits(&framework, &role, agent)
                && !self.refuses(&framework, &role, agent, &free)
        });
        if self.is_offerable(agent) && !somebody {
            self.visit(agent);
        }
    }

    fn is_offerable(&self, agent: &AgentId) -> bool {
        let free = self.free_on(agent);
        let enough = self.has_own_minimums() || holds_any(&free, &self.config.allocatable_min);
        self.agents[agent].active && !free.is_empty() && enough
    }
}
