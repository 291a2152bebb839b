//! At rest everybody agrees, and nothing is held back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_agent_core::TaskKey;
use apportion_allocator::Quota;
use apportion_master_core::view::{AgentState, AgentView, FrameworkState, FrameworkView};
use apportion_types::{AgentId, FrameworkId, FrameworkOptions, Role, TaskState, Time};

use super::{Changes, Check, Happening, Verdict, agents_by_id, refusals::Refusals};
use crate::{fault::Process, world::World};

/// How long an offer may take to follow what makes it possible.
const SOON: Duration = Duration::from_secs(1);

/// At rest:
/// - every agent is registered and active, with the resources and the tasks that it has itself, each in the same state;
/// - every framework whose process lives is subscribed under its id;
/// - nothing waits for a disk;
/// - every offer is of a connected framework;
/// - an agent with something free that is worth offering is not kept from a connected framework that has wanted offers for a while, and
///   has given nothing of that agent back lately; frameworks with wishes of their own, and roles that a quota bounds, aside.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    refusals: Refusals,
    /// When what an agent has given away changed last.
    changed: BTreeMap<AgentId, Time>,
    /// Since when a framework wants offers.
    wanting: BTreeMap<FrameworkId, Time>,
}

impl Check for Rest {
    fn name(&self) -> &'static str {
        "rest"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        self.refusals.observe(world, happening);
        match happening {
            Happening::Started(Process::Master) => *self = Self::default(),
            Happening::MasterDecided(changes) => self.follow(world.now, world, changes),
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        agents(world)?;
        frameworks(world)?;
        offers(world)?;
        self.hoarded(world)
    }
}

impl Rest {
    fn follow(&mut self, now: Time, world: &World, changes: &Changes) {
        for change in &changes.agents {
            self.changed.insert(change.key.clone(), now);
        }
        for change in &changes.frameworks {
            if change.after.as_ref().is_some_and(|view| wants(world, view)) {
                self.wanting.entry(change.key.clone()).or_insert(now);
            } else {
                self.wanting.remove(&change.key);
            }
        }
    }

    fn hoarded(&self, world: &World) -> Verdict {
        let long_ago = |at: &Time| world.now.since(*at) >= SOON;
        for (id, agent) in world.view().agents.iter() {
            if !self.changed.get(id).is_some_and(long_ago) {
                continue;
            }
            let unmet = self.wanting.iter().find(|(framework, since)| {
                long_ago(since)
                    && !self.refusals.hold_between(framework, id, world.now)
                    && is_useful_to(world, agent, framework)
            });
            if let Some((framework, _)) = unmet {
                return Err(format!(
                    "agent {id} has {}, allocated {} and offered {}; framework {framework} wants offers and gets none of it",
                    agent.info.resources, agent.allocated, agent.offered
                ));
            }
        }
        Ok(())
    }
}

/// True for a connected framework that wants offers for a role that may have any, and is not choosy.
fn wants(world: &World, view: &FrameworkView) -> bool {
    let wanted = |role: &Role| !view.suppressed.contains(role) && !is_bounded(world, role);
    view.state == FrameworkState::Active
        && *view.options == FrameworkOptions::default()
        && view.info.roles.iter().any(wanted)
}

/// True for a role that a quota may keep from something: its own, that of one above it, or what must be left for others' guarantees.
fn is_bounded(world: &World, role: &Role) -> bool {
    let (own, set) = (&world.master.allocator.quotas, &world.view().roles);
    let quotas = own.iter().chain(set.iter().map(|(role, settings)| (role, &settings.quota)));
    let mut quotas = quotas.filter(|(_, quota)| **quota != Quota::default());
    quotas.any(|(of, quota)| !quota.guarantee.is_empty() || of == role || role.is_below(of))
}

/// True for an agent that has something free that is worth offering to the framework.
fn is_useful_to(world: &World, agent: &AgentView, framework: &FrameworkId) -> bool {
    let Some(view) = world.view().frameworks.get(framework) else { return false };
    let mut free = agent.total.firm();
    free.saturating_sub(&agent.allocated.firm());
    free.saturating_sub(&agent.offered.firm());
    let least = &world.master.allocator.allocatable_min;
    let worth = |role: &Role| {
        let open = free.open_to(role).plain();
        !view.suppressed.contains(role)
            && !is_bounded(world, role)
            && !open.is_empty()
            && (least.is_empty() || least.iter().any(|least| open.contains(least)))
    };
    agent.state == AgentState::Active && view.info.roles.iter().any(worth)
}

fn agents(world: &World) -> Verdict {
    let mut believed: BTreeMap<usize, BTreeSet<(&TaskKey, TaskState)>> = BTreeMap::new();
    let numbers = agents_by_id(world);
    for (key, task) in &world.view().tasks {
        if let Some(number) = numbers.get(&task.agent_id) {
            believed.entry(*number).or_default().insert((key, task.state));
        }
    }
    for (number, agent) in world.agents.iter().enumerate() {
        let Some(view) = agent.core.as_ref().map(|core| core.view()) else { continue };
        if !agent.machine.pending.is_empty() {
            return Err(format!(
                "{} records wait for the disk of agent {number}",
                agent.machine.pending.len()
            ));
        }
        let known = view.agent_id.as_ref().and_then(|id| world.view().agents.get(id));
        let Some(known) = known.filter(|known| known.state == AgentState::Active) else {
            return Err(format!("agent {number} ({:?}) is not active: {known:?}", view.agent_id));
        };
        if known.total != view.resources {
            return Err(format!("agent {number} has {}, and the master {}", view.resources, known.total));
        }
        if known.revocable != view.lent {
            return Err(format!("agent {number} lends {}, and the master {}", view.lent, known.revocable));
        }
        let own: BTreeSet<_> = view.tasks.iter().map(|(key, task)| (key, task.state)).collect();
        let believed = believed.remove(&number).unwrap_or_default();
        if own != believed {
            return Err(format!(
                "agent {number} has the tasks {own:?}, and the master believes {believed:?}"
            ));
        }
    }
    Ok(())
}

fn frameworks(world: &World) -> Verdict {
    for (number, framework) in world.frameworks.iter().enumerate() {
        let Some(process) = framework.process.as_ref().filter(|_| framework.ended.is_none()) else {
            continue;
        };
        let view = process.framework_id().and_then(|id| world.view().frameworks.get(id));
        if view.is_none_or(|view| view.state != FrameworkState::Active) {
            return Err(format!("framework {number} ({:?}) is not active: {view:?}", process.framework_id()));
        }
    }
    Ok(())
}

fn offers(world: &World) -> Verdict {
    for (id, view) in &world.view().offers {
        let framework = world.view().frameworks.get(&view.offer.framework_id);
        if framework.is_none_or(|framework| framework.state != FrameworkState::Active) {
            return Err(format!("offer {id} is of a framework that is not connected"));
        }
    }
    Ok(())
}
