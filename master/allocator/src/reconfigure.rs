//! The same cluster under other settings.

use apportion_types::Resources;

use crate::{Hierarchical, HierarchicalConfig, room::Limit, slab::AgentKey};

impl Hierarchical {
    /// A copy with other settings: the same agents, frameworks, books, filters and turn. Its next cycle looks at every agent.
    pub fn reconfigured(&self, config: &HierarchicalConfig) -> Hierarchical {
        let HierarchicalConfig { allocatable_min, fairness_excluded, weights, quotas, sorter, .. } = config;
        let quota_limits = &crate::quota::limits(quotas);
        let mut copy = self.clone();
        copy.capacity.exclude(&mut copy.measure.kinds, fairness_excluded);
        copy.weights.clone_from(weights);
        copy.quota_limits.clone_from(quota_limits);
        copy.sorter = *sorter;
        for (_, role) in copy.roles.iter_mut() {
            copy.role_order.set_weight(role.node, weights.get(&role.name).copied().unwrap_or_default());
            role.limit = quota_limits.get(&role.name).map(|limit| Limit::new(&mut copy.measure.kinds, limit));
            role.short = false;
        }
        if copy.measure.allocatable_min != *allocatable_min {
            copy.measure.allocatable_min.clone_from(allocatable_min);
            copy.measure_again();
        }
        copy.candidates = copy.allocatable.clone();
        copy
    }

    /// Finds out again what is worth offering.
    fn measure_again(&mut self) {
        for (_, agent) in self.agents.iter_mut() {
            let held = agent.allocated.iter_mut().map(|(_, amount)| amount);
            for amount in held.chain(&mut agent.free) {
                *amount = self.measure.amount(Resources::clone(amount));
            }
        }
        let keys: Vec<AgentKey> = self.agents.iter().map(|(key, _)| key).collect();
        for key in keys {
            if self.agents[key].offerable().is_some() {
                self.allocatable.insert(key);
            } else {
                self.withdraw(key);
            }
        }
    }
}
