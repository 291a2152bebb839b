//! No resource is given away twice, in the master's books.

use std::collections::{BTreeMap, BTreeSet};

use apportion_agent_core::TaskKey;
use apportion_master_core::ConnId;
use apportion_types::{
    AgentId, Resources,
    protocol::agent::{AgentMessage, MasterMessage},
    resources::Value,
};

use super::{Change, Changes, Check, Happening, Verdict};
use crate::{fault::Process, world::World};

/// After every decision of the master, for each agent in its view: what is allocated is the sum of what its tasks hold, what is offered
/// the sum of its outstanding offers, no two of them hold the same port or exclusive volume, and both together are within the agent's
/// total. Shared volumes may be held by many; what is only lent may be more than there still is to lend.
///
/// An agent that returns after a change of master may bring a task whose name its framework uses elsewhere by then. Such a stray holds
/// what it holds until it has ended, and no view lists it; so for an agent that named one, more may be allocated, up to that much. At
/// rest it must be over.
#[derive(Debug, Default)]
pub(crate) struct Books {
    held: BTreeMap<AgentId, Held>,
    /// What tasks hold that agents named on streams that are not registered yet.
    named: BTreeMap<ConnId, Vec<(TaskKey, Resources)>>,
    strays: BTreeMap<AgentId, Resources>,
}

#[derive(Debug, Default)]
struct Held {
    allocated: Resources,
    offered: Resources,
}

impl Check for Books {
    fn name(&self) -> &'static str {
        "resources"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::Started(Process::Master) => *self = Self::default(),
            Happening::MasterHearsAgent { conn, message: AgentMessage::Register { tasks, .. }, .. } => {
                let live = tasks.iter().filter(|task| task.state.holds_resources());
                let named = live.map(|task| {
                    ((task.framework_id.clone(), task.info.task_id.clone()), task.info.resources.clone())
                });
                self.named.insert(conn, named.collect());
            }
            Happening::StreamEnded { conn } => {
                self.named.remove(&conn);
            }
            Happening::MasterTellsAgent {
                conn, message: MasterMessage::Registered { agent_id, .. }, ..
            } => {
                self.registered(world, conn, agent_id);
            }
            Happening::MasterDecided(changes) => return self.decided(world, changes),
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        self.strays.clear();
        self.held.keys().try_for_each(|agent| self.balance(world, agent))
    }
}

impl Books {
    fn registered(&mut self, world: &World, conn: ConnId, agent_id: &AgentId) {
        let named = self.named.remove(&conn).unwrap_or_default();
        let tasks = &world.view().tasks;
        let elsewhere = |key: &TaskKey| tasks.get(key).is_some_and(|task| task.agent_id != *agent_id);
        let strays: Resources = named
            .iter()
            .filter(|(key, _)| elsewhere(key))
            .map(|(_, resources)| resources)
            .sum::<Resources>()
            .exclusive();
        self.strays.remove(agent_id);
        if !strays.is_empty() {
            self.strays.insert(agent_id.clone(), strays);
        }
    }

