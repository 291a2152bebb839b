//! What a framework may take for itself.

use apportion_allocator::ClaimDenied;
use apportion_types::{
    AgentId, Capability, FrameworkId, Resources, Role, Time, protocol::scheduler::ClaimRefusal,
};

use super::Model;

fn denied(code: ClaimRefusal, winner: Option<FrameworkId>) -> Result<(), ClaimDenied> {
    Err(ClaimDenied { code, message: String::new(), winner })
}

impl Model {
    pub(super) fn judge_claim(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
    ) -> Result<(), ClaimDenied> {
        let state = &self.frameworks[framework];
        let can = |capability| state.options.capabilities.contains(&capability);
        let is_open = resources.open_to(role) == *resources
            && (can(Capability::RevocableResources) || resources.revocable().is_empty())
            && (can(Capability::SharedResources) || resources.shared().is_empty());
        if !state.active || !state.roles.contains_key(role) || !self.suits(framework, role, agent) || !is_open
        {
            return denied(ClaimRefusal::NotAllowed, None);
        }
        if !self.agents[agent].active || !self.free_on(agent).contains(resources) {
            return denied(ClaimRefusal::NotFree, None);
        }
        if self.within_quotas(role, resources) != *resources {
            return denied(ClaimRefusal::Quota, None);
        }
        self.end_filters(now, agent);
        match self.rival(framework, role, agent, resources) {
            Some(winner) => denied(ClaimRefusal::Fairness, Some(winner)),
            None => Ok(()),
        }
    }

    /// Who would be asked before the client, and take some of this.
    fn rival(
        &self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
    ) -> Option<FrameworkId> {
        let free = self.free_on(agent);
        for guarantees in [true, false] {
            for (other_role, other) in self.order() {
                if guarantees && !self.helps(&other_role, &free) {
                    continue;
                }
                if (&other_role, &other) == (role, framework) {
                    return None;
                }
                let part = self.part(&other, &other_role, agent);
                let Some(part) = part.filter(|part| !self.refuses(&other, &other_role, agent, part)) else {
                    continue;
                };
                let mut rest = free.clone();
                rest.saturating_sub(&part.exclusive());
                if !rest.contains(resources) {
                    return Some(other);
                }
            }
        }
        None
    }
}
