//! Agents that an earlier master knew and that have not returned: what is allocated on them is not known.

use std::collections::BTreeMap;

use apportion_types::{AgentId, Resources};

use crate::{hierarchical::Hierarchical, quantities::Quantities, room::Bounds, slab::RoleKey};

/// What such agents have.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expected {
    agents: BTreeMap<AgentId, Quantities>,
    sum: Quantities,
}

impl Expected {
    /// What of a kind any role may be using on them.
    pub(crate) fn of(&self, kind: usize) -> i64 {
        self.sum.of(kind)
    }
}

impl Hierarchical {
    pub(crate) fn expect(&mut self, agent: &AgentId, total: &Resources) {
        assert!(self.agent_keys.find(agent).is_none(), "agent {agent} is expected, and is here");
        self.expect_no_more(agent);
        self.measure.learn(total);
        let has = self.measure.kinds.quantities(total.entries());
        self.expected.sum.add(&has);
        self.expected.agents.insert(agent.clone(), has);
    }

    pub(crate) fn expect_no_more(&mut self, agent: &AgentId) {
        let Some(has) = self.expected.agents.remove(agent) else { return };
        self.expected.sum.subtract(&has);
        let keys: Vec<RoleKey> = self.quotas.keys().filter_map(|role| self.role_keys.find(role)).collect();
        for key in keys {
            self.room_grew(key);
        }
    }

    /// What the limit of a role leaves of a kind that it names. Tasks of agents that returned may have exceeded it.
    pub(crate) fn room(&self, role: RoleKey, (kind, most): (usize, i64)) -> i64 {
        let consumed = self.roles[role].consumed(kind).saturating_add(self.expected.of(kind));
        most.saturating_sub(consumed).max(0)
    }

    /// What of the kinds that a role's limit names agents that are expected have.
    pub(crate) fn expected_of(&self, role: RoleKey) -> Resources {
        let mut sum = Resources::new();
        for (kind, _) in self.roles[role].limit.iter().flat_map(Bounds::iter) {
            sum += &self.measure.kinds.one(kind, self.expected.of(kind));
        }
        sum
    }

    pub(crate) fn check_expected(&self) {
        let mut sum = Quantities::default();
        for (agent, has) in &self.expected.agents {
            assert!(self.agent_keys.find(agent).is_none(), "agent {agent} is expected, and is here");
            sum.add(has);
        }
        assert_eq!(sum, self.expected.sum, "what is expected is the sum of its agents");
    }
}
