//! No cycle gives a role more than its quota limit.

use std::collections::BTreeMap;

use apportion_allocator::QuotaLimit;
use apportion_master_core::view::{AgentView, OfferView, TaskView};
use apportion_types::{Resources, Role, resources::Name};

use super::{Change, Changes, Check, Happening, Verdict};
use crate::{fault::Process, world::World};

/// After a decision that opens offers: of each kind of which an offer holds some that is kept for nobody, the role and every role above
/// it has no more than its limit. A role has what tasks hold and offers offer of what is kept for nobody, in it and those below it,
/// all over the cluster; and what is reserved for it and those below it, used or not. What is only lent does not count. (Tasks of agents
/// that returned may be over a limit, and so may what was given before it was set; then nothing of that kind is offered.)
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    /// By role, itself alone.
    has: BTreeMap<Role, Resources>,
}

impl Check for Quotas {
    fn name(&self) -> &'static str {
        "quotas"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match happening {
            Happening::Started(Process::Master) => *self = Self::default(),
            Happening::MasterDecided(changes) => {
                self.follow(changes);
                for view in changes.offers.iter().filter_map(|change| change.added()) {
                    self.judge(world, view)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

impl Quotas {
    fn follow(&mut self, changes: &Changes) {
        for Change { before, after, .. } in &changes.tasks {
            before.iter().for_each(|task| self.take(&task.role, &of_task(task)));
            after.iter().for_each(|task| self.put(&task.role, &of_task(task)));
        }
        for Change { before, after, .. } in &changes.offers {
            before.iter().for_each(|view| self.take(&view.offer.role, &counted(&view.offer.resources)));
            after.iter().for_each(|view| self.put(&view.offer.role, &counted(&view.offer.resources)));
        }
        for Change { before, after, .. } in &changes.agents {
            before.iter().flat_map(|agent| kept(agent)).for_each(|(role, held)| self.take(&role, &held));
            after.iter().flat_map(|agent| kept(agent)).for_each(|(role, held)| self.put(&role, &held));
        }
    }

    fn judge(&self, world: &World, view: &OfferView) -> Verdict {
        let offer = &view.offer;
        let given = counted(&offer.resources);
        let above = |role: &Role| *role == offer.role || offer.role.is_below(role);
        for (role, limit) in limits(world).filter(|(role, _)| above(role)) {
            for (name, most) in limit.iter().filter(|(name, _)| given.milli(name) > 0) {
                let has = self.of(role, name);
                if has > most {
                    return Err(format!(
                        "role {role} may have {most} thousandths of {name}; with offer {} of {} for {} it has {has}",
                        offer.offer_id, offer.resources, offer.role
                    ));
                }
            }
        }
        Ok(())
    }

    fn of(&self, role: &Role, name: &Name) -> i64 {
        let of_it = self.has.iter().filter(|(other, _)| *other == role || other.is_below(role));
        of_it.map(|(_, has)| has.milli(name)).sum()
    }

    fn put(&mut self, role: &Role, held: &Resources) {
        if !held.is_empty() {
            *self.has.entry(role.clone()).or_default() += held;
        }
    }

    fn take(&mut self, role: &Role, held: &Resources) {
        if let Some(has) = self.has.get_mut(role) {
            has.saturating_sub(held);
        }
    }
}

/// The limits that hold: what an operator has set goes before the allocator's own settings.
fn limits(world: &World) -> impl Iterator<Item = (&Role, &QuotaLimit)> {
    let set = &world.view().roles;
    let own = world.master.allocator.quotas.iter().filter(|(role, _)| !set.contains_key(*role));
    own.chain(set.iter().map(|(role, settings)| (role, &settings.quota)))
        .filter_map(|(role, quota)| Some((role, quota.limit.as_ref()?)))
}

/// Scalars of it that are kept for nobody and not only lent.
fn counted(resources: &Resources) -> Resources {
    resources.unreserved().firm().summable()
}

fn of_task(task: &TaskView) -> Resources {
    if task.state.holds_resources() { counted(&task.info.resources) } else { Resources::new() }
}

/// What an agent keeps for roles.
fn kept(agent: &AgentView) -> BTreeMap<Role, Resources> {
    let mut kept: BTreeMap<Role, Resources> = BTreeMap::new();
    if !agent.state.takes_part() {
        return kept;
    }
    for role in agent.total.entries().filter_map(|entry| entry.role()) {
        if !kept.contains_key(role) {
            let own = agent.total.only(|entry| entry.role() == Some(role));
            kept.insert(role.clone(), own.plain().summable());
        }
    }
    kept
}