    fn decided(&mut self, world: &World, changes: &Changes) -> Verdict {
        let mut touched: BTreeSet<AgentId> = changes.agents.iter().map(|change| change.key.clone()).collect();
        for Change { before, .. } in &changes.tasks {
            if let Some(task) = before.as_ref().filter(|task| task.state.holds_resources()) {
                let held = self.held.entry(task.agent_id.clone()).or_default();
                held.allocated.saturating_sub(&task.info.resources.exclusive());
                touched.insert(task.agent_id.clone());
            }
        }
        for Change { before, .. } in &changes.offers {
            if let Some(offer) = before.as_ref().map(|view| &view.offer) {
                let held = self.held.entry(offer.agent_id.clone()).or_default();
                held.offered.saturating_sub(&offer.resources.exclusive());
                touched.insert(offer.agent_id.clone());
            }
        }
        for Change { key, after, .. } in &changes.tasks {
            if let Some(task) = after.as_ref().filter(|task| task.state.holds_resources()) {
                let held = self.held.entry(task.agent_id.clone()).or_default();
                if let Some(twice) = put(&mut held.allocated, &task.info.resources.exclusive()) {
                    return Err(format!(
                        "task {} of {} on {} holds {twice}, which another task holds",
                        key.1, key.0, task.agent_id
                    ));
                }
                touched.insert(task.agent_id.clone());
            }
        }
        for Change { key, after, .. } in &changes.offers {
            if let Some(offer) = after.as_ref().map(|view| &view.offer) {
                let held = self.held.entry(offer.agent_id.clone()).or_default();
                if let Some(twice) = put(&mut held.offered, &offer.resources.exclusive()) {
                    return Err(format!(
                        "offer {key} on {} is of {twice}, which is offered already",
                        offer.agent_id
                    ));
                }
                touched.insert(offer.agent_id.clone());
            }
        }
        touched.iter().try_for_each(|agent| self.balance(world, agent))?;
        for agent in touched.iter().filter(|agent| !world.view().agents.contains_key(*agent)) {
            self.held.remove(agent);
        }
        Ok(())
    }

    /// Holds what an agent is said to have given away against what its tasks and offers hold.
    fn balance(&self, world: &World, agent_id: &AgentId) -> Verdict {
        let none = Held::default();
        let Held { allocated, offered } = self.held.get(agent_id).unwrap_or(&none);
        let Some(agent) = world.view().agents.get(agent_id) else {
            return if allocated.is_empty() && offered.is_empty() {
                Ok(())
            } else {
                Err(format!(
                    "agent {agent_id} is removed, and its tasks hold {allocated}, its offers {offered}"
                ))
            };
        };
        if agent.offered.exclusive() != *offered {
            return Err(format!(
                "agent {agent_id} has offered {}, and its offers hold {offered}",
                agent.offered
            ));
        }
        let strays = self.strays.get(agent_id).cloned().unwrap_or_default();
        let surplus = agent.allocated.exclusive().checked_sub(allocated);
        if !surplus.is_some_and(|surplus| strays.contains(&surplus)) {
            return Err(format!(
                "agent {agent_id} has allocated {}, and its tasks hold {allocated}",
                agent.allocated
            ));
        }
        let total = &agent.total;
        let rest = total.firm().checked_sub(&agent.allocated.firm());
        let rest = rest.and_then(|rest| rest.checked_sub(&agent.offered.firm()));
        rest.map(|_| ()).ok_or_else(|| {
            format!(
                "agent {agent_id} has {total} in all, and has allocated {} and offered {}",
                agent.allocated, agent.offered
            )
        })
    }
}

/// Adds to a sum; returns what of it is there already and exists only once: ranges, sets and volumes.
fn put(sum: &mut Resources, more: &Resources) -> Option<Resources> {
    let once = more.only(|entry| entry.volume().is_some() || !matches!(entry.value(), Value::Scalar(_)));
    let mut twice = once.clone();
    twice.saturating_sub(&sum.missing(&once));
    *sum += more;
    Some(twice).filter(|twice| !twice.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::check::fixture::{broken, running};

    #[test]
    fn a_port_is_put_into_a_sum_once() {
        let resources = |text: &str| text.parse::<Resources>().unwrap();
        let mut sum = resources("cpus:1;ports:[1-3]");
        assert_eq!(put(&mut sum, &resources("cpus:1;ports:[4-5]")), None);
        assert_eq!(put(&mut sum, &resources("cpus:1;ports:[5-6]")), Some(resources("ports:[5]")));
        assert_eq!(sum, resources("cpus:3;ports:[1-6]"));
    }

    #[test]
    fn a_task_that_holds_what_its_agent_does_not_count_is_seen() {
        let mut sim = running();
        let (key, task) = sim.world().view().tasks.get_min().unwrap();
        let again = Change { key: key.clone(), before: None, after: Some(Arc::clone(task)) };
        let changes = Changes { tasks: vec![again], ..Changes::default() };
        sim.world_mut().observe(&Happening::MasterDecided(&changes));
        assert!(broken(&sim, "resources").contains("which another task holds"));
    }
}
