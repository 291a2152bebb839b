//! What other settings would have given, beside what is given.

use std::{collections::BTreeMap, fmt, sync::Arc};

use apportion_types::{AgentId, FrameworkId, Place, Resources, Role, Time, operation::Conversion};

use crate::{
    Allocation, Allocator, ClaimDenied, Explanation, Hierarchical, HierarchicalConfig, Inactive, Question,
    Quota, Share, Wants, Weight,
};

/// One cycle in which other settings would have given something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// When the cycle ran.
    pub at: Time,
    /// What was given.
    pub real: Vec<Allocation>,
    /// What the other settings would have given, from the same state.
    pub shadow: Vec<Allocation>,
}

/// An allocator that does what the real one does, and says where other settings would have given something else.
///
/// In each cycle the shadow is asked first: a copy of the real one under the other settings, with the same books, filters and
/// turn, forgotten afterwards. So a difference is always that of one cycle, and never what an earlier one led to. It costs a
/// copy of everything for each cycle, and is for replays, not for masters that serve.
///
/// Weights and quota limits that are set later hold for both. When the shadow would have been asked at a moment at which the
/// real one had nothing to do, say because a filter would have ended for it, that is seen in the next cycle.
pub struct Compared<S> {
    real: Hierarchical,
    shadow: HierarchicalConfig,
    sink: S,
}

impl<S: FnMut(Difference)> Compared<S> {
    /// Follows `real`, and tells `sink` of each cycle in which an allocator of the settings `shadow` would have given something
    /// else.
    pub fn new(real: Hierarchical, shadow: HierarchicalConfig, sink: S) -> Self {
        Self { real, shadow, sink }
    }
}

impl<S> fmt::Debug for Compared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compared")
            .field("real", &self.real)
            .field("shadow", &self.shadow)
            .finish_non_exhaustive()
    }
}

impl<S: FnMut(Difference) + Send> Allocator for Compared<S> {
    fn add_agent(&mut self, agent: &AgentId, place: &Arc<Place>, total: &Resources) {
        self.real.add_agent(agent, place, total);
    }

    fn expect_agent(&mut self, agent: &AgentId, total: &Resources) {
        self.real.expect_agent(agent, total);
    }

    fn expect_agent_no_more(&mut self, agent: &AgentId) {
        self.real.expect_agent_no_more(agent);
    }

    fn set_revocable(&mut self, agent: &AgentId, revocable: &Resources) {
        self.real.set_revocable(agent, revocable);
    }

    fn convert_free(&mut self, agent: &AgentId, conversion: &Conversion) -> bool {
        self.real.convert_free(agent, conversion)
    }

    fn convert_allocated(
        &mut self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        conversion: &Conversion,
    ) {
        self.real.convert_allocated(framework, role, agent, conversion);
    }

    fn remove_agent(&mut self, agent: &AgentId) {
        self.real.remove_agent(agent);
    }

    fn set_agent_inactive(&mut self, agent: &AgentId, why: Option<Inactive>) {
        self.real.set_agent_inactive(agent, why);
    }

    fn add_framework(&mut self, framework: &FrameworkId, wants: Wants<'_>) {
        self.real.add_framework(framework, wants);
    }

    fn remove_framework(&mut self, framework: &FrameworkId) {
        self.real.remove_framework(framework);
    }

    fn set_framework_active(&mut self, framework: &FrameworkId, active: bool) {
        self.real.set_framework_active(framework, active);
    }

    fn set_framework_wants(&mut self, framework: &FrameworkId, wants: Wants<'_>) {
        self.real.set_framework_wants(framework, wants);
    }

    fn offers_closed(&mut self, framework: &FrameworkId, offers: u32) {
        self.real.offers_closed(framework, offers);
    }

    fn suppress(&mut self, framework: &FrameworkId, roles: &[Role]) {
        self.real.suppress(framework, roles);
    }

    fn revive(&mut self, framework: &FrameworkId, roles: &[Role]) {
        self.real.revive(framework, roles);
    }

    fn set_weight(&mut self, role: &Role, weight: Weight) {
        self.shadow.weights.insert(role.clone(), weight);
        self.real.set_weight(role, weight);
    }

    fn set_quota(&mut self, role: &Role, quota: Quota) {
        self.shadow.quotas.insert(role.clone(), quota.clone());
        self.real.set_quota(role, quota);
    }

    fn charge(&mut self, framework: &FrameworkId, role: &Role, agent: &AgentId, resources: &Resources) {
        self.real.charge(framework, role, agent, resources);
    }

    fn recover(
        &mut self,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
        refuse_until: Option<Time>,
    ) {
        self.real.recover(framework, role, agent, resources, refuse_until);
    }

    fn is_dirty(&self) -> bool {
        self.real.is_dirty()
    }

    fn next_deadline(&self) -> Option<Time> {
        self.real.next_deadline()
    }

    fn allocate(&mut self, now: Time, allocations_max: usize) -> Vec<Allocation> {
        let shadow = self.real.reconfigured(&self.shadow).allocate(now, allocations_max);
        let real = self.real.allocate(now, allocations_max);
        if real != shadow {
            (self.sink)(Difference { at: now, real: real.clone(), shadow });
        }
        real
    }

    fn claim(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        role: &Role,
        agent: &AgentId,
        resources: &Resources,
    ) -> Result<(), ClaimDenied> {
        self.real.claim(now, framework, role, agent, resources)
    }

    fn explain(&self, now: Time, question: &Question) -> Explanation {
        self.real.explain(now, question)
    }

    fn judge_quotas(
        &self,
        quotas: &BTreeMap<Role, Quota>,
        offered: &BTreeMap<Role, Resources>,
    ) -> Result<(), String> {
        self.real.judge_quotas(quotas, offered)
    }

    fn over_limit(&self, role: &Role) -> Resources {
        self.real.over_limit(role)
    }

    fn short_of_guarantees(&self) -> Resources {
        self.real.short_of_guarantees()
    }

    fn watch_free(&mut self, on: bool) {
        self.real.watch_free(on);
    }

    fn free_changes(&mut self) -> Vec<AgentId> {
        self.real.free_changes()
    }

    fn free(&self, agent: &AgentId) -> Resources {
        self.real.free(agent)
    }

    fn shares(&self) -> Vec<Share> {
        self.real.shares()
    }
}
