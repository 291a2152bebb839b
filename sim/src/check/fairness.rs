//! An offer goes to the role that has least.

use apportion_allocator::{Quota, SorterKind};
use apportion_master_core::view::{FrameworkState, OfferView};
use apportion_types::{AgentId, FrameworkId, FrameworkOptions, Resources, Role, Time};

use super::{Change, Changes, Check, Happening, Verdict, refusals::Refusals, roles::RoleSums};
use crate::{fault::Process, world::World};

/// Offers of a decision that are looked at, and frameworks for each: enough to catch what is wrong in principle.
const OFFERS_MAX: usize = 16;
const FRAMEWORKS_MAX: usize = 64;

/// Roles whose shares differ by less than this count as equal.
const ROUNDING: f64 = 1e-9;

/// When an offer is made for a role, no other role has a lower weighted dominant share at that moment that wants offers too and whose
/// wish nothing restrains: it has a connected framework that is not suppressed and has given nothing of that agent back lately, and it
/// has no quota limit.
///
/// So while demand is constant, no offer brings a role further ahead of another than by that one offer. Holds for fair sorters only;
/// and not where tasks astray are counted that no view lists, nor where roles are nested, guaranteed, or have something reserved: the
/// allocator's own tests compare these with a model.
#[derive(Debug, Default)]
pub(crate) struct Fairness {
    sums: RoleSums,
    refusals: Refusals,
    /// Of all agents that count.
    capacity: Resources,
    /// By all agents, as they are shown.
    given: Resources,
}

impl Check for Fairness {
    fn name(&self) -> &'static str {
        "fairness"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        if let Happening::Started(Process::Master) = happening {
            *self = Self::default();
        }
        // First: what is closed in a decision is filtered before it is offered anew.
        self.refusals.observe(world, happening);
        if let Happening::MasterDecided(changes) = happening {
            self.follow(changes);
            if world.master.allocator.sorter == SorterKind::Drf
                && is_plain(world)
                && self.given == self.sums.total()
            {
                self.judge(world, changes)?;
            }
        }
        Ok(())
    }
}

impl Fairness {
    fn follow(&mut self, changes: &Changes) {
        self.sums.follow(changes);
        for Change { before, after, .. } in &changes.agents {
            if let Some(agent) = before {
                self.given.saturating_sub(&agent.allocated.summable());
                self.given.saturating_sub(&agent.offered.summable());
                if agent.state.takes_part() {
                    self.capacity.saturating_sub(&agent.total.summable());
                }
            }
            if let Some(agent) = after {
                self.given += &agent.allocated.summable();
                self.given += &agent.offered.summable();
                if agent.state.takes_part() {
                    self.capacity += &agent.total.summable();
                }
            }
        }
    }

    fn judge(&mut self, world: &World, changes: &Changes) -> Verdict {
        let opened: Vec<&OfferView> =
            changes.offers.iter().filter_map(|change| change.added()).map(|view| &**view).collect();
        for view in &opened {
            self.sums.take(&view.offer.role, &view.offer.resources);
        }
        let mut verdict = Ok(());
        for (number, view) in opened.iter().enumerate() {
            let offer = &view.offer;
            if number < OFFERS_MAX && verdict.is_ok() {
                verdict = self.judge_offer(world, view);
            }
            self.sums.put(&offer.role, &offer.resources);
        }
        verdict
    }

    /// Holds an offer against the shares before it.
    fn judge_offer(&self, world: &World, view: &OfferView) -> Verdict {
        let offer = &view.offer;
        let share = self.share(world, &offer.role);
        for (id, framework) in world.view().frameworks.iter().take(FRAMEWORKS_MAX) {
            if framework.state != FrameworkState::Active {
                continue;
            }
            for role in &framework.info.roles {
                let set = world.view().roles.get(role);
                let restrained = framework.suppressed.contains(role)
                    || *framework.options != FrameworkOptions::default()
                    || world.master.allocator.quotas.contains_key(role)
                    || set.is_some_and(|settings| settings.quota.limit.is_some());
                if *role == offer.role || restrained {
                    continue;
                }
                let other = self.share(world, role);
                if other + ROUNDING < share && self.is_free(id, &offer.agent_id, world.now) {
                    return Err(format!(
                        "offer {} of {} goes to role {} with a share of {share:.6}, and role {role}, whose framework {id} wants \
                         it, has {other:.6}",
                        offer.offer_id, offer.resources, offer.role
                    ));
                }
            }
        }
        Ok(())
    }

    fn is_free(&self, framework: &FrameworkId, agent: &AgentId, now: Time) -> bool {
        !self.refusals.hold_between(framework, agent, now)
    }

    /// The dominant share of a role, by its weight.
    fn share(&self, world: &World, role: &Role) -> f64 {
        let config = &world.master.allocator;
        let set = world.view().roles.get(role).map(|settings| settings.weight);
        let weight = set.or(config.weights.get(role).copied()).unwrap_or_default();
        let counts = |name: &_| !config.fairness_excluded.contains(name);
        let has = self.sums.of(role);
        let shares = has
            .scalars()
            .filter(|(name, _)| counts(name))
            .map(|(name, milli)| milli as f64 / self.capacity.milli(name).max(1) as f64);
        shares.fold(0.0, f64::max) * 1000.0 / f64::from(weight.milli())
    }
}

/// True when nothing but shares and limits decides who is next.
fn is_plain(world: &World) -> bool {
    let view = world.view();
    let nested = |role: &Role| role.as_str().contains('/');
    let sure = |quota: &Quota| !quota.guarantee.is_empty();
    !view.agents.values().any(|agent| agent.total.has_terms() || !agent.revocable.is_empty())
        && !view.frameworks.values().any(|framework| framework.info.roles.iter().any(nested))
        && !view.roles.values().any(|settings| sure(&settings.quota) || settings.priority != 0)
        && !world.master.allocator.quotas.values().any(sure)
}
