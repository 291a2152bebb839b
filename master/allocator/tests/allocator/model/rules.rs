//! Who may be given what of an agent.

use apportion_types::{AgentId, Capability, FrameworkId, Resources, Role, resources::Name};

use super::Model;

/// A minimum is held when the sums of its scalars are, on whatever terms.
fn holds(resources: &Resources, minimum: &Resources) -> bool {
    minimum.scalars().all(|(name, milli)| resources.milli(name) >= milli)
}

/// One of the minimums is, or there are none.
pub(super) fn holds_any(resources: &Resources, minimums: &[Resources]) -> bool {
    minimums.is_empty() || minimums.iter().any(|minimum| holds(resources, minimum))
}

impl Model {
    /// What is free: what nobody holds, and every shared volume.
    pub(super) fn free_on(&self, agent: &AgentId) -> Resources {
        let state = &self.agents[agent];
        let mut free = state.total.clone() + &state.lent;
        for ((_, _, on), resources) in &self.allocated {
            if on == agent {
                free.saturating_sub(&resources.exclusive());
            }
        }
        free
    }

    /// What is free for good, so that an operation may change it: of shared volumes those that nobody holds.
    pub(super) fn convertible(&self, agent: &AgentId) -> Resources {
        let mut free = self.free_on(agent);
        free.saturating_sub(&self.agents[agent].lent);
        for ((_, _, on), resources) in &self.allocated {
            if on == agent {
                free.saturating_sub(&resources.shared());
            }
        }
        free
    }

    /// The framework takes offers for the role now.
    pub(super) fn wants(&self, framework: &FrameworkId, role: &Role) -> bool {
        let state = &self.frameworks[framework];
        let most = state.options.offers_max.unwrap_or(u32::MAX).min(self.config.offers_max);
        state.active && state.roles.get(role) == Some(&false) && state.outstanding < most
    }

    /// It can deal with the agent.
    pub(super) fn suits(&self, framework: &FrameworkId, role: &Role, agent: &AgentId) -> bool {
        let (options, agent) = (&self.frameworks[framework].options, &self.agents[agent]);
        let can = |capability| options.capabilities.contains(&capability);
        let region = agent.at.domain.as_ref().map(|domain| &domain.region);
        let far = region.is_some() && self.config.region.is_some() && region != self.config.region.as_ref();
        options.constraints.get(role).is_none_or(|only| only.admit(&agent.at))
            && (!self.config.filter_gpus
                || agent.total.milli(&Name::Gpus) == 0
                || can(Capability::GpuResources))
            && (!far || can(Capability::RegionAware))
    }

    /// What of the free resources is open to the framework in the role.
    pub(super) fn open(&self, framework: &FrameworkId, role: &Role, agent: &AgentId) -> Resources {
        let can = |capability| self.frameworks[framework].options.capabilities.contains(&capability);
        let mut open = self.free_on(agent).open_to(role);
        if !can(Capability::RevocableResources) {
            open = open.only(|entry| !entry.is_revocable());
        }
        if !can(Capability::SharedResources) {
            open = open.exclusive();
        }
        if let Some(held) = self.allocated.get(&(framework.clone(), role.clone(), agent.clone())) {
            open.saturating_sub(&held.shared());
        }
        open
    }

    /// What a framework in a role could be given of an agent as things stand, filters apart.
    pub(super) fn part(&self, framework: &FrameworkId, role: &Role, agent: &AgentId) -> Option<Resources> {
        if !self.agents[agent].active || !self.wants(framework, role) || !self.suits(framework, role, agent) {
            return None;
        }
        let open = self.open(framework, role, agent);
        let own = self.frameworks[framework].options.min_allocatable.get(role);
        let minimums = own.unwrap_or(&self.config.allocatable_min);
        if !holds_any(&open, minimums) {
            return None;
        }
        let part = self.within_quotas(role, &open);
        let useful = minimums.iter().all(|minimum| !holds(&open, minimum) || holds(&part, minimum));
        (useful && !part.is_empty()).then_some(part)
    }

    pub(super) fn refuses(
        &self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        part: &Resources,
    ) -> bool {
        self.filters.iter().any(|filter| {
            (&filter.framework, &filter.role, &filter.agent) == (framework, role, agent)
                && filter.refused.contains(part)
        })
    }
}
