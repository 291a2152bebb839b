//! What runs already, as far as rules ask for it.

use std::{collections::BTreeMap, sync::Arc};

use apportion_types::{AgentId, Place};

use super::{Machine, Scope};

/// How many tasks of each label run on each agent.
///
/// ```
/// use apportion_sdk::placement::{Demand, FirstFit, Machine, Packing, Rule, Running, Scope};
///
/// let machines = [Machine::new("m1", "cpus:4"), Machine::new("m2", "cpus:4")];
/// let mut running = Running::new();
/// running.add(["db"], &machines[1].agent_id, &machines[1].place);
/// let packing = Packing::new(machines).beside(running);
/// let near = Demand::new("cpus:1").must(Rule::near("db", Scope::AGENT));
/// assert_eq!(packing.choose(&near, &FirstFit), Some(1));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Running {
    labels: BTreeMap<Arc<str>, BTreeMap<AgentId, There>>,
}

#[derive(Debug, Clone)]
struct There {
    place: Arc<Place>,
    count: u32,
}

impl Running {
    /// Nothing.
    pub fn new() -> Running {
        Running::default()
    }

    /// One more task, with its labels and where it is ([`Machine::place`] of the offer on which it was launched). The agent need not
    /// be among the machines at hand.
    pub fn add<L: Into<Arc<str>>>(
        &mut self,
        labels: impl IntoIterator<Item = L>,
        agent_id: &AgentId,
        place: &Arc<Place>,
    ) {
        for label in labels {
            let agents = self.labels.entry(label.into()).or_default();
            let there = agents.entry(agent_id.clone());
            there.or_insert_with(|| There { place: place.clone(), count: 0 }).count += 1;
        }
    }

    pub(super) fn add_on<'a>(&mut self, machine: &Machine, labels: impl IntoIterator<Item = &'a Arc<str>>) {
        self.add(labels.into_iter().cloned(), &machine.agent_id, &machine.place);
    }

    /// True when one of this label runs somewhere.
    pub(super) fn is_anywhere(&self, label: &str) -> bool {
        self.labels.contains_key(label)
    }

    /// How many of a label run in each place in which there is one.
    pub(super) fn by_place(&self, label: &str, scope: &Scope) -> BTreeMap<&str, u32> {
        let mut counts = BTreeMap::new();
        for (agent_id, there) in self.labels.get(label).into_iter().flatten() {
            if let Some(place) = scope.of(agent_id, &there.place) {
                *counts.entry(place).or_default() += there.count;
            }
        }
        counts
    }
}
