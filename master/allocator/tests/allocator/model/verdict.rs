//! What a framework may expect of an agent: found out by letting it happen.

use apportion_types::{AgentId, FrameworkId, Resources, Role, Time};

use super::{Model, rules::holds_any};

/// What a cycle for one agent alone would give a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
    /// This, as the first that it is given of the agent.
    Offered(Resources),
    /// Nothing, though it could be given something as things stand; this one is given some of the agent first.
    Behind(FrameworkId),
    /// Nothing whatever the others do, by the code of one of these obstacles.
    Blocked(&'static [&'static str]),
}

impl Model {
    pub(crate) fn roles_of(&self, framework: &FrameworkId) -> Vec<Role> {
        self.frameworks[framework].roles.keys().cloned().collect()
    }

    /// The framework's place in the role among all who may be offered something, from 1.
    pub(crate) fn place(&self, framework: &FrameworkId, role: &Role) -> Option<usize> {
        let mut order = self.order();
        order.retain(|(role, framework)| self.wants(framework, role));
        Some(order.iter().position(|client| (&client.0, &client.1) == (role, framework))? + 1)
    }

    pub(crate) fn expected(
        &self,
        now: Time,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
    ) -> Expected {
        let mut then = self.clone();
        let given = then.cycle(now, usize::MAX, Some(agent));
        let got = given.iter().find(|one| one.framework == *framework && one.role == *role);
        if let Some(got) = got {
            return Expected::Offered(got.resources.clone());
        }
        let mut before = self.clone();
        before.end_filters(now, agent);
        match before.obstacle(framework, role, agent) {
            Some(codes) => Expected::Blocked(codes),
            None => Expected::Behind(given.first().expect("what one would take is given").framework.clone()),
        }
    }

    /// What keeps the client from the agent, were nobody before it.
    fn obstacle(
        &self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
    ) -> Option<&'static [&'static str]> {
        let state = &self.frameworks[framework];
        let own = state.options.min_allocatable.get(role).unwrap_or(&self.config.allocatable_min);
        let (free, open) = (self.free_on(agent), self.open(framework, role, agent));
        let part = self.part(framework, role, agent);
        Some(match () {
            () if !state.active => &["disconnected"],
            () if state.roles[role] => &["suppressed"],
            () if !self.wants(framework, role) => &["offers_max"],
            () if !self.agents[agent].active => &["agent_inactive"],
            () if free.is_empty() => &["nothing_free"],
            () if !self.suits(framework, role, agent) => &["constraint", "gpus", "region"],
            () if self.refuses(framework, role, agent, &free) => &["filtered"],
            () if open.is_empty() => &["nothing_free"],
            () if !holds_any(&open, own) => &["under_minimum"],
            () if part.is_none() => &["quota_limit", "headroom"],
            () if part.is_some_and(|part| self.refuses(framework, role, agent, &part)) => &["filtered"],
            () => return None,
        })
    }
}
