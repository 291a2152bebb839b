//! The same cluster under other settings.

use apportion_types::{Resources, Role};

use crate::{
    Hierarchical, HierarchicalConfig, Quota,
    slab::{AgentKey, ClientKey, FrameworkKey},
};

impl Hierarchical {
    /// A copy with other settings: the same agents, frameworks, books, filters and turn. Its next cycle looks at every agent.
    pub fn reconfigured(&self, config: &HierarchicalConfig) -> Hierarchical {
        let mut copy = self.clone();
        let HierarchicalConfig {
            allocatable_min,
            fairness_excluded,
            weights,
            quotas,
            sorter,
            filter_gpus,
            region,
            offers_max,
        } = config;
        copy.capacity.exclude(&mut copy.measure.kinds, fairness_excluded);
        copy.sorter = *sorter;
        copy.reweigh(weights);
        let gone: Vec<Role> =
            copy.quotas.keys().filter(|role| !quotas.contains_key(*role)).cloned().collect();
        for role in gone {
            copy.change_quota(&role, Quota::default());
        }
        for (role, quota) in quotas {
            copy.change_quota(role, quota.clone());
        }
        (copy.filter_gpus, copy.offers_max) = (*filter_gpus, *offers_max);
        copy.region.clone_from(region);
        if copy.measure.allocatable_min != *allocatable_min {
            copy.measure.set_minimums(allocatable_min.clone());
            copy.measure_again();
        }
        copy.bound_again();
        copy.look_everywhere();
        copy
    }

    fn reweigh(&mut self, weights: &std::collections::BTreeMap<Role, crate::Weight>) {
        self.weights.clone_from(weights);
        let nodes: Vec<_> = self
            .roles
            .iter()
            .filter_map(|(_, role)| Some((role.parent, role.node?, role.name.clone())))
            .collect();
        for (parent, node, name) in nodes {
            let weight = weights.get(&name).copied().unwrap_or_default();
            self.level_mut(parent).set_weight(node, weight);
        }
    }

    /// Finds out again who may hold how many offers, and who is excluded from what.
    fn bound_again(&mut self) {
        let frameworks: Vec<FrameworkKey> = self.frameworks.iter().map(|(key, _)| key).collect();
        for key in frameworks {
            let framework = &mut self.frameworks[key];
            self.full -= usize::from(framework.is_full());
            framework.offers_max = framework.options.offers_max.unwrap_or(u32::MAX).min(self.offers_max);
            self.full += usize::from(framework.is_full());
        }
        let clients: Vec<ClientKey> = self.clients.iter().map(|(key, _)| key).collect();
        for client in clients {
            self.judge_client(client);
            self.reassess(client);
        }
    }

    /// Has the next cycle look at every agent that may be offered. Nobody is asked yet, so filters whose time is over hold on.
    fn look_everywhere(&mut self) {
        let agents: Vec<AgentKey> = self.agents.iter().map(|(key, _)| key).collect();
        for agent in agents {
            match self.offerable(agent) {
                Some(_) => {
                    self.allocatable.insert(agent);
                }
                None => self.withdraw(agent),
            }
        }
        self.candidates = self.allocatable.clone();
    }

    /// Finds out again what is worth offering.
    fn measure_again(&mut self) {
        for (_, agent) in self.agents.iter_mut() {
            let held = agent.allocated.iter_mut().map(|(_, amount)| amount);
            for amount in held.chain(&mut agent.free) {
                *amount = self.measure.amount(Resources::clone(amount));
            }
        }
    }
}
